"""The one path from an item to a canonical event: whatever a source says, the contract holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espial import events, sources
from espial.errors import MalformedItem
from espial.events import decode
from espial.normalise import Recordable, normalise
from espial.schema import CanonicalEvent
from tests import samples
from tests.builders import NOON, an_arrival, an_item

SAID: dict[str, Any] = {
    "type": "clicked",
    "platform_type": "click",
    "channel": "email",
    "occurred_at": NOON,
    "person": {"external_id": "c-1", "email": "ada@example.com", "phone": "+15550100"},
    "campaign": {"id": "77", "tags": ["winter"]},
    "message_id": "m-1",
    "link": {"url": "https://shop.example.com/"},
    "client": {"ip": "203.0.113.7", "machine": False},
    "failure": {"class": "a", "code": "5.1.1"},
    "commerce": {"cart": {"id": "c", "total": 1.5, "items": [{"id": "p", "price": 1.5, "quantity": 1}]}},
    "properties": {"a": 1},
    "time_uncertain": False,
}
NUMBERS = st.integers(-(2**70), 2**70) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
VALUES = JSON | st.binary(max_size=5) | st.datetimes() | st.datetimes(timezones=st.just(UTC))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in inner for place in places(one, (*path, name)))]


def put(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy that holds `odd` at `path`."""
    if not path:
        return odd
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], odd)
    return copy


def outcome(said: dict[str, Any]) -> Recordable | MalformedItem:
    source = replace(sources.load("sendgrid"), normalise=lambda _item, _arrival: dict(said))
    try:
        return normalise(source, an_item(), an_arrival())
    except MalformedItem as exc:
        return exc


@given(st.sampled_from([place for place in places(SAID) if place and place != ("occurred_at",)]), VALUES)
@example(("person", "email"), 5)
@example(("commerce", "cart", "items", 0, "quantity"), 1.5)
@example(("client", "machine"), "true")
@example(("campaign", "tags", 0), None)
def test_no_value_of_a_wrong_type_gets_into_canonical_json(place: tuple[Any, ...], odd: Any) -> None:
    """Anything anywhere in what a source says is refused, or is what the published contract allows there."""
    found = outcome(put(SAID, place, odd))
    if isinstance(found, Recordable):
        assert found.event.event_id == decode(found.body).event_id
        CanonicalEvent.model_validate_json(found.body)
    else:
        assert found.reason in {"contract_violation", "not_serialisable"}


@pytest.mark.parametrize(
    ("place", "odd", "path"),
    [
        (("person", "email"), 5, "$.person.email"),
        (("client", "machine"), "true", "$.client.machine"),
        (("commerce", "cart", "items", 0, "quantity"), 1.5, "$.commerce.cart.items[0].quantity"),
        (("channel",), "pigeon", "$.channel"),
        (("type",), "sneezed", "$.type"),
        (("occurred_at",), datetime(2026, 1, 15, 10, 0), "$.occurred_at"),
        (("person",), {"colour": "blue"}, "colour"),
    ],
    ids=str,
)
def test_a_breach_of_the_contract_names_its_place(place: tuple[Any, ...], odd: Any, path: str) -> None:
    """Whoever mends the source finds it in the quarantine."""
    found = outcome(put(SAID, place, odd))
    assert isinstance(found, MalformedItem)
    assert "contract_violation" == found.reason
    assert path in found.detail


def test_what_a_source_says_and_only_that_is_in_the_event() -> None:
    """The core adds what it knows: ids, platform, connection and the receipt."""
    found = outcome(SAID)
    assert isinstance(found, Recordable)
    assert ("clicked", "sendgrid", "main", NOON) == (
        found.event.type,
        found.event.platform,
        found.event.connection,
        found.event.received_at,
    )
    assert "P#email:ada@example.com" == found.home


def test_a_time_that_lies_ahead_is_not_believed():
    """It becomes the time of receipt, marked as uncertain, and the id stays the one the claimed time gives."""
    sample = samples.case("sendgrid", "all-types")
    item = {**sample.items[0], "timestamp": int(sample.received_at.timestamp()) + 3600}
    early = normalise(sources.load("sendgrid"), item, sample.arrival).event
    late = replace(sample.arrival, received_at=sample.received_at + timedelta(days=1))
    believed = normalise(sources.load("sendgrid"), item, late).event
    assert (sample.received_at, True) == (early.occurred_at, early.time_uncertain)
    assert (sample.received_at + timedelta(hours=1), False) == (believed.occurred_at, believed.time_uncertain)
    assert early.event_id == believed.event_id
    assert events.content_hash(early) == events.content_hash(believed)


def test_a_clock_a_little_ahead_is_believed():
    """Clocks differ by minutes; up to ten of them are nothing to mend."""
    sample = samples.case("sendgrid", "all-types")
    item = {**sample.items[0], "timestamp": int(sample.received_at.timestamp()) + 599}
    event = normalise(sources.load("sendgrid"), item, sample.arrival).event
    assert (sample.received_at + timedelta(seconds=599), False) == (event.occurred_at, event.time_uncertain)
