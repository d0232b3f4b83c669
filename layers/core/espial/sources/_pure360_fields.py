"""What PureResponse puts into an event notification: trigger -> its fields, spelt and ordered as they are posted.

https://apihub.pure360.com/documentation/EventNotification/references/http.html

Plain data for both sides: the reader takes meanings from it, a writer of such notifications its spelling. The samples
that are published spell one thing differently by trigger (`MessageName`, `Message_Name`, `messageName`), and other
transports in other ways again (`message name`), so fields are told by their letters and digits alone (`plain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

CUSTOM = "*"
"""Where the recipient's custom fields stand, each under its own name."""

_DATES = ("Delivery_Scheduled_Date", "Delivery_Start_Date", "Delivery_Complete_Date")
_OF_A_MESSAGE = ("type", "Event_date", "email", "messageName", "deliveryDate")
_BOUNCE = (*_OF_A_MESSAGE, "Delivery_ID", "bounceCode", "bounceReason", CUSTOM, "notificationSubject")
_OPEN = (
    *("type", "Event_date", "email", "mobile", "messageName", "deliveryDate"),
    *("device_type", "device_OS", "device_Browser", "Delivery_ID"),
)

TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "DELIVERYSTART": (
        *("type", "profile", "message_Type", "MessageName", "Delivery_ID", "List_Names[]"),
        *_DATES,
    ),
    "DELIVERY": (
        *("type", "notificationSubject", "user", "Profile", "Message_Type", "Message_Name", "Delivery_ID"),
        *("List_Names[]", *_DATES, "Emails_Sent_/_Credits_Used"),
    ),
    "OPEN": (*_OPEN, CUSTOM, "notificationSubject"),
    "CLICK": (*_OPEN, "clickUrl", "clickDate", CUSTOM, "notificationSubject"),
    "BOUNCE": _BOUNCE,
    "SOFTBOUNCE": _BOUNCE,
    "BLOCKED": _BOUNCE,
    "OPTIN": ("type", "profile", "Event_date", "email", "mobile", "List_Names[]", CUSTOM, "notificationSubject"),
    "OPTOUT": (
        *("type", "profile", "Event_date", "email", "mobile", "messageName", "deliveryDate", "Delivery_ID"),
        *(CUSTOM, "notificationSubject"),
    ),
    "SMSOPTOUT": ("type", "profile", "Event_date", "mobile", CUSTOM, "notificationSubject"),
    "SMSFAILED": (
        *("type", "Event_date", "mobile", "messageName", "deliveryDate", "Delivery_ID"),
        *("failureCode", "failureReason", CUSTOM, "notificationSubject"),
    ),
}
"""All eleven (B4). The fields of the first three are published (`PUBLISHED`); the others follow the spelling of OPEN
and the columns of the client pull."""

PUBLISHED = frozenset({"DELIVERYSTART", "DELIVERY", "OPEN"})
DELIVERIES = frozenset({"DELIVERYSTART", "DELIVERY"})
"""Triggers about a delivery as a whole; all others are about one recipient."""

ALIASES: Mapping[str, str] = {"SIGNUP": "OPTIN"}
"""Other words for a trigger that public clients use."""


LONGEST = 64
"""Letters of a name from which on it is nothing of PureResponse's own."""


def plain(name: str) -> str:
    """What a field is told by: its letters and digits in lower case (`Emails_Sent_/_Credits_Used`, `message name`)."""
    return _letters(name) if len(name) <= LONGEST else name


@lru_cache(maxsize=2048)
def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _plain(names: Iterable[str]) -> frozenset[str]:
    return frozenset(plain(name) for name in names if name != CUSTOM)


SPELLINGS = frozenset(name for names in TRIGGERS.values() for name in names)
LISTS = frozenset(plain(name) for names in TRIGGERS.values() for name in names if name.endswith("[]"))

_ANY = _plain(name for names in TRIGGERS.values() for name in names)
_OF_RECIPIENTS = _plain(name for trigger, names in TRIGGERS.items() if trigger not in DELIVERIES for name in names)
_KNOWN = {name: _plain(names) if name in PUBLISHED else _OF_RECIPIENTS for name, names in TRIGGERS.items()}


def known(trigger: str) -> frozenset[str]:
    """The plain names that are PureResponse's own in a trigger's notification; all others are custom fields.

    Of a trigger whose fields are not published, whatever any recipient's trigger may have.
    """
    return _KNOWN.get(trigger, _ANY)
