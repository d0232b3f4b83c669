"""Twilio messaging: status callbacks of SMS and WhatsApp messages, and messages received; one form post each.

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._proofs import any_of
from espial.sources._shared import MOST_FIELDS, form, objects, phone, query, text, unmapped
from espial.verify import NO_SETTINGS, Scheme, from_base64, from_hex, matches
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "accepted": EventType.QUEUED,
    "scheduled": EventType.QUEUED,
    "queued": EventType.QUEUED,
    "sending": EventType.PROCESSED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "partially_delivered": EventType.DELIVERED,
    "undelivered": EventType.FAILED,
    "failed": EventType.FAILED,
    "canceled": EventType.FAILED,
    "read": EventType.OPENED,
    "receiving": EventType.REPLIED,
    "received": EventType.REPLIED,
}

ERROR_CODES: Mapping[str, EventType] = {
    "21610": EventType.DROPPED,  # answered STOP
    "30003": EventType.SOFT_BOUNCED,  # unreachable
    "30004": EventType.BLOCKED,
    "30005": EventType.BOUNCED,  # unknown number
    "30006": EventType.BOUNCED,  # landline
    "30007": EventType.BLOCKED,  # carrier's filter
    "30008": EventType.SOFT_BOUNCED,  # unknown error
}
"""`ErrorCode` of what was not delivered; all others are failures."""

OPT_OUT_TYPES = {"STOP": EventType.UNSUBSCRIBED, "START": EventType.SUBSCRIBED}
"""`OptOutType` of a received message; HELP is a reply as any other."""

_UNDELIVERED = frozenset({"undelivered", "failed"})
_RECEIVED = frozenset({"receiving", "received"})
_CHANNELS = {"": "sms", "sms": "sms", "rcs": "sms", "whatsapp": "whatsapp"}
_OWN = frozenset(
    [
        "MessageStatus",
        "SmsStatus",
        "MessageSid",
        "SmsSid",
        "SmsMessageSid",
        "ErrorCode",
        "ErrorMessage",
        "MessagingServiceSid",
        "ChannelPrefix",
        "ChannelToAddress",
        "ApiVersion",
        "bodySHA256",
    ]
)
_SENT_OWN, _RECEIVED_OWN = _OWN | {"To"}, _OWN | {"From"}

SIGNATURE = "x-twilio-signature"
SIGNATURE_SETTINGS = "x-twilio-webhooks-signature-settings"
"""`key=…,algorithm=HMAC_SHA256` where the account signs with a shared key; absent where it does with its token."""
_BODY_HASH = "bodySHA256"
_ORIGIN = re.compile(r"(https?)://((?:[^/?#@]*@)?[^/?#:@]+)(:\d+)?")


def _without_port(url: str) -> str:
    return _ORIGIN.sub(r"\1://\2", url, count=1)


def _with_port(url: str) -> str:
    """With the scheme's own port where none is given."""
    found = _ORIGIN.match(url)
    if found is None or found[3]:
        return url
    return f"{found[0]}:{443 if found[1] == 'https' else 80}{url[found.end() :]}"


def _message(delivery: RawDelivery, url: str) -> tuple[bytes, bytes]:
    """URL, then each parameter of a form in order of name, name and value, with no separators (repeats once).

    A body that is no form is covered by its hash in the URL; then, as for a GET, the URL alone is signed.
    Raises SignatureError where that hash is wrong or missing.
    """
    covered = url.encode("utf-8", "surrogatepass")
    if not delivery.body or delivery.method == "GET":
        return covered, b""
    if not _is_form(delivery):
        hashes = [value for name, value in _pairs(urlsplit(url).query) if name == _BODY_HASH]
        if not hashes or not matches(from_hex(hashes[0]), sha256(delivery.body).digest()):
            raise SignatureError(f"{_BODY_HASH} is missing or not the body's")
        return covered, b""
    parameters = sorted(set(_pairs(delivery.body.decode("utf-8", "surrogateescape"))))
    joined = "".join(name + value for name, value in parameters)
    return covered, joined.encode("utf-8", "surrogateescape")


def _pairs(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, errors="surrogateescape", max_num_fields=MOST_FIELDS)
    except ValueError as exc:
        raise SignatureError(f"not a form: {exc}") from exc


def _is_form(delivery: RawDelivery) -> bool:
    return "form" in delivery.headers.get("content-type", "")


def _read(delivery: RawDelivery, *, ported: bool) -> Shown:
    given = delivery.headers.get(SIGNATURE, "").strip()
    url = delivery.url.partition("#")[0]
    return Shown(
        (from_base64(given),) if given else (),
        _message(delivery, _with_port(url) if ported else _without_port(url)),
    )


def _write(delivery: RawDelivery, _now: datetime, mac: Mac) -> RawDelivery:
    if delivery.body and not _is_form(delivery):
        named = f"{_BODY_HASH}={sha256(delivery.body).hexdigest()}"
        delivery = replace(delivery, url=f"{delivery.url}{'&' if '?' in delivery.url else '?'}{named}")
    code = b64encode(mac(_message(delivery, delivery.url.partition("#")[0]))).decode()
    return replace(delivery, headers={**delivery.headers, SIGNATURE: code})


def _scheme() -> Scheme:
    """HMAC-SHA1, or the algorithm that the settings header names; Twilio is not consistent about the URL's port."""
    by_name = {
        name: any_of(
            *(
                hmac_signature(read=partial(_read, ported=ported), write=_write, algorithm=algorithm)
                for ported in (False, True)
            )
        )
        for name, algorithm in (("HMAC_SHA1", "sha1"), ("HMAC_SHA256", "sha256"))
    }

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        name = _algorithm(delivery.headers.get(SIGNATURE_SETTINGS, ""))
        if name not in by_name:
            raise SignatureError("the signature's algorithm is not known")
        by_name[name].verify(delivery, secrets, now, settings=settings)

    return replace(by_name["HMAC_SHA1"], verify=verify)


def _algorithm(settings: str) -> str:
    for part in settings.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return value.strip().upper()
    return "HMAC_SHA1"


def split(delivery: RawDelivery) -> list[Item]:
    """The form's fields, or a GET's, as one item; JSON as it stands. Raises MalformedDelivery for anything else.

    The send key of a message of ours stands in the address (`espial.senders.twilio`), which is signed too.
    """
    if delivery.method == "GET":
        return [dict(query(delivery))]
    if _is_form(delivery):
        ours = {name: value for name, value in query(delivery) if name == "send_key"}
        return [ours | dict(form(delivery))]
    return objects(delivery)


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One status of one message, or a received message. Raises MalformedItem if it has no status or no message."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    get = item.get
    status = _status(item)
    if status is None:
        raise MalformedItem("missing_status", "MessageStatus is missing or not text", "MessageStatus")
    message = _message_id(item)
    if message is None:
        raise MalformedItem("missing_message", "MessageSid is missing or not text", "MessageSid")
    address = text(get("From" if status in _RECEIVED else "To"))
    prefix, _, number = (address or "").rpartition(":")
    fields: EventFields = {
        "type": EVENT_TYPES.get(status, EventType.UNKNOWN),
        "platform_type": status,
        "channel": _CHANNELS.get((prefix or text(get("ChannelPrefix")) or "").lower(), "none"),
        "occurred_at": arrival.received_at,
        "time_uncertain": True,
        "message_id": message,
    }
    fields["person"] = {"source_contact_id": address} if fields["channel"] == "none" else {"phone": phone(number)}
    if service := text(get("MessagingServiceSid")):
        fields["campaign"] = {"id": service}
    if status in _UNDELIVERED:
        code = text(get("ErrorCode"))
        fields["type"] = ERROR_CODES.get(code or "", EventType.FAILED)
        fields["failure"] = {"code": code, "reason": text(get("ErrorMessage"))}
    elif status in _RECEIVED:
        fields["type"] = OPT_OUT_TYPES.get(text(get("OptOutType")) or "", EventType.REPLIED)
    own = _RECEIVED_OWN if status in _RECEIVED else _SENT_OWN
    fields["properties"] = {name: item[name] for name in unmapped(tuple(item), own) if item[name] != ""}
    return fields


def _status(item: Item) -> str | None:
    status = text(item.get("MessageStatus")) or text(item.get("SmsStatus"))
    return status.lower() if status else None


def _message_id(item: Item) -> str | None:
    return text(item.get("MessageSid")) or text(item.get("SmsSid"))


def identity(item: Item) -> tuple[str, ...]:
    """The message and its status: each is reported once, in any order; a later one never replaces it."""
    return (_message_id(item) or "", _status(item) or "", text(item.get("ErrorCode")) or "")


def send_key(item: Item) -> str | None:
    """The message's id and the recipient's address; none for what was received."""
    message, recipient = _message_id(item), text(item.get("To"))
    if message is None or recipient is None or _status(item) in _RECEIVED:
        return None
    return f"{message}/{recipient.lower()}"


SOURCE = Source(
    name="twilio",
    verify=_scheme(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("phone", "source_contact_id"),
    send_key=send_key,
    methods=frozenset({"GET", "POST"}),
    docs=Docs(
        title="Twilio Messaging status callbacks",
        url="https://www.twilio.com/docs/messaging/guides/track-outbound-message-status",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "The URL is signed: behind a domain of your own, set the connection's `public_url` to what Twilio calls.",
            "In Twilio: Messaging, Services, your service, Integration; paste the URL as Delivery Status Callback.",
            "Messages sent without a service name it themselves, as StatusCallback.",
            "For replies and STOP words, paste it also under Incoming Messages, Send a webhook.",
            "Copy the account's Auth Token (Console, Account Info) into the connection's secret.",
        ),
        secret="The Auth Token of the account, or of the sub-account, that sends; with a shared key, that key.",  # noqa: S106
        answers=(
            "Any 2xx. By default Twilio repeats a callback once, and only if it could not connect; the URL's fragment "
            "(`#rc=3&rp=all`) may ask for more (unconfirmed). The time-out is 15 s (unconfirmed)."
        ),
        notes=(
            "Twilio says no time: events are dated by their receipt and marked `time_uncertain`.",
            "Statuses come in any order; each is an event of its own, and a later one never undoes an earlier.",
            "`undelivered` and `failed` are classed by ErrorCode (which code means what is in part unconfirmed).",
            "`RawDlrDoneDate` is the carrier's clock, to the minute and in a zone it does not say: a property.",
            "The campaign is the Messaging Service.",
            "Both signatures are taken: HMAC-SHA1 by the Auth Token and HMAC-SHA256 by a shared key.",
        ),
    ),
)
