"""An export file, its chunks and what became of them: values, and the ports that the export use-cases need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from espial.errors import EspialError
from espial.exports.notices import Notice


class Unavailable(EspialError):
    """The object cannot be read any more, for good.

    `reason`: `object_gone` (deleted), `object_replaced` (a newer notice will tell of its successor) or
    `object_forbidden` (policy or key policy; without s3:ListBucket also a missing object).
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ExportFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one object. `modified_at` is the bucket's own time stamp: the same on every retry."""

    bucket: str
    key: str
    etag: str
    size: int
    modified_at: datetime
    version_id: str = ""

    @property
    def pointer(self) -> str:
        """How an event's `raw` names the file; a row adds `#<place>.<ordinal>`."""
        return f"s3://{self.bucket}/{self.key}@{self.etag}"


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One byte range of a file, as on ChunkQueue.

    `round` is which reading of the whole file it belongs to; `handoffs` how often it came back without having moved on.
    """

    file: ExportFile
    number: int
    start: int
    end: int
    round: int = 0
    handoffs: int = 0

    def to_json(self) -> str:
        """The message's body."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, body: str) -> Chunk:
        """Raises msgspec.ValidationError or DecodeError if it is not a chunk."""
        return msgspec.json.decode(body, type=cls)


class Counts(NamedTuple):
    """What became of rows. After a crash, rows that were recorded but not checkpointed come again as duplicates.

    A row is one report as a rule; it may be several, or none (`ignored`). Every report is recorded, a duplicate, a
    conflict or refused; `damages` are stretches that gave no rows. `reasons` says how often each refused or damaged.
    """

    rows: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    ignored: int = 0
    damages: int = 0
    reasons: Mapping[str, int] = {}

    def numbers(self) -> dict[str, int]:
        """Everything but the reasons."""
        return dict(zip(self._fields[:-1], self[:-1], strict=True))

    def plus(self, other: Counts) -> Counts:
        """Field by field, reason by reason."""
        numbers = (a + b for a, b in zip(self[:-1], other[:-1], strict=True))
        return Counts._make((*numbers, dict(Counter(self.reasons) + Counter(other.reasons))))


class Progress(NamedTuple):
    """How far a chunk is: everything before `place` is dealt with (None: not begun), with these counts.

    `place` is the container's own; `reached` is the byte of the object up to which it has read, for whoever looks on.
    """

    place: int | None = None
    counts: Counts = Counts()
    done: bool = False
    reached: int = 0


DONE = frozenset({"done", "done_with_refusals"})
"""States of a file that was read to its end."""

ENDED = DONE | {"failed"}
"""States in which nothing more happens by itself."""


class FileState(NamedTuple):
    """A file's ledger entry; `edges` are its chunks' starts.

    `state` is planned, queued, ignored (no data; `reason` why) or one of ENDED: every file with data ends as done, as
    done_with_refusals (something in it could not be read) or as failed (with a `reason`). `counts` are those of the
    finished chunks. `round` counts how often it was read again from its start, `begun_at` is when this one was planned.
    """

    file: ExportFile
    state: str
    edges: tuple[int, ...]
    finished: frozenset[int]
    counts: Counts
    updated_at: datetime
    reason: str = ""
    round: int = 0
    begun_at: datetime | None = None

    def unfinished(self) -> list[Chunk]:
        """The chunks still to be read."""
        ends = (*self.edges[1:], self.file.size)
        return [
            Chunk(file=self.file, number=number, start=start, end=end, round=self.round)
            for number, (start, end) in enumerate(zip(self.edges, ends, strict=False))  # no edges, no chunks
            if number not in self.finished
        ]


class Moved(NamedTuple):
    """A chunk's progress and when it was last made."""

    progress: Progress
    at: datetime


class Listed(NamedTuple):
    """One object of a bucket listing."""

    key: str
    etag: str
    size: int
    modified_at: datetime


class ExportObjects(Protocol):
    """The exports bucket, read by ranges of one version."""

    def head(self, notice: Notice) -> ExportFile:
        """Raises Unavailable if the version that the notice tells of is not there; TryAgain."""
        ...

    def read(self, file: ExportFile, start: int, end: int) -> bytes:
        """Exactly [start, end) of this version. Raises Unavailable; TryAgain."""
        ...

    def listing(self, bucket: str, prefix: str, after: str) -> Iterator[Listed]:
        """Objects whose key follows `after`, in key order."""
        ...


class ExportLedger(Protocol):
    """Which files and chunks are planned, queued, done or failed. All changes are conditional: repeats are harmless."""

    def find(self, file: ExportFile) -> FileState | None: ...

    def entries(self, bucket: str, objects: Sequence[Listed]) -> Mapping[str, FileState]:
        """Key -> entry of those listed objects that have one for their etag."""
        ...

    def is_stale(self, notice: Notice, now: datetime) -> bool:
        """True if a later version of the key was notified; otherwise remembers this one as the latest."""
        ...

    def claim(self, file: ExportFile, edges: Sequence[int], now: datetime) -> FileState:
        """Enter the file as planned, unless it is; returns what then stands there.

        A failed file is planned anew; where it had chunks already, they and their checkpoints are kept.
        """
        ...

    def queued(self, file: ExportFile, now: datetime) -> None:
        """The chunks of a planned file are on the queue."""
        ...

    def settle(self, file: ExportFile, now: datetime) -> FileState | None:
        """Enter the file as done if every chunk is finished; returns its entry to the one caller that did so."""
        ...

    def fail(self, file: ExportFile, reason: str, now: datetime) -> None:
        """Enter the file as failed, unless it is done."""
        ...

    def ignore(self, file: ExportFile, reason: str, now: datetime) -> None:
        """Enter the file as one that holds no data, unless it is done."""
        ...

    def resume(self, file: ExportFile, now: datetime) -> bool:
        """Have a file that is not done planned again where it stands; False if it is done."""
        ...

    def redo(self, file: ExportFile, now: datetime) -> bool:
        """Have a file planned again from its start, in a new round; False if it is planned or queued."""
        ...

    def progress(self, chunk: Chunk) -> Progress: ...

    def moved(self, chunks: Sequence[Chunk]) -> Mapping[int, Moved]:
        """Number -> progress of those chunks of one file that were begun."""
        ...

    def advance(self, chunk: Chunk, before: Progress, after: Progress, now: datetime) -> bool:
        """Write place and counts together if the chunk still stands at `before`; False if someone else moved it."""
        ...

    def finish(self, chunk: Chunk, counts: Counts, now: datetime) -> FileState | None:
        """Add a done chunk to its file, once and in its own round, then `settle` it."""
        ...

    def sweep_position(self, bucket: str) -> str:
        """The key after which the last sweep stopped for want of time, or ""."""
        ...

    def keep_sweep_position(self, bucket: str, key: str) -> None: ...


class ChunkQueue(Protocol):
    """Work for record_export."""

    def put(self, chunks: Sequence[Chunk], delay_seconds: int = 0) -> None:
        """Returns once all are durable; raises TryAgain otherwise. `delay_seconds` at most 900."""
        ...


class Resumes(Protocol):
    """What a container keeps of its own state, to go on from there instead of reading everything again.

    A help and no more: what cannot be kept is forgotten, what is not there is None, and neither is an error.
    """

    def save(self, name: str, state: bytes, /) -> None: ...

    def load(self, name: str, /) -> bytes | None: ...


class NoResumes:
    """Forgets everything."""

    def save(self, _name: str, _state: bytes, /) -> None:
        """Nothing is kept."""

    def load(self, _name: str, /) -> bytes | None:
        """Nothing is there."""
        return None


class FileSource:
    """One version of an object as the containers read it. `reached` is the end of the furthest read."""

    def __init__(self, objects: ExportObjects, file: ExportFile, resumes: Resumes | None = None) -> None:
        self._objects = objects
        self._file = file
        self.size = file.size
        self.resumes: Resumes = NoResumes() if resumes is None else resumes
        self.reached = 0

    def read(self, start: int, end: int) -> bytes:
        """Exactly the bytes [start, end)."""
        data = self._objects.read(self._file, start, end)
        self.reached = max(self.reached, end)
        return data
