"""Braze Currents: one stream of events over two transports, the custom HTTP connector and Avro files in a bucket.

HTTP bodies nest what an Avro row holds flat; `from_avro` makes the former of the latter, so one normaliser serves
both, and the two copies of an event agree in id and content. The vocabulary and its fields are in
`espial.sources._braze_tables`.

https://www.braze.com/docs/user_guide/data/distribution/braze_currents
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._braze_tables import (
    CAMPAIGN,
    CHANNELS,
    EVENT_TYPES,
    FAILED_TYPES,
    FAILURE_FIELDS,
    JSON_TEXTS,
    LINK_FIELDS,
    MAPPED,
    SINGLES,
    minor_units,
)
from espial.sources._ours import note_own_key
from espial.sources._shared import email, epoch, inner, others, phone, text
from espial.verify.shared import bearer_token
from espial.vocabulary import EventType

TEST_ID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
"""The id that every event of Braze's "Send Test Events" carries."""

_USER = ("user_id", "external_user_id", "device_id", "timezone")
_MAPPED = {
    (False, False): MAPPED,
    (True, False): MAPPED | LINK_FIELDS,
    (False, True): MAPPED | FAILURE_FIELDS,
    (True, True): MAPPED | LINK_FIELDS | FAILURE_FIELDS,
}
"""By whether it is a click, and a failure: what is no property."""
_PLAIN = frozenset(
    kind
    for kind in EVENT_TYPES
    if kind != "users.messages.email.Bounce"
    and not kind.endswith(".InboundReceive")
    and not kind.startswith("users.behaviors.subscription")
)
"""What the table alone says the type of."""
_KEY_TYPE = re.compile(r"/event_type=([^/]+)/")


def split(delivery: RawDelivery) -> list[Item]:
    """The events of `{"events": [...]}`, of the same in a one-element array, or a bare event object.

    Raises MalformedDelivery for any other envelope.
    """
    try:
        document = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        raise MalformedDelivery("not_an_envelope", "the body is not an object with events")
    if "events" not in document and "event_type" in document:
        return [document]
    events = document.get("events")
    if not isinstance(events, list):
        raise MalformedDelivery("not_an_envelope", "events is missing or not an array")
    return events


def from_avro(row: Mapping[str, Any], export: Export) -> Item:
    """An Avro row as the HTTP connector would post it: nulls left out, the user's fields in `user`.

    The event type is the record's name after `.inner.` (Currents puts dots into the name), else the key's
    `event_type=` part.
    """
    event_type = export.record_name.rpartition(".inner.")[2]
    if not event_type:
        found = _KEY_TYPE.search(f"/{export.key}")
        event_type = found[1] if found else ""
    present = {name: value for name, value in row.items() if value is not None}
    return {
        "event_type": event_type,
        "id": present.pop("id", None),
        "time": present.pop("time", None),
        "user": {name: present.pop(name) for name in _USER if name in present},
        "properties": present,
    }


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event type or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    kind = item.get("event_type")
    if not isinstance(kind, str) or not kind:
        raise MalformedItem("missing_event", "event_type is missing or not text", "event_type")
    facts = _facts(item)
    type_ = _event_type(kind, facts)
    clicked, failed = kind.endswith("Click"), type_ in FAILED_TYPES
    names = tuple(facts)
    fields: EventFields = {
        "type": type_,
        "platform_type": kind,
        "channel": _channel(kind, facts),
        "occurred_at": epoch(item.get("time"), "time"),
        "person": _person(facts),
        "campaign": _campaign(facts, names),
        "client": _client(kind, facts),
        "properties": {name: facts[name] for name in others(names, _MAPPED[clicked, failed])},
    }
    if "message_extras" in facts:  # of messages sent only
        note_own_key(fields, inner(facts, "message_extras").get("send_key"))
    if clicked:
        fields["link"] = _link(facts)
    if failed:
        fields["failure"] = _failure(facts)
    if kind == "users.behaviors.Purchase":
        fields["commerce"] = _purchase(facts)
    if text(item.get("id")) == TEST_ID:
        fields["properties"]["test_event"] = True
    return fields


def _facts(item: Item) -> dict[str, Any]:
    """User and properties as one flat view in order of name, with what differs between the transports evened out."""
    parts = inner(item, "properties"), inner(item, "user")
    given = {name: value for part in parts for name, value in part.items() if value is not None}
    facts: dict[str, Any] = {}
    for name, differs in _in_order(tuple(given)):
        value = given[name]
        facts[name] = _even(name, value) if differs or type(value) is list else value
    return facts


@lru_cache(maxsize=1024)
def _in_order(names: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """Sorted, and of each whether its value may differ. Cached: the events of an account come in a few shapes."""
    return tuple((name, name in JSON_TEXTS or name in SINGLES) for name in sorted(names))


@lru_cache(maxsize=1024)
def _campaign_fields(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((theirs, ours) for theirs, ours in CAMPAIGN.items() if theirs in names)


def _fact(item: Item, name: str) -> str | None:
    """One of them as text, without reading the others."""
    for part in ("user", "properties"):
        given = item.get(part)
        if isinstance(given, dict) and (found := text(given.get(name))):
            return found
    return None


def _even(name: str, value: Any) -> Any:
    if name in JSON_TEXTS and isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    if name in SINGLES and type(value) in (int, float):
        return _single(value)
    if isinstance(value, list):
        return [one for one in value if one is not None]
    return value


def _single(value: float) -> float:
    """As Avro's 32-bit float holds it: the HTTP copy must say the same, to the last digit kept."""
    try:
        narrow: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
    return round(narrow, 5)


def _event_type(kind: str, facts: Mapping[str, Any]) -> EventType:
    """By the table; bounces that are drops, and changes of consent, by what they say."""
    if kind in _PLAIN:
        return EVENT_TYPES[kind]
    if kind == "users.messages.email.Bounce" and facts.get("is_drop") is True:
        return EventType.DROPPED
    if kind.endswith(".InboundReceive"):
        return _consent(facts.get("action")) or EVENT_TYPES.get(kind, EventType.UNKNOWN)
    if kind.startswith("users.behaviors.subscription"):
        return _consent(facts.get("subscription_status")) or EventType.PROFILE_UPDATED
    return EVENT_TYPES.get(kind, EventType.UNKNOWN)


def _consent(said: Any) -> EventType | None:
    """The spelling of a status varies with the year of the file: case and separators do not count."""
    plain = re.sub(r"[\W_]+", "", said).lower() if isinstance(said, str) else ""
    if plain in {"subscribed", "optedin"}:
        return EventType.SUBSCRIBED
    return EventType.UNSUBSCRIBED if plain in {"unsubscribed", "optedout"} else None


def _message_channel(kind: str) -> str | None:
    """What a message's event says by its name alone; None for all others."""
    parts = kind.split(".")
    return CHANNELS.get(parts[2], "none") if kind.startswith("users.messages.") and len(parts) > 2 else None


_MESSAGE_CHANNELS = {kind: channel for kind in EVENT_TYPES if (channel := _message_channel(kind))}


def _channel(kind: str, facts: Mapping[str, Any]) -> str:
    found = _MESSAGE_CHANNELS.get(kind) or _message_channel(kind)
    if found:
        return found
    if kind.startswith("users.behaviors.subscription"):
        said = text(facts.get("channel"))
        return CHANNELS.get((said or "").lower(), "email" if "email_address" in facts else "none")
    if kind.startswith("users.behaviors.pushnotification"):
        return "push"
    if kind.startswith("users.behaviors."):
        return "web" if facts.get("platform") == "web" else "app"
    return "none"


def _person(facts: Mapping[str, Any]) -> dict[str, str | None]:
    number = facts.get("to_phone_number") or facts.get("user_phone_number") or facts.get("phone_number")
    return {
        "external_id": text(facts.get("external_user_id")),
        "email": email(facts.get("email_address")),
        "phone": phone(number),
        "source_contact_id": text(facts.get("user_id")),
    }


def _campaign(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str] | None:
    found = {}
    for theirs, ours in _campaign_fields(names):
        value = text(facts[theirs])
        if value:
            found[ours] = value
    return found or None


def _link(facts: Mapping[str, Any]) -> dict[str, str | None]:
    return {"url": text(facts.get("url")), "id": text(facts.get("link_id")), "alias": text(facts.get("link_alias"))}


def _client(kind: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The reader's client, and the platform's verdict on it: `machine_open` is the text "true" or nothing."""
    user_agent = text(facts.get("user_agent"))
    client: dict[str, Any] = {"user_agent": user_agent} if user_agent else {}
    if kind.endswith(".Open") and "machine_open" in facts:
        client |= {"machine": str(facts["machine_open"]).lower() == "true", "machine_reason": "machine_open"}
    elif type(suspected := facts.get("is_suspected_bot_click")) is bool:
        reasons = facts.get("suspected_bot_click_reason")
        named = ", ".join(filter(None, map(text, reasons))) if isinstance(reasons, list) else ""
        client |= {"machine": suspected, "machine_reason": named or "is_suspected_bot_click"}
    return client or None


def _failure(facts: Mapping[str, Any]) -> dict[str, str | None]:
    reasons = ("bounce_reason", "deferral_reason", "abort_log", "retry_log", "error", "raw_response")
    return {
        "class": text(facts.get("abort_type")) or text(facts.get("retry_type")),
        "code": text(facts.get("provider_error_code")) or text(facts.get("http_status_code")),
        "reason": next((found for name in reasons if (found := text(facts.get(name)))), None),
    }


def _purchase(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One bought product: Braze reports line by line and numbers no orders.

    The shop's own `order_id` and `cart_id` go along where the purchase's attributes hold them.
    """
    extra = facts.get("properties")
    extra = extra if isinstance(extra, dict) else {}
    currency = text(facts.get("currency"))
    price = facts.get("price")
    amount = round(price, minor_units(currency)) if isinstance(price, float) else None  # `_even` made it one
    return {
        "order": {
            "id": text(extra.get("order_id")),
            "cart_id": text(extra.get("cart_id")),
            "currency": currency,
            "total": amount,
            "items": [{"id": text(facts.get("product_id")), "price": amount}],
        }
    }


def identity(item: Item) -> tuple[str, ...]:
    """Braze's id is the same over HTTP, bucket and retries; its test events share one, so the type goes with it."""
    kind = text(item.get("event_type")) or ""
    given = text(item.get("id"))
    if given:
        return (kind, given)
    parts = ("user_id", "dispatch_id", "send_id", "url", "email_address", "name", "product_id")
    return (kind, text(item.get("time")) or "", *(_fact(item, part) or "" for part in parts))


def send_key(item: Item) -> str | None:
    """One transmission (`dispatch_id`, else `send_id`) to one user: Braze numbers no single message."""
    transmission = _fact(item, "dispatch_id") or _fact(item, "send_id")
    recipient = _fact(item, "user_id") or email(_fact(item, "email_address")) or phone(_fact(item, "to_phone_number"))
    return f"{transmission}/{recipient}" if transmission and recipient else None


_ADDRESS = {"email": ("email",), "sms": ("phone",), "whatsapp": ("phone",)}
_USER_KEYS = ("external_id", "source_contact_id")
_ORDERS = {kind: _ADDRESS.get(channel, ()) + _USER_KEYS for kind, channel in _MESSAGE_CHANNELS.items()}
"""Of what says by its name alone how it was addressed."""


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the user: both transports carry the same fields of an event."""
    kind = text(item.get("event_type")) or ""
    if kind in _ORDERS:
        return _ORDERS[kind]
    if not kind.startswith(("users.messages.", "users.behaviors.subscription")):
        return _USER_KEYS
    return _ADDRESS.get(_channel(kind, _facts(item)), ()) + _USER_KEYS


SOURCE = Source(
    name="braze",
    verify=bearer_token(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    unsent=frozenset({"inapp", "web"}),  # impressions and clicks only
    exports={"avro": from_avro},
    docs=Docs(
        title="Braze Currents",
        url="https://www.braze.com/docs/user_guide/data/distribution/braze_currents",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Braze: Partner Integrations, Data Export, Create New Current, Custom Currents Export.",
            "Paste the URL as endpoint and the connection's secret as token; choose the events; Send Test Events.",
            "For the bucket: create an Amazon S3 Data Export Current whose folder is exports/braze/<connection>.",
            "Both may run at once: an event that comes over both is recorded once, with both listed.",
        ),
        secret="A long random token, the same in Braze and here; Braze sends it as a bearer token.",  # noqa: S106
        answers="Any 2xx counts. Failures are repeated; after five days of them Braze switches the Current off, and "
        "later events are lost for good.",
        notes=(
            "A purchase is one product line, so it is a `transaction`, not an `order_completed`.",
            "Prices and coordinates are 32-bit numbers in the files; both transports are rounded to what these hold.",
            "Events of the test button are marked `properties.test_event`.",
        ),
    ),
)
