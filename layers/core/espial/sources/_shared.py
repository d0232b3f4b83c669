"""Reading the values that every platform writes a little differently. Total: what cannot be read is None or refused."""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import orjson

from espial.deliveries import SECRET_PARAMETERS, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem

EARLIEST = 946_684_800  # 2000-01-01
LATEST = 4_102_444_800  # 2100-01-01
MOST_FIELDS = 10_000
"""Fields of a form or query."""
MANY_FIELDS = 200_000
"""Fields of a form that holds many reports."""
SHORT_NAME = 100
"""Characters of the name of a form's field up to which it is worth remembering."""
DEEPEST = 8
"""Brackets in the name of a form's field; what lies deeper is left flat."""
MILLISECONDS = 100_000_000_000
"""From here on a number of time is taken for milliseconds: as seconds it would lie in the year 5138."""
_ANGLED = re.compile(r"\A[^<]*<([^<>]*)>\s*\Z")
_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)", re.ASCII)
_REPLY_CODE = re.compile(r"\s*([245]\d\d)\b", re.ASCII)
_NUMBER = re.compile(r"\s*\d+(?:\.\d+)?\s*", re.ASCII)
_BRACKETED = re.compile(r"[^\[\]]+(?:\[[^\[\]]*\])+")
_BRACKETS = re.compile(r"[^\[\]]+(?=\[|$)|\[[^\[\]]*\]")


def text(value: Any) -> str | None:
    """A name, id or note as text: numbers become text; empty, blank, boolean or nested values are None."""
    if type(value) is str:
        return value.strip() or None
    if type(value) is int or type(value) is float:
        return str(value)
    return None


def email(value: Any) -> str | None:
    """An address trimmed and lower-cased, else None. Not validated: the platform knew where it sent to."""
    return (value.strip().lower() or None) if type(value) is str else None


def mailbox(value: Any) -> str | None:
    """The address of `Name <address>`, or of an address alone, as `email` gives it."""
    return email(_ANGLED.sub(r"\1", value) if type(value) is str and "<" in value else value)


def phone(value: Any) -> str | None:
    """A number as E.164 where it says its country (`+` or `00`), else trimmed as given; None if there is none."""
    given = text(value)
    if given is None or (given[0] == "+" and given[1:].isdigit()):  # none, or E.164 already
        return given
    digits = "".join(filter(str.isdigit, given))
    if given.startswith("+") and digits:
        return f"+{digits}"
    if given.startswith("00") and digits.strip("0"):
        return f"+{digits[2:]}"
    return given


def epoch(value: Any, path: str) -> datetime:
    """Seconds since 1970 UTC, a number or its text, as an instant.

    Raises MalformedItem naming `path` if it is missing, not a number, or outside the years 2000 to 2099
    (milliseconds among them: a platform that changes its unit must be noticed).
    """
    seconds = value
    if type(seconds) is int and EARLIEST <= seconds < LATEST:
        return _instant(seconds)
    if type(seconds) is str:
        try:
            seconds = float(seconds)
        except ValueError as exc:
            raise MalformedItem("bad_timestamp", f"{path} is not a number of seconds", path) from exc
    if type(seconds) is not int and type(seconds) is not float:
        raise MalformedItem("bad_timestamp", f"{path} is missing or not a number of seconds", path)
    if not EARLIEST <= seconds < LATEST:  # NaN and infinities too
        raise MalformedItem("bad_timestamp", f"{path} is outside the years 2000 to 2099", path)
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=4096)
def _instant(second: int) -> datetime:
    """Cached: the events of one delivery share few seconds."""
    return datetime.fromtimestamp(second, UTC)


def instant(value: Any, path: str) -> datetime:
    """An ISO 8601 instant as platforms write it: any number of fractional digits, a space for the T, no zone for UTC.

    Raises MalformedItem naming `path` if it is missing, not one, or outside the years 2000 to 2099.
    """
    if type(value) is not str:
        raise MalformedItem("bad_timestamp", f"{path} is missing or not an instant", path)
    try:
        found = datetime.fromisoformat(value.strip())  # digits past the microseconds are left out
        if found.tzinfo is not UTC:
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise MalformedItem("bad_timestamp", f"{path} is not an instant", path) from exc
    if not 2000 <= found.year < 2100:
        raise MalformedItem("bad_timestamp", f"{path} is outside the years 2000 to 2099", path)
    return found


def milliseconds(value: Any, path: str) -> datetime:
    """Milliseconds since 1970 UTC, a number or its text, as an instant. Raises MalformedItem as `epoch` does."""
    if type(value) is int and EARLIEST * 1000 <= value < LATEST * 1000:
        return datetime.fromtimestamp(value / 1000, UTC)
    try:
        number = float(value) if type(value) in (int, float, str) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise MalformedItem("bad_timestamp", f"{path} is missing or not a number of milliseconds", path)
    return epoch(number / 1000, path)


def seconds_or_milliseconds(value: Any, path: str) -> datetime:
    """Either of them, told apart by size, for platforms that write both. Raises MalformedItem as `epoch` does."""
    if type(value) is int and value < MILLISECONDS * 1000:
        return epoch(value / 1000 if value >= MILLISECONDS else value, path)
    try:
        long = type(value) in (int, float, str) and float(value) >= MILLISECONDS
    except (ValueError, OverflowError):
        long = False
    return milliseconds(value, path) if long else epoch(value, path)


def moment(value: Any, path: str) -> datetime:
    """The time in a row of an export: a typed one, ISO 8601, or seconds or milliseconds; without a zone it is UTC.

    Raises MalformedItem as `instant` does.
    """
    if isinstance(value, datetime):
        return instant(value.isoformat(), path)
    if type(value) is str and not _NUMBER.fullmatch(value):
        return instant(value, path)
    return seconds_or_milliseconds(value, path)


def smtp_code(reply: Any) -> str | None:
    """The enhanced status code (`5.1.1`) in a mail server's reply, else the reply code it starts with, else None."""
    found = _ENHANCED.search(reply) or _REPLY_CODE.match(reply) if type(reply) is str else None
    return found[1] if found else None


def json_object(value: Any) -> dict[str, Any] | None:
    """An object, itself or as JSON text (metadata, as many platforms hand it back); None for anything else."""
    if type(value) is str and value.lstrip()[:1] == "{":
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, dict) else None


def inner(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a name; empty where it is missing, null or something else."""
    found = item.get(name)
    return found if isinstance(found, dict) else {}


def known(part: dict[str, Any]) -> dict[str, Any] | None:
    """A part of an event (client, failure …), None and all, if anything in it says something; else None."""
    for fact in part.values():
        if fact:
            return part
    return None


def present(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Only those that say something: neither None nor empty."""
    return {name: fact for name, fact in facts.items() if fact or fact is False or fact == 0}


@lru_cache(maxsize=1024)
def unmapped(names: tuple[str, ...], own: frozenset[str]) -> tuple[str, ...]:
    """The names that are not among the platform's own, in order. Cached: an account's events come in a few shapes."""
    return tuple(sorted(set(names) - own))


@lru_cache(maxsize=1024)
def others(names: tuple[str, ...], own: frozenset[str]) -> tuple[str, ...]:
    """As `unmapped`, in the order given."""
    return tuple(name for name in names if name not in own)


def remaining(facts: Mapping[str, Any], own: frozenset[str]) -> dict[str, Any]:
    """Those that are not the platform's own and say something, as `present` has it, in the order given."""
    names = others(tuple(facts), own)
    return {name: fact for name in names if (fact := facts[name]) or fact is False or fact == 0}


def texts(facts: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Each of these as text, empty where there is none: parts of an identity."""
    return [
        "" if fact is None else fact.strip() if type(fact) is str else text(fact) or ""
        for fact in map(facts.get, names)
    ]


def leaves(value: Any) -> list[str]:
    """`path=value` of every text, number and truth value in it, in order of path: identifies reports without an id.

    Total, to any depth; the order in which the fields stand says nothing.
    """
    found, open_ = [], [("", value)]
    while open_:
        path, one = open_.pop()
        if type(one) is not dict and type(one) is not list:
            if one is not None:
                found.append(f"{path}={one}")
            continue
        for name, part in one.items() if type(one) is dict else enumerate(one):
            if type(part) is str:  # as most are
                found.append(f"{path}/{name}={part}")
            else:
                open_.append((f"{path}/{name}", part))
    return sorted(found)


def document(delivery: RawDelivery) -> Any:
    """The body as JSON; 64-bit numbers stay exact. Raises MalformedDelivery."""
    try:
        return orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc


def lone_object(delivery: RawDelivery) -> list[Item]:
    """One JSON object a delivery. Raises MalformedDelivery for anything else."""
    found = document(delivery)
    if not isinstance(found, dict):
        raise MalformedDelivery("not_an_object", "the body is not a JSON object")
    return [found]


def objects(delivery: RawDelivery) -> list[Item]:
    """A JSON array's items, whatever they are; a lone object counts as an array of one. Raises MalformedDelivery."""
    found = document(delivery)
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise MalformedDelivery("not_an_array", "the body is neither a JSON array nor an object")
    return found


def lines(delivery: RawDelivery) -> list[Any]:
    """The documents of newline-delimited JSON, empty lines left out. Raises MalformedDelivery naming the line."""
    return json_lines(delivery.body)


def json_lines(body: bytes) -> list[Any]:
    """As `lines`, of a body alone."""
    found = []
    for number, line in enumerate(body.splitlines(), 1):
        if line.strip():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError as exc:
                raise MalformedDelivery("not_json", f"line {number}: {exc}", f"line {number}") from exc
    return found


def form(delivery: RawDelivery, most: int = MOST_FIELDS) -> list[tuple[str, str]]:
    """The fields of a form post in order, blank ones too. Raises MalformedDelivery for what is none, or no UTF-8."""
    return _pairs(delivery.body, "the body", most)


def query(delivery: RawDelivery) -> list[tuple[str, str]]:
    """The parameters of the URL in order, blank ones too, without the secret. Raises MalformedDelivery."""
    given = urlsplit(delivery.url).query.encode("utf-8", "surrogatepass")
    return [pair for pair in _pairs(given, "the query") if pair[0] not in SECRET_PARAMETERS]


def _pairs(encoded: bytes, what: str, most: int = MOST_FIELDS) -> list[tuple[str, str]]:
    """Names and values exactly as `urllib.parse.parse_qsl` gives them with blank ones kept, in less time."""
    if encoded.count(b"&") >= most:
        raise MalformedDelivery("not_a_form", f"{what} has more than {most} fields")
    try:
        fields = [field.partition("=") for field in encoded.decode().split("&") if field]
        return [
            (_short_name(name) if len(name) <= SHORT_NAME else _unquoted(name), _unquoted(value))
            for name, _, value in fields
        ]
    except UnicodeDecodeError as exc:
        raise MalformedDelivery("not_a_form", f"{what} is not a form in UTF-8: {exc}") from exc


def _unquoted(part: str) -> str:
    """A form's name or value without its plus signs and percent escapes. Raises UnicodeDecodeError."""
    if "+" in part:
        part = part.replace("+", " ")
    if "%" not in part:
        return part
    # Quoted-printable writes escapes alike, with another sign, and is decoded in C. Each escape leaves two bytes less;
    # if any does not it was none, and only the slower function leaves that as it is.
    quoted = part.encode()
    plain = a2b_qp(quoted.replace(b"=", b"=3D").replace(b"%", b"="))
    if len(plain) != len(quoted) - 2 * quoted.count(b"%") or b"\n" in quoted or b"\r" in quoted:
        plain = unquote_to_bytes(quoted)
    return plain.decode()


_short_name = lru_cache(maxsize=1024)(_unquoted)
"""Cached: all forms of a platform have the same few names."""


def nested(pairs: Iterable[tuple[str, str]]) -> Item:
    """Bracketed names (`data[merges][FNAME]`, `list[]`) as nested objects and lists, the PHP way.

    A name without brackets, and whatever is malformed in them, stays as it is; of repeated names the last counts,
    but for `[]`, which appends. A list is an object keyed "0", "1" … while it grows and becomes one at the end
    if its keys are just these.
    """
    root: dict[str, Any] = {}
    for name, value in pairs:
        steps = _short_steps(name) if len(name) <= SHORT_NAME else _steps(name)
        place, key = root, steps[0]
        for step in steps[1:]:
            inner = place.get(key)
            if type(inner) is not dict:
                inner = place[key] = {}
            place, key = inner, step or str(len(inner))
        place[key] = value
    return _listed_within(root)


def _steps(name: str) -> tuple[str, ...]:
    """`data[merges][]` -> `data`, `merges` and nothing, which appends; the name itself where its brackets are none."""
    if "[" not in name or not _BRACKETED.fullmatch(name):
        return (name,)
    head, *rest = _BRACKETS.findall(name)
    return (head, *(step.strip("[]") for step in rest[:DEEPEST]))


_short_steps = lru_cache(maxsize=1024)(_steps)


def _listed_within(found: dict[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        if type(value) is dict:
            found[name] = _listed(value)
    return found


def _listed(value: dict[str, Any]) -> Any:
    inner = _listed_within(value)
    if "0" in inner and all(name == str(place) for place, name in enumerate(inner)):
        return list(inner.values())
    return inner
