"""From a platform's item to a checked canonical event: the one path of webhooks, exports and tracking calls."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import msgspec

from espial import events
from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.events import Event
from espial.sources import Source


class Recordable(NamedTuple):
    """An event ready to be inserted: itself, its canonical JSON and the partition it belongs to."""

    event: Event
    body: bytes
    home: str


_SEPARATOR = "\x1f"
AHEAD = timedelta(minutes=10)
"""How far a sender's clock may run ahead of ours before its time is not believed."""


def normalise(source: Source, item: Item, arrival: Arrival, raw: str | None = None) -> Recordable:
    """Map, identify, check against the contract and serialise one item.

    What the source says comes as plain dicts and leaves as checked structures: no value of a wrong type passes.
    Raises MalformedItem with a reason and, where one is to blame, the field; anything a source raises
    besides is our bug and goes the way of the retry and the dead-letter queue.
    """
    connection = arrival.connection
    fields = source.normalise(item, arrival)
    identified_at = fields.pop("identified_at") if "identified_at" in fields else fields["occurred_at"]
    identity = f"{source.name}\x1f{connection.account}\x1f{_SEPARATOR.join(source.identity(item))}"
    fields["event_id"] = events.event_id(identified_at, identity)
    fields["platform"] = source.name
    fields["connection"] = connection.name
    fields["received_at"] = arrival.received_at
    send_key = source.send_key(item)
    if send_key:
        fields["send_key"] = send_key
    if arrival.mode != "live":
        fields["mode"] = arrival.mode
    if raw:
        fields["raw"] = raw
    try:
        event = msgspec.convert(fields, Event)
        if event.occurred_at > arrival.received_at + AHEAD:
            # From a clock that runs ahead (or a test event): a state from the future would beat all that follows it.
            event = msgspec.structs.replace(event, occurred_at=arrival.received_at, time_uncertain=True)
        body = events.encode(event)
    except msgspec.ValidationError as exc:
        raise MalformedItem("contract_violation", str(exc)) from exc
    except (OverflowError, RecursionError) as exc:  # numbers over 64 bits, values nested without end
        raise MalformedItem("not_serialisable", str(exc)) from exc
    return Recordable(event, body, events.home_key(event, source.person_order(item)))
