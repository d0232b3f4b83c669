"""What a Parquet footer says of the row groups: where they are and how large (parquet-format, `parquet.thrift`).

Read here, in Thrift's compact protocol, because pyarrow ends the process over a damaged or encrypted description of a
column when asked for it from Python. Everything else of the footer is pyarrow's to read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from espial.errors import Malformed

_MAX_DEPTH = 32
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_SIZES = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}
_FILE_ROW_GROUPS, _FILE_ENCRYPTION, _FILE_SIGNING_KEY = 4, 8, 9
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_METADATA, _COLUMN_CRYPTO, _COLUMN_ENCRYPTED = 3, 8, 9
_INFLATED, _STORED, _DATA_PAGE, _DICTIONARY_PAGE = 6, 7, 9, 11


class Group(NamedTuple):
    """A row group: number `number` of the footer, bytes [start, end) of the file, rows from number `first` on."""

    number: int
    start: int
    end: int
    first: int
    rows: int
    columns: int
    inflated: int


class _Compact:
    """A place in a text of the compact protocol. Running over its end raises IndexError, nonsense ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of the struct here. Its value has to be read or skipped before the next."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 0x0F

    def elements(self) -> tuple[int, int]:
        """How many elements the list here has, and their type."""
        head = self._byte()
        return (self._varint() if head >> 4 == 0x0F else head >> 4), head & 0x0F

    def structs(self, kind: int) -> Iterator[None]:
        """Each element of the list of structs here, which has to be read before the next."""
        if kind != _LIST:
            raise ValueError(f"type {kind} where a list is due")
        count, kind = self.elements()
        if count and kind != _STRUCT:
            raise ValueError(f"type {kind} where a struct is due")
        for _ in range(count):
            yield

    def integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("structs within structs without end")
        if kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _BINARY:
            length = self._varint()
            self._at += length
        elif kind == _STRUCT:
            for _, field in self.fields():
                self.skip(field, depth + 1)
        elif kind in (_LIST, _SET, _MAP):
            self._skip_elements(kind, depth + 1)
        elif kind in _SIZES:
            self._at += _SIZES[kind]
        else:
            raise ValueError(f"unknown type {kind}")

    def _skip_elements(self, kind: int, depth: int) -> None:
        if kind == _MAP:
            count = self._varint()
            both = self._byte() if count else 0
            kinds = [both >> 4, both & 0x0F]
        else:
            count, element = self.elements()
            kinds = [element]
        for _ in range(count):
            for each in kinds:
                self.skip(_BYTE if each in (_TRUE, _FALSE) else each, depth)

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")


def groups(footer: bytes, start: int) -> list[Group]:
    """The row groups with rows, in the order of the file. The footer itself begins at byte `start` of it.

    Raises Malformed: encrypted_file, bad_footer.
    """
    try:
        found = sorted(_groups(_Compact(footer)))
    except (IndexError, ValueError) as exc:
        raise Malformed("bad_footer", f"{type(exc).__name__}: {exc}") from exc
    first = 0
    made = []
    for begin, end, number, rows, columns, inflated in found:
        if not (4 <= begin < end <= start and rows > 0):
            raise Malformed("bad_footer", f"row group {number} claims {rows} rows in bytes {begin} to {end}")
        made.append(Group(number, begin, end, first, rows, columns, inflated))
        first += rows
    return made


def _groups(at: _Compact) -> Iterator[tuple[int, int, int, int, int, int]]:
    for field, kind in at.fields():
        if field in (_FILE_ENCRYPTION, _FILE_SIGNING_KEY):
            raise Malformed("encrypted_file", "its columns are encrypted")
        if field != _FILE_ROW_GROUPS:
            at.skip(kind)
            continue
        for number, _ in enumerate(at.structs(kind)):
            rows, columns = _group(at)
            if rows and columns:
                begin, end = min(begin for begin, _, _ in columns), max(end for _, end, _ in columns)
                yield begin, end, number, rows, len(columns), sum(inflated for _, _, inflated in columns)


def _group(at: _Compact) -> tuple[int, list[tuple[int, int, int]]]:
    rows = 0
    columns = []
    for field, kind in at.fields():
        if field == _GROUP_COLUMNS:
            columns = [_column(at) for _ in at.structs(kind)]
        elif field == _GROUP_ROWS:
            rows = at.integer()
        else:
            at.skip(kind)
    return rows, columns


def _column(at: _Compact) -> tuple[int, int, int]:
    """First byte, last byte and inflated size of a column's pages."""
    numbers: dict[int, int] = {}
    for field, kind in at.fields():
        if field in (_COLUMN_CRYPTO, _COLUMN_ENCRYPTED):
            raise Malformed("encrypted_file", "a column is encrypted")
        if field != _COLUMN_METADATA:
            at.skip(kind)
            continue
        if kind != _STRUCT:
            raise ValueError(f"type {kind} where a struct is due")
        for inner, inner_kind in at.fields():
            if inner_kind == _I64:
                numbers[inner] = at.integer()
            else:
                at.skip(inner_kind)
    data = numbers.get(_DATA_PAGE, 0)
    begin = min(data, numbers.get(_DICTIONARY_PAGE) or data)  # some writers note 0 for a dictionary that is not there
    return begin, begin + numbers.get(_STORED, 0), numbers.get(_INFLATED, 0)
