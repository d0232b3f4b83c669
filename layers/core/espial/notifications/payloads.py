"""What is posted: the canonical event as JSON, or the fields of PureResponse's form in its own spelling (B.c.2)."""

from __future__ import annotations

import json
from typing import Literal
from urllib.parse import urlencode

import msgspec

from espial import events
from espial.notifications.facts import custom, facts
from espial.notifications.outbox import Notification
from espial.sources._pure360_fields import CUSTOM, TRIGGERS, plain

OTHERS = (
    *("type", "profile", "Event_date", "email", "mobile", "messageName", "deliveryDate", "Delivery_ID"),
    *(CUSTOM, "notificationSubject"),
)
"""Of what goes by its canonical type."""

CustomFields = Literal["*"] | tuple[str, ...]


def form(notification: Notification, profile: str, subject: str, custom_fields: CustomFields) -> bytes:
    """The fields as `application/x-www-form-urlencoded`; what is not said is empty, a list comes once for each."""
    known = {**facts(notification, profile or notification.event.connection), "notificationsubject": subject}
    names = TRIGGERS.get(notification.trigger, OTHERS)
    pairs: list[tuple[str, str]] = []
    for name in names:
        if name == CUSTOM:
            own = custom(notification).items()
            pairs += [one for one in own if one[0] not in names and (custom_fields == "*" or one[0] in custom_fields)]
        else:
            value = known[plain(name)]
            pairs += [(name, one) for one in value] if isinstance(value, list) else [(name, value)]
    return urlencode(pairs).encode()


def body(notification: Notification, profile: str, subject: str, custom_fields: CustomFields) -> bytes:
    """The notification as JSON: what it is, and the canonical event."""
    event = json.loads(events.encode(notification.event))
    traits = event.get("properties", {}).get("traits")
    if isinstance(traits, dict) and custom_fields != "*":
        event["properties"]["traits"] = {name: value for name, value in traits.items() if name in custom_fields}
    content = {
        "id": notification.id,
        "type": notification.trigger,
        "timestamp": event["occurred_at"],
        "profile": profile or notification.event.connection,
        **({"subject": subject} if subject else {}),
        **({"replay": notification.replayed} if notification.replayed else {}),
        "data": event,
    }
    return msgspec.json.encode(content)
