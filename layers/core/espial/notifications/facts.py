"""What a notification says, under the plain names that Pure360's fields are told by, whatever platform reported it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from espial.events import Event
from espial.notifications.outbox import Notification

_DATES = {
    "deliverydate": "delivery_date",
    "deliveryscheduleddate": "scheduled_date",
    "deliverystartdate": "start_date",
    "deliverycompletedate": "complete_date",
}

DATES = frozenset({*_DATES, "eventdate", "clickdate"})
"""Plain names of what is told in Unix seconds."""


def facts(notification: Notification, profile: str) -> dict[str, str | list[str]]:
    """Plain name -> what is said, empty where nothing is; dates are Unix seconds, `listnames` is a list.

    The profile is what the event says, else `profile`, else the connection.
    """
    event = notification.event
    said, campaign, failure = event.properties, event.campaign, event.failure
    device = _inner(said, "device")
    at = str(int(event.occurred_at.timestamp()))
    code, reason = (failure.code or "", failure.reason or "") if failure else ("", "")
    names = said.get("lists")
    return {
        "type": notification.trigger,
        "profile": _text(said.get("profile")) or profile or event.connection,
        "user": _text(said.get("user")),
        "messagetype": _text(said.get("message_type")) or event.channel.upper(),
        "messagename": (campaign and (campaign.name or campaign.journey_name)) or "",
        "deliveryid": (campaign and (campaign.id or campaign.journey_id)) or "",
        "listnames": list(map(_text, names)) if isinstance(names, list) else [],
        **{name: _seconds(said.get(of)) for name, of in _DATES.items()},
        "emailssentcreditsused": _text(said.get("messages_sent")),
        "eventdate": at,
        "email": event.person.email or "",
        "mobile": event.person.phone or "",
        "devicetype": _text(device.get("type")),
        "deviceos": _text(device.get("os")),
        "devicebrowser": _text(device.get("browser")),
        "clickurl": (event.link and event.link.url) or "",
        "clickdate": at,
        "bouncecode": code,
        "bouncereason": reason,
        "failurecode": code,
        "failurereason": reason,
        "eventid": event.event_id,
    }


def custom(notification: Notification) -> dict[str, str]:
    """The recipient's own fields, by name."""
    traits = _inner(notification.event.properties, "traits")
    return {name: _text(value) for name, value in traits.items() if not isinstance(value, dict | list)}


def without(event: Event, gives: Callable[[str], bool]) -> Event:
    """The event without those of the recipient's own fields that do not go out."""
    traits = event.properties.get("traits")
    if not isinstance(traits, Mapping) or all(map(gives, traits)):
        return event
    given = {name: value for name, value in traits.items() if gives(name)}
    return msgspec.structs.replace(event, properties={**event.properties, "traits": given})


def _inner(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = said.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _seconds(value: Any) -> str:
    """An RFC 3339 instant as Unix seconds; anything else as it is."""
    try:
        return str(int(datetime.fromisoformat(value).timestamp()))
    except (TypeError, ValueError):
        return _text(value)
