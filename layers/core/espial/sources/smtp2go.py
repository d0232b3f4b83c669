"""SMTP2GO webhooks: one unsigned event a call, JSON or form; e-mail and SMS.

https://developers.smtp2go.com/docs/webhooks-overview
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import (
    email,
    form,
    instant,
    known,
    objects,
    phone,
    remaining,
    seconds_or_milliseconds,
    smtp_code,
    text,
    texts,
)
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "processed": EventType.PROCESSED,
    "delivered": EventType.DELIVERED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "spam": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "resubscribe": EventType.SUBSCRIBED,
    "reject": EventType.DROPPED,
    "sms_sending": EventType.PROCESSED,
    "sms_submitted": EventType.SENT,
    "sms_delivered": EventType.DELIVERED,
    "sms_failed": EventType.FAILED,
    "sms_rejected": EventType.BLOCKED,
    "opt-out": EventType.UNSUBSCRIBED,
}

# What has a canonical field, or says nothing that the raw copy does not keep better. The rest is custom headers and a
# few facts worth having at hand: read-secs, client, geoip-country …
_OWN = frozenset(
    [
        "event",
        "time",
        "sendtime",
        "sender",
        "from",
        "from_address",
        "from_name",
        "rcpt",
        "recipients",
        "auth",
        "host",
        "message",
        "context",
        "email_id",
        "id",
        "message-id",
        "bounce",
        "subject",
        "user-agent",
        "srchost",
        "url",
        "destination_number",
        "message_id",
        "received_timestamp",
        "status_code",
        "source_number",
    ]
)
_READER = ("srchost", "user-agent")
_TOLD = (
    "email_id",
    "message_id",
    "destination_number",
    "time",
    "received_timestamp",
    "url",
    "srchost",
    "user-agent",
)
_NOT_SUPPRESSED = re.compile(r"sandbox|unverified|not (been )?verified|verify", re.IGNORECASE)
"""A rejection that is about the sender; any other is the suppression list's."""


def split(delivery: RawDelivery) -> list[Item]:
    """The event of a form, or of JSON; which, the body's first byte tells. Raises MalformedDelivery."""
    if delivery.body.lstrip()[:1] in (b"{", b"["):
        return objects(delivery)
    pairs = form(delivery)
    return [dict(pairs)] if pairs else []


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    get = item.get
    event = get("event")
    if not isinstance(event, str) or not event:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    is_sms = _is_sms(item)
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "sms" if is_sms else "email",
        "occurred_at": _occurred_at(item),
        "person": {"phone": _number(item)} if is_sms else {"email": email(get("rcpt"))},
        "message_id": _message(item),
        "properties": dict(sorted(remaining(item, _OWN).items())),
    }
    message, context = text(get("message")), text(get("context"))
    reply = message or context
    if event in ("sms_failed", "sms_rejected"):
        fields["failure"] = known({"code": text(get("status_code")), "reason": reply})
    elif event in ("bounce", "reject"):
        kind = text(get("bounce"))
        fields["failure"] = known({"class": kind, "code": smtp_code(reply), "reason": reply})
        if event == "bounce" and (kind or "").lower() == "soft":
            fields["type"] = EventType.SOFT_BOUNCED
        elif event == "reject" and _NOT_SUPPRESSED.search(f"{message} {context}"):
            fields["type"] = EventType.REJECTED
    elif event in ("open", "click"):
        fields["client"] = known({"ip": text(get("srchost")), "user_agent": text(get("user-agent"))})
        url = text(get("url"))
        fields["link"] = {"url": url} if url else None
    return fields


def _is_sms(item: Item) -> bool:
    event: str = item["event"]
    return event.startswith("sms_") or event == "opt-out"


def _number(item: Item) -> str | None:
    """The person's: whom an SMS went to; of an opt-out who wrote, which is the source."""
    first, other = ("source_number", "destination_number") if item["event"] == "opt-out" else ("destination_number", "")
    return phone(item.get(first)) or phone(item.get(other))


def _message(item: Item) -> str | None:
    return text(item.get("message_id")) if _is_sms(item) else text(item.get("email_id"))


def _occurred_at(item: Item) -> datetime:
    """ISO or a space for the T, UTC; of SMS perhaps a number (not documented). Raises MalformedItem."""
    name = "time" if item.get("time") or not _is_sms(item) else "received_timestamp"
    given: Any = item.get(name)
    plain = text(given) or ""
    return seconds_or_milliseconds(given, name) if plain.replace(".", "").isdigit() else instant(given, name)


def identity(item: Item) -> tuple[str, ...]:
    """All that tells a recipient's events apart; `id` is the webhook's, and `read-secs` may grow."""
    return (item["event"], email(item.get("rcpt")) or "", *texts(item, _TOLD))


def person_order(item: Item) -> tuple[str, ...]:
    """The number of an SMS, the address of everything else."""
    return ("phone",) if _is_sms(item) else ("email",)


def send_key(item: Item) -> str | None:
    """The id returned at send time (email_id; of an SMS message_id) and the recipient."""
    message = _message(item)
    recipient = _number(item) if _is_sms(item) else email(item.get("rcpt"))
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="smtp2go",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    docs=Docs(
        title="SMTP2GO webhooks",
        url="https://developers.smtp2go.com/docs/webhooks-overview",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In SMTP2GO: Settings, Webhooks, Add Webhook; paste the URL, choose the users and JSON as output type.",
            "Give an Authorization header (bearer or basic) with the secret.",
            "Choose all e-mail and SMS events, and the e-mail headers that you want back; save.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The bearer token, or `user:password` of basic authorization, or the URL's parameter `key`.",  # noqa: S106
        answers=(
            "No headers of an answer within 10 seconds, or a failure, is tried again up to 35 times in 48 hours; failed"
            " ones can be repeated under Settings, Webhooks, Failed Notifications."
        ),
        notes=(
            "Custom headers, read-secs, client and geoip facts become `properties`, under their own names.",
            "A rejection is `dropped` (the address is suppressed); if it names verification or sandbox, `rejected`.",
            "Not confirmed: that `url` holds the clicked link; the form of times in events about SMS.",
            "Not confirmed: that the source number of an opt-out is the person's.",
        ),
    ),
)
