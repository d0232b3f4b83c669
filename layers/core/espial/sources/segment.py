"""The Segment tracking spec: identify, track, page, screen, group and alias calls, single or in batches.

Shops and sites post these to our own tracking API with any SDK that speaks the spec. The tracking receiver imports
this module for `split`, `problem` and the limits, so nothing heavy is imported here.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
https://segment.com/docs/connections/spec/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._shared import EARLIEST, LATEST, email, inner, known, phone, text
from espial.verify import shared
from espial.verify.shared import basic_write_key
from espial.vocabulary import EventType

MAX_CALL_BYTES = 32 * 1024
"""One call, as JSON."""
MAX_BATCH_BYTES = 500 * 1024
"""One request body, inflated. The receiver's to enforce (TooLarge, 413)."""
MAX_MESSAGE_ID = 100
"""Characters of a messageId."""
_REQUIRED = {"track": ("event",), "group": ("groupId",), "alias": ("userId", "previousId")}
_OBJECTS = ("properties", "traits", "context")

CALLS: Mapping[str, EventType] = {
    "track": EventType.CUSTOM,
    "identify": EventType.PROFILE_UPDATED,
    "page": EventType.PAGE_VIEWED,
    "screen": EventType.PAGE_VIEWED,
    "group": EventType.PROFILE_UPDATED,
    "alias": EventType.PROFILE_UPDATED,
}
_CALL_PATH = re.compile(r"/v1/([a-z]+)/?$")
_PATHS = {name: call for call in CALLS for name in (call, call[0])}
"""Last segment of a call's path, in full or short, -> its type."""

TRACKS: Mapping[str, EventType] = {
    "Cart Updated": EventType.CART_UPDATED,
    "Cart Viewed": EventType.CART_UPDATED,
    "Product Added": EventType.CART_UPDATED,
    "Product Removed": EventType.CART_UPDATED,
    "Product Viewed": EventType.PRODUCT_VIEWED,
    "Checkout Started": EventType.CHECKOUT_STARTED,
    "Order Completed": EventType.ORDER_COMPLETED,
    "Email Sent": EventType.SENT,
    "Email Delivered": EventType.DELIVERED,
    "Email Opened": EventType.OPENED,
    "Email Link Clicked": EventType.CLICKED,
    "Email Bounced": EventType.BOUNCED,
    "Email Marked as Spam": EventType.COMPLAINED,
    "Unsubscribed": EventType.UNSUBSCRIBED,
    "Push Notification Received": EventType.DELIVERED,
    "Push Notification Tapped": EventType.OPENED,
    "Push Notification Bounced": EventType.BOUNCED,
    "SMS Delivered": EventType.DELIVERED,
}
"""Names of track calls that the spec gives a meaning; any other name is `custom`."""

EVENT_TYPES: Mapping[str, EventType] = {**{call: type_ for call, type_ in CALLS.items() if call != "track"}, **TRACKS}
"""By `platform_type`, which of a track call is the name it gives."""


def _folded(name: str) -> str:
    return name.replace("_", " ").casefold().strip()


_TRACKS = {_folded(name): type_ for name, type_ in TRACKS.items()}
_COMMERCE = frozenset(
    {EventType.CART_UPDATED, EventType.CHECKOUT_STARTED, EventType.ORDER_COMPLETED, EventType.PRODUCT_VIEWED}
)
_MESSAGE_CHANNELS = {"email": "email", "unsubscribed": "email", "push": "push", "sms": "sms"}
_ADDRESSED = frozenset(_MESSAGE_CHANNELS.values())
_MESSAGE_TRACKS = frozenset(name for name in _TRACKS if name.partition(" ")[0] in _MESSAGE_CHANNELS)
_CAMEL = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "message_id": "messageId",
    "previous_id": "previousId",
    "group_id": "groupId",
    "original_timestamp": "originalTimestamp",
    "sent_at": "sentAt",
    "received_at": "receivedAt",
}


def write_key(headers: Mapping[str, str], body: bytes) -> bytes | None:
    """The write key a request shows: Basic user name, else the member `writeKey` of its JSON body."""
    shown = basic_write_key(headers)
    if shown:
        return shown
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    key = document.get("writeKey") if isinstance(document, dict) else None
    return key.encode() if isinstance(key, str) and key else None


def split(delivery: RawDelivery) -> list[Item]:
    """The calls of a request, names in camelCase; those of a batch with the batch's context, integrations and sentAt.

    A call posted to its own path (`/v1/track`, short forms too) has that type whatever it says. Raises
    MalformedDelivery for a body that is no JSON object, or whose `batch` is no array.
    """
    try:
        document = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if not isinstance(document, dict):
        raise MalformedDelivery("not_an_object", "the body is not a JSON object")
    document = _camel(document)
    if "batch" in document:
        calls = document["batch"]
        if not isinstance(calls, list):
            raise MalformedDelivery("batch_not_an_array", "batch is not an array")
        return [_with_batch(_camel(call), document) if isinstance(call, dict) else call for call in calls]
    document.pop("writeKey", None)
    called = _CALL_PATH.search(urlsplit(delivery.url).path)
    if called and called[1] in _PATHS:
        document["type"] = _PATHS[called[1]]
    return [document]


def _camel(call: Item) -> Item:
    """Itself where no name is in snake_case, else a copy."""
    if _CAMEL.keys().isdisjoint(call):
        return call
    return {_CAMEL.get(name, name): value for name, value in call.items()}


def _with_batch(call: Item, batch: Item) -> Item:
    """What the call says wins over what the batch says for all."""
    for name in ("context", "integrations"):
        common, own = batch.get(name), call.get(name)
        if isinstance(common, dict) and common:
            call[name] = {**common, **own} if isinstance(own, dict) else common
    if "sentAt" in batch:
        call.setdefault("sentAt", batch["sentAt"])
    return call


_ARCHIVED_AT = "_received_at"
"""When Segment received a call of its archive."""


def from_json(row: Any, _export: Export) -> Any:
    """A line of a Segment archive is one call; when Segment received it corrects its clock, not when we read it."""
    if not isinstance(row, dict):
        return row
    call = _camel(row)
    return {**call, _ARCHIVED_AT: call.get("receivedAt")}


def problem(item: Item) -> str | None:
    """What makes a call unacceptable, in one sentence that names the field; None if nothing does.

    `item` is what `split` gives, or a call as it was posted.
    """
    if not isinstance(item, dict):
        return "call must be a JSON object"
    item = _camel(item)
    kind = item.get("type")
    message = item.get("messageId")
    wrong = None
    if not isinstance(kind, str) or kind not in CALLS:
        wrong = f"type must be one of {', '.join(CALLS)}"
    elif message is not None and not (isinstance(message, str) and len(message) <= MAX_MESSAGE_ID):
        wrong = f"messageId must be text of at most {MAX_MESSAGE_ID} characters"
    elif not text(item.get("userId")) and not text(item.get("anonymousId")):
        wrong = "userId or anonymousId is required"
    else:
        wrong = _shape_problem(item, kind)
    return wrong or _size_problem(item)


def _shape_problem(item: Item, kind: str) -> str | None:
    for name in _REQUIRED.get(kind, ()):
        if not text(item.get(name)):
            return f"{name} is required in a call of type {kind}"
    for name in _OBJECTS:
        found = item.get(name)
        if found is not None and type(found) is not dict:
            return f"{name} must be a JSON object"
    return None


def _size_problem(item: Item) -> str | None:
    try:
        size = len(orjson.dumps(item))
    except TypeError:
        return "call nested too deeply"
    return f"call of {size} bytes is larger than the {MAX_CALL_BYTES} allowed" if size > MAX_CALL_BYTES else None


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One call. Raises MalformedItem with the sentence of `problem`."""
    wrong = problem(item)
    if wrong:
        field = wrong.split()[0]
        raise MalformedItem("invalid_call", wrong, "" if field == "call" else field)
    kind: str = item["type"]
    properties: dict[str, Any] = item.get("properties") or {}
    traits: dict[str, Any] = item.get("traits") or {}
    context: dict[str, Any] = item.get("context") or {}
    name = text(item.get("event")) if kind == "track" else None
    folded = _folded(name) if name else ""
    type_ = _TRACKS.get(folded, EventType.CUSTOM) if name else CALLS[kind]
    channel = _channel(kind, folded, context)
    fields = _times(item, arrival.received_at)
    fields["platform_type"] = name or kind
    fields["channel"] = channel
    fields["person"] = _person(item, properties, traits, context)
    fields["properties"] = _properties(item, kind, properties, traits, context)
    if "topic" in properties:
        fields["topic"] = properties["topic"]
    ip, user_agent = text(context.get("ip")), text(context.get("userAgent"))
    if ip or user_agent:
        fields["client"] = {"ip": ip, "user_agent": user_agent}
    if type_ in _COMMERCE:
        fields["commerce"] = _commerce(type_, properties)
        if fields["commerce"] is None and type_ is EventType.CART_UPDATED:
            type_ = EventType.CUSTOM
        if fields["commerce"] and type_ is not EventType.PRODUCT_VIEWED:
            fields["properties"].pop("products", None)
    elif name and channel in _ADDRESSED:
        fields["message_id"] = text(properties.get("email_id"))
        campaign, named = text(properties.get("campaign_id")), text(properties.get("campaign_name"))
        fields["campaign"] = known({"id": campaign, "name": named})
        if type_ is EventType.CLICKED:
            fields["link"] = known({"url": text(properties.get("link_url")), "id": text(properties.get("link_id"))})
    fields["type"] = type_
    return fields


def _times(item: Item, received_at: datetime) -> EventFields:
    """When it happened: receivedAt - (sentAt - originalTimestamp), which takes out a wrong client clock.

    Without `sentAt` (imports) the client's time is taken as it is; without a readable one, the time of receipt. The
    event id takes the client's own time: a retry has another sentAt and receivedAt, so the corrected time moves.
    """
    original = _instant(item.get("originalTimestamp")) or _instant(item.get("timestamp"))
    if original is None:
        return {"occurred_at": received_at, "time_uncertain": True}
    sent = _instant(item.get("sentAt"))
    received_at = _instant(item.get(_ARCHIVED_AT)) or received_at
    corrected = received_at - (sent - original) if sent else original
    return {"occurred_at": corrected, "identified_at": original}


_FIRST, _LAST = datetime.fromtimestamp(EARLIEST, UTC), datetime.fromtimestamp(LATEST, UTC)


def _instant(value: Any) -> datetime | None:
    """An ISO 8601 time of the years 2000 to 2099 in UTC (as which a time without zone is read), else None."""
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    if not _FIRST <= instant < _LAST:
        return None
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def _channel(kind: str, folded: str, context: Mapping[str, Any]) -> str:
    if folded in _TRACKS:
        message = _MESSAGE_CHANNELS.get(folded.partition(" ")[0])
        if message:
            return message
    if kind == "page":
        return "web"
    if kind == "screen":
        return "app"
    if context.get("page"):
        return "web"
    return "app" if context.get("device") or context.get("app") else "none"


def _person(
    item: Item, properties: Mapping[str, Any], traits: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, str | None]:
    known = inner(context, "traits")
    return {
        "external_id": text(item.get("userId")),
        "email": email(traits.get("email")) or email(known.get("email")) or email(properties.get("email")),
        "phone": phone(traits.get("phone")) or phone(known.get("phone")) or phone(properties.get("phone")),
        "session_id": text(item.get("anonymousId")),
    }


def _properties(
    item: Item, kind: str, properties: Mapping[str, Any], traits: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    kept = {**traits, **properties}
    if kind in ("page", "screen"):
        kept |= {name: found for name in ("name", "category") if (found := text(item.get(name)))}
    elif kind == "group":
        kept["group_id"] = item["groupId"]
    elif kind == "alias":
        kept["previous_id"] = item["previousId"]
    elif kind == "identify":
        kept = {name: found for name in ("locale", "timezone") if (found := text(context.get(name)))} | kept
    consent = inner(context, "traits").get("consent")
    if isinstance(consent, dict):
        kept["known_consent"] = consent
    utm = context.get("campaign")
    if isinstance(utm, dict) and utm:
        kept.setdefault("utm", utm)
    return kept


def _commerce(type_: EventType, properties: Mapping[str, Any]) -> dict[str, Any] | None:
    """Product, order or cart; no cart unless its whole contents are given: a change alone does not say them."""
    if type_ is EventType.PRODUCT_VIEWED:
        return {"product": _product(properties)}
    products = properties.get("products")
    given: dict[str, Any] = {
        "currency": text(properties.get("currency")),
        "total": _first_number(properties, ("total", "value", "revenue", "cart_total")),
        "items": [_product(one) for one in products if isinstance(one, dict)] if isinstance(products, list) else [],
    }
    cart_id = text(properties.get("cart_id"))
    if type_ is EventType.ORDER_COMPLETED:
        return {"order": {"id": text(properties.get("order_id")), "cart_id": cart_id, **given}}
    if not isinstance(products, list):
        return None
    url = text(properties.get("cart_url")) or text(properties.get("url"))
    return {"cart": {"id": cart_id, "url": url, **given}}


def _product(given: Mapping[str, Any]) -> dict[str, Any]:
    get = given.get
    quantity = _number(get("quantity"))
    return {
        "id": text(get("product_id")) or text(get("id")),
        "sku": text(get("sku")),
        "name": text(get("name")),
        "variant": text(get("variant")),
        "category": text(get("category")),
        "url": text(get("url")),
        "image_url": text(get("image_url")),
        "price": _number(get("price")),
        "quantity": int(quantity) if quantity is not None and abs(quantity) < 2**53 else None,
    }


def _first_number(properties: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    for name in names:
        found = _number(properties.get(name))
        if found is not None:
            return found
    return None


def _number(value: Any) -> float | None:
    """A finite number or its text, else None."""
    if value is None or type(value) not in (int, float, str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def identity(item: Item) -> tuple[str, ...]:
    """The call's messageId, the same in every retry; without one, everything it says but when it was sent."""
    message = text(item.get("messageId"))
    if message:
        return (item["type"], message)
    said = {name: value for name, value in item.items() if name not in ("sentAt", "receivedAt", _ARCHIVED_AT)}
    return (item["type"], "", blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest())


_BEHAVIOUR_ORDER = ("external_id", "email", "session_id")
_MESSAGE_ORDER = ("email", "phone", "external_id", "session_id")


def person_order(item: Item) -> tuple[str, ...]:
    """The address first for the spec's email, push and SMS events, the user's id for everything else."""
    if item["type"] != "track":
        return _BEHAVIOUR_ORDER
    name = _folded(text(item["event"]) or "")
    return _MESSAGE_ORDER if name in _MESSAGE_TRACKS else _BEHAVIOUR_ORDER


SOURCE = Source(
    name="segment",
    verify=shared.write_key(lambda delivery: write_key(delivery.headers, delivery.body)),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    exports={"ndjson": from_json},
    docs=Docs(
        title="Tracking API (Segment spec)",
        url="https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/",
        setup=(
            "Put a connection file under definitions/connections/ and apply it.",
            "Point any SDK that speaks the Segment spec at the API's URL, with the connection's secret as write key.",
            "Call track with `Cart Updated` (cart_id, products, currency, total) whenever the cart changes.",
            "Call track with `Order Completed` (order_id, cart_id, products, total) when it is bought.",
            "Call identify with the e-mail address as soon as it is known.",
        ),
        secret="The write key: a long random token that the SDK sends as Basic user name.",  # noqa: S106
        answers="200 once durable; 400 with what is wrong, 401 without a right write key, 413 over the limits: SDKs "
        "drop these. 503 with Retry-After: they repeat.",
        notes=(
            "A cart event without the whole `products` list is kept as `custom`: a change is not the contents.",
            "Send `messageId` and `timestamp`: both together make a retry recognisable. SDKs do.",
            (
                "Segment's own archives (the AWS S3 destination's folder segment-logs) go to "
                "exports/segment/<connection>/: calls are dated as Segment received them, and are the posted ones by "
                "messageId."
            ),
            "32 KB a call, 500 KB a request, 100 characters a messageId; userId or anonymousId is required.",
        ),
    ),
)
