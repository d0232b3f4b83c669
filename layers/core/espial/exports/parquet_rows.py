"""Row groups of Parquet files as rows, through pyarrow.

Rows are decoded in batches, and the columns fetched in pieces, so that memory is bounded by the pages of one row group
and not by its size. Only a row group that is small anyway is fetched as a whole.

Values come as JSON has them: instants, dates and times as ISO 8601 text, with `Z` where the file says that they are
UTC; decimals as text, bytes in Base64, maps as objects with text keys, structs as objects, what is missing as None.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from espial.errors import Malformed
from espial.exports import RangeSource
from espial.exports.parquet import read
from espial.exports.parquet_footer import Group

WHOLE_BYTES = 16 << 20
"""A row group of at most this many bytes is fetched at once: columns are many, and each request costs time."""

PIECES_BYTES = 32 << 20
"""All columns' pieces of a larger row group together."""

MIN_PIECE_BYTES = 64 << 10
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
"""Rows decoded at once: what fits a processor's cache is fastest, and long rows come fewer at a time."""


class _Ranged:
    """The object as a file that pyarrow can read. Of it `held` is in memory; `failure` is what a read raised."""

    closed = False

    def __init__(self, source: RangeSource, held_from: int, held: bytes) -> None:
        self.failure: Exception | None = None
        self._source = source
        self._at = 0
        self._held_from = held_from
        self._held = held

    def hold(self, start: int, end: int) -> None:
        """Fetch this part at once."""
        self._held = b""
        self._held_from, self._held = start, self._fetch(start, end)

    def read(self, size: int) -> bytes:
        start, end = self._at, min(self._at + size, self._source.size)
        self._at = max(start, end)
        skipped = start - self._held_from
        if skipped >= 0 and end <= self._held_from + len(self._held):
            return self._held[skipped : skipped + end - start]
        return self._fetch(start, end)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._source.size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        pass

    def _fetch(self, start: int, end: int) -> bytes:
        try:
            return read(self._source, start, end)
        except Exception as exc:
            self.failure = exc
            raise


class Decoder:
    """Decodes row groups of one file, of which the last bytes with the footer are at hand.

    Raises Malformed: bad_footer.
    """

    def __init__(self, source: RangeSource, end: bytes, columns: int) -> None:
        self._file = _Ranged(source, source.size - len(end), end)
        try:
            self._reader = pq.ParquetFile(
                pa.PythonFile(self._file, mode="r"),
                buffer_size=max(PIECES_BYTES // columns, MIN_PIECE_BYTES),
                pre_buffer=False,
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            )
        except Exception as exc:
            raise self._cause(exc, "bad_footer") from exc

    def batches(self, group: Group, begun: int) -> Iterator[list[dict[str, Any]] | Exception]:
        """Rows from number `begun` of the row group on; in the place of one that cannot be read, what was raised.

        Raises Malformed where there is no going on: undecodable_row_group, truncated_row_group; and what reading
        the object raises.
        """
        number = 0
        for batch in self._decoded(group):
            if number + batch.num_rows > begun:
                yield from _rows(batch.slice(max(begun - number, 0)))
            number += batch.num_rows
        if number < group.rows:
            raise Malformed("truncated_row_group", f"{number} of {group.rows} rows are there")

    def _decoded(self, group: Group) -> Iterator[pa.RecordBatch]:
        size = min(max(BATCH_BYTES * group.rows // max(group.inflated, 1), 1), BATCH_ROWS)
        self._file.failure = None
        try:
            if group.end - group.start <= WHOLE_BYTES:
                self._file.hold(group.start, group.end)
            yield from self._reader.iter_batches(size, row_groups=[group.number], use_threads=False)
        except Exception as exc:
            raise self._cause(exc, "undecodable_row_group") from exc

    def _cause(self, error: Exception, reason: str) -> Exception:
        """What reading the object raised, if it did; else the bytes are damaged, which makes pyarrow raise anything."""
        return self._file.failure or Malformed(reason, f"{type(error).__name__}: {error}"[:300])


def _rows(batch: pa.RecordBatch) -> Iterator[list[dict[str, Any]] | Exception]:
    """The batch's rows; one by one if there is a value among them that cannot be read."""
    names = batch.schema.names
    try:
        columns = [_values(column) for column in batch.columns]
    except Exception as exc:  # noqa: BLE001  text that is not UTF-8, or values out of every range
        if batch.num_rows == 1:
            yield exc
            return
        for number in range(batch.num_rows):
            yield from _rows(batch.slice(number, 1))
    else:
        yield list(map(dict, map(zip, repeat(names), zip(*columns, strict=True))))


def _values(array: pa.Array) -> list[Any]:
    """A column's values as JSON has them."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        if isinstance(kind, pa.UuidType):
            return _each(array.storage.to_pylist(), lambda value: str(uuid.UUID(bytes=value)))
        return _values(array.storage)
    if pa.types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if pa.types.is_nested(kind):
        return _nested(array)
    values: list[Any] = _simple(array, kind).to_pylist()
    return _each(values, lambda value: base64.b64encode(value).decode()) if _is_bytes(kind) else values


def _simple(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """What has no JSON type of its own as one that has."""
    if pa.types.is_timestamp(kind):
        # Seen as local time, because naming the zone needs a database of zones that Lambda's image lacks.
        text = pc.replace_substring(array.view(pa.timestamp(kind.unit)).cast(pa.string()), " ", "T")
        return text if kind.tz is None else pc.binary_join_element_wise(text, "Z", "")
    if pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_duration(kind):
        return array.cast(pa.int64())
    return array.cast(pa.float32()) if pa.types.is_float16(kind) else array


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _nested(array: pa.Array) -> list[Any]:
    if pa.types.is_struct(array.type):
        return _structs(array)
    if pa.types.is_map(array.type):
        entry = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
        return _each(
            _nested(array.cast(pa.list_(entry))), lambda pairs: {str(pair["key"]): pair["value"] for pair in pairs}
        )
    values = iter(_values(array.flatten()))  # of missing lists there is nothing in it
    return _each(array.value_lengths().to_pylist(), lambda length: list(islice(values, length)))


def _structs(array: pa.StructArray) -> list[dict[str, Any] | None]:
    names = array.type.names
    columns = [_values(column) for column in array.flatten()]
    rows: list[dict[str, Any] | None] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if not array.null_count:
        return rows
    return [row if there else None for row, there in zip(rows, array.is_valid().to_pylist(), strict=True)]


def _each(values: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else change(value) for value in values]
