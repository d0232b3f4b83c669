"""Iterable: secrets in odd spellings, identity without an id, and what its events mean."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import MalformedItem, SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

ITERABLE = sources.load("iterable")
CASE = samples.case("iterable", "email-click")
ITEM: dict[str, Any] = CASE.items[0]
SECRET = b"user:pass-word"


def read(name: str = "emailClick", **facts: Any) -> Event:
    item = {**ITEM, "eventName": name, "dataFields": {**ITEM["dataFields"], **facts}}
    return normalise(ITERABLE, item, CASE.arrival).event


@pytest.mark.parametrize(
    "spelling",
    ["{}", "Basic {}", "basic {}", "Bearer {}", "OAuth2 {}", "Basic {encoded}", "oauth2 {}"],
)
def test_a_token_counts_however_the_marketer_typed_it(spelling: str) -> None:
    """Type Basic sends it as typed, without the word; OAuth2 puts that word before it."""
    shown = spelling.format(SECRET.decode(), encoded=b64encode(SECRET).decode())
    ITERABLE.verify(replace(CASE.delivery, headers={"authorization": shown}), (SECRET,), CASE.now)
    with pytest.raises(SignatureError, match="wrong secret"):
        ITERABLE.verify(replace(CASE.delivery, headers={"authorization": shown}), (b"other",), CASE.now)


def test_a_header_of_ones_own_counts_when_the_connection_names_it() -> None:
    """Iterable adds any custom header; nothing but the named one is looked at."""
    delivery = replace(CASE.delivery, headers={"x-espial": SECRET.decode()})
    ITERABLE.verify(delivery, (SECRET,), CASE.now, settings={"secret_header": "X-Espial"})
    with pytest.raises(SignatureError, match="no secret"):
        ITERABLE.verify(delivery, (SECRET,), CASE.now)


def test_the_offset_stands_apart_from_the_time() -> None:
    """`2026-01-15 10:00:37 +00:00`, and any other offset is the same instant."""
    there, here = read(createdAt="2026-01-15 04:00:37 -06:00"), read(createdAt="2026-01-15 10:00:37 +00:00")
    assert "2026-01-15T10:00:37+00:00" == here.occurred_at.isoformat() == there.occurred_at.isoformat()
    assert here.event_id == there.event_id


@pytest.mark.parametrize(
    "changed",
    [
        {"messageId": "ffffffffffffffffffffffffffffffff"},
        {"createdAt": "2026-01-15 10:00:06 +00:00"},
        {"url": "https://shop.example.com/other"},
        {"url": None, "linkUrl": None, "linkId": "9c1d"},
    ],
)
def test_what_tells_two_clicks_apart(changed: dict[str, str]) -> None:
    """No event id is given: message, second and the link's address together are one, else its id."""
    assert read().event_id != read(**changed).event_id


@given(st.randoms(use_true_random=False), st.integers(0, 3600))
def test_a_retry_is_the_same_event(chance: random.Random, seconds: int) -> None:
    """Whatever the order of its fields and whenever it comes; what Iterable knows of the person does not count."""
    names = list(ITEM["dataFields"])
    chance.shuffle(names)
    again = {**ITEM, "email": "ADA@example.com", "dataFields": {name: ITEM["dataFields"][name] for name in names}}
    later = replace(CASE.arrival, received_at=CASE.received_at + timedelta(seconds=seconds))
    first = normalise(ITERABLE, ITEM, CASE.arrival)
    second = normalise(ITERABLE, again, later)
    assert (first.event.event_id, first.home) == (second.event.event_id, second.home)


def test_without_a_message_the_person_tells_events_apart() -> None:
    """`smsReceived` has no message id: two people may write in the same second."""
    one = samples.case("iterable", "sms-received").items[0]
    two = {**one, "email": "bob@example.net", "dataFields": {**one["dataFields"], "email": "bob@example.net"}}
    assert ITERABLE.identity(one) != ITERABLE.identity(two)
    assert ITERABLE.send_key(one) is None


def test_who_wrote_an_sms_is_the_sender_of_it() -> None:
    """The number it came from is the person's, the one it went to is ours."""
    assert "+15550100" == read("smsReceived", fromPhoneNumber="+15550100", toPhoneNumber="+15550199").person.phone
    assert "+15550100" == read("smsSend", fromPhoneNumber="+15550199", toPhoneNumber="+15550100").person.phone


@pytest.mark.parametrize(
    ("state", "expected"), [("HardBounce", "bounced"), ("SoftBounce", "soft_bounced"), (None, "bounced")]
)
def test_a_bounce_is_told_by_the_recipients_state(state: str | None, expected: str) -> None:
    """`emailBounce` is both."""
    assert expected == read("emailBounce", recipientState=state).type


def test_made_up_addresses_are_nobodys() -> None:
    """A project of user ids has an address for everyone; all of them would be one inbox."""
    item = {**ITEM, "email": "3c7d@placeholder.email", "dataFields": {**ITEM["dataFields"], "email": None}}
    person = normalise(ITERABLE, item, CASE.arrival).event.person
    assert (None, "cust-1001") == (person.email, person.external_id)


@pytest.mark.parametrize(
    ("named", "topics"),
    [
        ({"emailListIds": [13, 12], "messageTypeIds": [7]}, ["type/7", "list/13", "list/12"]),
        ({"emailListIds": [12, 12]}, ["list/12"]),
        ({"emailListIds": [12], "channelIds": [2598]}, [None]),
        ({"emailListIds": []}, [None]),
        ({"emailListIds": "12"}, [None]),
    ],
)
@pytest.mark.parametrize("name", ["emailSubscribe", "emailUnSubscribe"])
def test_joining_and_leaving_are_about_what_is_named(
    name: str, named: dict[str, Any], topics: list[str | None]
) -> None:
    """Leaving one list is no refusal of all mail, nor joining one its end; a message channel is all of it."""
    item = {**ITEM, "eventName": name, "dataFields": {**ITEM["dataFields"], "channelIds": [], **named}}
    items = ITERABLE.split(replace(CASE.delivery, body=json.dumps(item).encode()))
    found = [normalise(ITERABLE, one, CASE.arrival).event for one in items]
    assert topics == [event.properties.get("topic") for event in found]
    assert len(topics) == len({event.event_id for event in found})


@pytest.mark.parametrize(("flag", "expected"), [(True, True), (False, False), (None, None), ("true", None)])
def test_a_machine_is_told_by_the_flag_alone(flag: Any, expected: bool | None) -> None:
    """An image proxy (`proxySource`) is none by Iterable's word; rules of ours come later."""
    item = {**ITEM, "dataFields": {**ITEM["dataFields"], "isBot": flag, "proxySource": "Gmail"}}
    assert expected is ITERABLE.normalise(item, CASE.arrival)["client"].get("machine")


def test_a_journeys_webhook_is_dated_by_its_receipt() -> None:
    """Its body is the marketer's: whoever it names is who it is about, and no time is in it."""
    event = normalise(ITERABLE, {"userId": "cust-1", "coupon": "X"}, CASE.arrival).event
    assert ("webhook_triggered", "journeyWebhook", True) == (event.type, event.platform_type, event.time_uncertain)
    assert CASE.received_at == event.occurred_at
    with pytest.raises(MalformedItem, match="missing_event"):
        normalise(ITERABLE, {"coupon": "X"}, CASE.arrival)
