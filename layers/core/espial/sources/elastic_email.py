"""Elastic Email notifications: one event a call, in the query of a GET or as flat JSON; nothing is signed.

https://help.elasticemail.com/en/articles/2376855-how-to-manage-http-web-notifications-old-dashboard
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, instant, objects, query, remaining, text, texts
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "Sent": EventType.DELIVERED,
    "Opened": EventType.OPENED,
    "Clicked": EventType.CLICKED,
    "Error": EventType.BOUNCED,
    "AbuseReport": EventType.COMPLAINED,
    "Unsubscribed": EventType.UNSUBSCRIBED,
}

CATEGORIES: Mapping[str, EventType] = {
    **dict.fromkeys(("nomailbox", "accountproblem", "dnsproblem"), EventType.BOUNCED),
    **dict.fromkeys(
        ("greylisted", "throttled", "timeout", "connectionproblem", "connectionterminated"), EventType.SOFT_BOUNCED
    ),
    **dict.fromkeys(("spam", "blacklisted", "spfproblem", "whitelistingproblem", "contentfilter"), EventType.BLOCKED),
    **dict.fromkeys(("ignore", "manualcancel", "notdelivered"), EventType.DROPPED),
    **dict.fromkeys(("codeerror", "unknown"), EventType.FAILED),
}
"""`category` of an Error, lower-cased, as the reason of a bounce or of something else."""

_SPELLINGS = {name.lower(): name for name in EVENT_TYPES}
_OWN = frozenset(
    ["transaction", "messageid", "to", "from", "date", "status", "channel", "category", "target", "subject"]
)
_TOLD = ("transaction", "messageid", "date", "target", "category")
_AMERICAN = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d\d):(\d\d)(?: ?([AP])M)?", re.ASCII | re.IGNORECASE)


def split(delivery: RawDelivery) -> list[Item]:
    """One event from the query of a GET, none if it is empty; or the body's JSON. Raises MalformedDelivery."""
    if delivery.method != "GET":
        return objects(delivery)
    found: Item = dict(query(delivery))
    return [found] if found else []


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no status or no date."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    get = item.get
    status = _status(item)
    channel, transaction = text(get("channel")), text(get("transaction"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(status, EventType.UNKNOWN),
        "platform_type": status,
        "channel": "email",
        "occurred_at": _occurred_at(get("date")),
        "person": {"email": email(get("to"))},
        "message_id": _message(item),
        "properties": dict(sorted(remaining(item, _OWN).items())),
    }
    if channel or transaction:
        fields["campaign"] = {"name": channel, "send_id": transaction}
    if status == "Clicked":
        url = text(get("target"))
        fields["link"] = {"url": url} if url else None
    elif status == "Error":
        category = text(get("category"))
        fields["type"] = CATEGORIES.get((category or "").lower(), EventType.FAILED)
        fields["failure"] = {"class": category} if category else None
    return fields


def _status(item: Item) -> str:
    """As the documentation writes it, whatever the case. Raises MalformedItem."""
    given = item.get("status")
    if not isinstance(given, str) or not given:
        raise MalformedItem("missing_event", "status is missing or not text", "status")
    return _SPELLINGS.get(given.lower(), given)


def _occurred_at(given: Any) -> datetime:
    """UTC without saying so: `1/15/2026 10:00:02 AM`, or ISO. Raises MalformedItem."""
    found = _AMERICAN.fullmatch(given.strip()) if type(given) is str and "/" in given else None
    if found is None:
        return instant(given, "date")
    month, day, year, hour, minute, second, half = found.groups()
    hours = int(hour) % 12 + (12 if half in "Pp" else 0) if half else int(hour)
    return instant(f"{year}-{month:>02}-{day:>02}T{hours:02}:{minute}:{second}", "date")


def _message(item: Item) -> str | None:
    """Old notifications name the transaction alone, which is one for all recipients."""
    return text(item.get("messageid")) or text(item.get("transaction"))


def identity(item: Item) -> tuple[str, ...]:
    """All that tells a recipient's events apart; there is no event id."""
    return (_status(item), email(item.get("to")) or "", *texts(item, _TOLD))


def send_key(item: Item) -> str | None:
    """The message id returned at send time, else the transaction, and the recipient."""
    message, recipient = _message(item), email(item.get("to"))
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="elastic_email",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    methods=frozenset({"GET", "POST"}),
    docs=Docs(
        title="Elastic Email notifications",
        url="https://help.elasticemail.com/en/articles/2376855-how-to-manage-http-web-notifications-old-dashboard",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path, then ?key= and the secret.",
            "In Elastic Email: Settings, Notifications, Notification URL; paste the URL.",
            "Under Notify On choose everything; save.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="What stands in the URL's parameter `key`, or `user:password` as in the URL.",  # noqa: S106
        answers=(
            "Anything but 200 is a failure; after 1000 in a row notifications are switched off. How often a failed"
            " one is tried again is not published."
        ),
        notes=(
            "`Sent` is taken for `delivered`: it is said to mean that the recipient's server took it (not confirmed).",
            "An Error is a bounce, block, drop or failure by its category, which is `failure.class`.",
            "Dates without a zone are UTC; both the American form and ISO are read.",
            "postback, account and the URL's own parameters become `properties`; the channel is `campaign.name`.",
            "The optional signature of new webhooks (EnableSigning) is not checked: how it is made is not confirmed.",
            "Anything may fetch an address again: a GET that is repeated is a duplicate.",
        ),
    ),
)
