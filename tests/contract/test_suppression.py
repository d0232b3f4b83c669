"""What each platform's reports close: addresses by hard bounces and complaints, topics and channels by the person."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from msgspec import structs

from espial import people
from espial.errors import MalformedItem
from espial.events import Event
from espial.normalise import normalise
from espial.people import PersonView
from espial.sources import NAMES
from espial.vocabulary import EventType
from tests.samples import cases

NEVER_SENT_AGAIN = {EventType.BOUNCED, EventType.COMPLAINED}
ADDRESSES = {"email": "email", "sms": "phone", "whatsapp": "phone"}


def _events(platform: str) -> list[Event]:
    return [recordable.event for one in cases(platform) for recordable in one.recordables]


@pytest.mark.parametrize("platform", NAMES)
def test_only_hard_bounces_and_complaints_block(platform: str) -> None:
    """What is soft, blocked, dropped, rejected or failed says something of the message; the next one may go."""
    for event in _events(platform):
        blocks = people.of_event(event).blocks
        if event.type not in NEVER_SENT_AGAIN:
            assert {} == blocks, event.platform_type
        elif event.type is EventType.COMPLAINED:
            assert {f"{event.channel}/"} == set(blocks), event.platform_type
        else:
            address = getattr(event.person, ADDRESSES.get(event.channel, ""), None)
            assert ({f"{event.channel}/{address}"} if address else set()) == set(blocks), event.platform_type


@pytest.mark.parametrize("platform", NAMES)
def test_a_word_about_one_channel_closes_no_other(platform: str) -> None:
    """Leaving text messages is not leaving mail; what comes over no channel of messages is about mail."""
    for event in _events(platform):
        said = people.of_event(event).choices
        if event.type is EventType.UNSUBSCRIBED:
            channel = event.channel if event.channel in ("email", "sms", "push", "whatsapp", "inapp") else "email"
            assert {channel} == {scope.partition("/")[0] for scope in said}, event.platform_type


@pytest.mark.parametrize(
    ("platform", "case", "topic"),
    [
        ("activecampaign", "unsubscribe", "list/3"),
        ("iterable", "email-unsubscribe-lists", "list/12"),
        ("mailchimp", "unsubscribe-delete", "list/beefcafe02"),
        ("mailjet", "all-types", "list/20"),
    ],
)
def test_leaving_a_list_leaves_the_rest(platform: str, case: str, topic: str) -> None:
    """The list's topic is closed, the channel is not; joining the list again opens it."""
    told = next(one for one in cases(platform) if one.name == case).recordables
    left = [one.event for one in told if one.event.type is EventType.UNSUBSCRIBED]
    consent = PersonView(key=people.keys_of(left[0])[0], profile=_profile(*left)).consent
    assert (False, False) == (consent[f"email/{topic}"], "email/" in consent)
    back = [structs.replace(one, type=EventType.SUBSCRIBED, event_id=f"{one.event_id[:-1]}Z") for one in left]
    assert PersonView(key=people.keys_of(left[0])[0], profile=_profile(*left, *back)).consent[f"email/{topic}"]


def _profile(*events: Event) -> people.Profile:
    return reduce(people.merge_profile, events, people.NOTHING)


OWN_WORDS = frozenset({"segment", "custom_json", "cloudevents", "standard_webhooks"})
"""Whose reports are their sender's own words, `topic` among them."""


def _with_topic(value: Any) -> Any:
    """The same report, in which every object names a topic."""
    if isinstance(value, dict):
        return {"topic": "metadata", **{name: _with_topic(one) for name, one in value.items()}}
    return [_with_topic(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("platform", [name for name in NAMES if name not in OWN_WORDS])
def test_metadata_does_not_narrow_a_refusal(platform: str) -> None:
    """Senders call a custom argument `topic`: an unsubscription from everything stays one."""
    for one in cases(platform):
        for item in one.items:
            try:
                events = [normalise(one.source, given, one.arrival).event for given in (item, _with_topic(item))]
            except MalformedItem:
                continue
            before, after = ({*people.of_event(event).choices} for event in events)
            assert before == after, one
