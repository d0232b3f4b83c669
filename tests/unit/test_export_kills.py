"""The readers of export files, killed and failed at random: what is recorded is what one clean pass records.

A world of several files is worked off by workers that die before or after any call of a port, that find ledger, store,
queue, bucket or quarantine away, that run out of time, and that are two at once on one chunk. Notices and chunks come
more than once and in any order, and a sweep may come at any moment.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from espial import sources
from espial.errors import TryAgain
from espial.exports import text
from espial.exports.files import ENDED, Chunk, Counts
from espial.exports.notices import Notice
from espial.normalise import Recordable
from espial.ports import Verdict
from espial.services.sweep_exports import sweep
from tests.exporting import BUCKET, KINDS, NOW, SHOP, Killed, World, avro_file, ndjson_file, parquet_file
from tests.fakes import FakeEventStore

SEEDS = 240
PIECE_BYTES = 300
"""Of a chunk, so that a small file has several."""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """The shop's files, and containers that stop for a checkpoint every few rows."""
    monkeypatch.setattr(sources, "load", lambda _: SHOP)
    monkeypatch.setattr(text, "STRETCH_BYTES", 150)
    monkeypatch.setattr(text, "SAMPLE_BYTES", 400)
    monkeypatch.setattr("espial.exports.parquet_rows.BATCH_ROWS", 4)
    monkeypatch.setattr("espial.exports.deflate.EVERY_BYTES", 150)


class Trouble:
    """What happens at calls of ports: the process dies, the service is away, another worker gets in between.

    Before the call or after it, so that an effect may have been had of which nobody knows.
    """

    def __init__(self, rng: random.Random, world: World) -> None:
        self.message: Notice | str | None = None
        self._rng = rng
        self._world = world
        self._left = 25
        self._between = False

    def __call__(self) -> None:
        if self._left <= 0:
            return
        chance = self._rng.random()
        if chance < 0.03:
            self._left -= 1
            raise Killed
        if chance < 0.05:
            self._left -= 1
            raise TryAgain("away")
        if chance < 0.07 and not self._between and self.message:
            self._left -= 1
            self._between = True
            try:
                work(self._world, self.message, self._rng)
            except (Killed, TryAgain):
                pass  # the other one dies of it, and its message is a copy
            finally:
                self._between = False


class TornStore(FakeEventStore):
    """Now and then takes only the first of the records that it is given."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._left = 5

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        if not self._left or self._rng.random() > 0.1:
            return super().add(records, transport=transport, expires_days=expires_days)
        self._left -= 1
        taken = self._rng.randrange(len(records))
        verdicts = super().add(records[:taken], transport=transport, expires_days=expires_days)
        return verdicts + [TryAgain("throttled")] * (len(records) - taken)


def work(world: World, message: Notice | str, rng: random.Random) -> None:
    """What a function does with a message."""
    if isinstance(message, Notice):
        world.splitter(target_bytes=PIECE_BYTES).split(message)
        return
    left = iter(rng.choices([0.0, 900_000.0], k=1000))
    world.recorder(lambda: next(left, 900_000.0)).record(Chunk.from_json(message))


def work_off(world: World, notices: list[Notice], rng: random.Random, trouble: Trouble | None = None) -> None:
    """Until nothing is left: a message whose worker fails comes again, one in ten comes twice anyway."""
    waiting: list[Notice | str] = [*notices]
    world.step = trouble or (lambda: None)
    while waiting or world.queue.messages:
        waiting += world.queue.messages
        world.queue.messages.clear()
        message = waiting.pop(rng.randrange(len(waiting)))
        if trouble:
            trouble.message = message
            if rng.random() < 0.1:
                waiting.append(message)
        try:
            work(world, message, rng)
        except (Killed, TryAgain):
            waiting.append(message)
    world.step = lambda: None


def a_world(rng: random.Random, build: Callable[[list[str]], bytes], *, cut: bool) -> tuple[World, list[Notice]]:
    """Two files of many kinds of rows, some of them the same; `cut`: the second is truncated."""
    world = World()
    notices = []
    for number in range(2):
        count = rng.randint(0 if build in (avro_file, parquet_file) else 1, 45)
        ids = [f"{rng.choice(['p', 'p', 'p', 'p', 'bad', 'none', 'two'])}{number}-{n % 30}" for n in range(count)]
        content = build(ids)
        if cut and number:
            content = content[: rng.randrange(len(content) * 3 // 4, len(content))]
        notices.append(world.bucket.put(f"exports/shop/main/{number}", content, f"e{number}"))
    return world, notices


def outcome(world: World) -> dict[str, object]:
    """What must not depend on luck: events, quarantine, and of every file its end and what became of its rows."""
    return {
        "events": {event.event_id: (event.person.external_id, event.mode) for event in world.events()},
        "conflicts": {key: found for key, found in world.store.conflicts.items() if found},
        "quarantine": set(world.quarantine.entries),
        "files": {
            key: (state.state, state.reason, state.edges, state.finished, settled(state.counts))
            for (key, _), state in sorted(world.ledger.files.items())
        },
        "completed": world.ledger.completed,
    }


def settled(counts: Counts) -> Counts:
    """Rows recorded before a crash come again as duplicates: their sum stays."""
    return counts._replace(recorded=counts.recorded + counts.duplicates, duplicates=0)


def run_sweep(world: World, hours: float) -> None:
    """A sweep some hours later, and what it starts."""
    now = NOW + timedelta(hours=hours)
    found = sweep(
        BUCKET,
        splitter=world.splitter(target_bytes=PIECE_BYTES, now=now),
        objects=world.bucket,
        ledger=world.ledger,
        now=now,
        time_left=lambda: 600_000.0,
        days=7,
    )
    assert found.complete


def seeds() -> list[tuple[int, str]]:
    """Every kind in turn."""
    return [(seed, list(KINDS)[seed % len(KINDS)]) for seed in range(SEEDS)]


@pytest.mark.parametrize(("seed", "kind"), seeds())
def test_killed_anywhere_and_delivered_again_the_outcome_is_that_of_a_clean_pass(seed: int, kind: str):
    """The same events, quarantine, ends and balance, every file ended once; of a cut file as of a whole one."""
    cut = seed % 3 == 0
    clean, notices = a_world(random.Random(seed), KINDS[kind], cut=cut)
    work_off(clean, notices, random.Random(seed))
    rng = random.Random(seed)
    world, notices = a_world(rng, KINDS[kind], cut=cut)
    trouble = Trouble(rng, world)
    world.store = TornStore(rng)
    work_off(world, notices + rng.choices(notices, k=2), rng, trouble)
    assert {True} == {state.state in ENDED for state in world.ledger.files.values()}
    assert outcome(clean) == outcome(world)
    for state in world.ledger.files.values():
        counts = state.counts
        reports = counts.recorded + counts.duplicates + counts.conflicts + counts.refused
        assert counts.rows - counts.ignored <= reports <= 2 * counts.rows
        assert counts.refused + counts.damages == sum(counts.reasons.values())


def one_stream(ids: list[str]) -> bytes:
    """Many rows in one gzip member, whose blocks are short and repeat text from close by only."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + 11, 3)
    return packer.compress(ndjson_file([f"{one}.{n}" for n in range(40) for one in ids])) + packer.flush()


@pytest.mark.parametrize("seed", range(24))
def test_killed_inside_of_a_gzip_stream(monkeypatch, seed: int):
    """The same of a file that is gone on with in its midst, many times."""
    monkeypatch.setattr("espial.exports.deflate.EVERY_BYTES", 1000)
    monkeypatch.setattr("espial.exports.deflate.WINDOW_BYTES", 2 << 10)
    monkeypatch.setattr("espial.exports.deflate.PROOF_BYTES", 500)
    monkeypatch.setattr("espial.exports.deflate._SLICE_BYTES", 200)
    clean, notices = a_world(random.Random(seed), one_stream, cut=seed % 3 == 0)
    work_off(clean, notices, random.Random(seed))
    rng = random.Random(seed)
    world, notices = a_world(rng, one_stream, cut=seed % 3 == 0)
    work_off(world, notices, rng, Trouble(rng, world))
    assert all(world.resumes[notice.etag] for notice in notices if notice.size > 5000)
    assert outcome(clean) == outcome(world)


@pytest.mark.parametrize(("seed", "kind"), seeds()[:70])
def test_notices_and_chunks_lost_at_any_moment_are_healed_by_the_sweep(seed: int, kind: str):
    """Whatever is dropped in between, sweeps bring every file to the end that a clean pass gives it."""
    clean, notices = a_world(random.Random(seed), KINDS[kind], cut=False)
    work_off(clean, notices, random.Random(seed))
    rng = random.Random(seed)
    world, notices = a_world(rng, KINDS[kind], cut=False)
    told = rng.sample(notices, rng.randint(0, 2))
    for notice in told:
        world.splitter(target_bytes=PIECE_BYTES).split(notice)
    world.queue.messages = [one for one in world.queue.messages if rng.random() < 0.5]
    work_off(world, [], rng)
    run_sweep(world, 0)
    work_off(world, [], rng)
    run_sweep(world, 2)
    work_off(world, [], rng)
    assert outcome(clean) == outcome(world)
