"""Deflate (RFC 1951): inflated piece by piece, and gone on with in the midst of a stream.

A stream can be entered where one of its blocks begins, by whoever knows the 32 KB of text before it. Nothing tells
where blocks begin. So every so often the compressed bytes that were read last are searched for what may be the header
of one, and that is tried: it is one if it inflates to the text that is already known.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec
from isal import isal_zlib

from espial.exports import RangeSource
from espial.exports.files import NoResumes, Resumes
from espial.exports.text import READ_BYTES, Feed

EVERY_BYTES = 4 << 20
"""Of compressed bytes, at least, from one saved point to the next."""

PARTS = 128
"""Into which points cut a large stream: what is read again is less than a hundredth."""

KEPT_POINTS = 4
"""The last ones. Only these are asked for: a checkpoint lies a few rows behind what was read."""

WINDOW_BYTES = 32 << 10
"""So far back text may be repeated from."""

PROOF_BYTES = 16 << 10
"""Of text, at least, that must come out right behind a point."""

_LOOK_BACK_BYTES = 256 << 10
"""Searched at most; no compressor that is in use makes larger blocks, unless it makes only one."""

_KEPT_TEXT_BYTES = 2 << 20
_STRETCH_BYTES = 4 << 10
_SLICE_BYTES = 64 << 10
"""Given to the inflater at once: what it does not consume it hands back, and copying that must stay cheap."""

_RAW = -15


class Point(NamedTuple):
    """Where a stream can be gone on with.

    text, crc, size  what lies before it: the offset in the text of all streams, and CRC-32 and length of this one's.
    place, bit       where in the object its compressed bytes go on; not at a whole byte as a rule.
    window, proof    the text before it, b"" at a stream's beginning, and CRC-32 of PROOF_BYTES of that behind it.
    """

    text: int = 0
    place: int = 0
    bit: int = 0
    crc: int = 0
    size: int = 0
    window: bytes = b""
    proof: int = 0

    def to_state(self) -> bytes:
        """As it is kept: with a checksum of its own."""
        packed = msgspec.msgpack.encode(self)
        return isal_zlib.crc32(packed).to_bytes(4, "big") + packed

    @classmethod
    def from_state(cls, state: bytes | None) -> Point | None:
        """None for what `to_state` did not make."""
        if not state or isal_zlib.crc32(state[4:]).to_bytes(4, "big") != state[:4]:
            return None
        try:
            return msgspec.msgpack.decode(state[4:], type=cls)
        except msgspec.DecodeError:
            return None


class Inflating:
    """One stream from a point on. `crc` and `size` are those of its text so far, `text` is where that ends.

    `ended`: the stream did, and `compressed` stands behind it.
    """

    def __init__(self, compressed: Feed, point: Point, points: Points) -> None:
        self.text, self.crc, self.size = point.text, point.crc, point.size
        self.ended = False
        self._compressed = compressed
        self._point = point
        self._points = points

    def pieces(self) -> Iterator[bytes]:
        """Its text in pieces of READ_BYTES at most. Raises isal_zlib.error."""
        compressed, points, full = self._compressed, self._points, False
        inflater = self._entered()
        points.begin(self._point)
        while not inflater.eof:
            packed = compressed.take(len(inflater.unconsumed_tail) if full else _SLICE_BYTES)
            if not packed and not full:
                return
            text = inflater.decompress(packed, READ_BYTES)
            packed = packed[: len(packed) - len(inflater.unconsumed_tail)]
            compressed.skip(len(packed))
            before = self.crc
            self._count(text)
            full = len(text) == READ_BYTES
            if compressed.place >= points.near and not inflater.eof:
                points.passed(packed, text, before, self._now(), whole=not full)
            if text:
                yield text
        compressed.give_back(inflater.unused_data)  # it reads some bytes ahead
        self.ended = True

    def _entered(self) -> Any:
        if not self._point.window:
            return isal_zlib.decompressobj(_RAW)
        first = self._compressed.take(1)
        self._compressed.skip(len(first))
        return entered(self._point.window, first, self._point.bit)

    def _count(self, text: bytes) -> None:
        self.crc = isal_zlib.crc32(text, self.crc)
        self.size += len(text)
        self.text += len(text)

    def _now(self) -> Point:
        return Point(self.text, self._compressed.place, 0, self.crc, self.size)


class Stored(Inflating):
    """A stream that was never deflated: it can be gone on with anywhere."""

    def pieces(self) -> Iterator[bytes]:
        """See `Inflating`."""
        while text := self._compressed.take(_SLICE_BYTES):
            self._points.begin(self._now())
            self._compressed.skip(len(text))
            self._count(text)
            yield text
        self.ended = True


class Points:
    """The points of one pass over an object, or over a member of it: kept every so often, found by their text.

    `near` is the compressed byte from which on `passed` wants to know what passes.
    """

    def __init__(self, source: RangeSource, name: str, size: int) -> None:
        self._source = source
        self._resumes: Resumes = getattr(source, "resumes", NoResumes())
        self._name = name
        self._every = self._step = max(EVERY_BYTES, size // PARTS)
        self._tail: deque[tuple[bytes, bytes, int]] = deque()
        self._text_bytes = 0
        self._due = self.near = sys.maxsize

    def before(self, text: int, start: Point) -> Point:
        """The last point at or before an offset in the text that was kept and can be used, else `start`."""
        found = [start]
        if text > start.text + self._every // 2:  # there is none for less: text hardly grows by being compressed
            states = (self._resumes.load(f"{self._name}/{slot}") for slot in range(KEPT_POINTS))
            found += [point for state in states if (point := Point.from_state(state)) and point.text <= text]
        return next(point for point in sorted(found, reverse=True) if point == start or self._is_sound(point))

    def _is_sound(self, point: Point) -> bool:
        """Whether what follows it is what did when it was made."""
        if not point.window:
            return True
        packed = self._source.read(point.place, min(point.place + 2 * PROOF_BYTES, self._source.size))
        try:
            text = entered(point.window, packed[:1], point.bit).decompress(packed[1:], PROOF_BYTES)
        except isal_zlib.error:  # type: ignore[misc]
            return False
        return bool(isal_zlib.crc32(text) == point.proof)

    def begin(self, point: Point) -> None:
        """A stream begins, or is gone on with."""
        self._tail.clear()
        self._text_bytes = 0
        if self._due == sys.maxsize:
            self._next(point.place)
        elif point.place >= self.near:
            self._keep(point)

    def _next(self, place: int) -> None:
        self._due = place - place % self._every + self._step
        self.near = self._due - min(_LOOK_BACK_BYTES, self._every)

    def _keep(self, point: Point) -> None:
        self._step = self._every
        self._resumes.save(f"{self._name}/{self._due // self._every % KEPT_POINTS}", point.to_state())
        self._next(max(point.place, self._due))

    def passed(self, packed: bytes, text: bytes, crc: int, now: Point, *, whole: bool) -> None:
        """So much was inflated, the text before it has this checksum; `whole`: nothing more can be so far."""
        self._tail.append((packed, text, crc))
        self._text_bytes += len(text)
        while self._text_bytes - len(self._tail[0][1]) > _KEPT_TEXT_BYTES:
            self._text_bytes -= len(self._tail.popleft()[1])
        if not whole or now.place < self._due:
            return
        packed, text = (b"".join(parts) for parts in list(zip(*self._tail, strict=True))[:2])
        found = last_block(packed, text)
        if found:
            bit, at = found
            byte, bit = divmod(bit, 8)
            self._keep(
                Point(
                    text=now.text - len(text) + at,
                    place=now.place - len(packed) + byte,
                    bit=bit,
                    crc=isal_zlib.crc32(text[:at], self._tail[0][2]),
                    size=now.size - len(text) + at,
                    window=text[at - WINDOW_BYTES : at],
                    proof=isal_zlib.crc32(text[at : at + PROOF_BYTES]),
                )
            )
        else:
            self._step *= 2  # the next search may be as vain
            self._next(now.place)
        self._tail.clear()
        self._text_bytes = 0


def last_block(packed: bytes, text: bytes) -> tuple[int, int] | None:
    """The last block that `packed` can be entered at: its bit in there, and where in `text` its own text begins.

    `text` is what came out up to the end of `packed`, beginning anywhere.
    """
    return next(((bit, at) for bit in _headers(packed) if (at := _tried(packed, bit, text))), None)


def _tried(packed: bytes, bit: int, text: bytes) -> int:
    """Where in `text` the text begins that the bytes from a bit on inflate to; 0 if they do not."""
    byte, bit = divmod(bit, 8)
    first, rest, most = packed[byte : byte + 1], packed[byte + 1 :], len(text) - WINDOW_BYTES
    try:
        length = len(entered(bytes(WINDOW_BYTES), first, bit).decompress(rest, max(most, 0) + 1))
        if not PROOF_BYTES <= length <= most:
            return 0
        at = len(text) - length
        found = entered(text[at - WINDOW_BYTES : at], first, bit).decompress(rest, length)
    except isal_zlib.error:  # type: ignore[misc]
        return 0
    return at if found == text[at:] else 0


def _headers(packed: bytes) -> Iterator[int]:
    """The bits that a block may begin at, the last ones about first: behind a flush, or where codes of its own are."""
    part = _filled()
    for end in range(len(packed), 0, -_STRETCH_BYTES):
        start = max(end - _STRETCH_BYTES, 0)
        if (flush := packed.rfind(_FLUSH, start, min(end, len(packed) - 1))) >= 0:
            yield 8 * (flush + len(_FLUSH))
        stretch = int.from_bytes(packed[start : end + _HEADER_BYTES], "little")
        for bit in range(8):
            shifted = (stretch >> bit).to_bytes(_STRETCH_BYTES + _HEADER_BYTES, "little")
            for found in _BEGINS.finditer(shifted, 0, end - start):
                at = found.start()
                bits = int.from_bytes(shifted[at + 1 : at + _HEADER_BYTES], "little")
                codes = bits >> 9 & _CODES[bits >> 5 & 15]
                filled = part[codes & 4095] + part[codes >> 12 & 4095] + part[codes >> 24 & 4095]
                if filled <= 128 and filled + part[codes >> 36 & 4095] + part[codes >> 48] == 128:
                    yield 8 * (start + at) + bit


_FLUSH = b"\0\0\xff\xff"
"""The end of a stored block without text; the next begins at a whole byte."""

_HEADER_BYTES = 10
_BEGINS = re.compile(b"[" + b"".join(re.escape(bytes([4 | codes << 3])) for codes in range(30)) + b"]")
"""Not the last block (a bit), codes of its own (two), and of these at most 286 (five)."""


@cache
def _filled() -> list[int]:
    """How much of a code space four lengths of three bits each fill, in 128ths, for each such twelve bits."""
    return [
        sum(128 >> length for shift in (0, 3, 6, 9) if (length := lengths >> shift & 7)) for lengths in range(1 << 12)
    ]


_CODES = [(1 << 3 * number) - 1 for number in range(4, 20)]
"""By their number, which is four bits: the bits of the lengths of those codes that all other lengths are written in."""


def entered(window: bytes, first: bytes, bit: int) -> Any:
    """An inflater that goes on at a bit of a byte, which it has been given; `window` is the text before."""
    inflater = isal_zlib.decompressobj(_RAW, zdict=window)
    blocks, length = _EMPTY[bit]
    bits = blocks | (first[0] >> bit) << length
    inflater.decompress(bits.to_bytes((length + 8 - bit) // 8, "little"))
    return inflater


_FIXED = "0100000000"
"""A block with fixed codes: not the last one, its kind, its end. Bits as they come."""

_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
_OWN = "".join(
    (
        *("0", "01"),  # not the last one, its kind
        *("00000", "00000", "0111"),  # 257 codes of text, one of distances, and of the 18 in which their lengths follow
        *("100" if code in (18, 1) else "000" for code in _ORDER),  # "zeros" and "1" are one bit each
        *("0", "11111111", "10101011", "0", "0"),  # 1 for the first byte, 138 and 117 zeros, 1 for the end, 1
        "1",  # the end
    )
)
"""A block with codes of its own, which is an odd number of bits."""


def _empty(bit: int) -> tuple[int, int]:
    """Blocks without text that end at a bit of a byte, as a number, and how many bits they are."""
    blocks = next(found for count in range(4) if len(found := _OWN * (bit % 2) + _FIXED * count) % 8 == bit)
    return int("0" + blocks[::-1], 2), len(blocks)


_EMPTY = [_empty(bit) for bit in range(8)]
