"""From an event to a row: the columns of a layout, read, written as text and checked (A.c.1, A.c.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from math import isfinite
from typing import NamedTuple

from espial.events import Event
from espial.feeds.definition import Column, LayoutDefinition
from espial.feeds.paths import Facts, Reading, instant, is_instant, readers

Values = list[str]
"""A row: a text for each column in order, "" for no value; instants as `YYYY-MM-DD HH:MM:SS` in UTC."""

MISSING = "missing_required"
TOO_LONG = "too_long"
BAD_VALUE = "bad_value"
_WORDS = {
    MISSING: "{0.name} has no value",
    TOO_LONG: "{0.name} has more than {0.length} characters",
    BAD_VALUE: "{0.name} is no {0.type}",
}


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
        self._strict = {*layout.key, *(column.name for column in layout.columns if column.required)}
        self._read = readers(map(self._reading, self.columns))
        left_out = [column for column in layout.columns if column.name not in kept]
        self._left_out = [column.name for column in left_out]
        self._read_left_out = readers(map(self._reading, left_out))

    def row(self, event: Event, facts: Facts) -> tuple[Values, Refusal | None]:
        """The row, and why it is refused if it is."""
        try:
            values, odd = self._read(event, facts)
        except Exception as exc:  # noqa: BLE001  one event must not stop all others
            return [""] * len(self.columns), Refusal("unreadable", type(exc).__name__)
        if odd or "\0" in "".join(values):
            return values, self._mended(values)
        return values, None

    def left_out(self, event: Event, facts: Facts) -> Iterator[tuple[str, str]]:
        """Name and value of what the profile leaves out, for the extension file."""
        for name, value in zip(self._left_out, self._read_left_out(event, facts)[0], strict=True):
            if value and value != NOT_OF_TYPE:
                yield name, value.replace("\0", "")

    def _reading(self, column: Column) -> Reading:
        as_it_is = column.type == "datetime" and all(map(is_instant, column.from_))
        return Reading(
            paths=column.from_,
            default=column.value,
            as_type=None if as_it_is else _TYPES.get(column.type),
            longest=None if _SHORT.issuperset(column.from_) else column.length,
            needed=column.name in self._strict,
        )

    def _mended(self, values: Values) -> Refusal | None:
        """Blank what is not of its column's type, cut what is too long; a refusal if something of it is needed."""
        refusal = None
        for number, column in enumerate(self.columns):
            value, wrong = values[number].replace("\0", ""), ""
            if values[number] == NOT_OF_TYPE:
                value, wrong = "", f"{BAD_VALUE}:{column.name}"
                self.blanked += 1
            elif column.length and len(value) > column.length:
                wrong = f"{TOO_LONG}:{column.name}"
                if column.name not in self._strict and self._truncate:
                    value = value[: column.length]
                    self.cut += 1
            elif not value:
                wrong = f"{MISSING}:{column.name}"
            values[number] = value
            if wrong and (column.name in self._strict or (wrong.startswith(TOO_LONG) and not self._truncate)):
                refusal = refusal or Refusal(wrong, _WORDS[wrong.partition(":")[0]].format(column))
        return refusal


_SHORT = frozenset(
    ("channel", "feed.origin", "feed.method", "feed.response_event_id", "feed.machine", "feed.authorization")
)
"""What Espial itself words, shorter than any column that is meant for it."""

NOT_OF_TYPE = "\0not of its type\0"


def _datetime(value: str) -> str:
    try:
        found = datetime.fromisoformat(value) if value else None
        return instant(found if found.tzinfo else found.replace(tzinfo=UTC)) if found else ""
    except (ValueError, OverflowError):
        return NOT_OF_TYPE


def _date(value: str) -> str:
    if len(value) != len("2026-01-31"):
        at = _datetime(value)
        return at if at == NOT_OF_TYPE else at[:10]
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return NOT_OF_TYPE


def _integer(value: str) -> str:
    try:
        number = int(value.removesuffix(".0")) if value else 0
    except ValueError:
        return NOT_OF_TYPE
    if not value:
        return ""
    return str(number) if -(2**63) <= number < 2**63 else NOT_OF_TYPE


def _number(value: str) -> str:
    try:
        number = float(value) if value else 0.0
    except ValueError:
        return NOT_OF_TYPE
    if not value:
        return ""
    return repr(number) if isfinite(number) else NOT_OF_TYPE


def _flag(value: str) -> str:
    return {"": "", "Y": "Y", "N": "N", "true": "Y", "false": "N"}.get(value, NOT_OF_TYPE)


_TYPES: dict[str, Callable[[str], str]] = {
    "integer": _integer,
    "number": _number,
    "datetime": _datetime,
    "date": _date,
    "flag": _flag,
}
"""Column type -> its text of a value's text; none for `text`."""
