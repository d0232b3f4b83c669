"""Postal webhooks (self-hosted): one event a post, signed with the installation's RSA key.

https://docs.postalserver.io/developer/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import epoch, inner, lone_object, mailbox, present, smtp_code, text
from espial.verify import from_base64
from espial.verify.public_keys import Shown, Signer, public_key_signature
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "MessageSent": EventType.DELIVERED,
    "MessageDelayed": EventType.DEFERRED,
    "MessageDeliveryFailed": EventType.BOUNCED,
    "MessageHeld": EventType.QUEUED,
    "MessageBounced": EventType.BOUNCED,
    "MessageLinkClicked": EventType.CLICKED,
    "MessageLoaded": EventType.OPENED,
    "DomainDNSError": EventType.UNKNOWN,
    "SendLimitApproaching": EventType.UNKNOWN,
    "SendLimitExceeded": EventType.UNKNOWN,
}
STATUSES = {
    "Sent": "MessageSent",
    "SoftFail": "MessageDelayed",
    "HardFail": "MessageDeliveryFailed",
    "Held": "MessageHeld",
    "Bounced": "MessageBounced",
}
"""Status of a message -> event, for the old versions that post the payload alone."""

ON_THE_LIST = "suppression list"
"""In the details of a failure: Postal did not try."""
SHA256 = "x-postal-signature-256"
SHA1 = "x-postal-signature"


def _read(delivery: RawDelivery) -> Shown:
    """The newer signature; versions that have none give the older one alone."""
    strong, weak = delivery.headers.get(SHA256, "").strip(), delivery.headers.get(SHA1, "").strip()
    given = strong or weak
    return Shown((from_base64(given),) if given else (), (delivery.body,), algorithm="sha256" if strong else "sha1")


def _write(delivery: RawDelivery, _now: datetime, sign: Signer) -> RawDelivery:
    return replace(delivery, headers={**delivery.headers, SHA256: sign(delivery.body)})


def split(delivery: RawDelivery) -> list[Item]:
    """The event; a payload that comes alone as if it were enveloped. Raises MalformedDelivery."""
    (found,) = lone_object(delivery)
    if "payload" in found or "event" in found:
        return [found]
    status = found.get("status")
    event = STATUSES.get(status) if isinstance(status, str) else None
    return [{"event": event, "timestamp": found.get("timestamp"), "payload": found}]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem without an event name or a time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the event is not a JSON object")
    event, payload = item.get("event"), inner(item, "payload")
    if type(event) is not str:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    message = _message(payload)
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email" if message else "none",
        "occurred_at": epoch(item.get("timestamp"), "timestamp"),
        "person": {"email": _address(item)},
        "message_id": _message_id(message),
        "properties": present({"postal_id": message.get("id"), "spam_status": text(message.get("spam_status"))}),
    }
    if tag := text(message.get("tag")):
        fields["campaign"] = {"tags": [tag]}
    if _is_incoming(message):
        fields["type"] = EventType.REPLIED if event == "MessageSent" else EventType.UNKNOWN
        fields["properties"] |= present({"recipient": mailbox(message.get("to")), "subject": message.get("subject")})
    else:
        _details(event, payload, fields)
    return fields


def _details(event: str, payload: Mapping[str, Any], fields: EventFields) -> None:
    details, output = text(payload.get("details")), text(payload.get("output"))
    if event in ("MessageDelayed", "MessageDeliveryFailed", "MessageHeld"):
        fields["failure"] = {
            "class": text(payload.get("status")),
            "code": smtp_code(output),
            "reason": output or details,
        }
        if event == "MessageDeliveryFailed" and ON_THE_LIST in (details or "").lower():
            fields["type"] = EventType.DROPPED
    elif event == "MessageSent":
        fields["properties"] |= present({"output": output})
    elif event in ("MessageLinkClicked", "MessageLoaded"):
        fields["client"] = {"ip": text(payload.get("ip_address")), "user_agent": text(payload.get("user_agent"))}
        if url := text(payload.get("url")):
            fields["link"] = {"url": url}


def _message(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    return inner(payload, "message") or inner(payload, "original_message")


def _message_id(message: Mapping[str, Any]) -> str | None:
    return text(message.get("message_id")) or text(message.get("id"))


def _is_incoming(message: Mapping[str, Any]) -> bool:
    return message.get("direction") == "incoming"


def _address(item: Item) -> str | None:
    """The recipient; of a message to us who wrote it."""
    message = _message(inner(item, "payload"))
    return mailbox(message.get("from" if _is_incoming(message) else "to"))


def identity(item: Item) -> tuple[str, ...]:
    """Postal's own id, which its retries repeat; without an envelope what the event says."""
    if given := text(item.get("uuid")):
        return (item["event"], given)
    payload = inner(item, "payload")
    message = _message(payload)
    parts = (message.get("id"), message.get("token"), item.get("timestamp"), payload.get("token"), payload.get("url"))
    return (item["event"], *(text(part) or "" for part in parts))


def send_key(item: Item) -> str | None:
    """The Message-ID that the API gave at send time, and the recipient."""
    message = _message(inner(item, "payload"))
    given, address = _message_id(message), _address(item)
    return f"{given}/{address}" if given and address and not _is_incoming(message) else None


SOURCE = Source(
    name="postal",
    verify=public_key_signature("rsa", read=_read, write=_write),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Postal webhooks",
        url="https://docs.postalserver.io/developer/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            (
                "On the server: `postal default-dkim-record`; copy what follows `p=`, without the last semicolon, into "
                "the connection's secret."
            ),
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Postal: your mail server, Webhooks, Add a webhook; paste the URL and send all events.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The installation's public key: base64 as in its DKIM record, or PEM.",  # noqa: S106
        answers=(
            "Answers of 2xx within 5 seconds count; six attempts in all, over some 36 minutes, and then the event is "
            "given up."
        ),
        notes=(
            "All webhooks of an installation are signed with one key: give no other tenant of it the URL.",
            "Two webhooks of one server report an event under two ids: point one of them here.",
            "A message held for its operator counts as queued.",
            "That a recipient was on Postal's own suppression list is told by the words of the failure alone.",
            "Incoming messages become replies of who wrote them.",
            "Versions that sign with SHA-1 alone are accepted, and so is a payload without its envelope (unconfirmed).",
        ),
    ),
)
