"""Salesforce Marketing Cloud Engagement, Event Notification Service: arrays of events, an HMAC of the raw body.

https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens.html
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, milliseconds, objects, phone, present, smtp_code, text
from espial.verify import NO_SETTINGS
from espial.verify.hmacs import as_it_is, hmac_of_body
from espial.vocabulary import EventType

SIGNATURE = "x-sfmc-ens-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "TransactionalSendEvents.EmailQueued": EventType.QUEUED,
    "TransactionalSendEvents.EmailSent": EventType.SENT,
    "TransactionalSendEvents.EmailNotSent": EventType.DROPPED,
    "TransactionalSendEvents.EmailBounced": EventType.BOUNCED,
    "EngagementEvents.EmailOpen": EventType.OPENED,
    "EngagementEvents.EmailClick": EventType.CLICKED,
    "EngagementEvents.EmailUnsubscribe": EventType.UNSUBSCRIBED,
    "TransactionalSendEvents.SmsSent": EventType.SENT,
    "TransactionalSendEvents.SmsNotSent": EventType.FAILED,
    "TransactionalSendEvents.SmsTransient": EventType.DEFERRED,
    "TransactionalSendEvents.SmsDelivered": EventType.DELIVERED,
    "TransactionalSendEvents.SmsBounced": EventType.BOUNCED,
}

BOUNCES: Mapping[str, EventType] = {
    "HARD": EventType.BOUNCED,
    "SOFT": EventType.SOFT_BOUNCED,
    "BLOCK": EventType.BLOCKED,
    "TECHNICAL": EventType.FAILED,
}
"""`info.bounceCode` -> what became of the message; a plain bounce for other codes."""

_CHANNELS = {"Email": "email", "Sms": "sms", "Push": "push"}
_CHANNEL = re.compile(r"(?:.*\.)?(Email|Sms|Push)", re.DOTALL)
_FAULT = re.compile(r"\b(?:error|exception|failed|failure|timed? ?out)\b", re.IGNORECASE)
"""What a message that was not sent for a fault says; all else is the subscriber's state."""
_UNDELIVERED = frozenset(
    f"TransactionalSendEvents.{name}"
    for name in ("EmailNotSent", "EmailBounced", "SmsNotSent", "SmsTransient", "SmsBounced")
)
_ABSENT = frozenset({"NA", "0"})
"""How an id is written that there is not: definitions of engagement events, subscribers of test sends."""
_FACTS = ("status", "renderedSubject", "unsubscribeMethod", "impressionRegion", "fromAddress", "countryCode", "ordinal")
_SUBSCRIBER = "subscriberId"
_SENT = ("jobId", "listId", "batchId", _SUBSCRIBER)
"""What names one message to one subscriber."""

_KEY = "verificationKey"
_ASKED = frozenset({"callbackId", _KEY})
_LONGEST_REQUEST = 1_000
_PLAIN = re.compile(r"[\w.~+/=-]{1,200}", re.ASCII)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no type or time.

    The request to verify the callback, which is none, is refused with the call that has to be made.
    """
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if is_verification(item):
        raise MalformedItem(
            "callback_verification",
            "Marketing Cloud waits for the call POST /platform/v1/ens-verify with the body "
            + orjson.dumps({name: item[name] for name in sorted(_ASKED)}).decode(),
            _KEY,
        )
    kind = text(item.get("eventCategoryType"))
    if kind is None:
        raise MalformedItem("missing_event", "eventCategoryType is missing or not text", "eventCategoryType")
    info, composite, channel = _info(item), _composite(item), _channel(item, kind)
    recipient = info.get("to")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": channel,
        "occurred_at": milliseconds(item.get("timestampUTC"), "timestampUTC"),
        "person": {
            "external_id": text(info.get("subscriberKey")),
            "email": email(recipient) if channel == "email" else None,
            "phone": phone(recipient) if channel == "sms" else None,
            "source_contact_id": composite.get(_SUBSCRIBER),
        },
        "campaign": _campaign(item, composite),
        "message_id": text(info.get("messageKey")),
        "properties": _properties(item, info),
    }
    if kind in _UNDELIVERED:
        _failed(kind, info, fields)
    if fields["type"] in (EventType.OPENED, EventType.CLICKED):
        fields["client"] = {"ip": text(info.get("ipAddress")), "user_agent": text(info.get("userAgent"))}
    if fields["type"] is EventType.CLICKED:
        fields["link"] = {"url": text(info.get("contentLink")), "id": text(info.get("jobUrlId"))}
    return fields


def is_verification(found: Any) -> bool:
    """Whether it is the request to verify a new callback; an event has neither of its two fields."""
    return isinstance(found, dict) and found.keys() == _ASKED and all(_plain(found[name]) for name in _ASKED)


def _plain(value: Any) -> bool:
    return isinstance(value, str) and _PLAIN.fullmatch(value) is not None


def _info(item: Item) -> Mapping[str, Any]:
    """The event's own facts; text messages write the name with a capital."""
    return inner(item, "info") or inner(item, "Info")


def _composite(item: Item) -> dict[str, str]:
    """The send that it is about, by name; read from the old dotted id where there is only that."""
    given = inner(item, "composite")
    if not given and (parts := (text(item.get("compositeId")) or "").split("."))[0] != "api" and len(parts) >= 4:
        given = dict(zip(("jobId", "listId", "batchId", _SUBSCRIBER), parts[-4:], strict=True))
    return {name: found for name in (*_SENT, "emailId") if (found := _id(given.get(name)))}


def _campaign(item: Item, composite: Mapping[str, str]) -> dict[str, Any] | None:
    found = {
        "id": composite.get("jobId"),
        "send_id": _id(item.get("definitionKey")) or _id(item.get("definitionId")),
        "dispatch_id": composite.get("batchId"),
        "template_id": composite.get("emailId"),
    }
    return present(found) or None


def _id(value: Any) -> str | None:
    found = text(value)
    return None if found in _ABSENT else found


def _channel(item: Item, kind: str) -> str:
    found = _CHANNEL.match(kind)
    given = text(item.get("channel"))
    return _CHANNELS[found[1]] if found else given if given in _CHANNELS.values() and given else "none"


def _properties(item: Item, info: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: info.get(name) for name in _FACTS} | {name: text(item.get(name)) for name in ("mid", "eid")}
    location = {name: value for name, value in inner(info, "location").items() if value}
    return present({**facts, "location": location})


def _failed(kind: str, info: Mapping[str, Any], fields: EventFields) -> None:
    reply = text(info.get("smtpReason"))
    said = [text(info.get(name)) for name in ("reason", "statusMessage", "bounceMessage")]
    reason = reply or next((one for one in said if one), None)
    class_ = text(info.get("bounceCode"))
    fields["failure"] = present(
        {"class": class_, "code": smtp_code(reply) or text(info.get("statusCode")), "reason": reason}
    )
    if kind.endswith(".EmailBounced"):
        fields["type"] = BOUNCES.get((class_ or "").upper(), EventType.BOUNCED)
    elif kind.endswith(".EmailNotSent") and any(one and _FAULT.search(one) for one in said):
        fields["type"] = EventType.FAILED


def identity(item: Item) -> tuple[str, ...]:
    """There is no event id: business unit, kind, send, second, link and message tell two events apart.

    The second, not the millisecond: the tracking extract knows no more.
    """
    info, composite = _info(item), _composite(item)
    sent = [composite.get(name, "") for name in _SENT]
    if not any(sent):
        sent = [text(item.get("compositeId")) or "", text(info.get("to")) or ""]
    names = ("eid", "mid", "eventCategoryType")
    link = text(info.get("contentLink")) or text(info.get("jobUrlId")) or ""
    ordinal = text(info.get("ordinal")) or ""
    return (*(text(item.get(name)) or "" for name in names), *sent, link, text(info.get("messageKey")) or "", ordinal)


def send_key(item: Item) -> str | None:
    """Job, list, batch and subscriber, which opens and clicks carry too; of a text message its key and number."""
    composite = _composite(item)
    if "jobId" in composite and _SUBSCRIBER in composite:
        return ".".join(composite.get(name, "") for name in _SENT)
    info = _info(item)
    message, recipient = text(info.get("messageKey")), text(info.get("to"))
    return f"{message}/{recipient.lower()}" if message and recipient else None


def person_order(item: Item) -> tuple[str, ...]:
    """The subscriber, whom opens and clicks name by this id alone; of a text message the number."""
    channel = _channel(item, text(item.get("eventCategoryType")) or "")
    return (*(("phone",) if channel == "sms" else ()), "source_contact_id", "external_id", "email")


@lru_cache(maxsize=64)
def _keys(secret: bytes) -> Sequence[bytes]:
    """The key as text, which the vendor's own code hands on as it is, and as the bytes that this text encodes."""
    try:
        decoded = b64decode(secret, validate=True)
    except ValueError:
        return as_it_is(secret)
    return (secret, decoded) if len(decoded) >= 16 else as_it_is(secret)


_SIGNED = hmac_of_body(SIGNATURE, encoding="base64", keys=_keys)


def _verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    """The signature. The request to verify a callback comes before there is a key: the setting lets it through."""
    if settings.get("awaiting_verification") is True and len(delivery.body) <= _LONGEST_REQUEST:
        try:
            if is_verification(orjson.loads(delivery.body)):
                return
        except orjson.JSONDecodeError:
            pass
    _SIGNED.verify(delivery, secrets, now, settings=settings)


SOURCE = Source(
    name="sfmc",
    verify=replace(_SIGNED, verify=_verify),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    docs=Docs(
        title="Salesforce Marketing Cloud Engagement (ENS)",
        url="https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens.html",
        setup=(
            (
                "Put a connection file under definitions/connections/ with `secrets: []` and, under settings, "
                "`awaiting_verification: true`; apply it. The webhook's URL is the stack's output ApiUrl and the path "
                "that `espial validate` prints; it may have no port and no query."
            ),
            (
                "In Marketing Cloud: Setup, Apps, Installed Packages, a package with the API component and the "
                "permission for Callbacks; get a token with it."
            ),
            (
                "Register the URL: POST /platform/v1/ens-callbacks; keep `callbackId` and `signatureKey`, which is "
                "shown only once, and store the latter as the connection's secret."
            ),
            (
                "Marketing Cloud posts `verificationKey` at once; it lies in quarantine under `callback_verification`. "
                "`espial quarantine show` names the call to make: POST /platform/v1/ens-verify with the two values."
            ),
            "Take `awaiting_verification` out, name the secret in the connection file, and apply it.",
            "Subscribe: POST /platform/v1/ens-subscriptions with the `callbackId` and the `eventCategoryTypes`.",
        ),
        secret="The callback's `signatureKey` as it was returned, 44 characters of base64.",  # noqa: S106
        answers=(
            "Exactly 200 within 30 seconds for the verification, else the callback has to be deleted and made anew. "
            "What fails later is posted again with growing delays; failing for long suspends the callback until an "
            "administrator resumes it, and a paused subscription loses its events."
        ),
        notes=(
            "Without the setting a request to verify is refused like everything else without a signature.",
            "Sent and bounced are told of transactional sends only; bulk sends are in the tracking extract.",
            (
                "Opens, clicks and unsubscribes name the subscriber by an internal id alone: the address comes from a "
                "sent event of the same subscriber."
            ),
            "There is no event id: the same link clicked twice by one subscriber within a second counts once.",
            "`info.unsubscribeDate` is six hours off; `timestampUTC` counts.",
            "No flag tells machines: Espial's rules judge by user agent and network.",
            "Not confirmed: the bounce codes BLOCK and TECHNICAL, and which reading of the key signs (both are tried).",
        ),
    ),
)
