"""JSON values as rows: a line each, one behind the other without any line end, or the elements of one array.

A text of lines is split anywhere: a line belongs to the range that its first byte lies in. A line may hold several
values (Amazon Data Firehose adds no line ends of its own). The other two forms are one range, read on value by value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import accumulate, count, repeat
from operator import add
from typing import Any

import orjson

from espial.exports import Damage, RangeSource, Row
from espial.exports.text import Encoding, Feed, Parsed, Stream, evenly, is_sound

MAX_RECORD_BYTES = 8 << 20
"""Of one value. The largest platforms write is under 1 MB (Braze, mParticle)."""

_BLANK = " \t\r\n"
_CLOSED = frozenset('}]"')
_GLANCE = 64 << 10
_CUT = 64
"""A number, literal or escape that the end of a stretch cuts is reported within so many characters of it."""

_BETWEEN = re.compile(r"\}\s*(?=\{)")
_BLANKS = re.compile(r"[ \t\r\n]*")
_BEFORE = {False: _BLANKS, True: re.compile(r"[ \t\r\n,\]]*")}
_AFTER = {False: _BLANKS, True: re.compile(r"[ \t\r\n]*[,\]]")}
_PRINTED = re.compile(r"\{[ \t\r]*\n")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_SCANNER = json.JSONDecoder(parse_constant=_refused)
"""Finds where a value ends. The value itself is orjson's, so that a row is the same whatever the form."""


def open_format(head: str, encoding: Encoding, *, whole: bool) -> Lines | Values:
    """The form, by the text's beginning: `head` is some of it, or the `whole`."""
    text = head.strip(_BLANK) if whole else head.lstrip(_BLANK)
    if text.startswith("[") and ("\n" not in text or not _is_value(text.partition("\n")[0])):
        return Values(encoding, head, array=True)
    return Lines(encoding) if _in_lines(text[:_GLANCE], whole=whole) else Values(encoding, head, array=False)


def _is_value(line: str) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _in_lines(text: str, *, whole: bool) -> bool:
    """Whether no value goes on behind its line, as far as values can be read."""
    if _PRINTED.match(text):
        return False
    at = 0
    while at < len(text):
        try:
            end = _end(text, at)
        except (ValueError, RecursionError) as exc:
            if not at and not whole and _is_cut(exc, text):
                return False
            break
        if "\n" in text[at:end]:
            return False
        at = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    return whole or "\n" in text


class Lines:
    """A value a line."""

    kind = "ndjson"
    columns: Mapping[str, str] = {}
    max_record = MAX_RECORD_BYTES
    too_long = "line_too_long"

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.start = encoding.mark

    def edges(self, source: RangeSource, target_bytes: int) -> list[int]:
        """See `Format`."""
        return evenly(self.start, source.size, target_bytes, self.encoding.unit)

    def align(self, stream: Stream, start: int) -> int:
        """See `Format`."""
        if start <= self.start:
            return self.start
        known = self.known_start(stream, start - self.encoding.unit)
        return start if known is None else known

    def known_start(self, stream: Stream, place: int) -> int | None:
        """See `Format`."""
        feed = Feed(stream, place)
        while data := feed.take(1 << 16):
            end = self.encoding.first_line_end(data)
            feed.skip(end or len(data))
            if end:
                break
        return None if feed.broken and not data else feed.place

    def parse(self, data: bytes, place: int, end: int, *, final: bool) -> Parsed:
        """See `Format`."""
        used = len(data) if final else self.encoding.last_line_end(data)
        before = end - place - self.encoding.unit
        if place + used > end and (line := self.encoding.first_line_end(data[before:])):
            used = before + line
        final = final and used == len(data)
        if not self.encoding.is_utf_8:
            text, _ = self.encoding.decode(data[:used])
            return Parsed(self._one_by_one(text.split("\n"), place, final=final), used)
        lines = data[:used].split(b"\n")
        if not lines[-1]:
            lines.pop()
        try:
            values = list(map(orjson.loads, lines))
        except ValueError:
            text, _ = self.encoding.decode(data[:used])
            return Parsed(self._one_by_one(text.split("\n"), place, final=final), used)
        places = map(add, accumulate(map(len, lines), initial=place), count())
        return Parsed(list(map(Row, places, repeat(0), values)), used)

    def _one_by_one(self, lines: list[str], place: int, *, final: bool) -> list[Row | Damage]:
        steps: list[Row | Damage] = []
        for number, line in enumerate(lines, 1):
            if line.strip(_BLANK):
                steps += _line(line, place, self.encoding, last=final and number == len(lines))
            place += self.encoding.size(line) + self.encoding.unit
        return steps

    def behind(self, data: bytes) -> int:
        """See `Format`."""
        return self.encoding.first_line_end(data)


def _line(line: str, place: int, encoding: Encoding, *, last: bool) -> list[Row | Damage]:
    """The line's value, or its objects; behind one that cannot be read, the next. `last`: no line feed follows."""
    steps: list[Row | Damage] = []
    until = place + encoding.size(line)
    if not is_sound(line):
        return [Damage(place, until, encoding.fault, "the line is not text")]
    at = _BLANKS.match(line).end()  # type: ignore[union-attr]
    while at < len(line):
        begun = place + (encoding.size(line[:at]) if steps else 0)
        try:
            end = _end(line, at)
            steps.append(Row(begun, 0, orjson.loads(line[at:end])))
        except (ValueError, RecursionError) as exc:
            found = _BETWEEN.search(line, getattr(exc, "pos", at))
            end = max(found.end(), at + 1) if found else len(line)
            reason = "truncated_json" if last and not found and _is_cut(exc, line) else "not_json"
            steps.append(Damage(begun, place + encoding.size(line[:end]), reason, str(exc)[:200]))
        at = _BLANKS.match(line, end).end()  # type: ignore[union-attr]
        if at < len(line) and line[at] != "{":
            steps.append(Damage(begun, until, "not_json", "something else behind a value"))
            break
    return steps


def _end(text: str, at: int) -> int:
    """Where the value at `at` ends. Raises ValueError, RecursionError."""
    _, end = _SCANNER.raw_decode(text, at)
    return end


def _is_cut(error: Exception, text: str) -> bool:
    """Whether more text might mend it."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or error.pos >= len(text) - _CUT
    )


class Values:
    """Values one behind the other, or the elements of an array; blanks and line ends anywhere between them."""

    kind = "ndjson"
    columns: Mapping[str, str] = {}
    max_record = MAX_RECORD_BYTES
    too_long = "line_too_long"

    def __init__(self, encoding: Encoding, head: str, *, array: bool) -> None:
        self.encoding = encoding
        self.start = encoding.mark + (encoding.size(head[: head.index("[") + 1]) if array else 0)
        self._array = array

    def edges(self, _source: RangeSource, _target_bytes: int) -> list[int]:
        """See `Format`."""
        return [self.start]

    def align(self, _stream: Stream, start: int) -> int:
        """See `Format`."""
        return start

    def known_start(self, _stream: Stream, _place: int) -> int | None:
        """See `Format`. Only by reading from the start on."""
        return None

    def parse(self, data: bytes, place: int, _end: int, *, final: bool) -> Parsed:
        """See `Format`. One range is all there is."""
        text, _ = self.encoding.decode(data)
        steps: list[Row | Damage] = []
        at = counted = 0
        while True:
            start = _BEFORE[self._array].match(text, at).end()  # type: ignore[union-attr]
            place += self.encoding.size(text[counted:start])
            counted = start
            if start == len(text):  # an array's bracket stays for the last stretch, which looks for it
                break
            found = self._value(text, start, place, final=final)
            if not found:
                break
            step, at = found
            steps.append(step)
        if final:
            if self._array and not text.rstrip(_BLANK).endswith("]"):
                steps.append(Damage(place, place, "truncated_json", "the array does not end"))
            return Parsed(steps, len(data))
        return Parsed(steps, self.encoding.size(text[:at]))

    def _value(self, text: str, at: int, place: int, *, final: bool) -> tuple[Row | Damage, int] | None:
        """The value at `at` and where it ends; None if it may go on behind this text."""
        try:
            end = _end(text, at)
        except (ValueError, RecursionError) as exc:
            cut = _is_cut(exc, text)
            found = 0 if cut and not final else self._next(text, at, exc)
            if not found and not final:
                return None
            reason = "truncated_json" if cut and found in (0, len(text)) else "not_json"
            return self._damage(text[at : found or len(text)], at, place, reason, exc)
        if not final and self._may_go_on(text, end):
            return None
        try:
            if end < len(text) and not _AFTER[self._array].match(text, end):
                raise ValueError("no comma behind the value")  # noqa: TRY301
            return Row(place, 0, orjson.loads(text[at:end])), end
        except ValueError as exc:
            return self._damage(text[at:end], at, place, "not_json", exc)

    def _may_go_on(self, text: str, end: int) -> bool:
        """Of a value that ends at `end`: a number may have more digits, and an element's comma may be missing."""
        behind = _BLANKS.match(text, end).end() if self._array else end  # type: ignore[union-attr]
        return behind == len(text) or (text[end - 1] not in _CLOSED and end > len(text) - _CUT)

    def _next(self, text: str, at: int, problem: Exception) -> int:
        """Where to go on behind the damaged value at `at`; 0 if this text does not tell."""
        end = _balanced(text, at, array=self._array)
        if not end and not self._array:
            found = _BETWEEN.search(text, getattr(problem, "pos", at))
            end = found.end() if found else 0
        return end

    def _damage(self, value: str, at: int, place: int, reason: str, problem: Exception) -> tuple[Damage, int]:
        if not is_sound(value):
            reason = self.encoding.fault
        return Damage(place, place + self.encoding.size(value), reason, str(problem)[:200]), at + len(value)

    def behind(self, data: bytes) -> int:
        """See `Format`. Nothing tells the elements of an array from what they hold."""
        if self._array:
            return 0
        text, _ = self.encoding.decode(data)
        found = _BETWEEN.search(text)
        return self.encoding.size(text[: found.end()]) if found else 0


def _balanced(text: str, at: int, *, array: bool) -> int:
    """Where the damaged value at `at` ends, by its brackets; 0 if they do not tell."""
    depth = 0
    if text[at] not in "{[":
        found = re.compile(r"[,\]]" if array else r"[{\[]").search(text, at + 1)
        return found.start() if found else 0
    for token in _TOKEN.finditer(text, at):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return 0
