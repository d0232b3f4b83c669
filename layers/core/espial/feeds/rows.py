"""From an event to a row: the columns of a layout, read, written as text and checked (A.c.1, A.c.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec

from espial.events import Event
from espial.feeds.definition import Column, LayoutDefinition
from espial.feeds.paths import Facts, Getter, getter

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
        self._writers = [_writer(column) for column in self.columns]
        strict = {*layout.key, *(column.name for column in layout.columns if column.required)}
        self._required = [number for number, name in enumerate(kept) if name in strict]
        self._limits = [(number, column.length) for number, column in enumerate(self.columns) if column.length]
        self._left_out = [(column.name, _writer(column)) for column in layout.columns if column.name not in kept]

    def row(self, event: Event, facts: Facts) -> tuple[Values, Refusal | None]:
        """The row, and why it is refused if it is."""
        refusal = None
        try:
            values = [write(event, facts) for write in self._writers]
        except _BadValue:
            values, refusal = self._without_bad(event, facts)
        for number, limit in self._limits:
            if len(values[number]) > limit:
                refusal = refusal or self._shorten(values, number, limit)
        for number in self._required:
            if not values[number]:
                return values, Refusal(f"{MISSING}:{self.names[number]}", f"{self.names[number]} has no value")
        return values, refusal

    def left_out(self, event: Event, facts: Facts) -> Iterator[tuple[str, str]]:
        """Name and value of what the profile leaves out, for the extension file."""
        for name, write in self._left_out:
            try:
                value = write(event, facts)
            except _BadValue:
                continue
            if value:
                yield name, value

    def _shorten(self, values: Values, number: int, limit: int) -> Refusal | None:
        if number in self._required or not self._truncate:
            name = self.names[number]
            return Refusal(f"{TOO_LONG}:{name}", f"{name} has {len(values[number])} characters, {limit} are allowed")
        values[number] = values[number][:limit]
        self.cut += 1
        return None

    def _without_bad(self, event: Event, facts: Facts) -> tuple[Values, Refusal | None]:
        """The row, whose bad values are blank; a refusal if one of them is needed."""
        values, refusal = [], None
        for number, write in enumerate(self._writers):
            try:
                values.append(write(event, facts))
            except _BadValue as exc:
                values.append("")
                self.blanked += 1
                if number in self._required:
                    refusal = Refusal(f"{BAD_VALUE}:{self.names[number]}", str(exc))
        return values, refusal


class _BadValue(ValueError):
    """A value that is not of its column's type; the message names column and type, not the value."""


def _writer(column: Column) -> Callable[[Event, Facts], str]:
    """The first value that is there, as its column's type is written."""
    getters = tuple(map(getter, column.from_))
    as_type = _TYPES[column.type]
    default = column.value
    if len(getters) == 1 and not default:
        return _single(getters[0], as_type, column.name)

    def write(event: Event, facts: Facts) -> str:
        for get in getters:
            value = get(event, facts)
            if value is not None and value != "":
                return as_type(value, column.name)
        return default

    return write


def _single(get: Getter, as_type: Callable[[Any, str], str], name: str) -> Callable[[Event, Facts], str]:
    def write(event: Event, facts: Facts) -> str:
        value = get(event, facts)
        return "" if value is None or value == "" else as_type(value, name)

    return write


def as_text(value: Any, _column: str = "") -> str:
    """Any value of an event as a text column has it; lists, objects, numbers and truth as JSON."""
    if type(value) is str:
        return value if "\0" not in value else value.replace("\0", "")
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return instant(value)
    return msgspec.json.encode(value).decode()  # numbers, true and false, lists and objects


def instant(at: datetime) -> str:
    """`YYYY-MM-DD HH:MM:SS` in UTC."""
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(" ", "seconds")[:19]


def _datetime(value: Any, column: str) -> str:
    return instant(value if isinstance(value, datetime) else _parsed(value, column))


def _date(value: Any, column: str) -> str:
    if isinstance(value, str) and len(value) == 10:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError as exc:
            raise _BadValue(f"{column} is no date") from exc
    return instant(value if isinstance(value, datetime) else _parsed(value, column))[:10]


def _parsed(value: Any, column: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise _BadValue(f"{column} is no date and time") from exc
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _integer(value: Any, column: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        number = int(value) if isinstance(value, int | str) else None
    except ValueError:
        number = None
    if number is None or not -(2**63) <= number < 2**63:
        raise _BadValue(f"{column} is no whole number")
    return str(int(number))


def _number(value: Any, column: str) -> str:
    try:
        return repr(float(value)) if not isinstance(value, int) or isinstance(value, bool) else str(value)
    except (TypeError, ValueError) as exc:
        raise _BadValue(f"{column} is no number") from exc


def _flag(value: Any, column: str) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    if value in ("Y", "N"):
        return str(value)
    raise _BadValue(f"{column} is neither Y nor N")


_TYPES: dict[str, Callable[[Any, str], str]] = {
    "text": as_text,
    "integer": _integer,
    "number": _number,
    "datetime": _datetime,
    "date": _date,
    "flag": _flag,
}
