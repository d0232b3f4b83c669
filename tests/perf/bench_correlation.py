"""Benchmark: tying responses to their sends, both in random order, and how the cost grows with their number.

    python -m tests.perf.bench_correlation               1,000,000 responses to 1,000,000 sends
    python -m tests.perf.bench_correlation --sends 50000 … of another number

The feed's own writer in runs of 15,000 events: CPU time of one core an event, files and all. A tenth, then all.
Beside it what it asks of the index's table, and what that takes here, where it is in memory, as JSON. Exit status 1 if
the writer takes over a quarter more for an event in the large run than in the small one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import msgspec

from espial.events import Campaign, Event, Person, event_id
from espial.feeds.files import Entry, Page, Positions, Waiting
from espial.vocabulary import EventType
from tests.builders import NOON
from tests.feeding import Archive, Index, World

GROWTH = 1.25
ROWS = 15_000


def an_event(number: int, kind: EventType, *, tied: bool) -> Event:
    """A send or the response to it; half of them have a tie of the platform's own, the others campaign and address."""
    at = NOON + timedelta(seconds=number % 80_000 + (60 if kind is EventType.OPENED else 0))
    return Event(
        event_id=event_id(at, f"{kind}/{number}"),
        type=kind,
        platform_type=kind.value,
        channel="email",
        platform="braze",
        connection="braze-main",
        occurred_at=at,
        received_at=at,
        person=Person(external_id=f"cust-{number}", email=f"reader.{number}@example.com"),
        campaign=Campaign(id=f"campaign-{number % 40}", name=f"Wave {number % 40}"),
        send_key=f"dispatch-{number // 1000}/{number}" if tied else None,
    )


class Shuffled:
    """Sends and responses in random order, made when they are read."""

    def __init__(self, sends: int) -> None:
        self.order = list(range(2 * sends))
        random.Random(7).shuffle(self.order)
        self.making = 0.0

    def read(self, positions: Positions) -> Iterator[Page]:
        """See `TableStream`."""
        for start in range(int(positions.get("one", "0")), len(self.order), 1000):
            begun = time.process_time()
            some = self.order[start : start + 1000]
            kinds = (EventType.SENT, EventType.OPENED)
            made = [an_event(number // 2, kinds[number % 2], tied=number % 4 < 2) for number in some]
            self.making += time.process_time() - begun
            yield Page(made, {"one": str(start + len(some))})


class CountingIndex(Index):
    """Counts what it is asked; what it holds is bytes, as in the table."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.read = self.written = 0
        self.taken = 0.0
        self._encoded: dict[str, bytes] = {}
        self._waiting: dict[str, bytes] = {}

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        with self._timed():
            return self._entries(keys)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.taken += time.process_time() - begun

    def _entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        self.read += len(keys)
        found = ((key, self._encoded.get(key)) for key in keys)
        return {key: msgspec.json.decode(body, type=Entry) for key, body in found if body}

    def put(self, entries: Mapping[str, Entry]) -> None:
        self.written += len(entries)
        with self._timed():
            self._encoded |= {key: msgspec.json.encode(entry) for key, entry in entries.items()}

    def waiting(self, ids: Sequence[str]) -> dict[str, Waiting]:
        self.read += len(ids)
        with self._timed():
            found = ((known, self._waiting.get(known)) for known in ids)
            return {known: msgspec.json.decode(body, type=Waiting) for known, body in found if body}

    def keep(self, waiting: Sequence[Waiting]) -> None:
        self.written += len(waiting)
        with self._timed():
            self._waiting |= {one.event.event_id: msgspec.json.encode(one) for one in waiting}

    def due(self, *_: object) -> Iterator[str]:
        return iter(())


class Counted(Archive):
    """Keeps the number of rows' bytes, not the files."""

    def put(self, feed: str, token: str, name: str, content: bytes) -> None:
        self[feed, token, name] = b""


def run(sends: int) -> float:
    """CPU time an event, in µs."""
    world = World(rotate={"rows": ROWS, "after": "0s"}, late_after="366d")
    stream, index = Shuffled(sends), CountingIndex()
    world.stream, world.index, world.archive = stream, index, Counted(lambda: None)  # type: ignore[assignment]
    begun = time.process_time()
    while world.run(later=timedelta(seconds=1)).outcome == "committed":
        pass
    assert world.book.kept
    each = (time.process_time() - begun - stream.making - index.taken) / (2 * sends) * 1e6
    rows = dict.fromkeys(("campaign_event_nonrpi", "response_event"), 0)
    for batch in world.book.kept:
        for file in batch.files:
            rows[file.layout] += file.rows
    assert set(rows.values()) == {sends}, rows
    print(
        f"{sends:9,} sends and as many responses: {each:5.1f} µs an event and {index.taken / 2 / sends * 1e6:.1f} in"
        f" the index; of its table {index.read / 2 / sends:.1f} items read and {index.written / 2 / sends:.1f} written",
        flush=True,
    )
    return each


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--sends", type=int, default=1_000_000)
    chosen = arguments.parse_args()
    small, large = run(chosen.sends // 10), run(chosen.sends)
    missed = [] if large <= GROWTH * small else [f"grows {large / small:.2f} times, wanted {GROWTH}"]
    print(
        f"correlation: {large:.1f} µs an event, {large / small:.2f} times that of a tenth: "
        + ("all targets met" if not missed else "missed: " + "; ".join(missed))
    )
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
