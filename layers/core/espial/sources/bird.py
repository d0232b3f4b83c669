"""Bird, once MessageBird: e-mail events in SparkPost's format, notifications of channels, MessageBird's SMS reports.

https://docs.bird.com/api/channels-api/message-status-and-interactions
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source, sparkpost
from espial.sources._proofs import Claims, any_of, covers, json_web_token
from espial.sources._shared import email, inner, instant, known, phone, present, query, text
from espial.verify import Scheme, from_base64, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

RECEIVED = "inbound"

EVENT_TYPES: Mapping[str, EventType] = {
    **sparkpost.EVENT_TYPES,
    # what became of a message: channels, and MessageBird's SMS reports
    "accepted": EventType.PROCESSED,
    "processing": EventType.PROCESSED,
    "scheduled": EventType.QUEUED,
    "buffered": EventType.DEFERRED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "sending_failed": EventType.FAILED,
    "delivery_failed": EventType.FAILED,
    "expired": EventType.FAILED,
    "rejected": EventType.REJECTED,
    # what the person did with it
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "reported-as-spam": EventType.COMPLAINED,
    "unsubscribe-request": EventType.UNSUBSCRIBED,
    RECEIVED: EventType.REPLIED,
}

_UNKNOWN_SUBSCRIBER = "unknown subscriber"
"""`statusReason` of an SMS report that condemns the number."""
_UNDELIVERED = frozenset({"sending_failed", "delivery_failed", "expired", "rejected"})
_CHANNELS = {"email": "email", "sms": "sms", "rcs": "sms", "whatsapp": "whatsapp"}
_FACTS = (("channelId", "channel_id"), ("reference", "reference"), ("details", "details"))
_CONTACT = "_contact"
"""The recipient that an item is about, of the ones that the notification names."""

SIGNATURE, TIMESTAMP, TOKEN = "messagebird-signature", "messagebird-request-timestamp", "messagebird-signature-jwt"


def _url(delivery: RawDelivery) -> str:
    return delivery.url


def _sorted_query(delivery: RawDelivery) -> str:
    try:
        return urlencode(sorted(query(delivery), key=lambda pair: pair[0]))
    except MalformedDelivery as exc:
        raise SignatureError(str(exc)) from exc


def _signed(covered: Callable[[RawDelivery], str]) -> Scheme:
    """HMAC-SHA256 over timestamp, `covered` and the body's hash, by lines (the hash as bytes)."""

    def message(delivery: RawDelivery, stamp: str) -> tuple[bytes, bytes]:
        shown = f"{stamp}\n{covered(delivery)}\n".encode("utf-8", "surrogatepass")
        return shown, sha256(delivery.body).digest()

    def read(delivery: RawDelivery) -> Shown:
        given, stamp = delivery.headers.get(SIGNATURE, "").strip(), delivery.headers.get(TIMESTAMP, "")
        if not given:
            raise SignatureError("no signature")
        return Shown((from_base64(given),), message(delivery, stamp), whole_seconds(stamp))

    def write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
        stamp = str(int(now.timestamp()))
        proof = {TIMESTAMP: stamp, SIGNATURE: b64encode(mac(message(delivery, stamp))).decode()}
        return replace(delivery, headers={**delivery.headers, **proof})

    return hmac_signature(read=read, write=write)


def _claim(delivery: RawDelivery, at: int) -> Claims:
    hashes = {"url_hash": sha256(delivery.url.encode()).hexdigest()}
    if delivery.body:
        hashes["payload_hash"] = sha256(delivery.body).hexdigest()
    return {"iss": "MessageBird", "nbf": at, "exp": at + 60, "jti": delivery.delivery_id, **hashes}


def _check(delivery: RawDelivery, claims: Claims) -> None:
    if claims.get("iss") != "MessageBird" or "exp" not in claims:
        raise SignatureError("the token is not MessageBird's")
    covers(claims, "url_hash", delivery.url.encode("utf-8", "surrogatepass"))
    if delivery.body or claims.get("payload_hash") is not None:
        covers(claims, "payload_hash", delivery.body)


CHANNELS_SIGNATURE = _signed(_url)
QUERY_SIGNATURE = _signed(_sorted_query)
TOKEN_SIGNATURE = json_web_token(
    read=lambda delivery: delivery.headers.get(TOKEN, "").strip(),
    write=lambda delivery, token: replace(delivery, headers={**delivery.headers, TOKEN: token}),
    claim=_claim,
    check=_check,
    issued="nbf",
    algorithms=("HS256", "HS384", "HS512"),
)


def _scheme() -> Scheme:
    """Channels and MessageBird sign, each its own way; e-mail shows a secret."""
    shared = shared_secret()

    def sign(signing: bytes, delivery: RawDelivery, now: datetime) -> RawDelivery:
        if delivery.method == "GET":
            return TOKEN_SIGNATURE.sign(signing, delivery, now)
        scheme = shared if delivery.body.lstrip().startswith(b"[") else CHANNELS_SIGNATURE
        return scheme.sign(signing, delivery, now)

    proved = any_of(CHANNELS_SIGNATURE, TOKEN_SIGNATURE, QUERY_SIGNATURE, shared)
    return replace(proved, sign=sign, new_secret=shared.new_secret)


def split(delivery: RawDelivery) -> list[Item]:
    """E-mail events as SparkPost's; a notification once for each recipient; an SMS report, by GET, as it stands.

    Raises MalformedDelivery for what is none of them.
    """
    if delivery.method == "GET":
        return [dict(query(delivery))]
    items: list[Item] = []
    for item in sparkpost.split(delivery):
        contacts = _contacts(item) if type(item) is dict and sparkpost.CLASS not in item else ()
        if contacts:
            items += [{**item, _CONTACT: contact} for contact in contacts]
        else:
            items.append(item)
    return items


def _contacts(item: Item) -> list[Any]:
    """Whom a notification is about: whom it was written to, or who wrote it."""
    payload = inner(item, "payload")
    if _direction(item) == RECEIVED:
        contact = inner(payload, "sender").get("contact")
        return [contact] if contact else []
    contacts = inner(payload, "receiver").get("contacts")
    return contacts if isinstance(contacts, list) else []


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, or lacks status, message or a readable time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if sparkpost.CLASS in item:
        return sparkpost.normalise(item, arrival)
    return _notification(item) if "payload" in item else _report(item, arrival)


def _notification(item: Item) -> EventFields:
    payload, kind = inner(item, "payload"), _kind(item)
    if kind is None:
        raise MalformedItem("missing_status", "payload has neither status nor type", "payload.status")
    message = _message_id(item)
    if message is None:
        raise MalformedItem("missing_message", "payload.id is missing or not text", "payload.id")
    tags = payload.get("tags")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": _channel(item),
        "occurred_at": _time(payload, outbound=_direction(item) == "outbound"),
        "person": _person(item),
        "message_id": message,
        "properties": _properties(payload),
    }
    if isinstance(tags, list):
        fields["campaign"] = known({"tags": [tag for tag in map(text, tags) if tag]})
    if kind in _UNDELIVERED:
        fields["failure"] = _failure(payload)
    if kind == "clicked":
        fields["link"] = known({"url": text(inner(payload, "metadata").get("link"))})
    return fields


def _direction(item: Item) -> str:
    """`outbound`, `inbound` or `interaction`: what stands in `event` after the channel."""
    return (text(item.get("event")) or "").rpartition(".")[2]


def _channel(item: Item) -> str:
    return _CHANNELS.get((text(item.get("event")) or "").partition(".")[0], "none")


def _kind(item: Item) -> str | None:
    """A message's status, an interaction's type; what a person wrote has a status too, which says nothing."""
    direction, payload = _direction(item), inner(item, "payload")
    if direction == RECEIVED:
        return RECEIVED
    return text(payload.get("type" if direction == "interaction" else "status"))


def _message_id(item: Item) -> str | None:
    payload = inner(item, "payload")
    return text(payload.get("messageId")) or text(payload.get("id"))


def _time(payload: Mapping[str, Any], *, outbound: bool) -> datetime:
    names = ("lastStatusAt", "updatedAt", "createdAt") if outbound else ("createdAt",)
    for name in names:
        if text(payload.get(name)):
            break
    return instant(payload.get(name), f"payload.{name}")


def _person(item: Item) -> dict[str, str | None]:
    contact = inner(item, _CONTACT)
    address = text(contact.get("identifierValue"))
    id_ = text(contact.get("id"))
    if address is None:
        return {"source_contact_id": id_}
    if "@" in address:
        return {"source_contact_id": id_, "email": email(address)}
    if _channel(item) in ("sms", "whatsapp"):
        return {"source_contact_id": id_, "phone": phone(address)}
    return {"source_contact_id": address}


def _properties(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The sender's own metadata, which wins, and facts worth having at hand."""
    facts = {ours: fact for theirs, ours in _FACTS if (fact := text(payload.get(theirs)))}
    return facts | inner(payload, "meta")


def _failure(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """The shape of `failure` is not documented: its code and description if it has some, or itself if it is text."""
    told = inner(payload, "failure")
    reason = text(payload.get("reason")) or text(payload.get("failure")) or text(told.get("description"))
    return known({"code": text(told.get("code")), "reason": reason})


def _report(item: Item, arrival: Arrival) -> EventFields:
    """MessageBird's report of an SMS, all of it text."""
    get = item.get
    status, message = text(get("status")), text(get("id"))
    if status is None:
        raise MalformedItem("missing_status", "status is missing or not text", "status")
    if message is None:
        raise MalformedItem("missing_message", "id is missing or not text", "id")
    given = text(get("statusDatetime"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(status, EventType.UNKNOWN),
        "platform_type": status,
        "channel": "sms",
        "occurred_at": instant(given.replace(" ", "+"), "statusDatetime") if given else arrival.received_at,
        "person": {"phone": _number(item)},
        "message_id": message,
        "properties": present({"reference": text(get("reference"))}),
    }
    if not given:
        fields["time_uncertain"] = True
    if status in _UNDELIVERED:
        reason = text(get("statusReason"))
        fields["failure"] = known({"code": text(get("statusErrorCode")), "reason": reason})
        if reason == _UNKNOWN_SUBSCRIBER:
            fields["type"] = EventType.BOUNCED
    return fields


def _number(item: Item) -> str | None:
    """E.164, which MessageBird writes without its plus."""
    given = text(item.get("recipient"))
    return phone(f"+{given}" if given and given.isascii() and given.isdigit() else given)


def identity(item: Item) -> tuple[str, ...]:
    """SparkPost's event id; for the others message, status and recipient, and the link of a click."""
    if sparkpost.CLASS in item:
        return sparkpost.identity(item)
    if "payload" not in item:
        return (text(item.get("id")) or "", text(item.get("status")) or "", text(item.get("recipient")) or "")
    payload = inner(item, "payload")
    link = inner(payload, "metadata").get("link")
    contact = inner(item, _CONTACT).get("identifierValue")
    parts = (item.get("event"), payload.get("id"), _kind(item), contact, link, payload.get("details"))
    return tuple(text(part) or "" for part in parts)


def send_key(item: Item) -> str | None:
    """The message and the recipient's address; none for what a person wrote."""
    if sparkpost.CLASS in item:
        return sparkpost.send_key(item)
    if "payload" not in item:
        message, recipient = text(item.get("id")), _number(item)
    else:
        message = None if _direction(item) == RECEIVED else _message_id(item)
        recipient = email(inner(item, _CONTACT).get("identifierValue"))
    return f"{message}/{recipient}" if message and recipient else None


def person_order(item: Item) -> tuple[str, ...]:
    """The address, of whichever kind the channel has."""
    return sparkpost.person_order(item) if sparkpost.CLASS in item else ("email", "phone", "source_contact_id")


SOURCE = Source(
    name="bird",
    verify=_scheme(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    methods=frozenset({"GET", "POST"}),
    docs=Docs(
        title="Bird (MessageBird)",
        url="https://docs.bird.com/api/channels-api/message-status-and-interactions",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "The URL is signed: behind a domain of your own, set the connection's `public_url` to what Bird calls.",
            "Channels: create webhook subscriptions (Notifications API) for outbound, inbound and interaction events.",
            "Give each the URL and, as its signing key, the connection's secret.",
            "E-mail: create an event webhook with Basic Auth; the connection's secret is then `user:password`.",
            "MessageBird SMS: give the URL as reportUrl; the secret is the signing key of the developer settings.",
        ),
        secret="The signing key of channels or of MessageBird, or `user:password` of e-mail; several may be listed.",  # noqa: S106
        answers=(
            "Channels: any 2xx, else repeated at growing intervals for 8 h. "
            "E-mail: exactly 200 within 10 s, else repeated for 8 h."
        ),
        notes=(
            "Three products share the name: each is recognised by what it posts.",
            "A notification about several recipients is an event for each.",
            "The list of statuses and the shape of `failure` are not confirmed: unknown statuses are kept.",
            "A failed delivery over a channel is `failed`, since what failed for good is not told.",
            "E-mail events are SparkPost's, whose page tells more; the setting `opens` chooses which open counts.",
            "The signed timestamp may be five minutes off, or `max_age_seconds`.",
            "Tokens (`MessageBird-Signature-JWT`) and the older signature over the sorted query are both taken.",
        ),
    ),
)
