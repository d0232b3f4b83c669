"""Postmark webhooks: one flat event a post, told by `RecordType`, unsigned.

Its overview page shows a check of an `x-postmark-signature` and says further down that there is no such signature:
a secret is shown, in the URL's user name and password or in a header of one's own.

https://postmarkapp.com/developer/webhooks/webhooks-overview
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, instant, known, objects, present, text, texts
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "Delivery": EventType.DELIVERED,
    "Bounce": EventType.BOUNCED,
    "SpamComplaint": EventType.COMPLAINED,
    "Open": EventType.OPENED,
    "Click": EventType.CLICKED,
    "SubscriptionChange": EventType.UNSUBSCRIBED,
    "Inbound": EventType.REPLIED,
}

BOUNCE_TYPES: Mapping[str, EventType] = {
    "HardBounce": EventType.BOUNCED,
    "VirusNotification": EventType.BOUNCED,
    "SoftBounce": EventType.SOFT_BOUNCED,
    "Transient": EventType.DEFERRED,
    "DnsError": EventType.DEFERRED,
    "Blocked": EventType.BLOCKED,
    "SpamNotification": EventType.BLOCKED,
    "DMARCPolicy": EventType.BLOCKED,
    "Unsubscribe": EventType.UNSUBSCRIBED,
    "Subscribe": EventType.SUBSCRIBED,
    "AutoResponder": EventType.AUTORESPONDED,
    "AddressChange": EventType.AUTORESPONDED,
    "ChallengeVerification": EventType.AUTORESPONDED,
    "BadEmailAddress": EventType.REJECTED,
    "TemplateRenderingFailed": EventType.REJECTED,
    "ManuallyDeactivated": EventType.DROPPED,
    "Unconfirmed": EventType.DROPPED,
    "SMTPApiError": EventType.FAILED,
    "InboundError": EventType.FAILED,
    "SpamComplaint": EventType.COMPLAINED,
    "OpenRelayTest": EventType.UNKNOWN,
    "Unknown": EventType.UNKNOWN,
}
"""`Type` of a bounce. `TypeCode` says the same less reliably: the vendor's own pages disagree about it."""

SUPPRESSIONS: Mapping[str, EventType] = {
    "HardBounce": EventType.BOUNCED,
    "SpamComplaint": EventType.COMPLAINED,
    "ManualSuppression": EventType.UNSUBSCRIBED,
}
"""`SuppressionReason` of a change that stops sending."""

_TIMES = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
_TOLD = ("MessageID", *_TIMES, "Date", "OriginalLink", "SuppressionReason")
_FACTS = {
    "MessageStream": "message_stream",
    "ServerID": "server_id",
    "FirstOpen": "first_open",
    "ReadSeconds": "read_seconds",
    "ClickLocation": "click_location",
    "Origin": "origin",
    "SuppressSending": "suppress_sending",
    "SuppressionReason": "suppression_reason",
    "Inactive": "inactive",
    "CanActivate": "can_activate",
    "Platform": "device",
}


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no record type, or a time that is none.

    A bounce of type Unsubscribe may lack its time, and the date of an inbound message is its sender's to write: what
    shows none is dated by its receipt.
    """
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    kind = _kind(item)
    if not kind:
        raise MalformedItem("missing_record_type", "RecordType is missing or not text", "RecordType")
    get = item.get
    at = _occurred_at(item) or _written(get("Date"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "email",
        "occurred_at": at or arrival.received_at,
        "person": {"email": _person(item, kind)},
        "message_id": text(get("MessageID")),
        "properties": _properties(item),
    }
    if not at:
        fields["time_uncertain"] = True
    tag = text(get("Tag"))
    if tag:
        fields["campaign"] = {"tags": [tag]}
    special = _SPECIAL.get(kind)
    if special:
        special(item, fields)
    return fields


def _occurred_at(item: Item) -> datetime | None:
    for name in _TIMES:
        given = item.get(name)
        if given is not None:
            return instant(given, name)
    return None


def _kind(item: Item) -> str | None:
    """The record type, which an inbound message does without."""
    return text(item.get("RecordType")) or ("Inbound" if "FromFull" in item else None)


def _person(item: Item, kind: str | None) -> str | None:
    """Recipient or, of a bounce, Email; of an inbound message its sender."""
    if kind == "Inbound":
        return email(inner(item, "FromFull").get("Email")) or email(item.get("From"))
    return email(item.get("Recipient")) or email(item.get("Email"))


def _written(date: Any) -> datetime | None:
    """The date of a message (RFC 5322), None for what is not quite one."""
    try:
        found = datetime.strptime(date.partition(", ")[2], "%d %b %Y %H:%M:%S %z") if type(date) is str else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found and 2000 <= found.year < 2100 else None


def _properties(item: Item) -> dict[str, Any]:
    """Facts worth having at hand, and the message's own metadata, which wins."""
    get = item.get
    facts = {ours: fact for theirs, ours in _FACTS.items() if (fact := get(theirs)) is not None}
    return facts | inner(item, "Metadata")


def _bounced(item: Item, fields: EventFields) -> None:
    kind = text(item.get("Type"))
    fields["type"] = BOUNCE_TYPES.get(kind or "", fields["type"])
    failure = {
        "class": "rendering" if kind == "TemplateRenderingFailed" else kind,
        "code": text(item.get("TypeCode")),
        "reason": text(item.get("Details")) or text(item.get("Description")),
    }
    fields["failure"] = known(failure)


def _engaged(item: Item, fields: EventFields) -> None:
    client = {"ip": text(inner(item, "Geo").get("IP")), "user_agent": text(item.get("UserAgent"))}
    fields["client"] = known(client)
    url = text(item.get("OriginalLink"))
    if url:
        fields["link"] = {"url": url}


def _changed(item: Item, fields: EventFields) -> None:
    if item.get("SuppressSending") is False:
        fields["type"] = EventType.SUBSCRIBED
    else:
        fields["type"] = SUPPRESSIONS.get(text(item.get("SuppressionReason")) or "", EventType.UNSUBSCRIBED)


def _received(item: Item, fields: EventFields) -> None:
    facts = {"to": item.get("To"), "subject": item.get("Subject"), "mailbox_hash": item.get("MailboxHash")}
    fields["properties"] |= present({name: text(fact) for name, fact in facts.items()})


_SPECIAL: Mapping[str, Callable[[Item, EventFields], None]] = {
    "Bounce": _bounced,
    "SpamComplaint": _bounced,
    "Open": _engaged,
    "Click": _engaged,
    "SubscriptionChange": _changed,
    "Inbound": _received,
}


def identity(item: Item) -> tuple[str, ...]:
    """Bounces and complaints are numbered; all else is message, recipient, instant and link.

    `MessageID` is shared by all recipients of a message, and may be null where a subscription changed.
    """
    kind, given = _kind(item) or "", text(item.get("ID"))
    if given:
        return (kind, given)
    return (kind, _person(item, kind) or "", *texts(item, _TOLD))


def send_key(item: Item) -> str | None:
    """The message and its recipient; a message that came in answers no send by its own id."""
    kind, message = _kind(item), text(item.get("MessageID"))
    recipient = None if kind == "Inbound" else _person(item, kind)
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="postmark",
    verify=shared_secret(),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Postmark",
        url="https://postmarkapp.com/developer/webhooks/webhooks-overview",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Make up a user name and a long random password; the connection's secret is `user:password`.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Postmark: Servers, your server, the message stream, Webhooks, Add webhook; paste the URL.",
            "Under Basic auth credentials fill in the user name and the password; choose all events and save.",
            "Do so for every message stream; Send check posts a sample.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="`user:password` of Basic authentication, or the value of a custom header that the setting "  # noqa: S106
        "`secret_header` names.",
        answers="Only 200 counts as taken, and 403 stops the retries for good: a wrong secret is answered 401. Bounces "
        "and inbound messages are retried ten times in ten hours, opens, clicks, deliveries and subscription changes "
        "three times in twenty minutes; of complaints it is not confirmed.",
        notes=(
            "Postmark signs nothing, whatever the sample on its overview page checks.",
            "`Type` of a bounce becomes `failure.class` and decides: deferred, blocked, autoresponded and so on.",
            "A subscription change that suppresses is a bounce, a complaint or an unsubscription, by its reason.",
            "It repeats what the bounce or complaint said already, as an event of its own.",
            "Metadata becomes `properties`, the tag `campaign.tags`; nothing tells whether a machine opened.",
        ),
    ),
)
