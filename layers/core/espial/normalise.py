"""From a platform's item to a checked canonical event: the one path of webhooks, exports and tracking calls."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import msgspec
from msgspec import convert

from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.events import Event, encode, event_id, home_key
from espial.machine import by_rule
from espial.messages import is_ours
from espial.sources import EventFields, Source
from espial.sources._shared import text
from espial.vocabulary import EventType


class Recordable(NamedTuple):
    """An event ready to be inserted: itself, its canonical JSON and the partition it belongs to."""

    event: Event
    body: bytes
    home: str


_record = tuple.__new__  # what a named tuple's own constructor calls, without the constructor
_OPENED, _CLICKED = EventType.OPENED, EventType.CLICKED
_REFINED = (_OPENED, _CLICKED, EventType.SUBSCRIBED, EventType.UNSUBSCRIBED)
_SEPARATOR = "\x1f"
AHEAD = timedelta(minutes=10)
"""How far a sender's clock may run ahead of ours before its time is not believed."""


def _refine(kind: EventType, fields: EventFields) -> None:
    """By whom an open or click was, and what a choice is about."""
    engaged = kind is _OPENED or kind is _CLICKED
    if engaged and "client" in fields:
        _say_by_whom(fields)
    if "topic" in fields or not engaged:
        _say_of_what(fields)


def _say_by_whom(fields: EventFields) -> None:
    """The rules' verdict on an open or click, where the platform has none (`espial.machine`)."""
    client = fields["client"]
    if type(client) is not dict or client.get("machine") is not None:
        return
    agent, ip = client.get("user_agent"), client.get("ip")
    found = by_rule(fields["type"], agent if type(agent) is str else "", ip if type(ip) is str else "")
    if found.reason:
        fields["client"] = {**client, "machine": found.machine, "machine_reason": found.reason}


def _say_of_what(fields: EventFields) -> None:
    """The topic that the platform names. The sender's metadata of that name must not narrow a refusal of everything."""
    topic, properties = text(fields.pop("topic", None)), fields.get("properties", {})
    if type(properties) is not dict:
        return  # refused with the rest of what breaks the contract
    said = {name: value for name, value in properties.items() if name != "topic"}
    if "topic" in properties:
        if topic is not None and topic == text(properties["topic"]):
            return
        said["metadata_topic"] = properties["topic"]
    if topic is not None:
        said["topic"] = topic
    fields["properties"] = said


def _own_key(fields: EventFields) -> str | None:
    """The key of a message that we handed over, which the platform repeats: among its metadata, or as a tag."""
    properties, campaign = fields.get("properties"), fields.get("campaign")
    if properties and type(properties) is dict and is_ours(key := properties.get("send_key")):
        return str(key)
    tags = campaign.get("tags") if type(campaign) is dict else None
    return next(filter(is_ours, tags), None) if tags and isinstance(tags, list | tuple) else None


def normalise(source: Source, item: Item, arrival: Arrival, raw: str | None = None) -> Recordable:
    """Map, identify, check against the contract and serialise one item.

    What the source says comes as plain dicts and leaves as checked structures: no value of a wrong type passes.
    Raises MalformedItem with a reason and, where one is to blame, the field; anything a source raises
    besides is our bug and goes the way of the retry and the dead-letter queue.
    """
    platform, connection, received_at = source.name, arrival.connection, arrival.received_at
    fields = source.normalise(item, arrival)
    kind = fields["type"]
    if kind in _REFINED or "topic" in fields:
        _refine(kind, fields)
    if "identified_at" in fields:
        identified_at = fields.pop("identified_at")
    elif "time_uncertain" in fields:
        # Without a time of its own all that is the same over a retry is, nearly always, the day it comes on.
        identified_at = received_at.replace(hour=0, minute=0, second=0, microsecond=0)
    else:
        identified_at = fields["occurred_at"]
    identity = f"{platform}\x1f{connection.account}\x1f{_SEPARATOR.join(source.identity(item))}"
    fields["event_id"] = event_id(identified_at, identity)
    fields["platform"] = platform
    fields["connection"] = connection.name
    fields["received_at"] = received_at
    send_key = _own_key(fields) or source.send_key(item)
    if send_key:
        fields["send_key"] = send_key
    if arrival.mode != "live":
        fields["mode"] = arrival.mode
    if raw:
        fields["raw"] = raw
    try:
        event = convert(fields, Event)
        if event.occurred_at > received_at and event.occurred_at > received_at + AHEAD:
            # From a clock that runs ahead (or a test event): a state from the future would beat all that follows it.
            event = msgspec.structs.replace(event, occurred_at=received_at, time_uncertain=True)
        body = encode(event)
    except msgspec.ValidationError as exc:
        raise MalformedItem("contract_violation", str(exc)) from exc
    except (OverflowError, RecursionError) as exc:  # numbers over 64 bits, values nested without end
        raise MalformedItem("not_serialisable", str(exc)) from exc
    return _record(Recordable, (event, body, home_key(event, source.person_order(item))))
