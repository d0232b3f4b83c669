"""gzip (RFC 1952): one stream of one or several members, inflated piece by piece, with text inside.

Not splittable, so a file is one range. A place in it is an offset in the inflated text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

from isal import isal_zlib

from espial.exports import Damage, Mark, RangeSource, Row
from espial.exports.text import READ_BYTES, Broken, Format, read, sample_of, wrapped
from espial.sources import Layout

MAGIC = b"\x1f\x8b"
MAX_INFLATED_BYTES = 1 << 40
"""Of one file. Ten gigabytes of repetitive text may well be two hundred inflated; deflate cannot exceed 1032:1."""

_SLICE_BYTES = 64 << 10
"""Given to the inflater at once: what it does not consume it hands back, and copying that must stay cheap."""

_GZIP = 31


def inflated(pieces: Iterator[bytes], inflater: Any) -> Iterator[bytes]:
    """Pieces of one deflated stream, at most READ_BYTES each, up to its end.

    What follows it stays in `inflater.unused_data` and in `pieces`. Raises isal_zlib.error.
    """
    for piece in pieces:
        data = piece
        while True:
            out = inflater.decompress(data, READ_BYTES)
            if out:
                yield out
            if inflater.eof:
                return
            data = inflater.unconsumed_tail
            if not data and len(out) < READ_BYTES:
                break


def slices(source: RangeSource, start: int, end: int) -> Iterator[bytes]:
    """The bytes [start, end), read READ_BYTES at a time."""
    for place in range(start, end, READ_BYTES):
        data = source.read(place, min(place + READ_BYTES, end))
        for at in range(0, len(data), _SLICE_BYTES):
            yield data[at : at + _SLICE_BYTES]


class Inflated:
    """The text of all members, one behind the other."""

    inflated = True

    def __init__(self, source: RangeSource) -> None:
        self._source = source

    def pieces(self, place: int) -> Iterator[bytes]:
        """See `Stream`."""
        at = 0
        for piece in self._members():
            if at + len(piece) > place:
                yield piece[max(place - at, 0) :]
            at += len(piece)
            if at > MAX_INFLATED_BYTES:
                raise Broken("inflates_too_much", f"over {MAX_INFLATED_BYTES} bytes")

    def _members(self) -> Iterator[bytes]:
        compressed = slices(self._source, 0, self._source.size)
        rest = next(compressed, b"")
        while rest:
            inflater = isal_zlib.decompressobj(_GZIP)
            try:
                yield from inflated(chain((rest,), compressed), inflater)
            except isal_zlib.error as exc:  # type: ignore[misc]
                raise Broken("bad_checksum" if "checksum" in str(exc) else "corrupt_gzip", str(exc)) from exc
            if not inflater.eof:
                raise Broken("truncated_gzip", "the file ends within a member")
            rest = inflater.unused_data
            while len(rest := rest.lstrip(b"\0")) < len(MAGIC) and (more := next(compressed, b"")):
                rest += more
            if rest and not rest.startswith(MAGIC):
                raise Broken("trailing_garbage", "what follows the last member is none", complete=True)


class GzipFile:
    """A text file in gzip."""

    record_name = ""

    def __init__(self, source: RangeSource, stream: Inflated, form: Format) -> None:
        self._source = source
        self._stream = stream
        self._form = form
        self.kind = form.kind
        self.columns = form.columns

    def plan(self, _target_bytes: int) -> list[tuple[int, int]]:
        """See `espial.exports.Container`."""
        return [(0, self._source.size)]

    def rows(self, _start: int, _end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """See `espial.exports.Container`."""
        place = self._form.start if checkpoint is None else checkpoint
        return read(self._form, self._stream, place, sys.maxsize, place)


def open_container(source: RangeSource, key: str, layout: Layout) -> GzipFile:
    """Recognise the text inside. Raises Malformed: nested_archive, corrupt_gzip and what the text's format raises."""
    stream = Inflated(source)
    sample, whole = sample_of(stream, 0)
    return GzipFile(source, stream, wrapped(sample, key.removesuffix(".gz"), layout, whole=whole))
