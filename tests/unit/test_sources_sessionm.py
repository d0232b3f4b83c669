"""SessionM: sections of a body that the account composes, off until somebody turns them on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem
from espial.events import Event
from espial.gateway import read as read_request
from espial.normalise import normalise
from espial.services.receive_webhook import receive_webhook
from tests import samples
from tests.fakes import FakeConnections, FakeDeliveryQueue, FakeOutside
from tests.http_events import http_event

SESSIONM = sources.load("sessionm")
CASE = samples.case("sessionm", "outcomes")
USER = {"id": "u-1", "external_id": "P-1001", "email": "ann.lee@example.com"}
HEAD = {"user": USER, "timestamp": "2026-01-15T10:00:00Z", "event_id": "evt-1"}
SECTIONS = ("messages", "points", "offers", "tags", "events")


def events(body: Any, later: int = 0, **settings: Any) -> list[Event]:
    connection = Connection(name="main", platform="sessionm", settings=settings)
    source = sources.of(connection)
    arrival = replace(CASE.arrival, connection=connection, received_at=CASE.received_at + timedelta(seconds=later))
    items = source.split(replace(CASE.delivery, body=orjson.dumps(body)))
    return [normalise(source, item, arrival).event for item in items]


def row(section: str, n: int) -> Any:
    return f"tag{n}" if section == "tags" else {"name": f"name{n}", "amount": n, "offer_id": str(n)}


@given(st.dictionaries(st.sampled_from(SECTIONS), st.integers(0, 4)), st.booleans())
def test_sections_of_any_length_give_an_event_a_row(lengths: dict[str, int], alone: bool) -> None:
    """Unequal, empty or missing; a lone row needs no array; posted again it is the same events."""
    rows = {section: [row(section, n) for n in range(count)] for section, count in lengths.items()}
    body = {**HEAD, **{name: many[0] if alone and len(many) == 1 else many for name, many in rows.items()}}
    found = events(body)
    assert (sum(lengths.values()) or 1) == len(found) == len({event.event_id for event in found})
    assert [event.event_id for event in found] == [event.event_id for event in events(body, later=3600)]


def test_ten_thousand_rows_are_as_many_events() -> None:
    """A batch is as long as its body may be."""
    body = {**HEAD, "points": [{"account": "Rewards", "amount": n} for n in range(10_000)]}
    assert 10_000 == len(SESSIONM.split(replace(CASE.delivery, body=orjson.dumps(body))))


@pytest.mark.parametrize(
    ("tag", "shared", "expected"),
    [
        ("vip;;3600", None, {"tag": "vip", "ttl_seconds": 3600}),
        ("vip", None, {"tag": "vip"}),
        ("vip", 60, {"tag": "vip", "ttl_seconds": 60}),
        ("vip;;3600", 60, {"tag": "vip", "ttl_seconds": 3600}),
        ({"tag": "vip", "ttl": "60"}, None, {"tag": "vip", "ttl_seconds": 60}),
        ("vip;;soon", None, {"tag": "vip"}),
        ("vip;;" + "9" * 40, None, {"tag": "vip"}),
    ],
)
def test_a_tag_has_a_life_or_is_counted(tag: Any, shared: int | None, expected: dict[str, Any]) -> None:
    """Text with `;;` as in the console, an object, or `ttl` for all, as in the API."""
    (event,) = events({**HEAD, "tags": [tag], "ttl": shared})
    assert ("tag_added", expected) == (event.type, event.properties)


def test_one_request_is_one_transaction() -> None:
    """`request_id` is taken once, whatever the body says the second time about anything but its time."""
    body = {"user_id": "u-1", "request_id": "r-1", "request_payload": {"transaction_id": "t", "open_time": 1768471200}}
    (first,), (second,) = events(body), events({**body, "store_id": "12"})
    (other,) = events({**body, "request_id": "r-2"})
    assert first.event_id == second.event_id != other.event_id


def test_what_was_paid_is_the_total() -> None:
    """The golden flow pays 25.00 in two parts; lines keep their own prices."""
    (event,) = samples.case("sessionm", "transaction").recordables
    assert event.event.commerce is not None
    order = event.event.commerce.order
    assert order is not None
    assert ("t-1", 25.0, [2, None]) == (order.id, order.total, [line.quantity for line in order.items])


@pytest.mark.parametrize("amount", [None, "many", True, 10**400, "nan", float(2**60), {}, [1]])
def test_amounts_that_are_none_are_left_out(amount: Any) -> None:
    """A sum of what can be read, or no sum."""
    payload = {"transaction_id": "t", "payments": [{"amount": amount}], "items": [{"item_id": "a", "quantity": amount}]}
    item = {"user_id": "u-1", "kind": "transaction", "row": payload}
    order = SESSIONM.normalise(item, CASE.arrival)["commerce"]["order"]
    assert (None, None) == (order["total"], order["items"][0]["quantity"])


def test_names_mean_what_the_connection_says() -> None:
    """Return data is by map: what a name says is not published."""
    body = {**HEAD, "messages": [{"name": "EmailBounce", "event_id": "1"}], "events": [{"name": "signup"}]}
    assert ["unknown", "custom"] == [event.type for event in events(body)]
    types = {"EmailBounce": "bounced", "signup": "subscribed"}
    assert ["bounced", "subscribed"] == [event.type for event in events(body, types=types)]


@pytest.mark.parametrize("types", [{"EmailBounce": "hard_bounce"}, {"x": "message_requested"}, {"x": []}, ["bounced"]])
def test_a_type_that_does_not_exist_is_named(types: Any) -> None:
    """`espial validate` finds it, not the first event; what Espial itself says nobody else may say."""
    with pytest.raises(ValueError, match="types"):
        sources.of(Connection(name="main", platform="sessionm", settings={"types": types}))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1768471200, "2026-01-15T10:00:00+00:00"),
        ("1768471200123", "2026-01-15T10:00:00.123000+00:00"),
        ("2026-01-15T11:00:00+01:00", "2026-01-15T10:00:00+00:00"),
    ],
)
def test_times_are_seconds_milliseconds_or_iso(given: Any, expected: str) -> None:
    """Templates print what they like; a row's own time wins over the body's."""
    (event,) = events({**HEAD, "timestamp": "2026-01-01T00:00:00Z", "events": [{"name": "x", "timestamp": given}]})
    assert expected == event.occurred_at.isoformat()


def test_a_time_that_cannot_be_read_is_quarantined() -> None:
    """A template that prints it wrongly must be noticed."""
    with pytest.raises(MalformedItem) as caught:
        events({**HEAD, "timestamp": "{{system.now}}", "points": {"amount": 1}})
    assert ("bad_timestamp", "timestamp") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize("user", [{}, {"user": {"first_name": "Ann"}}, {"user": "u-1"}, {"user": None}])
def test_a_row_about_nobody_is_quarantined(user: dict[str, Any]) -> None:
    """Points of nobody are worth a look."""
    with pytest.raises(MalformedItem) as caught:
        events({**user, "points": {"amount": 1}})
    assert ("missing_person", "user") == (caught.value.reason, caught.value.path)


def test_return_data_is_off_until_a_connection_turns_it_on() -> None:
    """C13: refused with 404 and not kept; accepted once there is one, under SessionM's Basic credentials."""
    request = read_request(http_event("/in/sessionm/main", CASE.body, dict(CASE.delivery.headers)))
    connection = Connection(name="main", platform="sessionm", secrets=("secretsmanager:espial/main",))
    known = FakeConnections(connection, secrets={"main": CASE.secrets})
    for connections, status, kept in ((FakeConnections(), 404, 0), (known, 200, 1)):
        queue = FakeDeliveryQueue()
        outcome = receive_webhook(
            request, connections, queue, FakeOutside(), public_url="https://hooks.example.com", now=CASE.now
        )
        assert (status, kept) == (outcome.reply.status, len(queue.deliveries))
