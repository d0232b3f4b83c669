"""Shortcodes of Brainstorm Automation, such as `[#EMAIL#]` and `[#PROPER NAME#]`, in the URL of a GET (D12-D16).

Both sides of them: the listener reads from a URL which parameter holds which field, `fill` does what the automation
does before it calls. Of the shortcode library only PROPER is published, and what follows the slash is not: the id of a
field, the place among several values, or a text for the case that there is none, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, quote


def _proper(value: str) -> str:
    return re.sub(r"\S+", lambda word: word[0][:1].upper() + word[0][1:].lower(), value)


FUNCTIONS: Mapping[str, Callable[[str], str]] = {
    "PROPER": _proper,
    "UPPER": str.upper,
    "LOWER": str.lower,
    "TRIM": str.strip,
}
"""First words that change the value; any other first word belongs to the name of the field."""

_CODE = re.compile(r"\[#([^#\[\]]*)#\]")
_BETWEEN_VALUES = re.compile(r"\s*[,\n]\s*")


class Shortcode(NamedTuple):
    """What stands between `[#` and `#]`; `field` as it is told (`told`)."""

    function: str
    field: str
    qualifier: str


class Field(NamedTuple):
    """A contact's custom field (D20)."""

    id: str
    name: str
    value: str


def told(name: str) -> str:
    """What a field's name is told by: neither case nor blank, hyphen or underscore make a difference (D16)."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def _read(code: str) -> Shortcode:
    whole, _, qualifier = code.partition("/")
    first, _, rest = whole.strip().partition(" ")
    if rest and first.upper() in FUNCTIONS:
        return Shortcode(first.upper(), told(rest), qualifier.strip())
    return Shortcode("", told(whole), qualifier.strip())


def fields_of(url: str) -> dict[str, str]:
    """Parameter -> the field that its shortcode names, of a URL as it stands in the automation's action.

    Raises ValueError for a URL that has no shortcode in its query.
    """
    query = url[url.find("?") + 1 :] if "?" in url else ""
    given = parse_qsl(_CODE.sub(lambda code: quote(code[0], safe=""), query), keep_blank_values=True)
    found = {name: _read(code[1]).field for name, value in given if (code := _CODE.search(value))}
    if not found:
        raise ValueError("url_template: no parameter of the query holds a shortcode such as [#EMAIL#]")
    return found


def unfilled(value: str) -> bool:
    """Whether a value is still a shortcode: the contact has no such field."""
    return _CODE.fullmatch(value.strip()) is not None


def fill(url: str, fields: Sequence[Field]) -> tuple[str, list[str]]:
    """The URL with each shortcode's value, percent-encoded, and the shortcodes that no field answers to."""
    unknown: list[str] = []

    def value(code: re.Match[str]) -> str:
        read = _read(code[1])
        found = _value(read, fields)
        if found is None:
            unknown.append(code[0])
        return quote(FUNCTIONS.get(read.function, str)(found or ""), safe="")

    return _CODE.sub(value, url), unknown


def _value(code: Shortcode, fields: Iterable[Field]) -> str | None:
    named = [field for field in fields if told(field.name) == code.field]
    number = code.qualifier.isascii() and code.qualifier.isdigit()
    if number and (meant := [field for field in named if field.id == code.qualifier]):
        return meant[0].value
    whole = named[0].value if named else ""
    if number:
        values = _BETWEEN_VALUES.split(whole)
        place = int(code.qualifier[:9]) - 1
        return values[place] if 0 <= place < len(values) > 1 else (whole if named else None)
    return whole or code.qualifier or (whole if named else None)
