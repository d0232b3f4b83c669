"""A batch of the client pull: which columns the rows of each trigger have, and the rows as CSV (seed facts B.c.3).

CSV without a header, rows of several triggers mixed: the first column is the trigger, which says what the others are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from espial.notifications.facts import custom, facts
from espial.notifications.outbox import Notification
from espial.sources._pure360_fields import ALIASES
from espial.vocabulary import EventType

MOST = 10_000
"""Records of a batch (B19)."""

_DELIVERY = (
    *("type", "profile", "messageType", "messageName", "deliveryId", "listNames"),
    *("deliveryScheduledDate", "deliveryStartDate", "deliveryCompleteDate"),
)
_DEVICE = ("deliveryId", "mobile", "deviceType", "deviceOS", "deviceBrowser")
_MESSAGE = ("type", "email", "messageName", "deliveryDate", "eventDate")
_BOUNCE = (*_MESSAGE, "deliveryId", "bounceCode", "bounceReason")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "DELIVERYSTART": _DELIVERY,
    "DELIVERY": (*_DELIVERY, "emailsSent"),
    "OPEN": (*_MESSAGE, *_DEVICE),
    "CLICK": ("type", "email", "Message Name", "Delivery Date", "Click Url", "Click Date", *_DEVICE),
    "BOUNCE": _BOUNCE,
    "SOFTBOUNCE": _BOUNCE,
    "BLOCKED": _BOUNCE,
    "OPTIN": ("type", "email", "mobile", "listNames", "profile", "eventDate"),
    "OPTOUT": ("type", "email", "mobile", "messageName", "deliveryDate", "eventDate", "deliveryId", "profile"),
    "SMSOPTOUT": ("type", "mobile", "profile", "eventDate"),
    "SMSFAILED": (
        "type",
        "mobile",
        "messageName",
        "deliveryDate",
        "eventDate",
        "deliveryId",
        "failureCode",
        "failureReason",
    ),
}
"""Those of CLICK and OPEN are published as far as `Click Date` and `deliveryDate`."""

OTHERS = ("type", "email", "mobile", "messageName", "deliveryDate", "eventDate", "deliveryId", "profile", "eventId")
"""Of every trigger that goes by its canonical type."""

_TYPES = frozenset(map(str, EventType))
_ALSO = {"emailssent": "emailssentcreditsused"}


def trigger(said: str) -> str | None:
    """The trigger of that name, or the canonical type, whatever its case; None if there is none.

    `BLOCKED` is the trigger, `blocked` the type.
    """
    name = said.strip()
    if name in _TYPES:
        return name
    upper = ALIASES.get(name.upper(), name.upper())
    return upper if upper in COLUMNS else name.lower() if name.lower() in _TYPES else None


def columns(trigger: str) -> tuple[str, ...]:
    """The columns of a trigger's rows, before the custom fields that were asked for."""
    return COLUMNS.get(trigger, OTHERS)


def meta(notifications: Sequence[Notification], custom_fields: Sequence[str]) -> dict[str, str]:
    """Trigger -> its columns, comma-separated; only of those that are there."""
    triggers = dict.fromkeys(one.trigger for one in notifications)
    return {trigger: ",".join((*columns(trigger), *custom_fields)) for trigger in triggers}


def rows(notifications: Sequence[Notification], profile: str, custom_fields: Sequence[str]) -> list[str]:
    """Each notification as its line of CSV, the line feed included; a custom field's case does not matter."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    lines = []
    for one in notifications:
        said = facts(one, profile)
        own = {name.lower(): value for name, value in custom(one).items()} if custom_fields else {}
        cells = [said[_plain(column)] for column in columns(one.trigger)]
        writer.writerow(
            [
                *(",".join(cell) if isinstance(cell, list) else cell for cell in cells),
                *(own.get(name.lower(), "") for name in custom_fields),
            ]
        )
        lines.append(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    return lines


def _plain(column: str) -> str:
    name = column.replace(" ", "").lower()
    return _ALSO.get(name, name)
