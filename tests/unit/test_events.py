"""The canonical event: identity, content, keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import (
    BEHAVIOUR_KEYS,
    MESSAGE_KEYS,
    VOLATILE,
    Campaign,
    Event,
    Person,
    PersonKey,
    content_hash,
    decode,
    encode,
    event_id,
    home_key,
    person_keys,
    time_part,
)
from espial.vocabulary import EventType

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
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
    """Two reports that differ in this are a conflict."""
    assert content_hash(event()) != content_hash(event(**changes))


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
