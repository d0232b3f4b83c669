"""Delimited text (RFC 4180 and its relatives) as rows of text by folded column name.

`csv` of the standard library reads the records; what is added here: where each one starts, columns, splitting.

A range may start only where a record does, and a line feed may stand within quotes. So at every edge the text is read
on from the next line start under both suppositions, within quotes and not, until one of them is refuted by a quotation
mark where none can be or by a number of fields that is not the header's. If neither is, the file is not split there.
In a file as RFC 4180 has it, with records of at most MAX_RECORD_BYTES, no split is ever wrong: what is true is never
refuted, and what is not refuted alone is not used.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain, islice, repeat
from typing import Any, NamedTuple

from espial.errors import Malformed
from espial.exports import Damage, RangeSource, Row, folded
from espial.exports.text import Encoding, Feed, Parsed, Plain, Stream, evenly, is_sound
from espial.sources import Layout

MAX_RECORD_BYTES = 1 << 20
"""Of one record. What is longer, quoted or not, was never meant to be one."""

DELIMITERS = ",;\t|"
_SNIFFED_LINES = 20
_ADDRESS = re.compile(r"\w@\w")
"""Of somebody, so a row: columns of Adobe Campaign may begin with such a sign."""

_END = "\0end\0"
"""A line of its own behind the last: it comes out as a record if the one before it is complete."""

csv.field_size_limit(
    sys.maxsize
)  # fields are bounded by MAX_RECORD_BYTES, and an exception would cost the whole stretch


def open_format(head: str, encoding: Encoding, layout: Layout, *, whole: bool) -> Records:
    """Find delimiter and columns. Raises Malformed: no_header, wrong_delimiter, unsupported_container."""
    if "\0" in head[:1024]:
        raise Malformed("unsupported_container", "neither text nor a container that is known")
    delimiter = layout.delimiter or _sniffed(head, layout)
    if layout.columns:
        return Records(encoding, encoding.mark, delimiter, _named(layout.columns), layout)
    blank = len(head) - len(head.lstrip("\r\n"))
    lines = list(io.StringIO(head[blank:], newline=""))
    reader = _reader(chain(lines if whole else lines[:-1], (_END,)), delimiter, layout)
    names = next(reader)
    if reader.line_num > len(lines) - (not whole):
        raise Malformed("no_header", "the first line does not end")
    end = sum(map(len, lines[: reader.line_num]))
    if not any(map(folded, names)) or any(map(_ADDRESS.search, names)):
        raise Malformed("no_header", f"the first line holds no column names: {delimiter.join(names)[:200]}")
    if layout.delimiter and len(names) == 1 and (found := _sniffed(head, layout)) in head.partition("\n")[0]:
        raise Malformed("wrong_delimiter", f"the header has no {layout.delimiter!r}, but {found!r}")
    start = encoding.mark + encoding.size(head[: blank + end])
    return Records(encoding, start, delimiter, _named(tuple(names)), layout)


def _sniffed(head: str, layout: Layout) -> str:
    """The delimiter that gives the most of the first lines the header's number of fields, if more than one."""
    best, score = DELIMITERS[0], (0, 0)
    for delimiter in DELIMITERS:
        counts = [len(record) for record in islice(_fields(head, delimiter, layout), _SNIFFED_LINES)]
        if counts and counts[0] > 1:
            alike = counts.count(counts[0])
            if (alike, counts[0]) > score:
                best, score = delimiter, (alike, counts[0])
    return best


def _named(names: tuple[str, ...]) -> dict[str, str]:
    """Folded name -> name, in order. A name that comes twice or is blank gets its number."""
    columns: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        key = folded(name) or f"column{number}"
        columns[f"{key}{number}" if key in columns else key] = name
    return columns


def _fields(text: str, delimiter: str, layout: Layout) -> Iterator[list[str]]:
    """The records that are not blank."""
    return filter(None, _reader(io.StringIO(text, newline=""), delimiter, layout))


def _reader(lines: Iterable[str], delimiter: str, layout: Layout) -> Any:
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE)


class Records:
    """The records of one text."""

    kind = "csv"
    too_long = "open_quote"

    def __init__(
        self, encoding: Encoding, start: int, delimiter: str, columns: Mapping[str, str], layout: Layout
    ) -> None:
        self.encoding = encoding
        self.start = start
        self.columns = columns
        self.max_record = MAX_RECORD_BYTES
        self._names = tuple(columns)
        self._delimiter = delimiter
        self._layout = layout

    def parse(self, data: bytes, place: int, end: int, *, final: bool) -> Parsed:
        """See `Format`."""
        used = len(data) if final else self.encoding.last_line_end(data)
        if not used:
            return Parsed([], 0)
        data = data[:used]
        text, sound = self.encoding.decode(data)
        lines, sizes = self.encoding.lines(data, text)
        places = list(accumulate(sizes, initial=place))
        if self._layout.quoted and '"' in text:
            records, starts, begun = self._quoted(lines, places)
        else:
            records, starts, begun = list(_reader(lines, self._delimiter, self._layout)), places, len(lines)
        if place + used > end:  # ranges end where records start
            records = records[: bisect_left(starts, end)]
            return Parsed(self._rows(records, starts, sound=sound), end - place)
        steps = self._rows(records, starts, sound=sound)
        if begun == len(lines):
            return Parsed(steps, used)
        if not final:
            return Parsed(steps, places[begun] - place)
        damage = Damage(places[begun], places[begun + 1], "open_quote", "a quotation mark that nothing closes")
        return Parsed([*steps, damage], min(damage.until - place, used))

    def _quoted(self, lines: list[str], places: list[int]) -> tuple[list[list[str]], list[int], int]:
        """The whole records, where each starts, and the line at which the first starts that does not end."""
        reader = _reader(chain(lines, (_END,)), self._delimiter, self._layout)
        records: list[list[str]] = []
        begun = [0]
        for record in reader:
            records.append(record)
            begun.append(reader.line_num)
        whole = records.pop() == [_END]
        return records, [places[line] for line in begun[:-1]], len(lines) if whole else begun[-2]

    def _rows(self, records: list[list[str]], starts: list[int], *, sound: bool) -> Iterable[Row | Damage]:
        width = len(self._names)
        if records and sound and {width}.issuperset(map(len, records)):
            return map(Row, starts, repeat(0), map(dict, map(zip, repeat(self._names), records)))
        steps: list[Row | Damage] = []
        for number, (record, place) in enumerate(zip(records, starts, strict=False)):
            if not any(record) and (not record or width > 1 == len(record)):
                continue
            until = starts[number + 1] if number + 1 < len(starts) else place
            if not sound and not is_sound("".join(record)):
                steps.append(Damage(place, until, self.encoding.fault, "the record is not text"))
            elif any(record[width:]) or (len(record) < width and not self._layout.columns):
                detail = f"{len(record)} fields, where there are {width} columns"
                steps.append(Damage(place, until, "ragged_row", detail))
            else:
                steps.append(Row(place, 0, dict(zip(self._names, record, strict=False))))
        return steps

    def behind(self, data: bytes) -> int:
        """See `Format`. The line that opened the quotes is given up, and those behind it are read by themselves."""
        return self.encoding.first_line_end(data)

    def align(self, _stream: Stream, start: int) -> int:
        """See `Format`. Ranges start where records do."""
        return start

    def edges(self, source: RangeSource, target_bytes: int) -> list[int]:
        """See `Format`."""
        edges = [self.start]
        for edge in evenly(self.start, source.size, target_bytes, self.encoding.unit)[1:]:
            if edge > edges[-1]:
                start = self.known_start(Plain(source), edge)
                if start is not None and edges[-1] < start < source.size:
                    edges.append(start)
        return edges

    def known_start(self, stream: Stream, place: int) -> int | None:
        """See `Format`."""
        feed = Feed(stream, place)
        for length in (_GLANCE_BYTES, 2 * self.max_record):
            data = feed.take(length)
            line = self.encoding.first_line_end(data)
            if line and not self._layout.quoted:
                return place + line
            text, _ = self.encoding.decode(data[line:])
            full = feed.nothing_behind(len(data)) or len(data) - line >= self.max_record
            if line and (start := self._decided(text, full=full)) is not None:
                return place + line + self.encoding.size(text[:start])
            if full or feed.ended:
                break
        return None

    def _decided(self, data: str, *, full: bool) -> int | None:
        """Where in `data`, which starts a line, the first record starts; None if that cannot be told from it.

        `full`: a record that starts in `data` ends in it, or is too long, or is the file's last.
        """
        if '"' not in data:
            return 0 if full else None
        outside = self._supposed(data, within=False, full=full)
        inside = self._supposed(data, within=True, full=full)
        for one, other in ((outside, inside), (inside, outside)):
            if one.records and one.refuted > other.refuted:
                return one.first
        return None

    def _supposed(self, data: str, *, within: bool, full: bool) -> _Supposition:
        """Read on from the line start, within quotes or not, up to what refutes that."""
        delimiter = re.escape(self._delimiter)
        behind = r"(" + delimiter + r"|\r\n?|\n)"
        field = re.compile(r'("[^"]*+(?:""[^"]*+)*+"|[^"\r\n' + delimiter + r"]*+)" + behind)
        at, count, records = 0, 0, 0
        first = -1 if within else 0
        match = re.compile(r'([^"]*+(?:""[^"]*+)*+")' + behind).match(data) if within else field.match(data)
        while match:
            count += 1
            at = match.end()
            if match[2][:1] in "\r\n":
                if first < 0:
                    first = at
                elif count > 1 or match[1]:
                    if count != len(self._names):
                        return _Supposition(match.start(), records, first)
                    records += 1
                count = 0
            match = field.match(data, at)
        if within and not at:
            closing = _CLOSING.match(data)
            if closing is None:
                return _Supposition(len(data) if full else sys.maxsize, 0, 0)
            return _Supposition(sys.maxsize if closing.end() == len(data) else closing.end(), 0, 0)
        return _Supposition(sys.maxsize if _CUT_FIELD.fullmatch(data, at) else at, records, first)


class _Supposition(NamedTuple):
    """How far it is not refuted, how many records of the right width it gave, and where the first starts."""

    refuted: int
    records: int
    first: int


_GLANCE_BYTES = 64 << 10
_CLOSING = re.compile(r'[^"]*+(?:""[^"]*+)*+"')
_CUT_FIELD = re.compile(r'"[^"]*+(?:""[^"]*+)*+"?|[^"\r\n]*+')
