"""BGZF: gzip in members of 64 KB at most that say how long they are (SAM specification 4.1), as bgzip writes it.

Ranges start at members, so that several workers share a file. A place is what BGZF calls a virtual offset: the byte at
which a member begins, times 65536, and an offset in its text. While text is read, places count on from where that
began; what is told outside is put right behind it.

A range begins with the first record that is known to start in its text. So a member's text need not be known to begin
with a record, and the range before reads on to where this one begins.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator

from isal import isal_zlib

from espial.exports import Damage, Mark, RangeSource, Row
from espial.exports.text import MAX_CHUNKS, Broken, Feed, OneText, Plain, evenly, read, sample_of, wrapped
from espial.sources import Layout

MEMBER_BYTES = 1 << 16
"""Of a member at most, and of its text."""

_BEGINS = b"\x1f\x8b\x08\x04"
_HEAD_BYTES = 12
_TRAILER_BYTES = 8
_MOST_HEAD_BYTES = 256
"""Its fixed part, the field with its length, and others that programs may add."""

_TRIES = 16


def head_of(data: bytes, at: int = 0) -> tuple[int, int]:
    """Where behind `at` a member's deflated bytes begin and where it ends; (0, 0) if no such member begins there."""
    field = at + _HEAD_BYTES
    begin = field + int.from_bytes(data[field - 2 : field], "little")
    while data.startswith(_BEGINS, at) and field + 4 <= begin <= len(data):
        length = int.from_bytes(data[field + 2 : field + 4], "little")
        if data.startswith(b"BC\x02\0", field):
            return begin - at, int.from_bytes(data[field + 4 : field + 6], "little") + 1
        field += 4 + length
    return 0, 0


def next_member(source: RangeSource, place: int) -> int | None:
    """Where the first member at or behind a byte begins: one that another one follows, or the file's end."""
    data = source.read(place, min(place + 2 * MEMBER_BYTES + _MOST_HEAD_BYTES, source.size))
    at = data.find(_BEGINS)
    while at >= 0:
        _, length = head_of(data, at)
        if length and (place + at + length == source.size or head_of(data, at + length)[1]):
            return place + at
        at = data.find(_BEGINS, at + 1)
    return None


def is_bgzf(source: RangeSource) -> bool:
    """Whether the first member says how long it is, and so do the last ones, up to the file's end."""
    if not head_of(source.read(0, min(_MOST_HEAD_BYTES, source.size)))[1]:
        return False
    place = next_member(source, max(source.size - MEMBER_BYTES, 0))
    if place is None:
        return False
    tail = source.read(place, source.size)
    at = 0
    while length := head_of(tail, at)[1]:
        at += length
    return at == len(tail)


class Blocks:
    """The text of members. `limit`, once it is known, is where in the text the place `end` lies.

    `damaged` is the member that cannot be read.
    """

    inflated = True

    def __init__(self, source: RangeSource, end: int = sys.maxsize) -> None:
        self.limit = sys.maxsize
        self.damaged: int | None = None
        self._source = source
        self._end = end
        self._begun: list[tuple[int, int]] = []

    def pieces(self, place: int) -> Iterator[bytes]:
        """See `Stream`."""
        compressed = Feed(Plain(self._source), place // MEMBER_BYTES)
        skipped = place % MEMBER_BYTES
        at = place - skipped
        while compressed.place < self._source.size:
            self._begun.append((at, compressed.place))
            if compressed.place == self._end // MEMBER_BYTES:
                self.limit = at + self._end % MEMBER_BYTES
            begun = compressed.place
            try:
                text = _text(compressed)
            except Broken:
                self.damaged = begun
                raise
            yield text[skipped:]
            skipped = 0
            at += len(text)
        self._begun.append((at, compressed.place))

    def place_of(self, at: int) -> int:
        """The place of what lies so far in the text."""
        begun, member = self._begun[bisect_right(self._begun, (at, sys.maxsize)) - 1]
        return member * MEMBER_BYTES + at - begun

    def forget(self, at: int) -> None:
        """Nobody will ask for the place of what lies before."""
        del self._begun[: bisect_right(self._begun, (at, sys.maxsize)) - 1]


def _text(compressed: Feed) -> bytes:
    """The member's text, which is checked. Raises Broken."""
    start, length = head_of(compressed.take(_MOST_HEAD_BYTES))
    member = compressed.take(length)
    if not length:
        raise Broken("corrupt_gzip", "a member does not say how long it is, as the others do")
    if len(member) < length:
        raise Broken("truncated_gzip", "the file ends within a member")
    compressed.skip(length)
    inflater = isal_zlib.decompressobj(-15)
    try:
        text: bytes = inflater.decompress(member[start:], MEMBER_BYTES + 1)
    except isal_zlib.error as exc:  # type: ignore[misc]
        raise Broken("corrupt_gzip", str(exc)) from exc
    if not inflater.eof or len(inflater.unused_data) != _TRAILER_BYTES:
        raise Broken("corrupt_gzip", "a member does not end where it says")
    if inflater.unused_data != isal_zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little"):
        raise Broken("bad_checksum", f"a member of {len(text)} bytes")
    return text


class BgzfFile(OneText):
    """A text file in BGZF."""

    def plan(self, target_bytes: int) -> list[tuple[int, int]]:
        """See `espial.exports.Container`."""
        size = self._source.size
        edges = [0]
        for edge in evenly(0, size, max(target_bytes, -(-size // MAX_CHUNKS)))[1:]:
            member = next_member(self._source, edge)
            if member and member > edges[-1] and self._begin(member) // MEMBER_BYTES < size:
                edges.append(member)
        return list(zip(edges, [*edges[1:], size], strict=True))

    def _begin(self, member: int) -> int:
        """The place of the first record that is known to start in the text from a member on; else behind all places."""
        if not member:
            return self._form.start
        if self._form.encoding.unit > 1:  # a member may begin in the midst of a character
            return sys.maxsize
        blocks = Blocks(self._source)
        start = self._form.known_start(blocks, member * MEMBER_BYTES)
        return sys.maxsize if start is None else blocks.place_of(start)

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """See `espial.exports.Container`. What lies behind a damaged member is read as another range would be."""
        behind = self._begin(end) if end < self._source.size else sys.maxsize
        place = self._begin(start) if checkpoint is None else checkpoint
        while place < behind:
            blocks = Blocks(self._source, behind)
            yield from _placed(read(self._form, blocks, place, sys.maxsize, place), blocks)
            if blocks.damaged is None or blocks.damaged >= end:
                return
            place = self._begin_behind(blocks.damaged)

    def _begin_behind(self, member: int) -> int:
        place = sys.maxsize
        for _ in range(_TRIES):
            found = next_member(self._source, member + 1)
            if found is None or (place := self._begin(found)) < sys.maxsize:
                break
            member = found
        return place


def _placed(steps: Iterator[Row | Damage | Mark], blocks: Blocks) -> Iterator[Row | Damage | Mark]:
    for step in steps:
        place = blocks.place_of(step.place)
        if isinstance(step, Row):
            yield Row(place, step.ordinal, step.data)
        elif isinstance(step, Mark):
            blocks.forget(step.place)
            yield Mark(place)
        else:
            yield step._replace(place=place, until=blocks.place_of(step.until))


def open_container(source: RangeSource, key: str, layout: Layout) -> BgzfFile:
    """Recognise the text inside. Raises Malformed; see `espial.exports.gzip`."""
    sample, whole = sample_of(Blocks(source), 0)
    return BgzfFile(source, wrapped(sample, key.removesuffix(".gz"), layout, whole=whole))
