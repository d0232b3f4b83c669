"""A feed's files: what is known of each, what a batch of them commits, and the ports that feeds need (A23, A.c.8).

A *batch* is what one run of the writer took from the table's stream. Its files lie in the archive under its token
before it is committed, and are handed to the sinks after that, in order: a parent is never after its children.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from espial.events import Event
from espial.feeds.correlation import Candidate

Kind = str
"""`data`; `rejects`, rows that no CDP would take, with why; `unmatched`, responses whose send never came."""

Positions = Mapping[str, str]
"""Shard of the table's stream -> the sequence number read last, or `END` of one that is closed and read."""

END = "END"

MANIFEST = ".manifest.json"
"""Behind a file's name: its manifest's."""


class FeedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a feed. As JSON it is the manifest that lies beside it, `<name>.manifest.json`.

    series       `<layout>/<system>`: within it `sequence` counts 1, 2, 3 … without a gap.
    columns      of the file, in order; `key` are those that make a row unique.
    rows, size, sha256   of the file as it is; `first` and `last` are its events' times.
    corrects     the day (UTC, `YYYY-MM-DD`) that a correction file belongs to, or "".
    day          of an event log: the day (UTC) whose events it has.
    pieces       of a day's log in one file: the numbers in the series of those that it was joined from.
    """

    feed: str
    batch: int
    name: str
    kind: Kind
    layout: str
    version: int
    profile: str
    system: str
    series: str
    sequence: int
    format: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: int
    size: int = msgspec.field(name="bytes")
    sha256: str
    first: datetime
    last: datetime
    created_at: datetime
    corrects: str = ""
    day: str = ""
    pieces: tuple[int, ...] = ()

    def manifest(self) -> bytes:
        """The manifest's bytes: the same for the same file, whenever they are asked for."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One committed run of a feed's writer.

    token      its files' folder in the archive, and whose work in the index counts.
    files      in the order in which sinks get them.
    counts     outcome -> events: `fed`, `ignored`, `waiting`, `unmatched`, `rejected` …
    gap        the stream had forgotten something before this batch could read it.
    open_day   of an event log: later batches have nothing of a day before this one.
    """

    feed: str
    number: int
    token: str
    closed_at: datetime
    files: tuple[FeedFile, ...]
    positions: dict[str, str]
    counts: dict[str, int] = {}
    gap: bool = False
    open_day: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a feed is, and the right to go on, which `holder` proves.

    `number` is that of the last batch (0: none yet); `series` -> the last sequence; `closed_at` when it was closed;
    `due_from` from when on responses may be overdue; `open_day` is the last batch's.
    """

    feed: str
    holder: str
    number: int = 0
    positions: dict[str, str] = {}
    series: dict[str, int] = {}
    closed_at: datetime | None = None
    due_from: datetime | None = None
    open_day: str = ""


class Page(NamedTuple):
    """A stretch of the table's stream: events as they were inserted, and where to go on. `gap`: some are lost to it."""

    events: Sequence[Event]
    positions: Positions
    gap: bool = False


class TableStream(Protocol):
    """EventsTable's stream, read at one's own pace. It remembers 24 hours."""

    def read(self, positions: Positions) -> Iterator[Page]:
        """Page by page, a shard's parents before it, up to what is there now. Raises TryAgain."""
        ...


class Entry(msgspec.Struct, frozen=True):
    """What the index holds under one key: the sends, and the ids of responses that wait for one."""

    sends: tuple[Candidate, ...] = ()
    waiting: tuple[str, ...] = ()


class Waiting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A response that waits for its send until `until`.

    `kept_by` is the token of the batch that had it wait: of one that was never committed it does not count, for then it
    comes up with the stream again. `fed_by` is that of the batch that fed it after all.
    """

    event: Event
    keys: tuple[str, ...]
    until: datetime
    kept_by: str
    fed_by: str = ""


class SendIndex(Protocol):
    """One feed's sends and waiting responses, by key. One writer at a time; all of it may be written again.

    Each raises TryAgain when the store is away.
    """

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Those of the keys that are known."""
        ...

    def put(self, entries: Mapping[str, Entry]) -> None: ...

    def waiting(self, ids: Sequence[str]) -> dict[str, Waiting]:
        """Event id -> response, of those that wait or waited."""
        ...

    def keep(self, waiting: Sequence[Waiting]) -> None: ...

    def due(self, since: datetime, until: datetime) -> Iterator[str]:
        """The ids of responses whose time ends between the two, in order, and others of these hours perhaps."""
        ...

    def remind_no_more(self, waiting: Mapping[str, datetime]) -> None:
        """Event id -> until when it waited: it is no longer due."""
        ...


class FeedBook(Protocol):
    """Which batches each feed has, and how far its sinks are. Each raises TryAgain when the store is away."""

    def take(self, feed: str, *, now: datetime, until: datetime) -> Standing | None:
        """The right to write the feed until then; None while somebody else has it."""
        ...

    def commit(
        self, standing: Standing, batch: Batch, series: Mapping[str, int], due_from: datetime | None = None
    ) -> bool:
        """Enter the batch and move on, both or neither; False if the right was lost meanwhile."""
        ...

    def skip(self, standing: Standing, positions: Positions, due_from: datetime | None = None) -> bool:
        """Move on over what holds nothing for the feed; False if the right was lost meanwhile."""
        ...

    def release(self, standing: Standing) -> None: ...

    def committed(self, feed: str, tokens: Sequence[str]) -> set[str]:
        """Those of the tokens whose batches were committed."""
        ...

    def batches(self, feed: str, *, after: int = 0) -> Iterator[Batch]:
        """In order of number."""
        ...

    def delivered(self, feed: str, sink: str) -> Delivered:
        """How far a sink is."""
        ...

    def deliver(self, before: Delivered, after: Delivered) -> bool:
        """Move a sink on; False if it no longer stands at `before`."""
        ...


class Delivered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a sink is: it has the first `files` files of batch `batch`, and all of those before.

    `failures` in a row, the last for `reason` at `failed_at`; it is tried again from `again_at` on. Until `busy_until`
    somebody is at it.

    A sink that gets a day's log in one file has all of the days before `day`, and the first `files` files of that one;
    whatever lies in batches up to `batch` is there.
    """

    feed: str
    sink: str
    batch: int = 0
    files: int = 0
    failures: int = 0
    reason: str = ""
    failed_at: datetime | None = None
    again_at: datetime | None = None
    busy_until: datetime | None = None
    day: str = ""


class FeedArchive(Protocol):
    """Every file of every feed, byte for byte, so that each can be sent again."""

    def put(self, feed: str, token: str, name: str, content: bytes) -> None:
        """Returns once durable. Raises TryAgain."""
        ...

    def get(self, feed: str, token: str, name: str) -> bytes:
        """Raises KeyError when it is no longer kept; TryAgain."""
        ...


class Sink(Protocol):
    """Where finished files go."""

    def put(self, name: str, content: bytes) -> None:
        """Have the file there under its name, whole or not at all; the same file again is no error.

        Raises TryAgain(after) if it may work later, Refused(reason) if somebody has to mend something.
        """
        ...
