"""Chunk -> rows -> the same recording as webhooks, with a checkpoint every few thousand rows.

A checkpoint is written after the rows before it are recorded, place and counts in one conditional write. So a worker
that is killed anywhere loses nothing (its rows come again as duplicates), and two workers on one chunk never count
anything twice: who finds the chunk moved on goes on from where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from espial.deliveries import Arrival, Connection, Item
from espial.errors import Malformed, MalformedItem, TryAgain, UnknownConnection
from espial.exports import Container, Damage, Mark, Row, open_container
from espial.exports.files import (
    Chunk,
    ChunkQueue,
    Counts,
    ExportLedger,
    ExportObjects,
    FileSource,
    FileState,
    Progress,
    Unavailable,
)
from espial.ports import Connections, EventStore, Quarantine
from espial.services.recorder import Recorder, Report, Tally
from espial.services.split_export import give_up, owner, refusal
from espial.sources import Export, Source

CHECKPOINT_ROWS = 2000
MARGIN_MS = 60_000
"""Time left at which a worker hands back: more than a checkpoint's worth of rows takes."""

MAX_HANDOFFS = 20
"""Without any progress in between; then the message goes the way of the dead-letter queue."""

BACK_OFF_SECONDS = (15, 30, 60, 120, 300)
"""By handoffs without progress; the first for a worker that got some way before it was throttled."""


class Recording(NamedTuple):
    """What one call did to a chunk: `outcome` is done, handed_back or failed; `completed` the file it completed."""

    outcome: str
    tally: Tally
    counts: Counts = Counts()
    reason: str = ""
    completed: FileState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecorder:
    """Records chunks. `time_left` gives the milliseconds this process still has."""

    connections: Connections
    objects: ExportObjects
    ledger: ExportLedger
    queue: ChunkQueue
    store: EventStore
    quarantine: Quarantine
    now: datetime
    time_left: Callable[[], float]
    checkpoint_rows: int = CHECKPOINT_ROWS

    def record(self, chunk: Chunk) -> Recording:
        """Record the chunk, or as much of it as there is time for.

        A throttle hands it back with a delay. Raises TryAgain once that no longer helps, and whatever a bug in a
        source raises, after everything else in the chunk was recorded.
        """
        pass_ = _Pass(self, chunk)
        try:
            return pass_.run()
        except (Unavailable, Malformed, UnknownConnection) as exc:
            reason = give_up(chunk.file, exc, self.ledger, self.quarantine, self.now, place=chunk.start)
            return Recording("failed", pass_.tally, pass_.counts, reason)
        except TryAgain as exc:
            return pass_.hand_back(exc)


class _Pass:
    """One worker's go at one chunk."""

    def __init__(self, recorder: ChunkRecorder, chunk: Chunk) -> None:
        self._to = recorder
        self._chunk = chunk
        self.tally = Tally()
        self.counts = Counts()
        self._moved = False
        self._broken: Exception | None = None

    def run(self) -> Recording:
        connection, source = owner(self._chunk.file.key, self._to.connections)
        container = open_container(FileSource(self._to.objects, self._chunk.file), self._chunk.file.key)
        while not (stands := self._to.ledger.progress(self._chunk)).done:
            reader = _Reader(self._to, self._chunk, connection, source, container)
            if not self._read(reader, stands):
                return self.hand_back(TryAgain("out of time", after=0))
            if self._broken:
                raise self._broken
        completed = self._to.ledger.finish(self._chunk, stands.counts, self._to.now)
        return Recording("done", self.tally, self.counts, completed=completed)

    def _read(self, reader: _Reader, stands: Progress) -> bool:
        """Record to the chunk's end, or until another worker has moved it on; False if time ran out before."""
        steps = reader.container.rows(self._chunk.start, self._chunk.end, stands.place)
        while not stands.done:
            stretch = reader.stretch(steps)
            tally = Recorder(self._to.store, self._to.quarantine, self._to.now).record(stretch)
            self._add(tally, reader.broken)
            if not self._broken:
                got = _counts(tally, reader.damages)
                after = Progress(reader.place, stands.counts.plus(got), done=reader.ended)
                if not self._to.ledger.advance(self._chunk, stands, after, self._to.now):
                    return True
                self.counts = self.counts.plus(got)
                self._moved, stands = True, after
            if reader.ended:
                return True
            if self._to.time_left() < MARGIN_MS:
                return False
        return True

    def _add(self, tally: Tally, broken: Exception | None) -> None:
        self.tally.counts.update(tally.counts)
        self._broken = self._broken or broken
        for error in tally.failures.values():
            if isinstance(error, TryAgain):
                raise error
            self._broken = self._broken or error  # nothing behind it may be checkpointed, yet all of it is recorded

    def hand_back(self, why: TryAgain) -> Recording:
        """Put the rest back on the queue. Raises `why` if that was done too often without getting any further."""
        handoffs = 0 if self._moved else self._chunk.handoffs + 1
        if self._broken:
            raise self._broken
        if handoffs > MAX_HANDOFFS:
            raise why
        delay = BACK_OFF_SECONDS[min(handoffs, len(BACK_OFF_SECONDS) - 1)] if why.after else 0
        self._to.queue.put([msgspec.structs.replace(self._chunk, handoffs=handoffs)], delay)
        return Recording("handed_back", self.tally, self.counts, str(why))


class _Reader:
    """Rows as reports, stretch by stretch; `place`, `damages` and `ended` tell of the last stretch.

    `broken` is what a bug in the source raised; its rows are left out.
    """

    def __init__(
        self, to: ChunkRecorder, chunk: Chunk, connection: Connection, source: Source, container: Container
    ) -> None:
        self.container = container
        self.place: int | None = None
        self.damages = 0
        self.ended = False
        self.broken: Exception | None = None
        self._to = to
        self._file = chunk.file
        self._source = source
        self._read = source.exports[container.kind]
        self._arrival = Arrival(
            connection=connection, transport="export", received_at=chunk.file.modified_at, mode=connection.mode
        )
        self._export = Export(
            bucket=chunk.file.bucket, key=chunk.file.key, etag=chunk.file.etag, record_name=container.record_name
        )

    def stretch(self, steps: Iterator[Row | Damage | Mark]) -> Iterator[Report]:
        """Reports up to the next checkpoint, or to the chunk's end."""
        self.damages = 0
        rows = 0
        for step in steps:
            match step:
                case Row():
                    rows += 1
                    try:
                        item: Item | MalformedItem = self._read(step.data, self._export)
                    except MalformedItem as exc:
                        item = exc
                    except Exception as exc:  # noqa: BLE001  a bug of the source must not stop the other rows
                        self.broken = self.broken or exc
                        continue
                    yield self._report(step, item)
                case Damage():
                    self.damages += 1
                    entry = refusal(
                        self._file, step.reason, step.detail, self._to.now, place=step.place, until=step.until
                    )
                    self._to.quarantine.put(entry)
                case Mark():
                    self.place = step.place
                    if rows >= self._to.checkpoint_rows or self._to.time_left() < MARGIN_MS:
                        return
        self.ended = True

    def _report(self, row: Row, item: Item | MalformedItem) -> Report:
        origin = f"{self._file.pointer}#{row.place}"
        return Report(
            source=self._source,
            arrival=self._arrival,
            item=item,
            raw=f"{origin}.{row.ordinal}",
            origin=origin,
            position=row.ordinal,
            facts={"bucket": self._file.bucket, "key": self._file.key, "etag": self._file.etag, "place": row.place},
        )


def _counts(tally: Tally, damages: int) -> Counts:
    return Counts(
        rows=sum(tally.counts.values()),
        recorded=tally.total("new"),
        duplicates=tally.total("duplicate"),
        conflicts=tally.total("conflict"),
        refused=tally.total("quarantined"),
        damages=damages,
    )
