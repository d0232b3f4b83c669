"""Vonage SMS: delivery receipts and messages received, by GET or POST; and the statuses of its Messages API.

https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import md5, sha256
from typing import Any
from urllib.parse import urlencode

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.messages import is_ours
from espial.sources import Docs, EventFields, Source
from espial.sources._proofs import Claims, any_of, covers, json_web_token
from espial.sources._shared import form, instant, objects, phone, query, remaining, text, texts
from espial.verify import NO_SETTINGS, Scheme, from_hex, matches, require_fresh, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

DAY = 86_400.0

RECEIVED = "inbound"
"""The platform type of what has no status: a message received."""

EVENT_TYPES: Mapping[str, EventType] = {
    "accepted": EventType.SENT,
    "buffered": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "expired": EventType.FAILED,
    "failed": EventType.FAILED,
    "rejected": EventType.BLOCKED,
    "unknown": EventType.UNKNOWN,
    "submitted": EventType.SENT,
    "read": EventType.OPENED,
    "undeliverable": EventType.FAILED,
    RECEIVED: EventType.REPLIED,
}

ERROR_CODES: Mapping[str, EventType] = {
    "2": EventType.SOFT_BOUNCED,  # absent subscriber, for now
    "3": EventType.BOUNCED,  # absent subscriber, for good
    "4": EventType.BOUNCED,  # barred by the user
    "6": EventType.BLOCKED,  # anti-spam
    "7": EventType.SOFT_BOUNCED,  # handset busy
    "8": EventType.SOFT_BOUNCED,  # network error
    "9": EventType.DROPPED,  # asked not to be written to
    "10": EventType.REJECTED,  # illegal message
    "12": EventType.BOUNCED,  # destination unreachable
    "13": EventType.BLOCKED,  # age restriction
    "14": EventType.BLOCKED,  # blocked by the carrier
    "15": EventType.SOFT_BOUNCED,  # prepaid without credit
    "50": EventType.BLOCKED,
    "51": EventType.BLOCKED,
    "52": EventType.BLOCKED,
    "53": EventType.BLOCKED,
    "54": EventType.BLOCKED,
}
"""`err-code` of a receipt that is a failure; all others leave what the status says."""

_UNDELIVERED = frozenset({"failed", "rejected", "expired", "undeliverable"})
_CHANNELS = {"sms": "sms", "mms": "sms", "rcs": "sms", "whatsapp": "whatsapp"}
_MINUTE = re.compile(r"([0-9]{2})" * 5)
_PROOF = frozenset({"sig", "timestamp", "nonce"})
_COMMON = frozenset(
    [
        "status",
        "messageId",
        "err-code",
        "message-timestamp",
        "api-key",
        "sig",
        "nonce",
        "timestamp",
        "message_uuid",
        "channel",
        "error",
    ]
)
_OWN = {theirs: _COMMON | {theirs} for theirs in ("msisdn", "from", "to")}
"""By the field that holds the customer's address: what is no property."""


def _fields(delivery: RawDelivery) -> list[tuple[str, str]]:
    """The parameters in order, wherever the account has them put. Raises MalformedDelivery."""
    if delivery.method == "GET":
        return query(delivery)
    if not _is_json(delivery):
        return form(delivery)
    found = orjson.loads(delivery.body)
    return [(name, _plain(value)) for name, value in found.items()] if isinstance(found, dict) else []


def _is_json(delivery: RawDelivery) -> bool:
    return "json" in delivery.headers.get("content-type", "")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _message(fields: list[tuple[str, str]]) -> bytes:
    """`&name=value` of everything but the signature, in order of name; `&` and `=` in a value are `_`."""
    sent = sorted((name, value.replace("&", "_").replace("=", "_")) for name, value in fields if name != "sig")
    return "".join(f"&{name}={value}" for name, value in sent).encode("utf-8", "surrogatepass")


def _read(delivery: RawDelivery) -> Shown:
    try:
        fields = _fields(delivery)
    except (MalformedDelivery, orjson.JSONDecodeError) as exc:
        raise SignatureError(f"no parameters: {exc}") from exc
    shown = dict(fields)
    if "sig" not in shown:
        raise SignatureError("no sig")
    return Shown((from_hex(shown["sig"]),), (_message(fields),), whole_seconds(shown.get("timestamp", "")))


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    fields = [(name, value) for name, value in _fields(delivery) if name not in _PROOF]
    fields += [("timestamp", str(int(now.timestamp()))), ("nonce", delivery.delivery_id)]
    fields.append(("sig", mac((_message(fields),)).hex()))
    if delivery.method == "GET":
        return replace(delivery, url=f"{delivery.url.partition('?')[0]}?{urlencode(fields)}")
    return replace(delivery, body=orjson.dumps(dict(fields)) if _is_json(delivery) else urlencode(fields).encode())


def _plain_md5() -> Scheme:
    """The MD5 of message and secret, which is no HMAC: the method Vonage calls `md5hash`."""

    def code(secret: bytes, message: Sequence[bytes]) -> bytes:
        return md5(b"".join(message) + secret, usedforsecurity=False).digest()

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        shown = _read(delivery)
        require_fresh(shown.at or 0, now, DAY, settings)
        found = [matches(shown.codes[0], code(secret, shown.message)) for secret in secrets if secret]
        if not any(found):
            raise SignatureError(f"none of the {len(secrets)} secrets fits the signature")

    def sign(signing: bytes, delivery: RawDelivery, now: datetime) -> RawDelivery:
        return _write(delivery, now, lambda message: code(signing, tuple(message)))

    return Scheme(verify=verify, sign=sign, new_secret=shared_secret().new_secret)


def _bearer(delivery: RawDelivery) -> str:
    scheme, _, shown = delivery.headers.get("authorization", "").strip().partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else ""


def _with_bearer(delivery: RawDelivery, token: str) -> RawDelivery:
    return replace(delivery, headers={**delivery.headers, "authorization": f"Bearer {token}"})


def _claim(delivery: RawDelivery, at: int) -> Claims:
    hashed = sha256(delivery.body).hexdigest()
    return {"iss": "Vonage", "iat": at, "jti": delivery.delivery_id, "payload_hash": hashed}


METHODS: Mapping[str, Scheme] = {
    "md5hash": _plain_md5(),
    **{
        name: hmac_signature(read=_read, write=_write, algorithm=name, default_max_age=DAY)
        for name in ("md5", "sha1", "sha256", "sha512")
    },
    "jwt": json_web_token(
        read=_bearer,
        write=_with_bearer,
        claim=_claim,
        check=lambda delivery, claims: covers(claims, "payload_hash", delivery.body),
        issued="iat",
        default_max_age=DAY,
    ),
}
"""The setting `signature_method` -> its scheme. Whether a retry is signed afresh is not documented: hence a day."""


def configured(settings: Mapping[str, Any]) -> Source:
    """With `signature_method`, nothing but that signature is proof. Raises ValueError for one that Vonage has not."""
    method = settings.get("signature_method")
    if method is None:
        return SOURCE
    if not isinstance(method, str) or method not in _PINNED:
        raise ValueError(f"signature_method: must be one of {', '.join(METHODS)}")
    return _PINNED[method]


def split(delivery: RawDelivery) -> list[Item]:
    """The parameters as one item; JSON as it stands. Raises MalformedDelivery for anything else."""
    if delivery.method != "GET" and _is_json(delivery):
        return objects(delivery)
    return [dict(_fields(delivery))]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One receipt, status or received message. Raises MalformedItem for one without id or of an unreadable time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    message = _message_id(item)
    if message is None:
        raise MalformedItem("missing_message", "messageId is missing or not text", "messageId")
    status = _status(item)
    fields: EventFields = {
        "type": EVENT_TYPES.get(status, EventType.UNKNOWN),
        "platform_type": status,
        "channel": _channel(item),
        "message_id": message,
    }
    fields |= _times(item, arrival)
    fields["person"] = {"source_contact_id" if fields["channel"] == "none" else "phone": _address(item)}
    if status in _UNDELIVERED:
        fields["failure"] = _failure(item)
        fields["type"] = _refused(item, fields["type"])
    own = _OWN[_theirs(item)]
    fields["properties"] = dict(sorted(remaining(item, own).items()))
    return fields


def _message_id(item: Item) -> str | None:
    return text(item.get("messageId")) or text(item.get("message_uuid"))


def _status(item: Item) -> str:
    status = text(item.get("status"))
    return status.lower() if status else RECEIVED


def _refused(item: Item, usual: EventType) -> EventType:
    if "message_uuid" in item:
        return EventType.REJECTED if _status(item) == "rejected" else usual
    return ERROR_CODES.get(text(item.get("err-code")) or "", usual)


def _failure(item: Item) -> dict[str, str | None]:
    error = item.get("error")
    if isinstance(error, dict):
        return {"code": text(error.get("title")), "reason": text(error.get("detail")), "class": text(error.get("type"))}
    return {"code": text(item.get("err-code"))}


def _theirs(item: Item) -> str:
    """Which field holds the customer's address: `msisdn`, whichever way the message went, where there is one."""
    if "message_uuid" not in item:
        return "msisdn"
    return "from" if _status(item) == RECEIVED else "to"


def _address(item: Item) -> str | None:
    """E.164, which Vonage writes without its plus, on the channels that have numbers."""
    given = text(item.get(_theirs(item)))
    in_full = given is not None and given.isascii() and given.isdigit() and _channel(item) != "none"
    return phone(f"+{given}" if in_full else given)


def _channel(item: Item) -> str:
    return _CHANNELS.get(text(item.get("channel")) or "sms", "none")


def _times(item: Item, arrival: Arrival) -> EventFields:
    """When, and the instant that goes into the id.

    `scts` is the carrier's, to the minute; `message-timestamp` is when Vonage set about posting, so that a retry may
    change it.
    """
    carrier = _minute(item.get("scts"))
    given = item.get("timestamp") if "message_uuid" in item else item.get("message-timestamp")
    if text(given):
        at = instant(given, "timestamp" if "message_uuid" in item else "message-timestamp")
        return {"occurred_at": at, "identified_at": carrier} if carrier else {"occurred_at": at}
    if carrier:
        return {"occurred_at": carrier}
    return {"occurred_at": arrival.received_at, "time_uncertain": True}


def _minute(value: Any) -> datetime | None:
    """YYMMDDHHMM in UTC; None for anything else."""
    given = text(value)
    found = _MINUTE.fullmatch(given) if given else None
    if found is None:
        return None
    try:
        return instant("20{}-{}-{}T{}:{}".format(*found.groups()), "scts")
    except MalformedItem:
        return None


def identity(item: Item) -> tuple[str, ...]:
    """The message (each part of a long one has its own id), its status and what refines it."""
    return (_message_id(item) or "", _status(item), *texts(item, ("err-code", "scts")))


def send_key(item: Item) -> str | None:
    """Our own where it comes back, else the message's id and the recipient's number; none for what was received."""
    if is_ours(key := item.get("client-ref", item.get("client_ref"))):
        return str(key)
    message, recipient = _message_id(item), _address(item)
    return f"{message}/{recipient}" if message and recipient and _status(item) != RECEIVED else None


SOURCE = Source(
    name="vonage",
    verify=any_of(*METHODS.values(), shared_secret()),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("phone", "source_contact_id"),
    send_key=send_key,
    methods=frozenset({"GET", "POST"}),
    configured=configured,
    docs=Docs(
        title="Vonage SMS delivery receipts",
        url="https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In the Vonage dashboard: API Settings, SMS settings; paste the URL for delivery receipts and inbound SMS.",
            "Choose any HTTP method there: POST-JSON, POST or GET.",
            "With message signing (ask Vonage's support for it): copy the Signature secret into the connection's.",
            "Set `signature_method` to the Signature method that the dashboard shows beside it.",
            "Without it: choose a long random secret and append `?key=<secret>` to the URL.",
        ),
        secret="The account's Signature secret; where receipts are not signed, a long random text of your own.",  # noqa: S106
        answers="200. Anything but a 2xx is repeated for a day (stated for inbound messages, assumed for receipts).",
        notes=(
            "`signature_method`: md5hash (plain MD5), md5 (HMAC), sha1, sha256, sha512 or, for the Messages API, jwt.",
            "With `signature_method` nothing else is proof.",
            "Without the setting any of these, or the secret shown in the URL, is accepted.",
            "A long message has a receipt for each of its parts, each with an id of its own.",
            "`err-code` tells bounces from blocks and opt-outs; `client-ref` comes back as a property.",
            "Messages without a status are replies; which words opt out is the account's affair, so they are not read.",
            "Statuses of the Messages API are read too; its `undeliverable` is an outage on the way, so not a bounce.",
        ),
    ),
)

_PINNED = {name: replace(SOURCE, verify=scheme) for name, scheme in METHODS.items()}
