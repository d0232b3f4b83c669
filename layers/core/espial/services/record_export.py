"""Chunk -> rows -> the same recording as webhooks, with a checkpoint every few thousand rows.

A checkpoint is written after the rows before it are recorded, place and counts in one conditional write. So a worker
that is killed anywhere loses nothing (its rows come again as duplicates), and two workers on one chunk never count
anything twice: who finds the chunk moved on goes on from where it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from espial.deliveries import Arrival, Item
from espial.errors import Malformed, MalformedItem, TryAgain, UnknownConnection
from espial.exports import Damage, Mark, Row, open_container
from espial.exports.files import (
    Chunk,
    ChunkQueue,
    Counts,
    ExportFile,
    ExportLedger,
    ExportObjects,
    FileSource,
    FileState,
    NoResumes,
    Progress,
    Resumes,
    Unavailable,
)
from espial.ledger import Ledger
from espial.ports import Connections, EventStore, Quarantine
from espial.services.ledger import Stretch, counted, of_stretch
from espial.services.recorder import Recorder, Report, Tally
from espial.services.split_export import give_up, mode, owner, refusal
from espial.sources import Export, layout_of

CHECKPOINT_ROWS = 2000
MARGIN_MS = 60_000
"""Time left at which a worker hands back: more than a checkpoint's worth of rows takes."""

INTERNAL_ERROR = "internal_error"
"""Why a file failed that a bug of ours stops; its log line says more."""

MAX_HANDOFFS = 20
"""Without any progress in between; then the message goes the way of the dead-letter queue."""

BACK_OFF_SECONDS = (15, 30, 60, 120, 300)
"""By handoffs without progress; the first for a worker that got some way before it was throttled."""


RowReader = Callable[[Mapping[str, Any], Export], Item | list[Item] | None]


class Recording(NamedTuple):
    """What one call did to a chunk: `outcome` is done, handed_back or failed; `completed` the file it completed."""

    outcome: str
    tally: Tally
    counts: Counts = Counts()
    reason: str = ""
    completed: FileState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecorder:
    """Records chunks.

    `time_left` gives the milliseconds this process still has; `resumes` is where containers of a file keep their state;
    `balance` is told what became of each stretch.
    """

    connections: Connections
    objects: ExportObjects
    ledger: ExportLedger
    balance: Ledger
    queue: ChunkQueue
    store: EventStore
    quarantine: Quarantine
    now: datetime
    time_left: Callable[[], float]
    resumes: Callable[[ExportFile], Resumes] = lambda _file: NoResumes()
    checkpoint_rows: int = CHECKPOINT_ROWS

    def record(self, chunk: Chunk) -> Recording:
        """Record the chunk, or as much of it as there is time for.

        A throttle hands it back with a delay. Raises TryAgain once that no longer helps, and whatever a bug in a
        source raises, after everything else in the chunk was recorded: the file counts as failed until a retry of the
        chunk succeeds.
        """
        try:
            return self._record(chunk)
        except TryAgain:
            raise
        except Exception:
            self.ledger.fail(chunk.file, INTERNAL_ERROR, self.now)
            raise

    def _record(self, chunk: Chunk) -> Recording:
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
        reading: _Reading | None = None
        while not (stands := self._to.ledger.progress(self._chunk)).done:
            reading = reading or _Reading(self._to, self._chunk)
            if not self._read(reading, stands):
                return self.hand_back(TryAgain("out of time", after=0))
            if self._broken:
                raise self._broken
        completed = self._to.ledger.finish(self._chunk, stands.counts, self._to.now)
        return Recording("done", self.tally, self.counts, completed=completed)

    def _read(self, reading: _Reading, stands: Progress) -> bool:
        """Record to the chunk's end, or until another worker has moved it on; False if time ran out before."""
        reading.begin(stands.place)
        while not stands.done:
            tally = Tally()
            recorder = Recorder(self._to.store, self._to.quarantine, self._to.now)
            recorder.record(counted(reading.stretch(), tally), tally)
            self._add(tally, reading.broken)
            if not self._broken:
                got = reading.counts(tally)
                self._note(reading, tally, got, stands.place)
                after = Progress(reading.place, stands.counts.plus(got), reading.ended, reading.reached)
                if not self._to.ledger.advance(self._chunk, stands, after, self._to.now):
                    return True
                self.counts = self.counts.plus(got)
                self._moved, stands = True, after
            if reading.ended:
                return True
            if self._to.time_left() < MARGIN_MS:
                return False
        return True

    def _note(self, reading: _Reading, tally: Tally, got: Counts, start: int | None) -> None:
        file = self._chunk.file
        stretch = Stretch(
            source=reading.of,
            unit=f"{file.pointer}#{self._chunk.round}.{self._chunk.number}",
            received_at=file.modified_at,
            start=start,
            end=reading.place,
            last=reading.ended,
            ignored=got.ignored,
            damages=got.damages,
            reasons=got.reasons,
        )
        self._to.balance.note(of_stretch(stretch, tally, self._to.now))

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


class _Reading:
    """A chunk's rows as reports, stretch by stretch: up to the next checkpoint, or to the chunk's end.

    `place`, `reached` and `ended` tell where the last stretch ended; `broken` is what a bug in the source raised, whose
    rows are left out. Opening it raises what `open_container` and `owner` do.
    """

    def __init__(self, to: ChunkRecorder, chunk: Chunk) -> None:
        self._to = to
        self._chunk = chunk
        self._file = chunk.file
        self._pointer = chunk.file.pointer
        self._connection, self._source = owner(self._file.key, to.connections)
        self._bytes = FileSource(to.objects, self._file, to.resumes(self._file))
        layout = layout_of(self._source, self._file.key, self._connection.settings)
        self._container = open_container(self._bytes, self._file.key, layout)
        self._arrival = Arrival(
            connection=self._connection,
            transport="export",
            received_at=self._file.modified_at,
            mode=mode(self._file.key, self._connection),
        )
        self.broken: Exception | None = None

    def begin(self, checkpoint: int | None) -> None:
        """Read from there on."""
        self._steps = self._container.rows(self._chunk.start, self._chunk.end, checkpoint)
        self._part: tuple[str, str] | None = None
        self._bytes.reached = self._chunk.start
        self.place: int | None = checkpoint
        self.ended = False

    @property
    def of(self) -> str:
        """The ledger's word for where it comes from."""
        return f"{self._source.name}/{self._connection.name}"

    @property
    def reached(self) -> int:
        """The byte of the chunk up to which the object was read."""
        return min(self._bytes.reached, self._chunk.end)

    def stretch(self) -> Iterator[Report]:
        """Reports of the next rows."""
        self._rows = self._ignored = 0
        self._damages: Counter[str] = Counter()
        for number, step in enumerate(self._steps):
            match step:
                case Row():
                    if self._part != (self._container.kind, self._container.record_name):
                        self._turn_page(step)
                    if self._read is None:
                        continue
                    self._rows += 1
                    items = self._items(self._read, step)
                    if isinstance(items, list):
                        yield from self._several(step, items)
                    elif items:
                        yield self._report(step, items, f"{self._pointer}#{step.place}", step.ordinal)
                    else:
                        self._ignored += 1
                case Damage():
                    self._refuse(step)
                case Mark():
                    self.place = step.place
                    if number >= self._to.checkpoint_rows or self._to.time_left() < MARGIN_MS:
                        return
        self.ended = True

    def counts(self, tally: Tally) -> Counts:
        """What became of the last stretch; `tally` is of its reports."""
        reasons = self._damages.copy()
        for outcome, count in tally.counts.items():
            if outcome.verdict == "quarantined":
                reasons[outcome.what] += count
        return Counts(
            rows=self._rows,
            recorded=tally.total("new"),
            duplicates=tally.total("duplicate"),
            conflicts=tally.total("conflict"),
            refused=tally.total("quarantined"),
            ignored=self._ignored,
            damages=self._damages.total(),
            reasons=dict(reasons),
        )

    def _turn_page(self, row: Row) -> None:
        """Take note of what the rows are from here on, and refuse those of a kind that the source cannot read."""
        container = self._container
        self._part = container.kind, container.record_name
        self._read = self._source.exports.get(container.kind)
        if self._read is None:
            detail = f"{container.record_name}: {self._source.name} exports no {container.kind} files"
            self._refuse(Damage(row.place, row.place, "unsupported_container", detail))
        self._export = Export(
            bucket=self._file.bucket,
            key=self._file.key,
            etag=self._file.etag,
            record_name=container.record_name,
            columns=container.columns,
            settings=self._connection.settings,
        )

    def _refuse(self, damage: Damage) -> None:
        self._damages[damage.reason] += 1
        entry = refusal(
            self._file,
            damage.reason,
            damage.detail,
            self._to.now,
            place=damage.place,
            until=damage.until,
        )
        self._to.quarantine.put(entry)

    def _items(self, read: RowReader, row: Row) -> Item | list[Item] | MalformedItem | None:
        """What the source makes of a row; None too for one that a bug stops, whose stretch is not counted."""
        try:
            return read(row.data, self._export) or None
        except MalformedItem as exc:
            return exc
        except Exception as exc:  # noqa: BLE001  it must not stop the other rows
            self.broken = self.broken or exc
            return None

    def _several(self, row: Row, items: list[Item]) -> Iterator[Report]:
        origin = f"{self._pointer}#{row.place}.{row.ordinal}"
        return (self._report(row, item, origin, position) for position, item in enumerate(items))

    def _report(self, row: Row, item: Item | MalformedItem, origin: str, position: int) -> Report:
        return Report(
            source=self._source,
            arrival=self._arrival,
            item=item,
            raw=f"{origin}.{position}",
            origin=origin,
            position=position,
            facts={"bucket": self._file.bucket, "key": self._file.key, "etag": self._file.etag, "place": row.place},
        )
