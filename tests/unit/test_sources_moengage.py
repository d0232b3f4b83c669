"""MoEngage: batches, identity with and without ids, what its attributes mean."""

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

MOENGAGE = sources.load("moengage")
CASE = samples.case("moengage", "all-types")
BASE = CASE.items[0]


def read(facts: dict[str, Any] | None = None, **changes: Any) -> Event:
    item = {**BASE, **changes, "event_attributes": {**BASE["event_attributes"], **(facts or {})}}
    return normalise(MOENGAGE, item, CASE.arrival).event


def posted(*events: dict[str, Any], request: str = "r-1") -> list[str]:
    """The ids of the events of one request."""
    body = json.dumps({"moe_request_id": request, "events": events}).encode()
    items = MOENGAGE.split(replace(CASE.delivery, body=body))
    return [normalise(MOENGAGE, item, CASE.arrival).event.event_id for item in items]


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_ids_do_not_depend_on_how_events_are_batched(chance: random.Random, size: int) -> None:
    """In any order, in requests of any size, under other request ids."""
    events = list(CASE.items)
    expected = set(posted(*events))
    chance.shuffle(events)
    found: set[str] = set()
    for start in range(0, len(events), size):
        found |= set(posted(*events[start : start + size], request=f"r-{start}"))
    assert expected == found
    assert len(events) == len(found)


def test_without_ids_the_place_in_the_request_tells_events_apart() -> None:
    """Older payloads; the same request posted again gives the same ids."""
    bare = {name: value for name, value in BASE.items() if name != "event_uuid"}
    first, second = posted(bare, bare)
    assert first != second
    assert [first, second] == posted(bare, bare)
    assert first not in posted(bare, request="r-2")


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("65a1b2_F_T_EM_AB_1_P_0_L_0", ("65a1b2", "65a1b2_F_T_EM_AB_1_P_0_L_0")),
        ("65a1b2", ("65a1b2", None)),
        ("_odd", ("_odd", None)),
        (77, ("77", None)),
    ],
)
def test_the_campaigns_id_ends_at_its_first_underscore(given_: Any, expected: tuple[str, str | None]) -> None:
    """What follows are locale and variation; the whole stays known."""
    campaign = read({"campaign_id": given_}).campaign
    assert campaign is not None
    assert expected == (campaign.id, campaign.variation_id)


def test_a_user_action_is_custom_and_keeps_its_attributes() -> None:
    """Its `url` is the customer's own, not a clicked link."""
    event = read({"url": "https://shop.example.com/"}, event_code="Viewed", event_type="USER_ACTION_EVENT")
    assert ("custom", None) == (event.type, event.link)
    assert "https://shop.example.com/" == event.properties["url"]


def test_an_address_is_found_where_there_is_one() -> None:
    """In the event's attributes by either name, else in the user's; not repeated among the properties."""
    assert "bob@example.net" == read({"email_id": None, "moe_email_id": "Bob@example.net"}).person.email
    event = read({"email_id": None}, user_attributes={"moe_user_email": "cy@example.org", "plan": "gold"})
    assert "cy@example.org" == event.person.email
    assert {"plan": "gold"} == event.properties["user_attributes"]
