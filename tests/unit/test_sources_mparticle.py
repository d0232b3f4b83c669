"""mParticle: batches, exact ids, environments kept apart, and events that came from somewhere else."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MPARTICLE = sources.load("mparticle")
CASE = samples.case("mparticle", "push-received")
BATCH: dict[str, Any] = json.loads(CASE.body)
EVENT: dict[str, Any] = BATCH["events"][0]


def events(batch: dict[str, Any], **settings: str) -> list[Event]:
    arrival = replace(CASE.arrival, connection=replace(CASE.connection, settings=settings))
    items = MPARTICLE.split(replace(CASE.delivery, body=json.dumps(batch).encode()))
    return [normalise(MPARTICLE, item, arrival).event for item in items]


def read(kind: str = "push_message", channel: str = "native", **data: Any) -> Event:
    event = {"event_type": kind, "data": {**EVENT["data"], **data}}
    return events({**BATCH, "events": [event], "source_info": {"channel": channel}})[0]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_64_bit_ids_stay_exact(person: int, event: int) -> None:
    """They are beyond what a float holds, and may be negative."""
    one = {"event_type": "screen_view", "data": {"event_id": event, "timestamp_unixtime_ms": 1768471237000}}
    items = MPARTICLE.split(replace(CASE.delivery, body=json.dumps({"mpid": person, "events": [one]}).encode()))
    assert str(event) == list(MPARTICLE.identity(items[0]))[-1]
    assert str(person) == normalise(MPARTICLE, items[0], CASE.arrival).event.person.source_contact_id


@given(st.randoms(use_true_random=False))
def test_events_are_the_same_one_by_one_or_in_a_batch(chance: random.Random) -> None:
    """`Send as Batch` off, on, or replayed: the events are the same ones."""
    whole: dict[str, Any] = json.loads(samples.case("mparticle", "behaviour").body)
    shuffled = list(whole["events"])
    chance.shuffle(shuffled)
    single = [one for event in shuffled for one in events({**whole, "batch_id": 7, "events": [event]})]
    replayed = events({**whole, "source_info": {"channel": "javascript", "replay_request_id": "r"}})
    assert {event.event_id: event for event in replayed} == {event.event_id: event for event in single}


def test_the_partners_id_outlives_mparticles_own() -> None:
    """A feed that repeats itself gets new event ids; the platform's own id stays."""
    assert read(event_id=1).event_id == read(event_id=2).event_id
    assert read(event_id=1, source_message_id=None).event_id != read(event_id=2, source_message_id=None).event_id
    assert read(source_message_id="a").event_id != read(source_message_id="b").event_id
    assert read(event_name="a").event_id != read(event_name="b").event_id


@pytest.mark.parametrize(
    ("environment", "settings", "expected"),
    [
        ("production", {}, ("delivered", None)),
        (None, {}, ("delivered", None)),
        ("development", {}, ("unknown", "development")),
        ("development", {"environment": "development"}, ("delivered", "development")),
        ("production", {"environment": "development"}, ("unknown", None)),
    ],
)
def test_environments_are_kept_apart(environment: str | None, settings: dict[str, str], expected: Any) -> None:
    """Nothing is lost, and nothing acts on what developers try out."""
    event = events({**BATCH, "environment": environment}, **settings)[0]
    assert expected == (event.type, event.properties.get("environment"))


def test_one_event_of_two_environments_is_two() -> None:
    """Ids are given per environment."""
    assert events(BATCH)[0].event_id != events({**BATCH, "environment": "development"})[0].event_id


@pytest.mark.parametrize("stamp", [1768471237000, "1768471237000", 1768471237000.0])
def test_times_come_as_numbers_and_in_quotes(stamp: Any) -> None:
    """Documented as integers, shown as text."""
    assert "2026-01-15T10:00:37+00:00" == read(timestamp_unixtime_ms=stamp).occurred_at.isoformat()


@pytest.mark.parametrize(
    "identities",
    [
        [{"identity_type": "customer_id", "identity": "c-1"}, {"identity_type": "email", "identity": "A@Example.com"}],
        {"customer_id": "c-1", "email": "A@Example.com"},
        {"customerid": "c-1", "email": "A@Example.com"},
        [
            None,
            {"identity_type": "email"},
            {"identity_type": "email", "identity": "A@Example.com"},
            {"identity_type": "customer_id", "identity": "c-1"},
        ],
    ],
)
def test_identities_come_in_two_shapes(identities: Any) -> None:
    """An array outbound, an object on feeds of raw data."""
    person = events({**BATCH, "user_identities": identities})[0].person
    assert ("c-1", "a@example.com") == (person.external_id, person.email)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("push_message", {"push_message_type": "sent"}, ("sent", "push")),
        ("push_message", {"push_message_type": "received"}, ("delivered", "push")),
        ("push_message", {"push_message_type": "action"}, ("opened", "push")),
        ("push_message", {"push_message_type": None}, ("unknown", "push")),
        ("push_registration", {"register": True}, ("subscribed", "push")),
        ("push_registration", {"register": False}, ("unsubscribed", "push")),
        ("uninstall", {}, ("unsubscribed", "push")),
    ],
)
def test_an_events_own_fields_say_what_it_means(kind: str, data: dict[str, Any], expected: tuple[str, str]) -> None:
    """One event type for three stages of a push message, one for coming and going."""
    event = read(kind, **data)
    assert expected == (event.type, event.channel)


def test_opting_out_of_tracking_is_no_word_about_messages() -> None:
    """It has a topic of its own, so that no channel is closed or opened by it."""
    for out, expected in ((True, "unsubscribed"), (False, "subscribed")):
        event = read("opt_out", is_opted_out=out)
        assert (expected, "tracking") == (event.type, event.properties["topic"])


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("emailBounce", {"recipientState": "SoftBounce"}, ("soft_bounced", None)),
        ("emailBounce", {"recipientState": "HardBounce"}, ("bounced", None)),
        ("bounce", {"type": "blocked"}, ("blocked", None)),
        ("bounce", {"type": "bounce"}, ("bounced", None)),
        ("group_unsubscribe", {"asm_group_id": 42}, ("unsubscribed", "42")),
        ("group_resubscribe", {"asm_group_id": "42"}, ("subscribed", "42")),
        ("unsubscribe", {}, ("unsubscribed", None)),
    ],
)
def test_a_partners_own_words_refine_its_events(name: str, told: dict[str, Any], expected: tuple[str, Any]) -> None:
    """No address is written off for a full mailbox, nor all mail refused with one group of it."""
    event = read("custom_event", "partner", event_name=name, custom_attributes=told)
    assert expected == (event.type, event.properties.get("topic"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("emailBounce", "bounced"),
        ("Email Bounced", "bounced"),
        ("bounce", "bounced"),
        ("emailUnSubscribe", "unsubscribed"),
        ("group_unsubscribe", "unsubscribed"),
        ("Email Link Clicked", "clicked"),
        ("Video Watched", "custom"),
        (None, "custom"),
    ],
)
def test_a_partners_events_are_read_by_their_names(name: str | None, expected: str) -> None:
    """But only from a partner's feed: an app may call anything `open`."""
    assert expected == read("custom_event", "partner", event_name=name).type
    assert "custom" == read("custom_event", "native", event_name=name).type


def test_what_is_put_into_a_cart_is_no_whole_cart() -> None:
    """A purchase is an order; an addition says nothing of what else lies there."""
    action = {
        "action": "purchase",
        "transaction_id": "o-1",
        "total_amount": 5,
        "products": [{"id": "p", "quantity": 1}],
    }
    bought = read("commerce_event", product_action=action, currency_code="EUR")
    assert bought.commerce is not None
    assert bought.commerce.order is not None
    assert ("order_completed", "o-1", 5.0, "EUR") == (
        bought.type,
        bought.commerce.order.id,
        bought.commerce.order.total,
        bought.commerce.order.currency,
    )
    assert "custom" == read("commerce_event", product_action={**action, "action": "add_to_cart"}).type


@pytest.mark.parametrize("none", [[], None])
def test_a_batch_without_events_updates_the_profile(none: Any) -> None:
    """Sent by default; the empty document with which an output is tried is nothing."""
    attributes = {"tier": "gold"}
    assert [("profile_updated", attributes)] == [
        (event.type, event.properties["traits"])
        for event in events({**BATCH, "events": none, "user_attributes": attributes})
    ]
    assert [] == MPARTICLE.split(replace(CASE.delivery, body=b"{}"))


def test_the_address_of_a_server_is_not_the_persons() -> None:
    """Only apps and pages report from where people are."""
    for channel, expected in (("native", "192.0.2.1"), ("server_to_server", None), ("partner", None)):
        event = events({**BATCH, "ip": "192.0.2.1", "source_info": {"channel": channel}})[0]
        assert expected == (event.client.ip if event.client else None)
