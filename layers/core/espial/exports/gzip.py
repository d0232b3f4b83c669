"""gzip (RFC 1952): one stream of one or several members, inflated piece by piece, with text inside.

Not splittable, so a file is one range, unless it is `bgzf`. A place in it is an offset in the inflated text.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from isal import isal_zlib

from espial.exports import Damage, Mark, RangeSource, Row, bgzf
from espial.exports.deflate import Inflating, Point, Points
from espial.exports.text import Broken, Feed, OneText, Plain, read, sample_of, wrapped
from espial.sources import Layout

MAGIC = b"\x1f\x8b"
MAX_INFLATED_BYTES = 1 << 40
"""Of one file. Ten gigabytes of repetitive text may well be two hundred inflated; deflate cannot exceed 1032:1."""

_HEAD = struct.Struct("<2sBB6x")
_TRAILER = struct.Struct("<LL")
_DEFLATE = 8
_CHECKED, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0
_LOOK_BYTES = 4096


class Inflated:
    """The text of all members, one behind the other."""

    inflated = True
    limit = sys.maxsize

    def __init__(self, source: RangeSource) -> None:
        self._source = source

    def pieces(self, place: int) -> Iterator[bytes]:
        """See `Stream`."""
        points = Points(self._source, "gzip", self._source.size)
        point = points.before(place, Point())
        at = point.text
        for piece in self._members(point, points):
            if at + len(piece) > place:
                yield piece[max(place - at, 0) :]
            at += len(piece)
            if at > MAX_INFLATED_BYTES:
                raise Broken("inflates_too_much", f"over {MAX_INFLATED_BYTES} bytes")

    def _members(self, point: Point, points: Points) -> Iterator[bytes]:
        compressed = Feed(Plain(self._source), point.place)
        while True:
            if not point.window:
                skip_header(compressed)
            member = Inflating(compressed, point, points)
            try:
                yield from member.pieces()
            except isal_zlib.error as exc:  # type: ignore[misc]
                raise Broken("corrupt_gzip", str(exc)) from exc
            if not member.ended:
                raise _truncated()
            if _TRAILER.unpack(_next(compressed, _TRAILER.size)) != (member.crc, member.size & 0xFFFFFFFF):
                raise Broken("bad_checksum", f"a member of {member.size} bytes")
            while zeros := len(found := compressed.take(_LOOK_BYTES)) - len(found.lstrip(b"\0")):
                compressed.skip(zeros)
            begins = compressed.take(len(MAGIC))
            if not begins:
                return
            if begins != MAGIC:
                raise Broken("trailing_garbage", "what follows the last member is none", complete=True)
            point = Point(member.text, compressed.place)


def skip_header(compressed: Feed) -> None:
    """Skip what precedes a member's deflated bytes. Raises Broken."""
    magic, method, flags = _HEAD.unpack(_next(compressed, _HEAD.size))
    if magic != MAGIC or method != _DEFLATE or flags & _RESERVED:
        raise Broken("corrupt_gzip", "no header of a member")
    if flags & _EXTRA:
        _next(compressed, int.from_bytes(_next(compressed, 2), "little"))
    for _ in range(bool(flags & _NAME) + bool(flags & _COMMENT)):
        while (end := (name := compressed.take(_LOOK_BYTES)).find(b"\0")) < 0:
            _next(compressed, max(len(name), 1))
        compressed.skip(end + 1)
    if flags & _CHECKED:
        _next(compressed, 2)


def _next(compressed: Feed, length: int) -> bytes:
    data = compressed.take(length)
    if len(data) < length:
        raise _truncated()
    compressed.skip(length)
    return data


def _truncated() -> Broken:
    return Broken("truncated_gzip", "the file ends within a member")


class GzipFile(OneText):
    """A text file in gzip."""

    def plan(self, _target_bytes: int) -> list[tuple[int, int]]:
        """See `espial.exports.Container`."""
        return [(0, self._source.size)]

    def rows(self, _start: int, _end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """See `espial.exports.Container`."""
        place = self._form.start if checkpoint is None else checkpoint
        return read(self._form, Inflated(self._source), place, sys.maxsize, place)


def open_container(source: RangeSource, key: str, layout: Layout) -> GzipFile | bgzf.BgzfFile:
    """Recognise the text inside. Raises Malformed: nested_archive, corrupt_gzip and what the text's format raises."""
    if bgzf.is_bgzf(source):
        return bgzf.open_container(source, key, layout)
    sample, whole = sample_of(Inflated(source), 0)
    return GzipFile(source, wrapped(sample, key.removesuffix(".gz"), layout, whole=whole))
