"""What all sources read values with: forms and the names in them, against slower and plainer ways."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espial.deliveries import RawDelivery
from espial.errors import MalformedDelivery
from espial.sources._shared import DEEPEST, MOST_FIELDS, SHORT_NAME, form, nested

PIECES = [
    "&",
    "=",
    "+",
    "%",
    "%2",
    "%4",
    "%41",
    "%3d",
    "%C3%A9",
    "%C3",
    "%a9",
    "%0A",
    "é",
    "=\n",
    "\r",
    "\n",
    "%%",
    "a",
]
NAMES = ["a", "[", "]", "[]", "[0]", "[1]", "[b]", "[b][]", "[c", "0", "é", "[[", " "]


def posted(body: bytes) -> RawDelivery:
    return RawDelivery(
        delivery_id="d-1",
        platform="twilio",
        connection="c",
        transport="webhook",
        body=body,
        received_at=datetime(2026, 1, 15, tzinfo=UTC),
    )


def standard(body: bytes, most: int = MOST_FIELDS) -> list[tuple[str, str]] | None:
    """What the standard library makes of it; None for what is no form in UTF-8, or too long."""
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError:
        return None


def ours(body: bytes, most: int = MOST_FIELDS) -> list[tuple[str, str]] | None:
    try:
        return form(posted(body), most)
    except MalformedDelivery:
        return None


@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12)
    .map("".join)
    .map(lambda one: one.encode("utf-8", "surrogatepass"))
)
@example(b"a=%=41")
@example(b"a=%\n%41")
@example(b"a=%\r%\n%4")
@example("a=%C3é&b=1".encode())
@example(b"a%=&&=b&c=d=e;f")
def test_a_form_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    """Plus signs, escapes, also malformed, blanks, characters outside ASCII: the same pairs, or refused alike."""
    assert standard(body) == ours(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_the_standard_library_reads_them(body: bytes) -> None:
    """What is no UTF-8, escaped or not, is refused; everything else is the same."""
    assert standard(body) == ours(body)


@given(st.integers(1, 4), st.integers(1, 5))
def test_a_form_has_at_most_so_many_fields(most: int, fields: int) -> None:
    """Counted before anything is decoded, as the standard library counts them."""
    body = b"&".join([b"a=1"] * fields)
    assert standard(body, most) == ours(body, most)


@pytest.mark.parametrize("length", [SHORT_NAME, SHORT_NAME + 1])
def test_long_names_are_read_like_short_ones(length: int) -> None:
    """Only the short ones are remembered."""
    name = "%5B" + "n" * (length - 3)
    assert [("[" + "n" * (length - 3), "1")] == ours(f"{name}=1".encode())


def plainly(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The rule of `nested`, character by character."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, steps = brackets(name)
        place, key = root, head
        for step in steps[:DEEPEST]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
            key = step or str(len(place))
        place[key] = value
    return {name: listed(value) for name, value in root.items()}


def brackets(name: str) -> tuple[str, list[str]]:
    """Head and what stands in its brackets; the whole name if it has none or they are malformed."""
    head, bracket, rest = name.partition("[")
    steps = (bracket + rest).split("]")
    if not bracket or not head or "]" in head or steps.pop() or not all(one[:1] == "[" for one in steps):
        return name, []
    found = [one[1:] for one in steps]
    return (name, []) if any("[" in one for one in found) else (head, found)


def listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: listed(one) for name, one in value.items()}
    return list(inner.values()) if list(inner) == [str(place) for place in range(len(inner))] and inner else inner


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(NAMES), max_size=5).map("".join), st.sampled_from("xyz")), max_size=8)
)
@example([("a" + "[b]" * (DEEPEST + 2), "x")])
@example([("a" * SHORT_NAME + "[]", "x"), ("a" * SHORT_NAME + "[]", "y")])
def test_bracketed_names_nest(pairs: list[tuple[str, str]]) -> None:
    """Heads, keys, appended values and lists, down to the deepest; malformed brackets are part of the name."""
    assert plainly(pairs) == nested(pairs)
