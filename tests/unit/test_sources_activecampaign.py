"""ActiveCampaign: forms with brackets, identity by everything said, and what its words mean."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

ACTIVECAMPAIGN = sources.load("activecampaign")
CASE = samples.case("activecampaign", "click")
PAIRS = parse_qsl(CASE.body.decode(), keep_blank_values=True)


def events(pairs: list[tuple[str, str]], later: float = 0) -> list[Event]:
    delivery = replace(CASE.delivery, body=urlencode(pairs).encode())
    arrival = replace(CASE.arrival, received_at=CASE.received_at + timedelta(seconds=later))
    return [normalise(ACTIVECAMPAIGN, item, arrival).event for item in ACTIVECAMPAIGN.split(delivery)]


def read(**changes: str) -> Event:
    kept = [(name, value) for name, value in PAIRS if name not in changes]
    return events([*kept, *changes.items()])[0]


@given(st.randoms(use_true_random=False), st.integers(0, 3600))
def test_a_repetition_in_any_order_is_the_same_event(chance: random.Random, later: int) -> None:
    """Delivered at least once and numbered never: the same pairs are the same event."""
    again = list(PAIRS)
    chance.shuffle(again)
    assert [event.event_id for event in events(PAIRS)] == [event.event_id for event in events(again, later)]


@given(st.sampled_from([name for name, _ in PAIRS if name not in ("type", "date_time")]), st.text(min_size=1))
def test_whatever_differs_makes_another_event(name: str, value: str) -> None:
    """One second may see two clicks: the link, or anything else, tells them apart."""
    changed = [(field, value if field == name else old) for field, old in PAIRS]
    assert (dict(changed) == dict(PAIRS)) == (events(changed)[0].event_id == events(PAIRS)[0].event_id)


def test_values_hold_what_forms_escape() -> None:
    """`&` and `=` in a link, and the account's offset in its time."""
    event = read(**{"link[url]": "https://shop.example.com/?a=1&b=2#ä", "date_time": "2026-01-15T04:00:37-06:00"})
    assert event.link is not None
    assert "https://shop.example.com/?a=1&b=2#ä" == event.link.url
    assert "2026-01-15T10:00:37+00:00" == event.occurred_at.isoformat()


@pytest.mark.parametrize(
    ("kind", "expected"), [("hard", "bounced"), ("soft", "soft_bounced"), ("Soft", "soft_bounced"), ("", "bounced")]
)
def test_a_bounce_is_told_by_its_type(kind: str, expected: str) -> None:
    """Where it does not say, it is a hard one."""
    assert expected == read(type="bounce", **{"bounce[type]": kind}).type


@pytest.mark.parametrize(("named", "topic"), [("3", "list/3"), ("0", None), ("", None)])
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_joining_and_leaving_are_about_the_list_alone(kind: str, named: str, topic: str | None) -> None:
    """An import into one list must not undo a refusal of everything, nor is leaving one list a refusal of all."""
    assert topic == read(type=kind, list=named).properties.get("topic")


def test_a_message_of_no_campaign_has_none() -> None:
    """Automations report campaign 0."""
    assert read(**{"campaign[id]": "0"}).campaign is None


def test_custom_fields_are_traits() -> None:
    """They become the person's attributes where the event is about the contact; lists and sources do not."""
    traits: dict[str, Any] = read(type="update", **{"contact[fields][size]": "38"}).properties["traits"]
    assert ("38", "Ada", False) == (traits["size"], traits["first_name"], "list" in traits)


def test_only_the_url_can_show_the_secret() -> None:
    """No header can be set and nothing is signed; the wrong key is refused with 401, never with 410."""
    url = f"{CASE.delivery.url}?key=a%2Bb"
    delivery = replace(CASE.delivery, headers={}, url=url)
    ACTIVECAMPAIGN.verify(delivery, (b"a+b",), CASE.now)
    with pytest.raises(SignatureError):
        ACTIVECAMPAIGN.verify(delivery, (b"a b",), CASE.now)
    assert 401 == ACTIVECAMPAIGN.unproven
