"""ZIP archives (PKWARE APPNOTE 6.3): the central directory first, then each member with text by itself.

Ranges start at members, so that several workers share an archive. A place is an offset in the virtual text that all
members, inflated, make one behind the other: it tells the member, too. Names of members are never used as paths.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from isal import isal_zlib

from espial.errors import Malformed
from espial.exports import NOT_DATA, Damage, Mark, RangeSource, Row
from espial.exports.deflate import Inflating, Point, Points, Stored
from espial.exports.text import MAX_CHUNKS, Broken, Feed, Format, Plain, read, sample_of, wrapped
from espial.sources import Layout

MAX_MEMBERS = 20_000
MAX_DIRECTORY_BYTES = 16 << 20

_NO_DATA = (
    ".html",
    ".htm",
    ".css",
    ".js",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".svg",
    ".webp",
    ".ico",
    ".pdf",
    ".ds_store",
)
"""What platforms put into archives beside the data (Mailchimp: templates and pictures)."""

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x2041  # bits 0, 6 and 13
_UTF_8 = 0x800
_END = struct.Struct("<4s4H2LH")
_END_64_PLACE = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NO_32, _NO_16 = 0xFFFFFFFF, 0xFFFF


class Member(NamedTuple):
    """One entry of the directory. `base` is the place of its first byte."""

    name: str
    method: int
    encrypted: bool
    crc: int
    packed: int
    size: int
    offset: int
    base: int = 0


class _Inflated:
    """A member's text, checked against its entry."""

    inflated = True
    limit = sys.maxsize

    def __init__(self, source: RangeSource, member: Member) -> None:
        self._source = source
        self._member = member

    def pieces(self, place: int) -> Iterator[bytes]:
        """See `Stream`."""
        member, skipped = self._member, place - self._member.base
        points = Points(self._source, f"zip/{member.offset}", member.packed)
        start = self._start()
        point = points.before(skipped, Point(place=start))
        packed = Feed(Plain(self._source, start + member.packed), point.place)
        text = Inflating(packed, point, points) if member.method == _DEFLATED else Stored(packed, point, points)
        at = point.text
        try:
            for piece in text.pieces():
                if at + len(piece) > skipped:
                    yield piece[max(skipped - at, 0) :]
                at += len(piece)
                if at > member.size:
                    raise Broken("inflates_too_much", f"{member.name}: more than the {member.size} bytes it says")
        except isal_zlib.error as exc:  # type: ignore[misc]
            raise Broken("corrupt_zip", f"{member.name}: {exc}") from exc
        if not text.ended:
            raise Broken("corrupt_zip", f"{member.name}: its deflated bytes end early")
        if (text.size, text.crc) != (member.size, member.crc):
            raise Broken("bad_checksum", f"{member.name}: not what the archive's directory says", complete=True)

    def _start(self) -> int:
        member, source = self._member, self._source
        head = source.read(member.offset, min(member.offset + _LOCAL.size, source.size))
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise Broken("corrupt_zip", f"{member.name}: no header where the directory says")
        *_, name, extra = _LOCAL.unpack(head)
        start = member.offset + _LOCAL.size + name + extra
        if start + member.packed > source.size:
            raise Broken("truncated_zip", f"{member.name}: ends behind the file")
        return int(start)


class ZipFile:
    """An opened archive. `kind`, `record_name` and `columns` are those of the member being read, at first the first."""

    def __init__(self, source: RangeSource, members: Mapping[Member, Layout]) -> None:
        self._source = source
        self._members = members
        self.kind = ""
        self.record_name = ""
        self.columns: Mapping[str, str] = {}
        problem = Malformed("empty_file", "no member holds a byte")
        for member in members:
            try:
                self._open(member)
            except Malformed as exc:
                problem = exc
            else:
                return
        raise problem

    def _open(self, member: Member) -> Format:
        if member.encrypted:
            raise Malformed("encrypted_member", member.name)
        if member.method not in (_STORED, _DEFLATED):
            raise Malformed("unsupported_compression", f"{member.name}: method {member.method}")
        sample, whole = sample_of(_Inflated(self._source, member), member.base)
        form = wrapped(sample, member.name, self._members[member], whole=whole)
        self.kind, self.record_name, self.columns = form.kind, member.name, form.columns
        return form

    def plan(self, _target_bytes: int) -> list[tuple[int, int]]:
        """A range a member; several where members are more than a file may have ranges."""
        size = self._source.size
        edges: list[int] = []
        for member in self._members:
            if not edges or member.offset - edges[-1] >= size / MAX_CHUNKS:
                edges.append(member.offset)
        return list(zip(edges, [*edges[1:], size], strict=True))

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """See `espial.exports.Container`. A member belongs to the range that its header lies in."""
        for member in self._members:
            behind = member.base + member.size
            if not start <= member.offset < end or (checkpoint is not None and checkpoint >= behind):
                continue
            try:
                form = self._open(member)
            except Malformed as exc:
                yield Damage(member.base, behind, exc.reason, exc.detail)
            else:
                place = max(member.base + form.start, checkpoint or 0)
                yield from read(form, _Inflated(self._source, member), place, sys.maxsize, place)
            yield Mark(behind)


def open_container(source: RangeSource, _key: str, layout: Layout) -> ZipFile:
    """Read the directory.

    Raises Malformed: truncated_zip, corrupt_zip, too_many_members, overlapping_members, and, if no member can be read,
    the last one's reason: encrypted_member, nested_archive, unsupported_compression, empty_file, not_data …
    """
    members = sorted(_directory(source), key=attrgetter("offset"))
    for one, other in itertools.pairwise(members):
        if one.offset + _LOCAL.size + one.packed > other.offset:
            raise Malformed("overlapping_members", f"{one.name} and {other.name}")
    base = 0
    readable: dict[Member, Layout] = {}
    for member in members:
        its = layout.members(member.name) if layout.members else layout
        if member.size and not member.name.endswith("/") and not _is_beside(member.name) and not its.skip:
            readable[member._replace(base=base)] = its
        base += member.size
    if base and not readable:
        raise Malformed(NOT_DATA, "no member holds reports")
    return ZipFile(source, readable)


def _is_beside(name: str) -> bool:
    return name.lower().endswith(_NO_DATA) or name.startswith("__MACOSX/")


def _directory(source: RangeSource) -> Iterator[Member]:
    start, size, count, shift = _end(source)
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise Malformed("too_many_members", f"{count}, over {MAX_MEMBERS}")
    if start < 0 or start + size > source.size:
        raise Malformed("corrupt_zip", "the directory does not lie in the file")
    data = source.read(start, start + size)
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > size or data[at : at + 4] != b"PK\x01\x02":
            raise Malformed("corrupt_zip", "the directory ends early")
        entry = _ENTRY.unpack_from(data, at)
        flags, method, crc, packed, full = entry[3], entry[4], entry[7], entry[8], entry[9]
        name_length, extra_length, comment_length, offset = entry[10], entry[11], entry[12], entry[16]
        at += _ENTRY.size
        name = data[at : at + name_length].decode("utf-8" if flags & _UTF_8 else "cp437", "replace")
        extra = data[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        full, packed, offset = _wide(extra, full, packed, offset)
        if offset + shift + _LOCAL.size + packed > start:
            raise Malformed("corrupt_zip", f"{name}: reaches into the directory")
        yield Member(name, method, bool(flags & _ENCRYPTED), crc, packed, full, offset + shift)


def _wide(extra: bytes, *fields: int) -> list[int]:
    """Size, packed size and offset, from the ZIP64 field where 32 bits are too few."""
    wide = b""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    values = []
    for field in fields:
        if field == _NO_32:
            if len(wide) < 8:
                raise Malformed("corrupt_zip", "a ZIP64 size is missing")
            field, wide = int.from_bytes(wide[:8], "little"), wide[8:]  # noqa: PLW2901
        values.append(field)
    return values


def _end(source: RangeSource) -> tuple[int, int, int, int]:
    """The directory's start, size and number of entries, and how far everything lies behind where the archive says."""
    tail_start = max(source.size - _END.size - _NO_16, 0)
    tail = source.read(tail_start, source.size)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and len(tail) - at < _END.size:
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise Malformed("truncated_zip", "no directory at the file's end")
    *_, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    place = end - _END_64_PLACE.size
    if place >= 0 and (found := source.read(place, end)).startswith(b"PK\x06\x07"):
        _, _, place_64, _ = _END_64_PLACE.unpack(found)
        for end_64 in (place_64, place - _END_64.size):
            record = source.read(end_64, end_64 + _END_64.size) if end_64 + _END_64.size <= source.size else b""
            if record.startswith(b"PK\x06\x06"):
                count, size, start = _END_64.unpack(record)[7:10]
                end = end_64
                break
        else:
            raise Malformed("corrupt_zip", "the ZIP64 directory is not where it should be")
    shift = end - size - start
    if shift < 0:
        raise Malformed("corrupt_zip", "the directory does not lie in the file")
    return start + shift, size, count, shift
