"""Braze: what its fields mean."""

from __future__ import annotations

from typing import Any

import pytest

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from espial.sources._braze_tables import minor_units
from espial.sources.braze import TEST_ID
from tests import samples

BRAZE = sources.load("braze")
ARRIVAL = samples.case("braze", "email").arrival
USER = {"user_id": "u-1", "external_user_id": "cust-1"}


def item(kind: str, user: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "event_type": kind,
        "id": "id-1",
        "time": 1768471200,
        "user": USER if user is None else user,
        "properties": properties,
    }


def read(kind: str, **properties: Any) -> Event:
    return normalise(BRAZE, item(kind, **properties), ARRIVAL).event


@pytest.mark.parametrize(("drop", "expected"), [(True, "dropped"), (False, "bounced"), (None, "bounced")])
def test_a_bounce_that_is_a_drop_never_left(drop: bool | None, expected: str) -> None:
    """`is_drop` is the sending service's suppression list."""
    assert expected == read("users.messages.email.Bounce", is_drop=drop).type


@pytest.mark.parametrize(
    ("flag", "expected"), [("true", True), (True, True), ("false", False), (False, False), (None, None)]
)
def test_machine_open_is_text(flag: Any, expected: bool | None) -> None:
    """The text "true", or nothing, which says nothing."""
    client = read("users.messages.email.Open", machine_open=flag, user_agent="x").client
    assert client is not None
    assert expected is client.machine


def test_a_suspected_bot_click_says_why() -> None:
    """The reasons are a list, of which nulls are no part."""
    client = read(
        "users.messages.email.Click", is_suspected_bot_click=True, suspected_bot_click_reason=["ip", None, "timing"]
    ).client
    assert client is not None
    assert (True, "ip, timing") == (client.machine, client.machine_reason)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Subscribed", "subscribed"),
        ("subscribed", "subscribed"),
        ("Opted In", "subscribed"),
        ("opted_in", "subscribed"),
        ("Unsubscribed", "unsubscribed"),
        ("UNSUBSCRIBED", "unsubscribed"),
        ("Opted-Out", "unsubscribed"),
        ("pending", "profile_updated"),
        (None, "profile_updated"),
    ],
)
def test_consent_is_read_in_any_spelling(status: str | None, expected: str) -> None:
    """It changed over the years; what is neither is a change of the profile."""
    assert expected == read("users.behaviors.subscription.GlobalStateChange", subscription_status=status).type


@pytest.mark.parametrize(
    ("action", "expected"), [("Unsubscribed", "unsubscribed"), ("Subscribed", "subscribed"), ("None", "replied")]
)
def test_an_inbound_message_is_consent_or_a_reply(action: str, expected: str) -> None:
    """STOP and START are consent; the rest is talk."""
    event = read("users.messages.sms.InboundReceive", action=action, user_phone_number="+1 (555) 555-0101")
    assert expected == event.type
    assert "+15555550101" == event.person.phone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"sku":"A"}', {"sku": "A"}),
        ("{not json", "{not json"),
        ('["a",null]', ["a", None]),
        ({"sku": "A"}, {"sku": "A"}),
    ],
)
def test_json_in_text_is_read_where_it_is_json(text: Any, expected: Any) -> None:
    """And kept as text where it is not."""
    assert expected == read("users.behaviors.CustomEvent", name="n", properties=text).properties["properties"]


@pytest.mark.parametrize(
    ("price", "currency", "expected"),
    [
        (19.989999771118164, "EUR", 19.99),
        (19.99, "EUR", 19.99),
        (1999.0, "JPY", 1999.0),
        (12.345000267028809, "KWD", 12.345),
        (7, "GBP", 7.0),
    ],
)
def test_prices_lose_the_noise_of_32_bits(price: float, currency: str, expected: float) -> None:
    """They are rounded to the currency's minor unit."""
    commerce = read("users.behaviors.Purchase", product_id="A-1", price=price, currency=currency).commerce
    assert commerce is not None
    assert commerce.order is not None
    assert expected == commerce.order.total == commerce.order.items[0].price


def test_minor_units_follow_iso_4217() -> None:
    """Two places unless the currency says otherwise."""
    assert [2, 2, 0, 3] == [minor_units(code) for code in ("EUR", None, "jpy", "TND")]


@pytest.mark.parametrize(
    ("kind", "properties", "home"),
    [
        ("users.messages.email.Open", {"email_address": "Ada@example.com"}, "P#email:ada@example.com"),
        ("users.messages.sms.Delivery", {"to_phone_number": "+15555550101"}, "P#phone:+15555550101"),
        ("users.messages.pushnotification.Open", {}, "P#id:cust-1"),
        ("users.messages.sms.Abort", {}, "P#id:cust-1"),
        ("users.behaviors.Purchase", {"email_address": "ada@example.com"}, "P#id:cust-1"),
    ],
)
def test_messages_live_with_their_address_and_behaviour_with_its_user(
    kind: str, properties: dict[str, Any], home: str
) -> None:
    """Only what both transports carry decides where an event is stored."""
    assert home == normalise(BRAZE, item(kind, **properties), ARRIVAL).home


def test_a_user_without_an_external_id_is_known_by_brazes_own() -> None:
    """Anonymous users have no other name."""
    anonymous = item("users.canvas.Entry", user={"user_id": "u-9"})
    assert "P#contact:braze/u-9" == normalise(BRAZE, anonymous, ARRIVAL).home


def test_a_response_has_the_send_key_of_its_send() -> None:
    """One dispatch to one user; the address may be spelt differently, the dispatch may be missing."""
    sent = item("users.messages.email.Send", dispatch_id="d-1", email_address="Ann@example.com", send_id="s-1")
    opened = item("users.messages.email.Open", dispatch_id="d-1", email_address="ann@example.com")
    assert "d-1/u-1" == BRAZE.send_key(sent) == BRAZE.send_key(opened)
    assert "s-1/u-1" == BRAZE.send_key(item("users.messages.email.Open", send_id="s-1"))
    assert BRAZE.send_key(item("users.messages.email.Open")) is None


def test_test_events_are_marked_and_told_apart() -> None:
    """They all carry one id, so the type is part of the identity."""
    kinds = ("users.messages.email.Open", "users.messages.email.Click")
    events = [normalise(BRAZE, {**item(kind), "id": TEST_ID}, ARRIVAL).event for kind in kinds]
    assert [True, True] == [event.properties["test_event"] for event in events]
    assert len({event.event_id for event in events}) == 2


def test_facts_of_an_error_stay_where_nothing_failed() -> None:
    """A field is only taken out of the properties where it has a place of its own."""
    assert "timeout" == read("agentconsole.AgentExecuted", error="timeout").properties["error"]
