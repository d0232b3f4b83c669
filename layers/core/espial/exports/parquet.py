"""Parquet files (Apache Parquet format 2.x), row group by row group.

- The footer and the row groups are read by ranges of the object. A row group belongs to the range of a plan that its
  first byte lies in; a row's `place` is that byte, its `ordinal` its number in the row group.
- A checkpoint is the number of a row in the file. Going on amid a row group decodes it again from its start.
- A row group that cannot be decoded on is Damage from there to its end; a row with a value that cannot be read, such
  as text that is not UTF-8, is Damage alone.

Planning reads the footer with `parquet_footer` alone. `parquet_rows` imports pyarrow, which takes time and a layer of
its own, and is therefore loaded by the first row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import count, repeat
from typing import TYPE_CHECKING

from espial.errors import Malformed
from espial.exports import Damage, Mark, RangeSource, Row
from espial.exports.parquet_footer import Group, groups
from espial.sources import Layout

if TYPE_CHECKING:
    from espial.exports.parquet_rows import Decoder

MAGIC = b"PAR1"
MAGIC_ENCRYPTED = b"PARE"
READ_BYTES = 8 << 20
"""One ranged read at most."""

MAX_FOOTER_BYTES = 32 << 20
"""A footer takes several times its size in memory. Writers need 50 to 200 bytes a column of a row group."""

MAX_INFLATED_BYTES = 256 << 20
MAX_RATIO = 1000
"""A row group that is over both is a bomb, or of no use to anyone."""

MAX_CHUNKS = 1000
"""Of one file: its ledger entry lists them."""

_FIRST_READ = 64 << 10  # pyarrow's own, so that it finds there all that it wants
_TAIL_BYTES = 8  # the footer's length, little-endian, and the magic


class ParquetFile:
    """An opened Parquet file: its row groups, and its last bytes with the footer."""

    kind = "parquet"
    record_name = ""
    columns: Mapping[str, str] = {}

    def __init__(self, source: RangeSource, found: list[Group], end: bytes) -> None:
        self._source = source
        self._groups = found
        self._end = end
        self._decoder: Decoder | None = None

    def plan(self, target_bytes: int) -> list[tuple[int, int]]:
        """Neighbouring row groups together, until there are `target_bytes` or more."""
        target = max(target_bytes, self._source.size // MAX_CHUNKS + 1)
        edges: list[int] = []
        for group in self._groups:
            if not edges or group.start >= edges[-1] + target:
                edges.append(group.start)
        return list(zip(edges, [*edges[1:], self._source.size], strict=True)) if edges else []

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """Rows of the row groups whose first byte lies in [start, end); see `espial.exports.Container`."""
        for group in self._groups:
            begun = max((checkpoint or 0) - group.first, 0)
            if start <= group.start < end and begun < group.rows:
                yield from self._rows(group, begun)
                yield Mark(group.first + group.rows)

    def _rows(self, group: Group, begun: int) -> Iterator[Row | Damage | Mark]:
        if group.inflated > max(MAX_INFLATED_BYTES, MAX_RATIO * (group.end - group.start)):
            detail = f"{group.inflated} bytes inflated, {group.end - group.start} stored"
            yield Damage(group.start, group.end, "inflates_too_much", detail)
            return
        ordinal = begun
        try:
            for batch in self._decoding().batches(group, begun):
                if isinstance(batch, Exception):
                    detail = f"row {ordinal}: {type(batch).__name__}: {batch}"
                    yield Damage(group.start, group.end, "unreadable_row", detail[:300])
                    ordinal += 1
                else:
                    yield from map(Row, repeat(group.start), count(ordinal), batch)
                    ordinal += len(batch)
                if ordinal < group.rows:
                    yield Mark(group.first + ordinal)
        except Malformed as exc:
            yield Damage(group.start, group.end, exc.reason, f"from row {ordinal} on: {exc.detail}")

    def _decoding(self) -> Decoder:
        """Raises Malformed: bad_footer."""
        if self._decoder is None:
            columns = max(group.columns for group in self._groups)
            module = import_module("espial.exports.parquet_rows")
            self._decoder = module.Decoder(self._source, self._end, columns)
        return self._decoder


def open_container(source: RangeSource, _key: str, _layout: Layout) -> ParquetFile:
    """Read the footer. Raises Malformed: truncated_parquet, encrypted_file, footer_too_large, bad_footer."""
    if source.size < len(MAGIC) + _TAIL_BYTES:
        raise Malformed("truncated_parquet", f"{source.size} bytes hold no footer")
    end = source.read(max(source.size - _FIRST_READ, 0), source.size)
    if end.endswith(MAGIC_ENCRYPTED):
        raise Malformed("encrypted_file", "the footer is encrypted")
    if not end.endswith(MAGIC):
        raise Malformed("truncated_parquet", "no footer at the end: the upload is incomplete, or the file cut")
    length = int.from_bytes(end[-_TAIL_BYTES:-4], "little")
    if length > MAX_FOOTER_BYTES:
        raise Malformed("footer_too_large", f"{length} bytes, over {MAX_FOOTER_BYTES}")
    footer_start = source.size - _TAIL_BYTES - length
    if footer_start < len(MAGIC):
        raise Malformed("truncated_parquet", f"a footer of {length} bytes in a file of {source.size}")
    if length + _TAIL_BYTES > len(end):
        end = read(source, footer_start, source.size)
    footer = end[len(end) - length - _TAIL_BYTES : -_TAIL_BYTES]
    return ParquetFile(source, groups(footer, footer_start), end)


def read(source: RangeSource, start: int, end: int) -> bytes:
    """Bytes [start, end), however many, by bounded reads."""
    parts = [source.read(at, min(at + READ_BYTES, end)) for at in range(start, end, READ_BYTES)]
    return parts[0] if len(parts) == 1 else b"".join(parts)
