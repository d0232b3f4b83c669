"""The eleven triggers by which notifications are known to PureResponse's clients, and what fires each (B4, B7 to B17).

Every canonical type fires by its own name besides, so `BLOCKED` is the trigger and `blocked` the type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from espial.events import Event
from espial.vocabulary import EventType

_FAILED_SMS = frozenset({EventType.FAILED, EventType.BOUNCED, EventType.REJECTED, EventType.BLOCKED})

BY_TYPE: Mapping[EventType, str] = {
    EventType.DELIVERY_STARTED: "DELIVERYSTART",
    EventType.DELIVERY_COMPLETED: "DELIVERY",
    EventType.OPENED: "OPEN",
    EventType.CLICKED: "CLICK",
    EventType.BOUNCED: "BOUNCE",
    EventType.BLOCKED: "BLOCKED",
    EventType.SUBSCRIBED: "OPTIN",
    EventType.UNSUBSCRIBED: "OPTOUT",
    EventType.SOFT_BOUNCED: "SOFTBOUNCE",
}
"""What fires which trigger, of any channel but SMS where `_OF_SMS` says otherwise."""
_OF_SMS: Mapping[EventType, str] = {EventType.UNSUBSCRIBED: "SMSOPTOUT"} | dict.fromkeys(_FAILED_SMS, "SMSFAILED")

TRIGGERS = (*BY_TYPE.values(), "SMSOPTOUT", "SMSFAILED")

UNHEARD = frozenset(
    {EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED, EventType.TRIGGER_ENTERED, EventType.UNKNOWN}
)
"""Of what we do ourselves nobody is notified: a notification may make us do it."""

ASKABLE = (*TRIGGERS, *(kind.value for kind in EventType if kind not in UNHEARD))
"""What a destination may ask for."""


def fired(event: Event, asked: Collection[str]) -> list[str]:
    """Those of the triggers asked for that the event fires: at most one of the eleven, and its type."""
    names = [trigger_of(event), event.type.value]
    return [name for name in names if name in asked]


def trigger_of(event: Event) -> str:
    """Which of the eleven it fires; empty if none."""
    of_sms = _OF_SMS.get(event.type) if event.channel == "sms" else None
    return of_sms or BY_TYPE.get(event.type, "")


def types_of(asked: Iterable[str]) -> frozenset[str]:
    """The canonical types that may fire any of them. A click fires an open where none is known (B9)."""
    found = set()
    for name in asked:
        found |= {kind.value for kind, trigger in BY_TYPE.items() if trigger == name}
        found |= {kind.value for kind, trigger in _OF_SMS.items() if trigger == name}
        found |= {EventType.CLICKED.value} if name == "OPEN" else set()
        found |= {name} if name in set(EventType) else set()
    return frozenset(found)


def wanted(active: Mapping[str, Any]) -> frozenset[str]:
    """The canonical types that the destinations of an active bundle need on the bus."""
    enabled = [one for one in active.get("destinations", {}).values() if one.get("enabled", True)]
    return types_of(name for one in enabled for name in one["on"])
