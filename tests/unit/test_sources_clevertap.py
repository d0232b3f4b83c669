"""CleverTap: many profiles a call, neither time nor id."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Arrival
from espial.normalise import Recordable, normalise
from tests import samples

CLEVERTAP = sources.load("clevertap")
CASE = samples.case("clevertap", "campaign")
ADA, BOB = json.loads(CASE.body)["profiles"]


def posted(*profiles: Any, target: Any = 7, after: float = 0.0) -> list[Recordable]:
    """The events of one call."""
    body = json.dumps({"targetId": target, "profiles": profiles}).encode()
    later = Arrival(
        connection=CASE.connection, transport="webhook", received_at=CASE.received_at + timedelta(seconds=after)
    )
    return [normalise(CLEVERTAP, item, later) for item in CLEVERTAP.split(replace(CASE.delivery, body=body))]


@given(st.randoms(use_true_random=False))
def test_each_profile_of_a_call_is_an_event_of_its_own(chance: random.Random) -> None:
    """A thousand of them, in any order."""
    profiles = [{**BOB, "identity": f"cust-{number}", "objectId": f"-{number}"} for number in range(40)]
    expected = {record.event.event_id for record in posted(*profiles)}
    chance.shuffle(profiles)
    assert expected == {record.event.event_id for record in posted(*profiles)}
    assert 40 == len(expected)


def test_campaign_person_and_cause_make_the_event_and_the_day_the_occasion() -> None:
    """There is neither id nor time: the same call again is a retry of the same event, the next day's is another."""
    (first,) = posted(ADA)
    assert [first.event.event_id] == [record.event.event_id for record in posted(ADA, after=600)]
    for other in (
        posted(ADA, after=86_400),
        posted(ADA, target=8),
        posted({**ADA, "event_properties": {"cart_id": "c-8"}}),
    ):
        assert first.event.event_id != other[0].event.event_id
    assert first.event.time_uncertain


def test_the_consoles_test_holds_no_event() -> None:
    """It is answered 200, which creates the webhook, and recorded nowhere."""
    case = samples.case("clevertap", "console-test")
    CLEVERTAP.verify(case.delivery, case.secrets, case.now)
    assert [] == CLEVERTAP.split(case.delivery)


def test_names_with_a_capital_are_the_same_names() -> None:
    """The console's test writes them so."""
    lower, upper = posted(
        {"identity": "cust-1", "email": "ada@example.com"}, {"Identity": "cust-1", "Email": "Ada@example.com"}
    )
    assert lower.event == upper.event


def test_device_tokens_are_not_kept() -> None:
    """They let anyone with the app's key write to the device."""
    (record,) = posted(ADA)
    assert ADA["push_token"].encode() not in record.body
