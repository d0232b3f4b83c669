"""split_export, record_export and sweep_exports over fakes: killed, repeated, reordered, rows count once."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import msgspec
import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem, TryAgain
from espial.exports import files
from espial.exports.files import Chunk, Counts, ExportFile, FileState, Listed, Progress, Unavailable
from espial.exports.notices import Notice, sequence
from espial.services import record_export, sweep_exports
from espial.services.record_export import ChunkRecorder
from espial.services.split_export import Splitter
from espial.services.sweep_exports import sweep
from espial.verify.shared import bearer_token
from tests.fakes import FakeConnections, FakeEventStore, FakeQuarantine

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
DROPPED = datetime(2026, 1, 15, 11, tzinfo=UTC)
BUCKET = "acme-exports"
KEY = "exports/shop/main/part+0.avro"

SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "x.inner.Open",
        "fields": [{"name": "id", "type": "string"}, {"name": "t", "type": "int"}],
    }
)


def from_avro(row, export):
    """The item of a row; ids that begin with `bad` cannot be read, `bug` is our own mistake."""
    if row["id"].startswith("bad"):
        raise MalformedItem("missing_field", "", "email")
    if row["id"].startswith("bug"):
        raise ZeroDivisionError
    return {**row, "name": export.record_name}


SHOP = sources.Source(
    name="shop",
    verify=bearer_token(),
    split=lambda _: [],
    event_types={},
    normalise=lambda item, _: {
        "type": "opened",
        "platform_type": item["name"],
        "channel": "email",
        "occurred_at": datetime.fromtimestamp(item["t"], UTC),
        "person": {"external_id": item["id"]},
    },
    identity=lambda item: (item["id"],),
    docs=sources.Docs(title="Shop", url="https://example.com"),
    person_order=lambda _: ("external_id",),
    exports={"avro": from_avro},
)


@pytest.fixture(autouse=True)
def shop(monkeypatch):
    real = sources.load
    monkeypatch.setattr(sources, "load", lambda name: SHOP if name == "shop" else real(name))


def avro_file(ids: list[str], codec: str = "null") -> bytes:
    out = io.BytesIO()
    rows = [{"id": one, "t": 1_768_000_000} for one in ids]
    fastavro.writer(out, SCHEMA, rows, codec=codec, sync_interval=200, sync_marker=bytes(range(16)))
    return out.getvalue()


class Killed(BaseException):
    """The process ends here."""


class Bucket:
    """ExportObjects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.problem: Exception | None = None

    def put(self, key: str, content: bytes, etag: str = "e1") -> Notice:
        self.objects[key] = etag, content
        return Notice(BUCKET, key, len(content), etag)

    def head(self, notice: Notice) -> ExportFile:
        content = self._content(notice.key, notice.etag)
        return ExportFile(bucket=BUCKET, key=notice.key, etag=notice.etag, size=len(content), modified_at=DROPPED)

    def read(self, file: ExportFile, start: int, end: int) -> bytes:
        return self._content(file.key, file.etag)[start:end]

    def _content(self, key: str, etag: str) -> bytes:
        if self.problem:
            raise self.problem
        if key not in self.objects:
            raise Unavailable("object_gone")
        found, content = self.objects[key]
        if found != etag:
            raise Unavailable("object_replaced")
        return content

    def listing(self, bucket, prefix, after):
        for key in sorted(self.objects):
            if key > after:
                etag, content = self.objects[key]
                yield Listed(key, etag, len(content), DROPPED)


class Ledger:
    """ExportLedger in memory; the suite in test_export_stores holds the real one to the same behaviour."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], FileState] = {}
        self.chunks: dict[tuple[str, int], Progress] = {}
        self.latest: dict[str, str] = {}
        self.sweeps: dict[str, str] = {}
        self.completed = 0

    def find(self, file):
        return self.files.get((file.key, file.etag))

    def states(self, bucket, objects):
        return {one.key: (s.state, s.updated_at) for one in objects if (s := self.files.get((one.key, one.etag)))}

    def is_stale(self, notice, now):
        new, old = sequence(notice.sequencer), self.latest.get(notice.key, "")
        self.latest[notice.key] = max(new, old)
        return bool(notice.sequencer) and new < old

    def claim(self, file, edges, now):
        found = self.find(file)
        if found is None:
            found = FileState(file, "planned", tuple(edges), frozenset(), Counts(), now)
        elif found.state == "failed":
            found = found._replace(state="planned", edges=found.edges or tuple(edges), reason="", updated_at=now)
        return self._keep(found)

    def _keep(self, state):
        self.files[state.file.key, state.file.etag] = state
        return state

    def queued(self, file, now):
        found = self.find(file)
        if found.state != "done":
            self._keep(found._replace(state="queued", updated_at=now))

    def fail(self, file, reason, now):
        found = self.find(file) or FileState(file, "failed", (), frozenset(), Counts(), now)
        if found.state != "done":
            self._keep(found._replace(state="failed", reason=reason, updated_at=now))

    def settle(self, file, now):
        found = self.find(file)
        if found is None or found.state == "done" or len(found.finished) < len(found.edges):
            return None
        self.completed += 1
        return self._keep(found._replace(state="done", updated_at=now))

    def progress(self, chunk):
        return self.chunks.get((chunk.file.etag, chunk.number), Progress())

    def advance(self, chunk, before, after, now):
        if self.progress(chunk) != before:
            return False
        self.chunks[chunk.file.etag, chunk.number] = after
        return True

    def finish(self, chunk, counts, now):
        found = self.find(chunk.file)
        if chunk.number not in found.finished:
            finished = found.finished | {chunk.number}
            self._keep(found._replace(finished=finished, counts=found.counts.plus(counts), updated_at=now))
        return self.settle(chunk.file, now)

    def sweep_position(self, bucket):
        return self.sweeps.get(bucket, "")

    def keep_sweep_position(self, bucket, key):
        self.sweeps[bucket] = key


class Queue:
    """ChunkQueue in memory: what is received comes again unless it is deleted, in any order."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.delays: list[int] = []

    def put(self, chunks, delay_seconds=0):
        self.messages += [chunk.to_json() for chunk in chunks]
        self.delays.append(delay_seconds)


class World:
    """Everything the services stand on; `step`, if set, is called before every effect and may kill."""

    def __init__(self, connection: Connection | None = None) -> None:
        self.connections = FakeConnections(connection or Connection(name="main", platform="shop", account="main"))
        self.bucket = Bucket()
        self.ledger = Ledger()
        self.queue = Queue()
        self.store = FakeEventStore()
        self.quarantine = FakeQuarantine()
        self.step = lambda: None

    def port(self, real):
        return Port(self, real)

    def splitter(self, target_bytes: int = 500, now: datetime = NOW) -> Splitter:
        return Splitter(
            connections=self.connections,
            objects=self.port(self.bucket),
            ledger=self.port(self.ledger),
            queue=self.port(self.queue),
            quarantine=self.port(self.quarantine),
            now=now,
            target_bytes=target_bytes,
        )

    def recorder(self, time_left=lambda: 900_000.0, store=None) -> ChunkRecorder:
        return ChunkRecorder(
            connections=self.connections,
            objects=self.port(self.bucket),
            ledger=self.port(self.ledger),
            queue=self.port(self.queue),
            store=self.port(store or self.store),
            quarantine=self.port(self.quarantine),
            now=NOW,
            time_left=time_left,
            checkpoint_rows=7,
        )

    def drain(self) -> list[record_export.Recording]:
        done = []
        while self.queue.messages:
            done.append(self.recorder().record(Chunk.from_json(self.queue.messages.pop(0))))
        return done

    def events(self):
        return [stored.event for stored in self.store.items.values()]

    def recorded(self) -> set[str]:
        return {event.person.external_id for event in self.events()}

    def state(self, etag: str = "e1", key: str = KEY) -> FileState:
        return self.ledger.files[key, etag]


class Port:
    """A port whose every call first lets the world step."""

    def __init__(self, world: World, real: object) -> None:
        self._world = world
        self._real = real

    def __getattr__(self, name: str):
        method = getattr(self._real, name)

        def call(*args, **kwargs):
            self._world.step()
            answer = method(*args, **kwargs)
            self._world.step()
            return answer

        return call


def test_a_file_is_recorded_with_its_lineage_and_its_balance():
    """Rows become events that arrived when the object did, by export, with a pointer to their place in the file."""
    world = World()
    notice = world.bucket.put(KEY, avro_file([f"p{n}" for n in range(60)] + ["bad1", "p3"]))
    assert "queued" == world.splitter().split(notice).outcome
    assert {"done"} == {done.outcome for done in world.drain()}
    event = world.events()[0]
    assert (DROPPED, "x.inner.Open") == (event.received_at, event.platform_type)
    assert event.raw.startswith(f"s3://{BUCKET}/{KEY}@e1#")
    assert Counts(rows=62, recorded=60, duplicates=1, refused=1) == world.state().counts
    assert ("done", 1) == (world.state().state, world.ledger.completed)


def test_a_backfill_connection_marks_its_events():
    """History is recorded without firing triggers: the connection's mode goes into every event."""
    world = World(Connection(name="main", platform="shop", account="main", mode="backfill"))
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.drain()
    assert "backfill" == world.events()[0].mode


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("exports/shop/other/a.avro", avro_file(["a"]), "unknown_connection"),
        ("exports/nosuch/main/a.avro", avro_file(["a"]), "unknown_connection"),
        ("elsewhere/a.avro", avro_file(["a"]), "unknown_connection"),
        ("exports/shop/main/a.parquet", b"PAR1....PAR1", "unsupported_container"),
        ("exports/shop/main/a.avro", b"Obj\x01\x02", "truncated_header"),
    ],
)
def test_a_file_nobody_can_read_is_quarantined_with_its_reason(key, content, reason):
    """It has a place, a reason and, by `retry_failed`, a way back; a repeat adds nothing."""
    world = World()
    notice = world.bucket.put(key, content)
    outcomes = [world.splitter().split(notice) for _ in range(2)]
    assert [("refused", reason)] * 2 == [(one.outcome, one.reason) for one in outcomes]
    (entry,) = world.quarantine.list()
    assert (reason, key) == (entry.reason, entry.content["key"])
    assert "failed" == world.state(key=key).state


def test_damage_is_quarantined_and_the_intact_blocks_are_recorded():
    """A file cut within a block: everything before is recorded, the place of the damage is kept."""
    world = World()
    content = avro_file([f"p{n}" for n in range(60)])
    world.splitter().split(world.bucket.put(KEY, content[:-30]))
    world.drain()
    (entry,) = world.quarantine.list()
    assert ("truncated_block", BUCKET) == (entry.reason, entry.content["bucket"])
    assert 0 < len(world.recorded()) < 60
    assert 1 == world.state().counts.damages
    assert "done" == world.state().state


def test_stale_and_repeated_notices_do_nothing():
    """An older notice after a newer one, and the same file again, cost no chunk."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))._replace(sequencer="0065A7")
    world.splitter().split(notice)
    world.drain()
    assert "repeated" == world.splitter().split(notice).outcome
    assert "stale" == world.splitter().split(notice._replace(sequencer="0065A6FF", etag="e0")).outcome
    assert [] == world.queue.messages


def test_an_object_replaced_while_it_is_read_is_left_to_its_successor():
    """The rest of the old version cannot be read: it is entered as failed, and the new one is recorded whole."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a", "b"])))
    successor = world.bucket.put(KEY, avro_file(["b", "c"]), "e2")
    assert ["failed"] == [done.outcome for done in world.drain()]
    world.splitter().split(successor)
    world.drain()
    assert {"b", "c"} == world.recorded()
    assert ("object_replaced", "done") == (world.state("e1").reason, world.state("e2").state)
    assert [] == list(world.quarantine.list())


def test_out_of_time_hands_back_and_the_rest_follows():
    """A worker with no time left records at least a block, checkpoints and hands back; nothing counts twice."""
    world = World()
    ids = [f"p{n}" for n in range(200)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file(ids)))
    rounds = 0
    while world.queue.messages:
        rounds += 1
        world.recorder(time_left=lambda: 0.0).record(Chunk.from_json(world.queue.messages.pop()))
    assert rounds > 5
    assert (set(ids), 200) == (world.recorded(), world.state().counts.recorded)


class Throttled:
    """A store that is away."""

    def add(self, records, *, transport, expires_days):
        return [TryAgain("throttled") for _ in records]


def test_a_throttled_chunk_comes_back_later_and_not_for_ever():
    """Handed back with growing delays; without any progress it goes the way of the dead-letter queue in the end."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    recorder = world.recorder(store=Throttled())
    for _ in range(record_export.MAX_HANDOFFS):
        assert "handed_back" == recorder.record(Chunk.from_json(world.queue.messages.pop())).outcome
    with pytest.raises(TryAgain):
        recorder.record(Chunk.from_json(world.queue.messages.pop()))
    assert [0, 30, 60, 120, 300, 300] == world.queue.delays[:6]
    assert {300} == set(world.queue.delays[6:])


class ThrottledLater:
    """A store that goes away after one stretch of rows."""

    def __init__(self, store):
        self._stores = [store]

    def add(self, records, **how):
        return (self._stores.pop() if self._stores else Throttled()).add(records, **how)


def test_a_throttle_after_some_progress_is_waited_for_the_least():
    """And counts as no handoff: a chunk that moves is never given up."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file([f"id-{n}" for n in range(60)])))
    chunk = Chunk.from_json(world.queue.messages.pop(0))
    recording = world.recorder(store=ThrottledLater(world.store)).record(msgspec.structs.replace(chunk, handoffs=3))
    assert ("handed_back", True) == (recording.outcome, recording.counts.recorded > 0)
    assert 15 == world.queue.delays[-1]
    assert 0 == Chunk.from_json(world.queue.messages[-1]).handoffs


def test_a_bug_on_one_row_records_the_others_and_fails_the_chunk():
    """The chunk is retried and dead-lettered, but no other row waits for the mend; no checkpoint passes the row."""
    world = World()
    ids = [f"p{n}" for n in range(30)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file([*ids[:10], "bug", *ids[10:]])))
    chunk = Chunk.from_json(world.queue.messages.pop())
    with pytest.raises(ZeroDivisionError):
        world.recorder().record(chunk)
    assert set(ids) == world.recorded()
    assert "queued" == world.state().state


def test_two_workers_on_one_chunk_count_once():
    """The second finds the chunk moved on by the first, goes on from there, and the balance is that of one pass."""
    world = World()
    ids = [f"p{n}" for n in range(80)]
    world.splitter(target_bytes=100_000).split(world.bucket.put(KEY, avro_file(ids)))
    chunk = Chunk.from_json(world.queue.messages.pop())
    calls = iter(range(10_000))
    inside: list[bool] = []

    def interfere():
        if next(calls) == 14 and not inside:
            inside.append(True)
            world.recorder().record(chunk)

    world.step = interfere
    world.recorder().record(chunk)
    assert inside
    assert (set(ids), 80, 1) == (world.recorded(), world.state().counts.rows, world.ledger.completed)


@pytest.mark.parametrize("seed", range(200))
def test_killed_anywhere_and_delivered_again_the_outcome_is_that_of_a_clean_pass(seed):
    """Notices and chunks are killed at a random effect, repeated, reordered: every row recorded, files end once."""
    rng = random.Random(seed)
    world = World()
    names = [f"exports/shop/main/{n}.avro" for n in range(2)]
    ids = {name: [f"{name}-{n}" for n in range(rng.randint(0, 40))] for name in names}
    codec = rng.choice(["null", "deflate"])
    etags = {name: f"e{n}" for n, name in enumerate(names)}
    notices = [world.bucket.put(name, avro_file(ids[name], codec), etags[name]) for name in names]
    notices += rng.sample(notices, 1)
    work: list[Any] = [*notices]
    rng.shuffle(work)
    kills = 12

    def step():
        nonlocal kills
        if kills and rng.random() < 0.08:
            kills -= 1
            raise Killed

    world.step = step
    while work or world.queue.messages:
        work += world.queue.messages
        world.queue.messages.clear()
        message = work.pop(rng.randrange(len(work)))
        if rng.random() < 0.1:
            work.append(message)
        try:
            if isinstance(message, Notice):
                world.splitter(target_bytes=300).split(message)
            else:
                left = iter(rng.choices([0.0, 900_000.0], k=1000))
                world.recorder(lambda left=left: next(left, 900_000.0)).record(Chunk.from_json(message))
        except Killed:
            work.append(message)
    assert {one for some in ids.values() for one in some} == world.recorded()
    for name in names:
        state = world.state(etags[name], name)
        assert "done" == state.state
        assert len(ids[name]) == state.counts.rows == state.counts.recorded + state.counts.duplicates
    assert world.ledger.completed == 2


def run_sweep(world: World, now: datetime = NOW, *, time_left=lambda: 600_000.0, days: int = 7, retry_failed=False):
    return sweep(
        BUCKET,
        splitter=world.splitter(now=now),
        objects=world.bucket,
        ledger=world.ledger,
        now=now,
        time_left=time_left,
        days=days,
        retry_failed=retry_failed,
    )


def test_a_lost_notification_heals():
    """An object without a ledger entry is split by the sweep; one that is done, ignored, fresh or old is not."""
    world = World()
    world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.put("exports/shop/main/", b"")
    assert {} == run_sweep(world, DROPPED + timedelta(minutes=29)).outcomes
    assert {} == run_sweep(world, DROPPED + timedelta(days=8)).outcomes
    assert {"queued": 1} == run_sweep(world).outcomes
    world.drain()
    assert {} == run_sweep(world, NOW + timedelta(hours=2)).outcomes
    assert {"a"} == world.recorded()


def test_a_crash_between_plan_and_queue_heals():
    """A file planned but never queued is sent again once it has stood still for half an hour."""
    world = World()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.queue.messages.clear()
    assert {} == run_sweep(world, NOW + timedelta(minutes=20)).outcomes
    assert {"queued": 1} == run_sweep(world, NOW + timedelta(minutes=31)).outcomes
    world.drain()
    assert {"a"} == world.recorded()


def test_failed_files_are_taken_up_on_demand():
    """Once the reason is mended, here a connection that was missing, `retry_failed` is the way back."""
    world = World()
    world.connections = FakeConnections()
    world.splitter().split(world.bucket.put(KEY, avro_file(["a"])))
    world.connections = World().connections
    assert {} == run_sweep(world).outcomes
    assert {"queued": 1} == run_sweep(world, retry_failed=True).outcomes
    world.drain()
    assert {"a"} == world.recorded()


def test_a_sweep_out_of_time_goes_on_where_it_stopped(monkeypatch):
    """The listing's place is kept, so that a large bucket is gone through by several sweeps."""
    monkeypatch.setattr(sweep_exports, "LOOKED_UP_TOGETHER", 2)
    world = World()
    for n in range(5):
        world.bucket.put(f"exports/shop/main/{n}.avro", avro_file([str(n)]), f"e{n}")
    swept = [run_sweep(world, time_left=lambda: 0.0) for _ in range(4)]
    assert [2, 2, 1, 0] == [one.listed for one in swept]
    assert [False, False, False, True] == [one.complete for one in swept]
    world.drain()
    assert {"0", "1", "2", "3", "4"} == world.recorded()


def test_one_file_that_cannot_be_split_now_does_not_stop_a_sweep():
    """It is counted and left for the next sweep."""
    world = World()
    world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.problem = TryAgain("away")
    assert {"retry": 1} == run_sweep(world).outcomes


def test_a_forbidden_object_is_quarantined():
    """Retrying what a key policy forbids is of no use: somebody has to see it."""
    world = World()
    notice = world.bucket.put(KEY, avro_file(["a"]))
    world.bucket.problem = Unavailable("object_forbidden", "AccessDenied")
    assert ("unavailable", "object_forbidden") == world.splitter().split(notice)[:2]
    assert ["object_forbidden"] == [entry.reason for entry in world.quarantine.list()]


def test_a_chunk_survives_its_message():
    """What goes on the queue comes back equal."""
    file = ExportFile(bucket=BUCKET, key=KEY, etag="e1", size=10, modified_at=DROPPED, version_id="v")
    chunk = files.Chunk(file=file, number=3, start=1, end=10, handoffs=2)
    assert chunk == Chunk.from_json(chunk.to_json())
