"""From an event to a row: the columns of a layout, read, written as text and checked (A.c.1, A.c.2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from math import isfinite
from operator import gt, itemgetter
from typing import NamedTuple

from espial.events import Event
from espial.feeds.definition import Column, LayoutDefinition
from espial.feeds.paths import Facts, instant, is_instant, readers

Values = list[str]
"""A row: a text for each column in order, "" for no value; instants as `YYYY-MM-DD HH:MM:SS` in UTC."""

MISSING = "missing_required"
TOO_LONG = "too_long"
BAD_VALUE = "bad_value"


class Refusal(NamedTuple):
    """Why no CDP would take a row: a code that names the column, and words for people."""

    code: str
    text: str


class RowMaker:
    """Makes the rows of one layout.

    `profile` chooses the columns; what is too long is cut if `truncate`, unless it is a key or required. `blanked`
    counts values that were left out since they are not of their column's type, `cut` those that were cut.
    """

    def __init__(self, layout: LayoutDefinition, profile: str, *, truncate: bool) -> None:
        by_name = {column.name: column for column in layout.columns}
        kept = layout.columns_of(profile)
        self.layout = layout
        self.columns = tuple(by_name[name] for name in kept)
        self.names = kept
        self.cut = self.blanked = 0
        self._truncate = truncate
        self._read = readers(map(self._reading, self.columns))
        strict = {*layout.key, *(column.name for column in layout.columns if column.required)}
        self._strict = [number for number, name in enumerate(kept) if name in strict]
        self._needed = itemgetter(*self._strict, self._strict[0])  # of one it would give no tuple
        # Only what comes from outside can be too long.
        self._limited = [
            (number, column.length)
            for number, column in enumerate(self.columns)
            if column.length and not _SHORT.issuperset(column.from_)
        ]
        self._lengths = itemgetter(*(number for number, _ in (*self._limited, (0, 0))))
        self._limits = [*(limit for _, limit in self._limited), sys.maxsize]
        left_out = [column for column in layout.columns if column.name not in kept]
        self._left_out = [column.name for column in left_out]
        self._read_left_out = readers(map(self._reading, left_out))

    def row(self, event: Event, facts: Facts) -> tuple[Values, Refusal | None]:
        """The row, and why it is refused if it is."""
        refusal = None
        try:
            values = self._read(event, facts)
        except Exception as exc:  # noqa: BLE001  one event must not stop all others
            return [""] * len(self.columns), Refusal("unreadable", type(exc).__name__)
        if "\0" in "".join(values):
            refusal = self._without_bad(values)
        if True in map(gt, map(len, self._lengths(values)), self._limits):
            refusal = self._shortened(values) or refusal
        if not all(self._needed(values)):
            missing = next(self.names[number] for number in self._strict if not values[number])
            refusal = refusal or Refusal(f"{MISSING}:{missing}", f"{missing} has no value")
        return values, refusal

    def left_out(self, event: Event, facts: Facts) -> Iterator[tuple[str, str]]:
        """Name and value of what the profile leaves out, for the extension file."""
        for name, value in zip(self._left_out, self._read_left_out(event, facts), strict=True):
            if value and value != _NOT_OF_TYPE:
                yield name, value.replace("\0", "")

    @staticmethod
    def _reading(column: Column) -> tuple[tuple[str, ...], str, Callable[[str], str] | None]:
        as_it_is = column.type == "datetime" and all(map(is_instant, column.from_))
        return column.from_, column.value, None if as_it_is else _TYPES.get(column.type)

    def _shortened(self, values: Values) -> Refusal | None:
        """Cut what is too long; a refusal if something of it may not be cut."""
        for number, limit in self._limited:
            if len(value := values[number]) > limit:
                if number in self._strict or not self._truncate:
                    name = self.names[number]
                    return Refusal(f"{TOO_LONG}:{name}", f"{name} has {len(value)} characters, {limit} are allowed")
                values[number] = value[:limit]
                self.cut += 1
        return None

    def _without_bad(self, values: Values) -> Refusal | None:
        """Blank what is not of its column's type; a refusal if something of it is needed. No CDP takes a zero byte."""
        refusal = None
        for number, value in enumerate(values):
            if value == _NOT_OF_TYPE:
                values[number] = ""
                self.blanked += 1
                if number in self._strict:
                    column = self.columns[number]
                    refusal = Refusal(f"{BAD_VALUE}:{column.name}", f"{column.name} is no {column.type}")
            elif "\0" in value:
                values[number] = value.replace("\0", "")
        return refusal


_SHORT = frozenset(
    ("channel", "feed.origin", "feed.method", "feed.response_event_id", "feed.machine", "feed.authorization")
)
"""What Espial itself words, shorter than any column that is meant for it."""

_NOT_OF_TYPE = "\0not of its type\0"


def _datetime(value: str) -> str:
    try:
        found = datetime.fromisoformat(value) if value else None
        return instant(found if found.tzinfo else found.replace(tzinfo=UTC)) if found else ""
    except (ValueError, OverflowError):
        return _NOT_OF_TYPE


def _date(value: str) -> str:
    if len(value) != len("2026-01-31"):
        at = _datetime(value)
        return at if at == _NOT_OF_TYPE else at[:10]
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return _NOT_OF_TYPE


def _integer(value: str) -> str:
    try:
        number = int(value.removesuffix(".0")) if value else 0
    except ValueError:
        return _NOT_OF_TYPE
    if not value:
        return ""
    return str(number) if -(2**63) <= number < 2**63 else _NOT_OF_TYPE


def _number(value: str) -> str:
    try:
        number = float(value) if value else 0.0
    except ValueError:
        return _NOT_OF_TYPE
    if not value:
        return ""
    return repr(number) if isfinite(number) else _NOT_OF_TYPE


def _flag(value: str) -> str:
    return {"": "", "Y": "Y", "N": "N", "true": "Y", "false": "N"}.get(value, _NOT_OF_TYPE)


_TYPES: dict[str, Callable[[str], str]] = {
    "integer": _integer,
    "number": _number,
    "datetime": _datetime,
    "date": _date,
    "flag": _flag,
}
"""Column type -> its text of a value's text; none for `text`."""
