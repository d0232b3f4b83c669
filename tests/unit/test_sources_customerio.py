"""Customer.io: what proves its reports, what tells them apart and what they say."""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

CUSTOMERIO = sources.load("customerio")
CASE = samples.case("customerio", "email-opened")
DATA: dict[str, Any] = CASE.items[0]["data"]


def read(kind: str = "email", metric: str = "opened", **data: Any) -> Event:
    item = {**CASE.items[0], "object_type": kind, "metric": metric, "data": {**DATA, **data}}
    return normalise(CUSTOMERIO, item, CASE.arrival).event


@given(st.binary(max_size=200), st.integers(0, 86_400))
def test_the_signature_covers_version_time_and_body(body: bytes, age: int) -> None:
    """`v0:<timestamp>:<body>`, lower-case hex without a prefix, and a retry of up to a day is let in."""
    at = CASE.now - timedelta(seconds=age)
    delivery = signing.signed(b"key", replace(CASE.delivery, body=body), at)
    stamp = str(int(at.timestamp()))
    expected = hmac.digest(b"key", b"v0:" + stamp.encode() + b":" + body, "sha256").hex()
    assert (stamp, expected) == (delivery.headers["x-cio-timestamp"], delivery.headers["x-cio-signature"])
    CUSTOMERIO.verify(delivery, (b"key",), CASE.now)
    with pytest.raises(SignatureError):
        CUSTOMERIO.verify(replace(delivery, body=body + b" "), (b"key",), CASE.now)


def test_the_tolerance_is_the_users_to_narrow() -> None:
    """A day by default, because retries may carry their first signature; minutes where that is not wanted."""
    delivery = samples.case("customerio", "retried-for-hours")
    CUSTOMERIO.verify(delivery.delivery, delivery.secrets, delivery.now)
    with pytest.raises(SignatureError, match="too far from now"):
        CUSTOMERIO.verify(delivery.delivery, delivery.secrets, delivery.now, settings={"max_age_seconds": 300})


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("550 5.1.1 no such user", "bounced"),
        ("550 no such user", "bounced"),
        ("452 4.2.2 mailbox full", "soft_bounced"),
        ("421 busy", "soft_bounced"),
        ("unknown user in room 452", "bounced"),
        (None, "bounced"),
    ],
)
def test_a_bounce_is_soft_by_the_servers_reply(reply: str | None, expected: str) -> None:
    """One metric for both; where the reply does not say, it is a hard one."""
    assert expected == read(metric="bounced", failure_message=reply).type
    assert "bounced" == read("push", "bounced", failure_message=reply).type


@pytest.mark.parametrize(
    ("metric", "flags", "expected"),
    [
        ("opened", {"prefetched": True}, (True, "prefetched")),
        ("opened", {"prefetched": False}, (False, "prefetched")),
        ("opened", {"prefetched": None, "proxied": True, "synthetic": True}, None),
        ("opened", {"prefetched": "yes"}, None),
        ("clicked", {"machine": True, "prefetched": None}, (True, "machine")),
        ("clicked", {"prefetched": True}, None),
    ],
)
def test_a_machine_is_told_by_its_own_flag(metric: str, flags: dict[str, Any], expected: Any) -> None:
    """Missing means unknown; an image proxy alone, or an open inferred from a click, is no machine."""
    client = read(metric=metric, **flags).client
    assert expected == ((client.machine, client.machine_reason) if client else None)


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("Bob@Example.net", "bob@example.net"),
        ("Bob <bob@example.net>", "bob@example.net"),
        ("Bob <bob@example.net>, Eve <eve@example.net>", "ada@example.com"),
        ("bob@example.net, eve@example.net", "ada@example.com"),
        ("{{customer.email}}", "ada@example.com"),
        (None, "ada@example.com"),
    ],
)
def test_the_address_is_the_one_written_to(recipient: str | None, expected: str) -> None:
    """Else the profile's: a recipient may be a rendered template naming several, or none."""
    assert expected == read(recipient=recipient).person.email


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"campaign_id": 23}, ("23", "campaign")),
        ({"newsletter_id": 23}, ("23", "newsletter")),
        ({"broadcast_id": 23}, ("23", "broadcast")),
        ({"transactional_message_id": 23}, ("23", "transactional")),
    ],
)
def test_a_campaign_id_says_what_it_counts(ids: dict[str, int], expected: tuple[str, str]) -> None:
    """Campaign 23 and newsletter 23 are two things."""
    data: dict[str, Any] = {"campaign_id": None, **ids}
    event = read(**data)
    assert event.campaign is not None
    assert expected == (event.campaign.id, event.properties["campaign_type"])


def test_a_retry_is_the_same_event_and_another_metric_is_not() -> None:
    """Delivery, metric and link decide, which every channel tells; Customer.io's id where there is no delivery."""
    item = CASE.items[0]
    assert ("opened", DATA["delivery_id"], "") == tuple(CUSTOMERIO.identity(item))
    again = {**item, "event_id": "other", "timestamp": str(item["timestamp"]), "data": {**DATA, "proxied": False}}
    assert CUSTOMERIO.identity(item) == CUSTOMERIO.identity(again)
    assert CUSTOMERIO.identity(item) != CUSTOMERIO.identity({**item, "metric": "clicked"})
    assert CUSTOMERIO.identity(item) != CUSTOMERIO.identity({**item, "data": {**DATA, "link_id": 7}})
    of_nothing = {**item, "data": {name: value for name, value in DATA.items() if name != "delivery_id"}}
    assert ("opened", item["event_id"]) == tuple(CUSTOMERIO.identity(of_nothing))
    bare = {name: value for name, value in of_nothing.items() if name != "event_id"}
    assert CUSTOMERIO.identity(bare) == CUSTOMERIO.identity({**bare, "timestamp": str(bare["timestamp"])})
    assert CUSTOMERIO.identity(bare) != CUSTOMERIO.identity({**bare, "metric": "clicked"})


def test_the_old_words_are_read_as_the_new_ones() -> None:
    """`in_app_opened` splits after the channel, whose name has an underscore of its own."""
    old = {**CASE.items[0], "event_type": "in_app_opened"}
    old = {name: value for name, value in old.items() if name not in ("object_type", "metric")}
    event = normalise(CUSTOMERIO, old, CASE.arrival).event
    assert ("inapp", "opened", "opened") == (event.channel, event.platform_type, event.type)


def test_a_body_in_a_report_is_not_kept_twice() -> None:
    """With Body Content on, the message itself stays in the raw copy; preferences are the exception, being a fact."""
    assert {"content", "headers"}.isdisjoint(read(metric="sent", content="<html>", headers=[]).properties)
    preferences = read("customer", "cio_subscription_preferences_changed", content='{"topics":{"topic_1":true}}')
    assert {"subscription_preferences": {"topics": {"topic_1": True}}} == preferences.properties["traits"]
