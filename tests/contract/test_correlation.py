"""Every platform that reports sends and responses: a response is tied to its own send and to no other (A19)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from espial import sources
from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.events import Event
from espial.feeds import correlation, records
from espial.feeds.definition import FeedDefinition
from espial.normalise import normalise
from espial.vocabulary import EventType
from tests.samples import Case, cases

FEED = FeedDefinition(name="cdp")
KIND = frozenset(
    (
        *(
            "event",
            "type",
            "status",
            "event_type",
            "eventtype",
            "recordtype",
            "eventname",
            "event_name",
            "name",
            "kind",
        ),
        *("activity", "action", "messagestatus", "smsstatus", "stat", "message_type", "eventcategorytype", "metric"),
        *("event_code",),
        *("timestamp", "time", "ts", "ts_event", "ts_epoch", "date", "created_at", "occurred_at", "received_at", "at"),
    )
)
NUMBER = frozenset(
    ("id", "event_id", "eventid", "sg_event_id", "webhook_id", "webhookid", "uuid", "event-id", "_event")
)
"""What a report calls its own kind and time, and its own number or that of what it is about."""

NO_RESPONSES = {"clevertap", "mparticle", "hubspot"}
"""They report what was sent, or what people chose, and no response to a message."""


def reports(platform: str) -> Iterator[tuple[Case, Item, Event]]:
    for case in cases(platform):
        for item in case.items:
            try:
                event = normalise(case.source, item, case.arrival).event
            except MalformedItem:
                continue
            yield case, item, event


def like(response: Any, send: Any, keep: frozenset[str]) -> Any:
    """The response, about the message of the send: every value that both have under one name, but for some."""
    if isinstance(response, Mapping) and isinstance(send, Mapping):
        return {
            name: value
            if name not in send or (name.lower() in keep and not isinstance(value, Mapping))
            else like(value, send[name], keep)
            for name, value in response.items()
        }
    if isinstance(response, list) and isinstance(send, list):
        return [*(like(*pair, keep) for pair in zip(response, send, strict=False)), *response[len(send) :]]
    return send if type(send) is type(response) and not isinstance(send, bool) else response


def send_of(event: Event) -> EventType | None:
    return correlation.send_type(sources.load(event.platform), event.channel)


def role(event: Event) -> str:
    return records.role_of(event, correlation.ties(event, "shop"), FEED, send_of(event)).kind


def tied(*events: Event) -> dict[str, correlation.Match]:
    return correlation.correlate([(event, "shop") for event in events], send_of)


def split(platform: str) -> tuple[list[tuple[Item, Event]], list[tuple[Case, Item, Event]], list[Event]]:
    """A platform's sends, the responses that have one, and those to messages whose sends it does not report."""
    found = list(reports(platform))
    sends = [(item, event) for _, item, event in found if role(event) == records.SEND]
    responses = [one for one in found if role(one[2]) == records.RESPONSE]
    return sends, [one for one in responses if send_of(one[2])], [one[2] for one in responses if not send_of(one[2])]


PLATFORMS = [name for name in sources.NAMES if name not in NO_RESPONSES]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_response_finds_a_send_of_its_message(platform):
    """Each sample of a response, rewritten to be about the message of a sample of a send; else a stand-in."""
    sends, responses, unsent = split(platform)
    stand_ins = tied(*unsent)
    assert {event.event_id for event in unsent} == set(stand_ins)
    by_key: dict[str, set[str]] = {}
    for event in unsent:
        if event.send_key:
            by_key.setdefault(event.send_key, set()).add(stand_ins[event.event_id].id)
    assert all(len(ids) == 1 for ids in by_key.values()), "two stand-ins for one message"
    matched = [event for case, item, event in responses if any(_finds(case, item, event, *send) for send in sends)]
    assert matched or not responses, "no response finds its send"
    assert matched or unsent


def _finds(case: Case, item: Item, event: Event, send_item: Item, send: Event) -> bool:
    arrival = Arrival(connection=case.connection, transport="webhook", received_at=case.received_at)
    for keep in (KIND | NUMBER, KIND):
        try:
            about = normalise(case.source, like(item, send_item, keep), arrival).event
        except MalformedItem:
            continue
        found = tied(send, about)
        if about.type is event.type and about.event_id != send.event_id and about.event_id in found:
            return found[about.event_id].id == found[send.event_id].id
    return False


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_response_is_tied_to_the_send_of_somebody_else(platform):
    """Of all samples: a response and its send name the same address where both name one."""
    events = {event.event_id: event for _, _, event in reports(platform)}
    found = tied(*events.values())
    sends = {found[event_id].id: event for event_id, event in events.items() if role(event) == records.SEND}
    for event_id, match in found.items():
        send = sends.get(match.id)
        if send and send.person.email and events[event_id].person.email:
            assert send.person.email == events[event_id].person.email, match.method


def test_what_readers_do_on_our_pages_is_tied_to_our_own_send() -> None:
    """A mail of a trigger is told of by `message_requested`; a click on our link has its send key."""
    (case,) = (case for case in cases("espial_pages") if case.name == "clicked")
    click = case.recordables[0].event
    sent = msgspec.structs.replace(click, type=EventType.MESSAGE_REQUESTED, platform="espial", connection="espial")
    assert correlation.ties(click, "pages").computed == correlation.ties(sent, "espial").computed != ""
    other = msgspec.structs.replace(sent, send_key="s-2")
    assert not {*correlation.ties(click, "pages").keys} & {*correlation.ties(other, "espial").keys}
