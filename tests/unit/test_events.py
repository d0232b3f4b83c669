"""The canonical event: identity, content, keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import (
    BEHAVIOUR_KEYS,
    MESSAGE_KEYS,
    VOLATILE,
    Campaign,
    Cart,
    Client,
    Commerce,
    Event,
    Order,
    Person,
    PersonKey,
    Product,
    content_hash,
    decode,
    disagree,
    encode,
    event_id,
    home_key,
    joined,
    person_keys,
    said,
    time_part,
)
from espial.vocabulary import EventType

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
LAMP = Product(id="p-1", price=19.9)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


def event(**changes: object) -> Event:
    plain = {
        "event_id": event_id(NOW, "a"),
        "type": EventType.OPENED,
        "platform_type": "open",
        "channel": "email",
        "platform": "sendgrid",
        "connection": "main",
        "occurred_at": NOW,
        "received_at": NOW,
        "person": Person(email="ada@example.com"),
    }
    return Event(**{**plain, **changes})  # type: ignore[arg-type]


@given(INSTANTS, st.text())
def test_an_event_id_is_a_ulid_that_never_changes(instant: datetime, identity: str) -> None:
    """26 characters of Crockford's alphabet, the first ten the second, the rest a function of the identity."""
    made = event_id(instant, identity)
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", made)
    assert made == event_id(instant.replace(microsecond=0), identity)
    assert made.startswith(time_part(instant))
    assert made[10:] == event_id(NOW, identity)[10:]


def test_an_event_id_is_pinned() -> None:
    """A changed algorithm would let every event of the last sixty days in again."""
    assert event_id(NOW, "sendgrid\x1fmain\x1fopen\x1fid-1") == "01KF0HJ080JZ2XTPAC14EEF3BR"


@given(INSTANTS, INSTANTS, st.text(), st.text())
def test_ids_sort_by_second(one: datetime, other: datetime, first: str, second: str) -> None:
    """A range of ids is a range of time."""
    earlier, later = sorted((one, other))
    if int(earlier.timestamp()) < int(later.timestamp()):
        assert event_id(earlier, first) < event_id(later, second)


@given(st.lists(st.text(), unique=True, min_size=2, max_size=50))
def test_different_identities_have_different_ids(identities: list[str]) -> None:
    """Eighty bits of a cryptographic hash."""
    assert len(identities) == len({event_id(NOW, one) for one in identities})


@pytest.mark.parametrize(
    "changes",
    [
        {"received_at": NOW + timedelta(days=2)},
        {"raw": "raw/2026/01/15/x#3"},
        {"mode": "replay"},
        {"connection": "other"},
        {"occurred_at": NOW + timedelta(milliseconds=250)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_how_an_event_was_reported_is_not_its_content(changes: dict[str, object]) -> None:
    """Two reports that differ in this alone agree."""
    assert set(changes) <= VOLATILE
    assert content_hash(event()) == content_hash(event(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": EventType.CLICKED},
        {"person": Person(email="bo@example.com")},
        {"campaign": Campaign(id="c-1")},
        {"properties": {"a": 1}},
        {"send_key": "k"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_an_event_says_is_its_content(changes: dict[str, object]) -> None:
    """Two reports that differ in this do not say the same."""
    assert content_hash(event()) != content_hash(event(**changes))


SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 1.0, 1.5, "", "a", "1", "1.0", "true"])
    | st.lists(st.integers(0, 1), max_size=1)
)
REPORTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(SCALARS, lambda inner: st.dictionaries(st.sampled_from("abc"), inner)),
    max_size=3,
)


def settled(reports: list[dict[str, Any]]) -> list[bool]:
    """Of each report, in order, whether it disagrees with what those before it say together."""
    found, before = [], reports[0]
    for report in reports[1:]:
        found.append(disagree(before, report))
        if not found[-1]:
            before = joined(before, report)
    return found


@given(st.lists(REPORTS, min_size=2, max_size=4), st.randoms())
def test_whether_reports_disagree_does_not_depend_on_their_order(reports: list[dict[str, Any]], chance: Random) -> None:
    """Some two of them do exactly if one does with what came before it."""
    expected = any(disagree(one, other) for one, other in combinations(reports, 2))
    assert expected == any(settled(reports))
    assert expected == any(settled(chance.sample(reports, len(reports))))


@given(REPORTS, REPORTS)
def test_what_agreeing_reports_say_together_is_what_either_says(one: dict[str, Any], other: dict[str, Any]) -> None:
    """It agrees with both, and neither adds anything to it; agreeing goes both ways."""
    assert disagree(one, other) == disagree(other, one)
    assert not disagree(one, one)
    assert one == joined(one, one)
    if not disagree(one, other):
        together = joined(one, other)
        assert not disagree(together, one)
        assert not disagree(together, other)
        assert together == joined(joined(together, one), other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {"campaign": Campaign(id="c-1")}, False),
        ({"campaign": Campaign(id="c-1")}, {"campaign": Campaign(name="Winter")}, False),
        ({"campaign": Campaign(id="c-1")}, {"campaign": Campaign(id="c-2", name="Winter")}, True),
        ({"campaign": Campaign(tags=("a",))}, {"campaign": Campaign(tags=("a", "b"))}, True),
        ({"properties": {"a": {"b": 1}}}, {"properties": {"a": {"b": 1.0, "c": 2}}}, False),
        ({"properties": {"a": {"b": 1}}}, {"properties": {"a": [1]}}, True),
        ({"properties": {"a": None}}, {"properties": {"a": 1}}, False),
        ({"properties": {"a": 1, "b": [True, 1.5]}}, {"properties": {"a": "1", "b": ["true", "1.5"]}}, False),
        ({"properties": {"a": 1}}, {"properties": {"a": True}}, True),
        ({"properties": {"a": 1}}, {"properties": {"a": "01"}}, True),
        ({"client": Client(machine=True, machine_reason="rule:x")}, {"client": Client(machine=False)}, False),
        ({"client": Client(machine=True, machine_reason="prefetch")}, {"client": Client(machine=False)}, True),
        ({"commerce": Commerce(cart=Cart(id="c"))}, {"commerce": Commerce(cart=Cart(id="c", items=(LAMP,)))}, True),
        (
            {"commerce": Commerce(order=Order(id="o"))},
            {"commerce": Commerce(order=Order(id="o", items=(LAMP,)))},
            False,
        ),
        ({}, {"received_at": NOW + timedelta(days=2), "mode": "replay"}, False),
    ],
)
def test_reports_disagree_if_a_field_that_both_have_differs(
    one: dict[str, object], other: dict[str, object], expected: bool
) -> None:
    """To say less is not to say something else; an emptied cart says so, and Espial's own verdict says nothing."""
    first, second = (said(msgspec.json.decode(encode(event(**changes)))) for changes in (one, other))
    assert (expected, expected) == (disagree(first, second), disagree(second, first))


def test_content_does_not_depend_on_the_order_of_properties() -> None:
    """Transports order their fields differently."""
    one, other = event(properties={"a": 1, "b": 2}), event(properties={"b": 2, "a": 1})
    assert content_hash(one) == content_hash(other)


def test_canonical_json_is_small_and_strict() -> None:
    """Defaults are left out; a field that is not in the contract is an error."""
    body = encode(event())
    assert b"null" not in body
    assert event() == decode(body)
    with pytest.raises(msgspec.ValidationError, match="colour"):
        decode(body[:-1] + b',"colour":"blue"}')
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        decode(body.replace(b"10:00:00Z", b"10:00:00"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("email:Ada@Example.com", PersonKey("email", "ada@example.com")),
        (" Ada@Example.com ", PersonKey("email", "ada@example.com")),
        ("cust-1", PersonKey("id", "cust-1")),
        ("id:cust:1", PersonKey("id", "cust:1")),
        ("contact:braze/65a1", PersonKey("contact", "braze/65a1")),
    ],
)
def test_a_person_is_named_by_kind_and_value(text: str, expected: PersonKey) -> None:
    """As the command line takes it."""
    assert expected == PersonKey.parse(text)


@pytest.mark.parametrize("text", ["colour:blue", "email:", ":x"])
def test_an_unknown_kind_of_person_is_an_error_that_lists_the_known(text: str) -> None:
    """The message helps to repair it."""
    with pytest.raises(ValueError, match="email, phone"):
        PersonKey.parse(text)


def test_an_event_is_stored_under_the_first_key_its_source_declares() -> None:
    """Messages by address, behaviour by id; contact ids carry their platform; nobody leaves the campaign."""
    everyone = event(person=Person(external_id="c-1", email="ada@example.com", source_contact_id="65a1"))
    assert home_key(everyone, MESSAGE_KEYS) == "P#email:ada@example.com"
    assert home_key(everyone, BEHAVIOUR_KEYS) == "P#id:c-1"
    assert home_key(everyone, ("source_contact_id",)) == "P#contact:sendgrid/65a1"
    assert home_key(event(person=Person(), campaign=Campaign(id="77")), MESSAGE_KEYS) == "C#sendgrid/77"
    assert home_key(event(person=Person()), MESSAGE_KEYS).startswith("C#sendgrid/none/")
    assert ["id:c-1", "email:ada@example.com", "contact:sendgrid/65a1"] == [str(key) for key in person_keys(everyone)]
