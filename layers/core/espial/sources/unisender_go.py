"""Unisender Go (UniOne) event notifications: batches of up to 100 events, or one; the proof is a hash in the body.

https://godocs.unisender.ru/web-api-ref#callback-format
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import document, email, inner, instant, known, smtp_code, text, texts
from espial.verify import from_hex
from espial.verify.hmacs import Mac, Shown, keyed_digest
from espial.vocabulary import EventType

STATUS_EVENT = "transactional_email_status"

EVENT_TYPES: Mapping[str, EventType] = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.SUBSCRIBED,
    "soft_bounced": EventType.SOFT_BOUNCED,
    "hard_bounced": EventType.BOUNCED,
    "spam": EventType.COMPLAINED,
    "transactional_spam_block": EventType.UNKNOWN,
}
"""By `status`; by `event_name` what reports no status."""

DELIVERY_STATUSES: Mapping[tuple[str, str], EventType] = {
    ("soft_bounced", "err_will_retry"): EventType.DEFERRED,
    ("hard_bounced", "err_unsubscribed"): EventType.DROPPED,
    ("hard_bounced", "err_skip_letter"): EventType.DROPPED,
    ("hard_bounced", "err_spam_rejected"): EventType.BLOCKED,
    ("hard_bounced", "err_blacklisted"): EventType.BLOCKED,
    ("hard_bounced", "err_spam_skipped"): EventType.REJECTED,
    ("hard_bounced", "err_lost"): EventType.FAILED,
    ("hard_bounced", "err_delivery_failed"): EventType.FAILED,
}
"""Bounces that `delivery_status` makes something else."""

_TOLD = ("job_id", "event_time", "url", "block_time", "block_type", "domain", "domain_status")
OPENING = b'{"auth":"'


def read(delivery: RawDelivery) -> Shown:
    """The value of `auth`, and the body around it. Raises SignatureError.

    Parsed, not searched for: nothing but JSON may follow the hash, which could otherwise be continued.
    """
    try:
        found = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise SignatureError("the body is not JSON") from exc
    auth = found.get("auth") if isinstance(found, dict) else None
    if not isinstance(auth, str) or not auth:
        raise SignatureError("no auth in the body")
    code = from_hex(auth)
    before, shown, after = delivery.body.partition(auth.encode())
    if not shown:
        raise SignatureError("auth is not written plainly")
    return Shown((code,), (before, after))


def write(delivery: RawDelivery, _now: datetime, mac: Mac) -> RawDelivery:
    """The hash in place of an object's `auth`, which it gets if it has none; other bodies stay as they are."""
    body = delivery.body
    try:
        before, after = read(delivery).message
    except SignatureError:
        rest = body.lstrip()[1:]
        if body.lstrip()[:1] != b"{":
            return delivery
        before, after = OPENING, b'"' + (b"" if rest.lstrip()[:1] == b"}" else b",") + rest
    code = mac((before, after)).hex().encode()
    return replace(delivery, body=before + code + after)


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """The GET with which a webhook is activated."""
    return Reply() if delivery.method in ("GET", "HEAD") else None


def split(delivery: RawDelivery) -> list[Item]:
    """Events flat, as a webhook for single events posts them: the data of a batch's events beside their names.

    Raises MalformedDelivery.
    """
    found = document(delivery)
    if not isinstance(found, dict):
        raise MalformedDelivery("not_an_object", "the body is not a JSON object")
    if "events_by_user" not in found:
        return [{name: value for name, value in found.items() if name != "auth"}] if "event_name" in found else []
    users = found["events_by_user"]
    if not isinstance(users, list):
        raise MalformedDelivery("not_an_envelope", "events_by_user is not an array", "events_by_user")
    items = []
    for user in users:
        events = user.get("events") if isinstance(user, dict) else None
        if not isinstance(events, list):
            raise MalformedDelivery("not_an_envelope", "a user's events are no array", "events_by_user.events")
        items += [_flat(event, user) for event in events]
    return items


def _flat(event: Any, user: Mapping[str, Any]) -> Any:
    if not isinstance(event, dict):
        return event
    found = {name: user[name] for name in ("user_id", "project_id", "project_name") if name in user}
    found |= inner(event, "event_data")
    found["event_name"] = event.get("event_name")
    return found


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name, status or time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    get = item.get
    status = _status(item)
    told = inner(item, "delivery_info")
    outcome, reply = text(told.get("delivery_status")), text(told.get("destination_response"))
    properties = {name: fact for name in ("project_id", "comment") if (fact := text(get(name)))}
    fields: EventFields = {
        "type": DELIVERY_STATUSES.get((status, outcome or "")) or EVENT_TYPES.get(status, EventType.UNKNOWN),
        "platform_type": status,
        "channel": "email",
        "person": {"email": email(get("email"))},
        "message_id": text(get("job_id")),
        "client": known({"ip": text(told.get("ip")), "user_agent": text(told.get("user_agent"))}),
        "properties": properties | inner(item, "metadata"),
    }
    if get("event_name") == STATUS_EVENT:
        fields["occurred_at"] = instant(get("event_time"), "event_time")
    elif get("block_time"):
        fields["occurred_at"] = instant(get("block_time"), "block_time")
        fields["properties"] |= {name: get(name) for name in ("domain", "block_type", "domain_status") if get(name)}
    else:
        fields |= {"occurred_at": arrival.received_at, "time_uncertain": True}
    url = text(get("url"))
    if url:
        fields["link"] = {"url": url}
    if status.endswith("_bounced"):
        fields["failure"] = known({"class": outcome, "code": smtp_code(reply), "reason": reply})
    return fields


def _status(item: Item) -> str:
    """The platform's word for what happened. Raises MalformedItem."""
    name = item.get("event_name")
    if not isinstance(name, str) or not name:
        raise MalformedItem("missing_event", "event_name is missing or not text", "event_name")
    if name != STATUS_EVENT:
        return name
    status = item.get("status")
    if not isinstance(status, str) or not status:
        raise MalformedItem("missing_event", "status is missing or not text", "status")
    return status


def identity(item: Item) -> tuple[str, ...]:
    """All that tells a recipient's events apart; the header `ID` changes with every try."""
    client = texts(inner(item, "delivery_info"), ("ip", "user_agent"))
    return (_status(item), email(item.get("email")) or "", *texts(item, _TOLD), *client)


def send_key(item: Item) -> str | None:
    """The job id returned at send time and the recipient."""
    job, recipient = text(item.get("job_id")), email(item.get("email"))
    return f"{job}/{recipient}" if job and recipient else None


SOURCE = Source(
    name="unisender_go",
    verify=keyed_digest(read=read, write=write, algorithm="md5"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    handshake=handshake,
    docs=Docs(
        title="Unisender Go event notifications",
        url="https://godocs.unisender.ru/web-api-ref#callback-format",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it before the next step: activating the webhook calls it.",
            "In Unisender Go: Settings, Webhooks, add a webhook; its URL is the stack's output ApiUrl and that path.",
            "Choose JSON without compression (json_post), all statuses and delivery information; activate it.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The API key: the project's where the webhook belongs to a project, the account's otherwise.",  # noqa: S106
        answers="Anything but 200 within 3 seconds is tried again for 24 hours.",
        notes=(
            "The proof is an MD5 hash that covers no time: keep the webhook's path to yourself.",
            "Compressed notifications (json_post_compressed) are refused: how they are signed is not confirmed.",
            "A soft bounce that will be tried again is `deferred`; other outcomes follow `delivery_status`.",
            "Metadata becomes `properties`.",
        ),
    ),
)
