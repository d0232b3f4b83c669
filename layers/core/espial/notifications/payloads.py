"""What goes out: the canonical event as JSON, or PureResponse's fields as a form (B.c.2) or a text (B.c.4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlencode

import msgspec

from espial import events
from espial.messages import one_line
from espial.notifications.facts import DATES, custom, facts
from espial.notifications.outbox import Notification
from espial.sources._pure360_fields import CUSTOM, TRIGGERS, plain

OTHERS = (
    *("type", "profile", "Event_date", "email", "mobile", "messageName", "deliveryDate", "Delivery_ID"),
    *(CUSTOM, "notificationSubject"),
)
"""Of what goes by its canonical type."""

LONGEST = 20_000
"""Characters of one notification in a mail: a digest must stay one that mail servers take."""

CustomFields = Literal["*"] | tuple[str, ...]


def fields(
    notification: Notification, profile: str, subject: str, custom_fields: CustomFields
) -> list[tuple[str, str | list[str]]]:
    """(name, what is said) in PureResponse's order and spelling; what is not said is empty."""
    known = {**facts(notification, profile or notification.event.connection), "notificationsubject": subject}
    names = TRIGGERS.get(notification.trigger, OTHERS)
    pairs: list[tuple[str, str | list[str]]] = []
    for name in names:
        if name == CUSTOM:
            own = custom(notification).items()
            pairs += [one for one in own if one[0] not in names and (custom_fields == "*" or one[0] in custom_fields)]
        else:
            pairs.append((name, known[plain(name)]))
    return pairs


def form(notification: Notification, profile: str, subject: str, custom_fields: CustomFields) -> bytes:
    """The fields as `application/x-www-form-urlencoded`; a list comes once for each."""
    return urlencode(fields(notification, profile, subject, custom_fields), doseq=True).encode()


def text(notification: Notification, profile: str, subject: str, custom_fields: CustomFields) -> str:
    """The fields for a mail, a line each, whatever stands in them; dates in both ways. At most `LONGEST` characters."""
    lines = [
        f"{one_line(name.removesuffix('[]'))}: {_line(name, value)}".rstrip()
        for name, value in fields(notification, profile, subject, custom_fields)
    ]
    whole = "\n".join(lines)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}…"


def digest(notifications: Sequence[Notification], profile: str, subject: str, custom_fields: CustomFields) -> str:
    """A section for each notification: its number and id, and its fields."""
    count = len(notifications)
    return "\n\n".join(
        f"[{number}/{count}] {one_line(one.id)}\n{text(one, profile, subject, custom_fields)}"
        for number, one in enumerate(notifications, 1)
    )


def _line(name: str, value: str | list[str]) -> str:
    if isinstance(value, list):
        return ", ".join(map(one_line, value))
    if value.isascii() and value.isdigit() and plain(name) in DATES:
        with suppress(ValueError, OverflowError, OSError):
            return f"{value} ({datetime.fromtimestamp(int(value), UTC):%Y-%m-%dT%H:%M:%SZ})"
    return one_line(value)


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
