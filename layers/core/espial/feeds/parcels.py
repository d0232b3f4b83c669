"""What a sink is given as one file, and when: each file of the batches as it is, or a day's log joined from its files.

Both follow from the committed batches alone, so that whoever crashes comes to the same files again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from espial.feeds.files import Batch, Delivered, FeedBook, FeedFile

DATA = "data"

LARGEST = 256 << 20
"""Bytes of a day's log in one file, which is held in memory: what is more goes into another file."""


class Piece(NamedTuple):
    """A file of the archive."""

    batch: Batch
    file: FeedFile


class Parcel(NamedTuple):
    """One file for a sink. `number` is its place among a day's files of one series; 0 of one that goes as it is."""

    pieces: tuple[Piece, ...]
    number: int = 0

    @property
    def name(self) -> str:
        first = self.pieces[0].file
        if not self.number:
            return first.name
        more = f"-{self.number}" if self.number > 1 else ""
        return f"{first.name.rpartition('_')[0]}{more}.{first.format}"

    def joined(self, contents: Sequence[bytes]) -> tuple[FeedFile, bytes]:
        """The file and its content, from those of the pieces; a header stays in the first alone."""
        first, last = self.pieces[0].file, self.pieces[-1].file
        if not self.number:
            return first, contents[0]
        header = contents[0][: contents[0].index(b"\n") + 1] if first.format == "csv" else b""
        whole = b"".join([contents[0], *(content.removeprefix(header) for content in contents[1:])])
        files = [piece.file for piece in self.pieces]
        file = replace(
            last,
            name=self.name,
            rows=sum(file.rows for file in files),
            size=len(whole),
            sha256=sha256(whole).hexdigest(),
            first=min(file.first for file in files),
            last=max(file.last for file in files),
            pieces=tuple(file.sequence for file in files),
        )
        return file, whole


class Step(NamedTuple):
    """One step on: where a sink stands after it (see `Delivered`), and what it is given if anything.

    `ready` is when all of it was there.
    """

    batch: int
    files: int
    day: str
    parcel: Parcel | None
    ready: datetime

    def after(self, standing: Delivered) -> Delivered:
        """The standing behind this step."""
        return replace(standing, batch=self.batch, files=self.files, day=self.day)


Gets = Callable[[FeedFile], bool]


def steps_from(standing: Delivered, book: FeedBook, gets: Gets, *, by_day: bool = False) -> Iterator[Step]:
    """What lies behind what a sink has, `by_day` for one that gets a day's log in one file.

    Empty batches and files for others are steps too, or it would never get on.
    """
    return _days(standing, book, gets) if by_day else _files(standing, book, gets)


def _files(standing: Delivered, book: FeedBook, gets: Gets) -> Iterator[Step]:
    has_all_of_it = bool(standing.day)
    for batch in book.batches(standing.feed, after=max(standing.batch - (not has_all_of_it), 0)):
        has = standing.files if batch.number == standing.batch else 0
        for files, file in enumerate(batch.files[has:], has + 1):
            yield Step(batch.number, files, "", Parcel((Piece(batch, file),)) if gets(file) else None, batch.closed_at)
        if not batch.files and batch.number > standing.batch:
            yield Step(batch.number, 0, "", None, batch.closed_at)


def _days(standing: Delivered, book: FeedBook, gets: Gets) -> Iterator[Step]:
    # Who had single files before gets those of the last batch once more: nobody knows which of them it had.
    day, reached = standing.day, standing.batch if standing.day else max(standing.batch - 1, 0)
    held: dict[str, list[Piece]] = {}
    for batch in book.batches(standing.feed, after=reached):
        for file in batch.files:
            of = file.day or f"{file.created_at:%Y-%m-%d}"
            if gets(file) and of >= day:
                held.setdefault(of, []).append(Piece(batch, file))
        for over in sorted(of for of in held if of < batch.open_day):
            parcels = _parcels(held.pop(over))
            done = standing.files if over == standing.day else 0
            for files, parcel in enumerate(parcels[done:], done + 1):
                if files == len(parcels):
                    day, reached = _next(over, batch, held), _whole(batch, held)
                    yield Step(reached, 0, day, parcel, batch.closed_at)
                else:
                    yield Step(reached, files, over, parcel, batch.closed_at)
        if not held and batch.open_day > day:
            day, reached = batch.open_day, batch.number
            yield Step(reached, 0, day, None, batch.closed_at)


def _next(over: str, batch: Batch, held: dict[str, list[Piece]]) -> str:
    """The day behind one that is delivered."""
    return min([*(of for of in held if of > over), batch.open_day])


def _whole(batch: Batch, held: dict[str, list[Piece]]) -> int:
    """The last batch of which nothing is left to deliver."""
    return min((piece.batch.number - 1 for pieces in held.values() for piece in pieces), default=batch.number)


def _parcels(pieces: Iterable[Piece]) -> list[Parcel]:
    """A day's files: one of each series, as long as it has the same columns and is not too large."""
    alone: list[Parcel] = []
    made: dict[str, list[list[Piece]]] = {}
    for piece in pieces:
        if piece.file.kind != DATA:
            alone.append(Parcel((piece,)))
            continue
        files = made.setdefault(piece.file.series, [])
        if files and _fits(files[-1], piece):
            files[-1].append(piece)
        else:
            files.append([piece])
    joined = [Parcel(tuple(some), at) for series in sorted(made) for at, some in enumerate(made[series], 1)]
    return [*joined, *alone]


def _fits(others: Sequence[Piece], piece: Piece) -> bool:
    first, file = others[0].file, piece.file
    is_alike = (first.format, first.columns, first.version) == (file.format, file.columns, file.version)
    return is_alike and sum(other.file.size for other in others) + file.size <= LARGEST
