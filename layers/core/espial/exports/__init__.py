"""Bucket exports: containers that turn an object's bytes into rows, in pieces, with bounded memory (DESIGN 4).

A container is one module, `exports/<kind>.py`, with `open_container(source, key, layout) -> Container`, and one line in
`_CONTAINERS`. It reads the object by bounded ranges only, so that an object of any size costs the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from espial.errors import Malformed
from espial.sources import Layout

NOT_DATA = "not_data"
"""Why a file is refused that holds something, but by its platform's word no reports."""


class RangeSource(Protocol):
    """One object as bytes. Whoever implements it makes sure that every read sees the same version."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, end: int) -> bytes:
        """Exactly the bytes [start, end); `end` is at most `size`."""
        ...


class Row(NamedTuple):
    """One row: `place` is the byte offset of its block or line, `ordinal` its number in there."""

    place: int
    ordinal: int
    data: Mapping[str, Any]


class Damage(NamedTuple):
    """The bytes [place, until) cannot be read; `reason` is a snake_case code. No row of theirs is yielded."""

    place: int
    until: int
    reason: str
    detail: str


class Mark(NamedTuple):
    """A checkpoint: everything before `place` was yielded; `rows` can go on from it."""

    place: int


def folded(column: str) -> str:
    """A column's name as rows have it: letters and digits in lower case: `Send ID`, `SendID` and `send_id` agree."""
    return "".join(filter(str.isalnum, column)).lower()


class Container(Protocol):
    """An opened export file.

    kind         names the row kind: the key of `Source.exports`. `avro` and `parquet` rows are typed, `ndjson` rows are
                 whatever JSON values, `csv` rows are text by `folded` column name (a missing field is left out).
    record_name  what the container says its rows are (an Avro record's name, an archive member's name), or "".
    columns      of `csv`: `folded` column name -> name as the file has it; else empty.

    All three are of the range that `rows` reads at the moment: the members of an archive differ.
    """

    @property
    def kind(self) -> str: ...

    @property
    def record_name(self) -> str: ...

    @property
    def columns(self) -> Mapping[str, str]: ...

    def plan(self, target_bytes: int) -> list[tuple[int, int]]:
        """Contiguous byte ranges of about `target_bytes` that together hold every row; empty if there is none.

        The same for the same object and target, so that a crash in between repeats itself exactly. A container
        that cannot be split gives one range.
        """
        ...

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """The rows that belong to the range [start, end), from `checkpoint` on if one is given.

        Over all ranges of any plan every row comes exactly once. Never raises for the object's content: what
        cannot be read comes as Damage and reading goes on behind it.
        """
        ...


_CONTAINERS = {
    b"Obj\x01": "avro",
    b"PAR1": "parquet",
    b"PARE": "parquet",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
"""First bytes -> module. Content decides; what begins with none of these is text (bucket-exports B0)."""

_KNOWN_BY_SIGHT = {
    b"ORC": "ORC",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"-----BEGIN PGP": "PGP",
}


def open_container(source: RangeSource, key: str, layout: Layout) -> Container:
    """Recognise and open an export file; `layout` is what its platform knows of it.

    Raises Malformed: `unsupported_container` for a format that Espial does not read, `empty_file`, `not_data`, or the
    container's own reason when its beginning is unreadable.
    """
    if not source.size:
        raise Malformed("empty_file", "no byte")
    kind = recognised(source.read(0, min(64, source.size)))
    container: Container = import_module(f"espial.exports.{kind}").open_container(source, key, layout)
    return container


def recognised(first: bytes) -> str:
    """The module for what begins like this. Raises Malformed unsupported_container."""
    for magic, kind in _CONTAINERS.items():
        if first.startswith(magic):
            return kind
    for magic, looks in _KNOWN_BY_SIGHT.items():
        if first.startswith(magic):
            raise Malformed("unsupported_container", f"{looks}; readable: {', '.join(_CONTAINERS.values())}, text")
    return "text"
