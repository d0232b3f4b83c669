"""The tracking spec: calls, clocks, carts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import MalformedItem, SignatureError
from espial.events import Event, content_hash
from espial.normalise import Recordable, normalise
from espial.sources.segment import MAX_CALL_BYTES, problem
from tests import samples

SEGMENT = sources.load("segment")
CASE = samples.case("segment", "calls")
BASE: dict[str, Any] = {
    "type": "track",
    "event": "Cart Updated",
    "messageId": "m-1",
    "userId": "cust-1",
    "timestamp": "2026-01-15T10:00:00Z",
    "properties": {"cart_id": "C-1", "products": [{"product_id": "A", "price": 2.5, "quantity": 2}], "total": 5},
}


def record(received_at: datetime | None = None, **changes: Any) -> Recordable:
    arrival = replace(CASE.arrival, received_at=received_at or CASE.received_at)
    return normalise(SEGMENT, {**BASE, **changes}, arrival)


def read(**changes: Any) -> Event:
    return record(**changes).event


def split(document: Any, url: str = "https://hooks.example.com/v1/batch") -> list[Any]:
    return SEGMENT.split(replace(CASE.delivery, body=orjson.dumps(document), url=url))


@given(
    st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.timedeltas(timedelta(0), timedelta(minutes=5)),
)
def test_a_wrong_client_clock_is_taken_out(skew: timedelta, waited: timedelta, travelled: timedelta) -> None:
    """timestamp = receivedAt - (sentAt - originalTimestamp): right up to the time the request took."""
    happened = datetime.fromisoformat("2026-01-15T10:00:00+00:00")
    client = happened + skew
    event = read(
        received_at=happened + waited + travelled,
        timestamp=client.isoformat(),
        sentAt=(client + waited).isoformat(),
    )
    assert happened + travelled == event.occurred_at


@given(st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_retry_is_the_same_event_however_its_clock_is_corrected(delay: timedelta) -> None:
    """The id takes the client's own time, which a retry repeats, and the corrected time is not content."""
    first = record(sentAt="2026-01-15T10:00:01Z")
    again = record(CASE.received_at + delay, sentAt="2026-01-15T10:00:02.5Z")
    assert first.event.event_id == again.event.event_id
    assert first.home == again.home
    assert content_hash(first.event) == content_hash(again.event)


@pytest.mark.parametrize("given_", [None, "yesterday", 5, "0001-01-01T00:00:00+23:59", "1969-12-31T00:00:00Z"])
def test_no_readable_time_is_the_time_of_receipt(given_: Any) -> None:
    """Marked as uncertain, never refused."""
    event = read(timestamp=given_, sentAt="2026-01-15T10:00:01Z")
    assert (CASE.received_at, True) == (event.occurred_at, event.time_uncertain)


def test_a_time_without_zone_is_utc_and_any_offset_is_heard() -> None:
    """ISO 8601 as SDKs write it, fractions of any length."""
    for text in ("2026-01-15T10:00:00", "2026-01-15T12:00:00+02:00", "2026-01-15T10:00:00.000000000Z"):
        assert "2026-01-15T10:00:00+00:00" == read(timestamp=text).occurred_at.isoformat()


def test_a_cart_is_read_whole() -> None:
    """Lines with numbers, also where they come as text; what the shop adds stays out of the contract."""
    event = read(
        properties={
            "cart_id": 77,
            "currency": "EUR",
            "total": "44.48",
            "products": [
                {"product_id": "A-1", "price": "19.99", "quantity": "2", "brand": "Acme"},
                {"id": "A-2", "price": "dear", "quantity": 1.0},
                "rubbish",
            ],
        }
    )
    assert event.type == "cart_updated"
    assert event.commerce is not None
    cart = event.commerce.cart
    assert cart is not None
    assert ("77", "EUR", 44.48) == (cart.id, cart.currency, cart.total)
    assert [("A-1", 19.99, 2), ("A-2", None, 1)] == [(one.id, one.price, one.quantity) for one in cart.items]
    assert "products" not in event.properties


def test_an_emptied_cart_is_a_cart_and_a_change_alone_is_not() -> None:
    """`products: []` empties it; no `products` says nothing about what is in it."""
    emptied = read(properties={"cart_id": "C-1", "products": []})
    assert emptied.type == "cart_updated"
    assert emptied.commerce is not None
    assert emptied.commerce.cart is not None
    assert () == emptied.commerce.cart.items
    added = read(event="Product Added", properties={"cart_id": "C-1", "product_id": "A-1"})
    assert ("custom", None) == (added.type, added.commerce)


def test_an_order_says_which_cart_it_came_from() -> None:
    """So that the purchase ends the wait of that cart and of no other."""
    event = read(
        event="Order Completed", properties={"order_id": "O-1", "cart_id": "C-1", "revenue": 40, "coupon": "W"}
    )
    assert event.commerce is not None
    assert event.commerce.order is not None
    order = event.commerce.order
    assert ("order_completed", "O-1", "C-1", 40.0) == (event.type, order.id, order.cart_id, order.total)
    assert "W" == event.properties["coupon"]


@pytest.mark.parametrize("name", ["Cart Updated", "cart updated", "cart_updated", " CART UPDATED "])
def test_names_of_events_are_known_in_any_spelling(name: str) -> None:
    """Case and underscores vary between SDKs and partners."""
    assert read(event=name).type == "cart_updated"


def test_identify_says_who_it_is() -> None:
    """Traits become the profile, address and number become keys."""
    event = read(type="identify", traits={"email": " Ada@Example.com", "phone": "+1 555 555 0101", "plan": "gold"})
    assert "profile_updated" == event.type
    assert ("cust-1", "ada@example.com", "+15555550101") == (
        event.person.external_id,
        event.person.email,
        event.person.phone,
    )
    assert "gold" == event.properties["plan"]


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "group"])
def test_the_context_tells_the_consent_on_file(kind: str) -> None:
    """And nothing else of its traits, which would make every event large; an identify's own consent stays its own."""
    given = {"consent": {"email": False}, "plan": "gold"}
    event = read(
        type=kind, groupId="g-1", traits={"consent": {"email": True}}, properties={}, context={"traits": given}
    )
    assert {"email": False} == event.properties["known_consent"]
    assert {"email": True} == event.properties["consent"]
    assert "plan" not in event.properties
    assert "known_consent" not in read(type=kind, groupId="g-1", context={"traits": {"consent": "yes"}}).properties


@pytest.mark.parametrize(
    ("changes", "home"),
    [
        ({}, "P#id:cust-1"),
        ({"userId": None, "anonymousId": "anon-1"}, "P#session:anon-1"),
        (
            {"userId": None, "anonymousId": "anon-1", "context": {"traits": {"email": "a@example.com"}}},
            "P#email:a@example.com",
        ),
        ({"event": "Email Opened", "context": {"traits": {"email": "a@example.com"}}}, "P#email:a@example.com"),
        ({"type": "page", "event": "Email Opened"}, "P#id:cust-1"),
    ],
)
def test_behaviour_lives_with_its_user_and_messages_with_their_address(changes: dict[str, Any], home: str) -> None:
    """Id, then address, then session; the other way round for the spec's e-mail events."""
    assert home == record(**changes).home


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ([], "call"),
        ({**BASE, "type": "sing"}, "type"),
        ({**BASE, "type": None}, "type"),
        ({**BASE, "messageId": "x" * 101}, "messageId"),
        ({**BASE, "messageId": 5}, "messageId"),
        ({**BASE, "userId": " "}, "userId"),
        ({**BASE, "userId": True}, "userId"),
        ({**BASE, "event": ""}, "event"),
        ({**BASE, "type": "group"}, "groupId"),
        ({**BASE, "type": "alias"}, "previousId"),
        ({**BASE, "type": "alias", "previousId": "p", "userId": None, "anonymousId": "a"}, "userId"),
        ({**BASE, "properties": "none"}, "properties"),
        ({**BASE, "context": []}, "context"),
        ({**BASE, "big": "x" * MAX_CALL_BYTES}, "call"),
    ],
)
def test_a_problem_names_its_field_and_recording_agrees(item: Any, field: str) -> None:
    """The receiver's answer and the quarantine give the same sentence."""
    sentence = problem(item)
    assert sentence is not None
    assert field == sentence.split()[0]
    with pytest.raises(MalformedItem) as caught:
        normalise(SEGMENT, item, CASE.arrival)
    assert ("invalid_call", sentence) == (caught.value.reason, caught.value.detail)


def test_limits_are_inclusive() -> None:
    """100 characters and 32 KB pass; one more does not."""
    assert problem({**BASE, "messageId": "x" * 100}) is None
    room = MAX_CALL_BYTES - len(orjson.dumps({**BASE, "big": ""}))
    assert problem({**BASE, "big": "x" * room}) is None
    assert problem({**BASE, "big": "x" * (room + 1)}) is not None


def test_a_call_as_posted_is_judged_like_the_call_it_becomes() -> None:
    """Partners write snake_case; the receiver judges before anything is split."""
    posted = {"type": "track", "user_id": "cust-1", "event": "X", "message_id": "m" * 101}
    assert problem(posted) == problem(split({"batch": [posted]})[0])
    assert problem({**posted, "message_id": "m"}) is None


def test_a_batch_lends_its_context_and_keeps_quiet_where_the_call_speaks() -> None:
    """Context and integrations merge under the call's own; sentAt goes to each."""
    calls = split(
        {
            "batch": [
                {"type": "track", "context": {"ip": "203.0.113.1"}},
                {"type": "page", "integrations": {"All": False}},
            ],
            "context": {"ip": "203.0.113.9", "locale": "es"},
            "integrations": {"All": True, "X": True},
            "sentAt": "2026-01-15T10:00:00Z",
        }
    )
    assert [{"ip": "203.0.113.1", "locale": "es"}, {"ip": "203.0.113.9", "locale": "es"}] == [
        call["context"] for call in calls
    ]
    assert [{"All": True, "X": True}, {"All": False, "X": True}] == [call["integrations"] for call in calls]
    assert ["2026-01-15T10:00:00Z"] * 2 == [call["sentAt"] for call in calls]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/v1/track", "track"), ("/v1/t?a=b", "track"), ("/v1/p/", "page"), ("/in/segment/page", "identify")],
)
def test_the_path_of_a_call_says_its_type(path: str, expected: str) -> None:
    """Whatever its body says; a connection's name is not a call."""
    assert expected == split({"type": "identify"}, f"https://hooks.example.com{path}")[0]["type"]


def test_the_write_key_may_stand_in_the_body() -> None:
    """The header wins where both are there."""
    key = samples.secret("segment").accepted
    body = orjson.dumps({"writeKey": key.decode()})
    in_body = replace(CASE.delivery, body=body, headers={})
    SEGMENT.verify(in_body, [key], CASE.now)
    wrong = replace(in_body, headers=signing.sign("segment", b"other", body, CASE.now))
    for bad in (wrong, replace(in_body, body=b'{"writeKey": 5}'), replace(in_body, body=b"{")):
        with pytest.raises(SignatureError):
            SEGMENT.verify(bad, [key], CASE.now)


def test_calls_without_message_id_are_told_apart_by_what_they_say() -> None:
    """Equal calls of one instant are one, different ones are two; when it was sent does not count."""
    bare = {name: value for name, value in BASE.items() if name != "messageId"}
    assert SEGMENT.identity(bare) == SEGMENT.identity({**bare, "sentAt": "2026-01-15T10:00:09Z"})
    assert SEGMENT.identity(bare) != SEGMENT.identity({**bare, "properties": {}})


def test_alias_keeps_the_former_id() -> None:
    """Whoever joins people needs both."""
    event = read(type="alias", previousId="anon-1")
    assert ("cust-1", "anon-1") == (event.person.external_id, event.properties["previous_id"])
