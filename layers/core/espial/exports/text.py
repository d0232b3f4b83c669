"""Rows of text, whatever holds it: bytes come in pieces, leave as records, and only one stretch of them is in memory.

A `Stream` gives the bytes of a file, of an inflated gzip stream or of an archive's member from any place on. A
`Format` (`csv`, `ndjson`) cuts a stretch of them into records. `read` drives both. Every row's place is the byte offset
of its record, so that it is the same whatever the ranges, the stretches and the resumptions.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from espial.errors import Malformed
from espial.exports import Damage, Mark, RangeSource, Row, recognised
from espial.sources import Layout

READ_BYTES = 1 << 20
STRETCH_BYTES = 32 << 10
"""Decoded at once. Rows of more would leave the processor's cache before they are used."""

SAMPLE_BYTES = 256 << 10
"""Looked at to recognise what a text is."""

BARREN_BYTES = 256 << 20
"""So many inflated bytes without a single row: no export is like that."""

MAX_CHUNKS = 1000
"""Of one file: its ledger entry lists them."""


class Broken(Exception):
    """A stream cannot be read on. `reason` is that of the Damage it becomes; `complete`: what came is all its text."""

    def __init__(self, reason: str, detail: str, *, complete: bool = False) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.complete = complete


class Stream(Protocol):
    """Bytes in order. Records that start at the `limit` or behind it are another range's; it may show while reading."""

    inflated: bool
    limit: int

    def pieces(self, place: int) -> Iterator[bytes]:
        """The bytes from `place` on, in pieces of about READ_BYTES. Raises Broken behind the last that can be read."""
        ...


class Plain:
    """The object's own bytes, up to an `end` if one is given."""

    inflated = False
    limit = sys.maxsize

    def __init__(self, source: RangeSource, end: int | None = None) -> None:
        self._source = source
        self._end = source.size if end is None else end

    def pieces(self, place: int) -> Iterator[bytes]:
        """See `Stream`."""
        while place < self._end:
            end = min(place + READ_BYTES, self._end)
            yield self._source.read(place, end)
            place = end


class Feed:
    """The stretch of a stream in memory: it begins at `place` and slides forward."""

    def __init__(self, stream: Stream, place: int) -> None:
        self.place = place
        self.ended = False
        self.broken: Broken | None = None
        self._pieces = stream.pieces(place)
        self._held = b""
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes, fewer only at the stream's end. They stay until `skip`."""
        while len(self._held) - self._at < length and not self.ended:
            try:
                piece = next(self._pieces)
            except StopIteration:
                self.ended = True
            except Broken as exc:
                self.ended, self.broken = True, exc
            else:
                self._held = self._held[self._at :] + piece
                self._at = 0
        return self._held[self._at : self._at + length]

    def nothing_behind(self, length: int) -> bool:
        """The next `length` bytes are the text's last."""
        return self.ended and (not self.broken or self.broken.complete) and len(self._held) - self._at == length

    def skip(self, length: int) -> None:
        """Go on behind the next `length` bytes, which were taken before."""
        self._at += length
        self.place += length

    def give_back(self, data: bytes) -> None:
        """Have the bytes that were skipped last come again."""
        if len(data) > self._at:
            self._held, self._at = data + self._held[self._at :], len(data)
        self._at -= len(data)
        self.place -= len(data)


class Encoding(NamedTuple):
    """How text is stored. `mark` is the length of its byte order mark, `unit` the bytes of a line feed."""

    name: str
    mark: int
    unit: int

    @property
    def is_utf_8(self) -> bool:
        return self.name == "utf-8"

    def last_line_end(self, data: bytes) -> int:
        """Where the last line that ends in `data` ends; 0 if none does. `data` begins at a character."""
        feed = "\n".encode(self.name)
        at = data.rfind(feed)
        while at > 0 and at % self.unit:
            at = data.rfind(feed, 0, at + self.unit - 1)
        return at + self.unit if at >= 0 and at % self.unit == 0 else 0

    def first_line_end(self, data: bytes) -> int:
        """Where the first line in `data` ends; 0 if it does not."""
        feed = "\n".encode(self.name)
        at = data.find(feed)
        while at >= 0 and at % self.unit:
            at = data.find(feed, at + 1)
        return at + self.unit if at >= 0 else 0

    def decode(self, data: bytes) -> tuple[str, bool]:
        """The text, and whether it is sound. What is not text becomes lone surrogates; see `is_sound`."""
        try:
            return data.decode(self.name), True
        except UnicodeDecodeError:
            if self.unit == 1:
                return data.decode(self.name, "surrogateescape"), False
            half = "\ud800" * (len(data) % self.unit)
            return data[: len(data) // self.unit * self.unit].decode(self.name, "surrogatepass") + half, False

    def size(self, text: str) -> int:
        """The bytes of a text that `decode` made."""
        return len(text) * self.unit if text.isascii() else len(self.encode(text))

    def encode(self, text: str) -> bytes:
        """What `decode` made the text of."""
        return text.encode(self.name, "surrogateescape" if self.unit == 1 else "surrogatepass")

    def lines(self, data: bytes, text: str) -> tuple[list[str], list[int]]:
        """`text`, which is `data` decoded, by lines with their ends, and the bytes of each."""
        lines = list(io.StringIO(text, newline=""))
        if self.unit == 1:
            return lines, list(map(len, data.splitlines(keepends=True)))
        return lines, list(map(self.size, lines))

    @property
    def fault(self) -> str:
        """The reason of a record that is not text in this encoding."""
        return "not_utf_8" if self.name == "utf-8" else "bad_encoding"


def is_sound(text: str) -> bool:
    """Whether `Encoding.decode` found only text in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, ""),
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoding_of(sample: bytes, layout: Layout) -> Encoding:
    """By byte order mark, else as the platform says, else by where zero bytes are. Raises Malformed bad_encoding."""
    name, mark = _named(layout.encoding), 0
    for signature, marked in _MARKS:
        if sample.startswith(signature):
            if not marked:
                raise Malformed("bad_encoding", "UTF-32")
            name, mark = marked, len(signature)
            break
    else:
        if not name and b"\0" in sample[:256]:
            name = {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get(
                (sample[0] == 0, sample[1:2] == b"\0"), ""
            )
            if not name:
                raise Malformed("bad_encoding", "neither UTF-8 nor UTF-16: it holds zero bytes")
    name = name or "utf-8"
    return Encoding(name, mark, len("\n".encode(name)))


def _named(encoding: str) -> str:
    """The codec's own name; `utf-16` without a byte order mark is little-endian, as platforms write it."""
    if not encoding:
        return ""
    try:
        name = codecs.lookup(encoding).name
        lengths = len("\n".encode(name)), len("\r\n".encode(name))
    except (LookupError, TypeError) as exc:
        raise Malformed("bad_encoding", f"no encoding named {encoding!r}") from exc
    if name in ("utf-16", "utf-8-sig"):
        return {"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}[name]
    if lengths not in ((1, 2), (2, 4)):
        raise Malformed("bad_encoding", f"{encoding} cannot be read line by line")
    return name


class Parsed(NamedTuple):
    """What a format made of a stretch: rows and damages in order (false if none), and how many bytes they are."""

    steps: Iterable[Row | Damage]
    used: int


class Format(Protocol):
    """Records of one text. `start` is the place of the first, behind byte order mark and header."""

    kind: str
    columns: Mapping[str, str]
    start: int
    encoding: Encoding
    max_record: int
    too_long: str

    def parse(self, data: bytes, place: int, end: int, *, final: bool) -> Parsed:
        """The whole records at the beginning of `data`, which lies at `place`, of those that start before `end`.

        `final`: nothing comes behind the data.

        Nothing used means that the first record does not end in `data`; never so if that is final.
        """
        ...

    def edges(self, source: RangeSource, target_bytes: int) -> list[int]:
        """Where the ranges of a plain file start, the first at `start`."""
        ...

    def align(self, stream: Stream, start: int) -> int:
        """The first record that starts at the edge `start` or behind it."""
        ...

    def known_start(self, stream: Stream, place: int) -> int | None:
        """The first place behind `place` that is known to start a record, or the text's end; None if none is known."""
        ...

    def behind(self, data: bytes) -> int:
        """Within or behind a record over `max_record`: where in `data` the next may start, or 0."""
        ...


def read(
    form: Format, stream: Stream, start: int, end: int, checkpoint: int | None = None
) -> Iterator[Row | Damage | Mark]:
    """The records that start in [start, end), or those of them behind the checkpoint."""
    feed = Feed(stream, form.align(stream, start) if checkpoint is None else checkpoint)
    grown = barren = 0
    while feed.place < end:
        place = feed.place
        data = feed.take(grown or min(STRETCH_BYTES, end - place))
        end = min(end, stream.limit)
        if not data or place >= end:
            break
        steps, used = form.parse(data, place, end, final=feed.nothing_behind(len(data)))
        if used:
            grown = 0
            feed.skip(used)
            yield from steps
            barren = 0 if steps else barren + used
            yield Mark(feed.place)
        elif feed.ended and len(data) < (grown or STRETCH_BYTES):
            break
        elif len(data) < form.max_record:
            grown = min(max(2 * len(data), READ_BYTES // 4), form.max_record)
        else:
            grown = 0
            damage = _skip(form, feed, BARREN_BYTES if stream.inflated else sys.maxsize)
            barren += damage.until - place
            yield damage
            yield Mark(feed.place)
        if barren > BARREN_BYTES and stream.inflated:
            yield Damage(feed.place, feed.place, "inflates_too_much", f"{barren} bytes without a row")
            return
    if feed.broken:
        behind = feed.place + len(feed.take(form.max_record))
        yield Damage(feed.place, behind, feed.broken.reason, feed.broken.detail)


def _skip(form: Format, feed: Feed, patience: int) -> Damage:
    """Slide behind a record that is too long, to where one may start again."""
    place = feed.place
    data = feed.take(form.max_record)
    at = 0
    reason = form.too_long if form.behind(data) else "line_too_long"
    while data and not at and feed.place - place <= patience:
        at = form.behind(data)
        feed.skip(at or len(data))
        data = feed.take(READ_BYTES)
    return Damage(place, feed.place, reason, f"a record of over {form.max_record} bytes")


class OneText:
    """What a container of one text says of itself."""

    record_name = ""

    def __init__(self, source: RangeSource, form: Format) -> None:
        self._source = source
        self._form = form
        self.kind = form.kind
        self.columns = form.columns


class TextFile(OneText):
    """A plain text file as a `Container`."""

    def plan(self, target_bytes: int) -> list[tuple[int, int]]:
        """See `espial.exports.Container`."""
        size = self._source.size
        if self._form.start >= size:
            return []
        edges = self._form.edges(self._source, max(target_bytes, -(-size // MAX_CHUNKS)))
        return list(zip(edges, [*edges[1:], size], strict=True))

    def rows(self, start: int, end: int, checkpoint: int | None = None) -> Iterator[Row | Damage | Mark]:
        """See `espial.exports.Container`. A record belongs to the range that its first byte lies in."""
        return read(self._form, Plain(self._source), start, end, checkpoint)


def sample_of(stream: Stream, place: int) -> tuple[bytes, bool]:
    """The beginning of a stream, and whether it is all of it. Raises Malformed if not even that can be read."""
    feed = Feed(stream, place)
    sample = feed.take(SAMPLE_BYTES)
    if feed.broken and not sample:
        raise Malformed(feed.broken.reason, feed.broken.detail)
    return sample, feed.nothing_behind(len(sample))


def wrapped(sample: bytes, name: str, layout: Layout, *, whole: bool) -> Format:
    """The format of what a wrapper holds: text only. Raises Malformed."""
    kind = recognised(sample[:64]) if sample else "text"
    if kind in ("gzip", "zip"):
        raise Malformed("nested_archive", f"{kind} within an archive")
    if kind != "text":
        raise Malformed("unsupported_container", f"{kind} within an archive")
    return format_of(sample, name, layout, whole=whole)


def open_container(source: RangeSource, key: str, layout: Layout) -> TextFile:
    """Recognise a plain text file. Raises Malformed; see `format_of`."""
    sample = source.read(0, min(SAMPLE_BYTES, source.size))
    return TextFile(source, format_of(sample, key, layout, whole=len(sample) == source.size))


def evenly(start: int, size: int, target_bytes: int, unit: int = 1) -> list[int]:
    """The starts of equal ranges of about `target_bytes` at most, whole units from one to the next."""
    pieces = max(-(-(size - start) // target_bytes), 1)
    return [start + (size - start) * n // pieces // unit * unit for n in range(pieces)]


def format_of(sample: bytes, name: str, layout: Layout, *, whole: bool) -> Format:
    """Recognise a text by its beginning, then by its name. `whole`: the sample is all of it. Raises Malformed."""
    from espial.exports import csv, ndjson  # noqa: PLC0415  both build on this module

    encoding = encoding_of(sample, layout)
    head, _ = encoding.decode(sample[encoding.mark : len(sample) - len(sample) % encoding.unit])
    first = head.lstrip()[:1]
    if not first and whole:
        raise Malformed("empty_file", "nothing but blanks")
    if first in "{[" or (name.lower().endswith((".ndjson", ".jsonl", ".json")) and not layout.columns):
        return ndjson.open_format(head, encoding, whole=whole)
    return csv.open_format(head, encoding, layout, whole=whole)
