"""Avro object container files, split at sync markers (Avro 1.11 specification, "Object Container Files").

The framing is read here, because resuming, splitting and going on behind damage need it; fastavro parses the schema
and decodes rows. What is guaranteed:

- Over the ranges of any plan, each block is read by exactly one range: the one that holds its first byte.
- A block counts whole or not at all: its marker must stand where its size says, it must inflate, and its rows must
  use up its bytes exactly. Otherwise the block is Damage and reading goes on at the next marker that a readable block
  follows. A changed byte inside a value of a block without checksum cannot be noticed: such a row comes altered.
- Memory is bounded by READ_BYTES and MAX_BLOCK_BYTES, whatever the size of the file.

A range that starts amid the file trusts a marker only if a readable block follows, since rows may contain its bytes.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import cramjam
import fastavro
from isal import isal_zlib

from espial.errors import Malformed
from espial.exports import Damage, Mark, RangeSource, Row
from espial.sources import Layout

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
READ_BYTES = 4 << 20
"""One ranged read: big enough for throughput, small enough that a reset connection costs little (B16)."""

MAX_HEADER_BYTES = 8 << 20
MAX_BLOCK_BYTES = 64 << 20
"""Of a block, stored or inflated. Writers make blocks of 16 KB to a few MB; more is a bomb or a broken size."""

MAX_CHUNKS = 1000
"""Of one file: its ledger entry lists them."""

_FIRST_READ = 64 << 10
_SCAN_BYTES = 64 << 10
_DECODE_AT_ONCE = 1 << 20
_FRAME_BYTES = 20  # two longs of ten bytes at most


class _Short(Exception):
    """The bytes end before the value does."""


class _Impossible(Exception):
    """No writer writes this."""


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A zig-zag variable-length long at `at`, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return (value >> 1) ^ -(value & 1), at + index + 1
    else:
        if len(data) < at + 10:
            raise _Short
    raise _Impossible("a number of more than 64 bits")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _long(data, at)
    if length < 0:
        raise _Impossible("a negative length")
    if at + length > len(data):
        raise _Short
    return data[at : at + length], at + length


def _inflating(inflater: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def inflate(data: bytes) -> bytes:
        stream = inflater()
        out: bytes = stream.decompress(data, MAX_BLOCK_BYTES + 1)
        if len(out) > MAX_BLOCK_BYTES:
            raise ValueError(f"inflates to more than {MAX_BLOCK_BYTES} bytes")
        if not stream.eof:  # bytes behind the end are tolerated: some writers leave a part of zlib's trailer there
            raise ValueError("the compressed bytes end early")
        return out

    return inflate


def _snappy(data: bytes) -> bytes:
    """Raw snappy and the big-endian CRC-32 of what it holds."""
    packed, crc = data[:-4], data[-4:]
    if cramjam.snappy.decompress_raw_len(packed) > MAX_BLOCK_BYTES:
        raise ValueError(f"inflates to more than {MAX_BLOCK_BYTES} bytes")
    out = bytes(cramjam.snappy.decompress_raw(packed))
    if zlib.crc32(out).to_bytes(4, "big") != crc:
        raise ValueError("the checksum differs")
    return out


def _zstandard(data: bytes) -> bytes:
    for size in (1 << 20, MAX_BLOCK_BYTES):  # most blocks are small, and the largest room is dear
        room = bytearray(min(size, MAX_BLOCK_BYTES))
        try:
            return bytes(memoryview(room)[: cramjam.zstd.decompress_into(data, room)])
        except cramjam.DecompressionError as exc:
            problem = exc
    raise problem


_CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": _inflating(lambda: isal_zlib.decompressobj(-15)),
    "bzip2": _inflating(bz2.BZ2Decompressor),
    "xz": _inflating(lambda: lzma.LZMADecompressor(memlimit=4 * MAX_BLOCK_BYTES)),
    "snappy": _snappy,
    "zstandard": _zstandard,
}


class _Window:
    """The part of the object in memory: it slides forward by bounded reads."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def at(self, place: int, length: int) -> bytes:
        """The bytes [place, place + length), fewer at the object's end."""
        end = min(place + length, self._source.size)
        held_until = self._start + len(self._data)
        if not self._start <= place <= held_until:
            self._start, self._data, held_until = place, b"", place
        if end > held_until:
            parts = [self._data[place - self._start :]]
            while held_until < end:
                until = min(held_until + READ_BYTES, self._source.size)
                parts.append(self._source.read(held_until, until))
                held_until = until
            self._start, self._data = place, b"".join(parts)
        return self._data[place - self._start : end - self._start]


class _Block(NamedTuple):
    """A block whose framing is right: `rows` rows in `payload`; the next block starts at `next`."""

    start: int
    rows: int
    payload: bytes
    next: int


class AvroFile:
    """An opened Avro file: its writer's schema, codec and sync marker."""

    kind = "avro"
    columns: Mapping[str, str] = {}

    def __init__(self, source: RangeSource, metadata: Mapping[str, bytes], sync: bytes, data_start: int) -> None:
        codec = metadata.get("avro.codec", b"null").decode("utf-8", "replace")
        if codec not in _CODECS:
            raise Malformed("unsupported_codec", f"{codec!r}; readable: {', '.join(_CODECS)}")
        try:
            schema = json.loads(metadata["avro.schema"])
            self._schema = fastavro.parse_schema(schema)
        except Exception as exc:  # fastavro raises many kinds for a schema that is not one
            raise Malformed("bad_schema", f"{type(exc).__name__}: {exc}"[:300]) from exc
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise Malformed("bad_schema", "the rows are not records")
        namespace = schema.get("namespace")
        qualified = "." in schema["name"] or not namespace
        self.record_name: str = schema["name"] if qualified else f"{namespace}.{schema['name']}"
        self._inflate = _CODECS[codec]
        self._sync = sync
        self._size = source.size
        self._data_start = data_start
        self._window = _Window(source)

    def plan(self, target_bytes: int) -> list[tuple[int, int]]:
        """Equal ranges of at most `target_bytes` (more if that made over MAX_CHUNKS); no row needs to start in one."""
        start, size = self._data_start, self._size
        pieces = min(-(-(size - start) // target_bytes), MAX_CHUNKS)
        edges = [start + (size - start) * n // pieces for n in range(pieces)] if pieces else []
        return list(zip(edges, [*edges[1:], size], strict=True)) if edges else []

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """Rows of the blocks whose first byte lies in [start, end); see `espial.exports.Container`.

        Whoever comes to a damaged block from the block before it reports it, even if it lies at or past `end`,
        because a reader that searches for a marker passes over it unawares. Likewise a block behind a broken
        marker belongs to whoever comes to it in sequence: nobody else can find it.
        """
        place = checkpoint
        if place is None:
            place = start if start == self._data_start else self._find(start - SYNC_BYTES, end)
        while place is not None:
            found = self._block(place)
            if found is None:
                return
            if isinstance(found, _Block):
                if found.start >= end:
                    return
                rows = self._rows(found)
                if not isinstance(rows, Damage):
                    yield from (Row(found.start, ordinal, row) for ordinal, row in enumerate(rows))
                    place = found.next
                    yield Mark(place)
                    continue
                found = rows
            place = self._behind(found, end)
            yield found._replace(until=place or (end if found.place < end else self._size))
            if place is not None and place >= end:
                end = place + 1

    def _block(self, place: int) -> _Block | Damage | None:
        """The first block with anything in it at `place`; None at the object's end."""
        while place < self._size:
            try:
                block = self._frame(place)
            except _Impossible as exc:
                return Damage(place, place, "impossible_block", str(exc))
            except _Short as exc:
                return Damage(place, place, "truncated_block", str(exc) or "the file ends within a block's head")
            if isinstance(block, Damage) or block.rows or block.payload:
                return block
            place = block.next
        return None

    def _frame(self, place: int) -> _Block | Damage:
        head = self._window.at(place, _FRAME_BYTES)
        rows, used = _long(head, 0)
        length, used = _long(head, used)
        if rows < 0 or length < 0:
            raise _Impossible(f"{rows} rows in {length} bytes")
        if length > MAX_BLOCK_BYTES:
            return Damage(place, place, "block_too_large", f"{length} bytes, over {MAX_BLOCK_BYTES}")
        behind = place + used + length + SYNC_BYTES
        if behind > self._size:
            raise _Short(f"{behind - self._size} bytes are missing")
        whole = self._window.at(place, behind - place)
        if not whole.endswith(self._sync):
            return Damage(place, behind, "bad_sync", "no sync marker behind the block")
        return _Block(place, rows, whole[used:-SYNC_BYTES], behind)

    def _behind(self, damage: Damage, end: int) -> int | None:
        """Where to go on behind a damaged block; None if no readable block before `end` can be found.

        If only the marker is broken, the next block still stands where the block's size says.
        """
        if damage.reason == "bad_sync" and not isinstance(self._block(damage.until), Damage):
            return damage.until
        return self._find(damage.place, end)

    def _find(self, at: int, end: int) -> int | None:
        """The first place before `end` that comes behind a marker (itself at `at` or later) and can be read from."""
        while at + SYNC_BYTES < end:
            piece = self._window.at(at, _SCAN_BYTES)
            hit = piece.find(self._sync)
            if hit < 0:
                at += max(len(piece) - SYNC_BYTES + 1, 1)  # the marker may straddle two pieces
                continue
            place = at + hit + SYNC_BYTES
            if place >= end:
                return None
            if not isinstance(self._block(place), Damage):
                return place
            at += hit + 1
        return None

    def _rows(self, block: _Block) -> Iterator[dict[str, Any]] | Damage:
        """A block's rows. All are decoded before the first is given; a large block is decoded twice to save memory."""
        try:
            data = self._inflate(block.payload)
            if len(data) <= _DECODE_AT_ONCE:
                return iter(list(self._decode(data, block.rows)))
            for _ in self._decode(data, block.rows):
                pass
        except Exception as exc:  # noqa: BLE001  damaged bytes make codecs and fastavro raise anything
            return Damage(block.start, block.next, "undecodable_block", f"{type(exc).__name__}: {exc}"[:300])
        return self._decode(data, block.rows)

    def _decode(self, data: bytes, count: int) -> Iterator[dict[str, Any]]:
        if count > len(data):
            raise ValueError(f"{count} rows in {len(data)} bytes")
        stream = io.BytesIO(data)
        for _ in range(count):
            yield fastavro.schemaless_reader(stream, self._schema, None)  # type: ignore[misc]
        if stream.tell() != len(data):
            raise ValueError(f"{len(data) - stream.tell()} bytes are left over")


def open_container(source: RangeSource, _key: str = "", _layout: Layout | None = None) -> AvroFile:
    """Read the header. Raises Malformed: bad_magic, truncated_header, bad_header, bad_schema, unsupported_codec."""
    length = _FIRST_READ
    while True:
        data = source.read(0, min(length, source.size))
        try:
            metadata, sync, data_start = _header(data)
        except _Short:
            if length >= min(source.size, MAX_HEADER_BYTES):
                raise Malformed("truncated_header", f"no end within {len(data)} bytes") from None
            length *= 8
        except _Impossible as exc:
            raise Malformed("bad_header", str(exc)) from exc
        else:
            return AvroFile(source, metadata, sync, data_start)


def _header(data: bytes) -> tuple[dict[str, bytes], bytes, int]:
    """Magic, metadata map, sync marker. A map block of negative count also carries its size in bytes."""
    if not data.startswith(MAGIC):
        raise Malformed("bad_magic", "not an Avro object container file")
    metadata: dict[str, bytes] = {}
    at = len(MAGIC)
    while True:
        count, at = _long(data, at)
        if count == 0:
            break
        if count < 0:
            _, at = _long(data, at)
        for _ in range(abs(count)):
            name, at = _bytes(data, at)
            metadata[name.decode("utf-8", "replace")], at = _bytes(data, at)
    if at + SYNC_BYTES > len(data):
        raise _Short
    return metadata, data[at : at + SYNC_BYTES], at + SYNC_BYTES
