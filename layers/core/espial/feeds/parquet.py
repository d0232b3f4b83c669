"""Parquet files of a feed, through pyarrow (docs/decisions/0009-parquet.md says what of it there is on Lambda)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from espial.feeds.definition import Column

_TYPES = {
    "text": pa.string(),
    "flag": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "datetime": pa.timestamp("ms", "UTC"),
    "date": pa.date32(),
}
_ROWS_AT_ONCE = 1_000


def encode(columns: Sequence[Column], batches: Iterable[Sequence[Sequence[Any]]]) -> bytes:
    """A file of these columns, a row group a batch. A batch is columns of values: str, int, float, datetime or date.

    Raises ValueError where a value cannot be put.
    """
    schema = _schema(columns)
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema) as writer:
        for batch in batches:
            arrays = [pa.array(values, field.type) for values, field in zip(batch, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return out.getvalue()


def decode(columns: Sequence[Column], content: bytes) -> Iterator[list[str]]:
    """The rows as texts. Raises ValueError where the file is not of these columns, or damaged."""
    try:
        file = pq.ParquetFile(io.BytesIO(content))
    except (pa.ArrowException, OSError) as exc:
        raise ValueError(f"not a Parquet file: {exc}") from exc
    if file.schema_arrow != _schema(columns):
        raise ValueError(f"its columns are not those of its layout: {file.schema_arrow.names}")
    for batch in file.iter_batches(_ROWS_AT_ONCE):
        yield from map(list, zip(*map(_texts, batch.columns), strict=True))


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([(column.name, _TYPES[column.type]) for column in columns])


def _texts(array: pa.Array) -> list[str]:
    if pa.types.is_timestamp(array.type):  # naming its zone would need a database of zones
        array = array.view(pa.timestamp("ms")).cast(pa.timestamp("s"))
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.string())
    return ["" if value is None else str(value) for value in array.to_pylist()]
