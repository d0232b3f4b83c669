"""Bucket exports: containers that turn an object's bytes into rows, in pieces, with bounded memory (DESIGN 4).

A container is one module, `exports/<kind>.py`, with `open_container(source) -> Container`, and one line in
`_CONTAINERS`. It reads the object by bounded ranges only, so that an object of any size costs the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from espial.errors import Malformed


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
    """A column's name as rows have it: letters and digits in lower case, so that `Send ID`, `SendID`, `send_id` agree."""
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


_CONTAINERS = {b"Obj\x01": "avro"}
"""First bytes -> module. Content decides; a name only when the content is not known (bucket-exports B0)."""

_KNOWN_BY_SIGHT = {
    b"PAR1": "parquet",
    b"PARE": "encrypted parquet",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"{": "json",
    b"[": "json",
}


def open_container(source: RangeSource, key: str) -> Container:
    """Recognise and open an export file.

    Raises Malformed: `unsupported_container` for a format that Espial does not read, or the container's own reason
    when its header is unreadable.
    """
    first = source.read(0, min(64, source.size))
    for magic, kind in _CONTAINERS.items():
        if first.startswith(magic) or key.endswith(f".{kind}"):
            container: Container = import_module(f"espial.exports.{kind}").open_container(source)
            return container
    looks = next(
        (name for magic, name in _KNOWN_BY_SIGHT.items() if first.lstrip().startswith(magic)), "delimited text"
    )
    raise Malformed("unsupported_container", f"looks like {looks}; readable: {', '.join(_CONTAINERS.values())}")
