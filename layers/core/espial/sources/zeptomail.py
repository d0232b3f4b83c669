"""ZeptoMail (Zoho) webhooks: signed reports of messages, their events and the details of these, nested thrice.

https://www.zoho.com/zeptomail/help/webhooks.html
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, form, inner, instant, known, milliseconds, smtp_code, text
from espial.verify import from_base64
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.vocabulary import EventType

HEADER = "producer-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "hardbounce": EventType.BOUNCED,
    "softbounce": EventType.SOFT_BOUNCED,
    "email_open": EventType.OPENED,
    "email_link_click": EventType.CLICKED,
    "feedback_loop": EventType.COMPLAINED,
    "delivered": EventType.DELIVERED,
    "email_delivered": EventType.DELIVERED,
}

_FACTS = ("device", "browser", "email_client", "operating_system", "ip_location_info")


def _json(delivery: RawDelivery) -> bytes:
    """The JSON, which is what is signed: the body, or the decoded field `data` of a form. Raises MalformedDelivery."""
    if delivery.body.lstrip()[:1] in (b"{", b"["):
        return delivery.body
    data = dict(form(delivery)).get("data")
    if data is None:
        raise MalformedDelivery("not_json", "the body is neither JSON nor a form with data")
    return data.encode()


def read(delivery: RawDelivery) -> Shown:
    """`ts=<ms>;s=<percent-encoded base64>;s-algorithm=HmacSHA256`; base64 ends in `=`, so the first one parts."""
    given = delivery.headers.get(HEADER, "")
    parts = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in given.split(";"))}
    if not parts.get("s"):
        raise SignatureError("no signature")
    try:
        message = _json(delivery)
    except MalformedDelivery as exc:
        raise SignatureError("nothing in the body that could be signed") from exc
    return Shown((from_base64(unquote(parts["s"])),), (message,))


def write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    """Signs what `_json` finds, else the body."""
    try:
        message = _json(delivery)
    except MalformedDelivery:
        message = delivery.body
    code = quote(b64encode(mac((message,))), safe="")
    proof = f"ts={int(now.timestamp() * 1000)};s={code};s-algorithm=HmacSHA256"
    return replace(delivery, headers={**delivery.headers, HEADER: proof})


def split(delivery: RawDelivery) -> list[Item]:
    """One item for each detail of each event of each message. Raises MalformedDelivery."""
    try:
        found = orjson.loads(_json(delivery))
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if not isinstance(found, dict) or not isinstance(found.get("event_message"), list):
        raise MalformedDelivery("not_an_envelope", "event_message is missing or not an array", "event_message")
    names = found.get("event_name")
    name = names[0] if isinstance(names, list) and names else names
    return [item for message in found["event_message"] for item in _items(message, name)]


def _items(message: Any, name: Any) -> Iterator[Any]:
    """What is no object stays as it is: it is judged with its neighbours. An event without details is one still."""
    if not isinstance(message, dict):
        yield message
        return
    mail = {"request_id": message.get("request_id"), "email_info": message.get("email_info")}
    for event in _listed(message.get("event_data")):
        if not isinstance(event, dict):
            yield event
            continue
        for detail in _listed(event.get("details")):
            yield {**mail, "object": event.get("object") or name, "detail": detail}


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) and given else [{} if given in (None, []) else given]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One detail. Raises MalformedItem for what is not an object or has no event name, or a time that is none."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "a message or event is not a JSON object")
    event, detail = item.get("object"), item.get("detail")
    if not isinstance(event, str) or not event:
        raise MalformedItem("missing_event", "object and event_name are missing or not text", "object")
    if not isinstance(detail, dict):
        raise MalformedItem("not_an_object", "a detail is not a JSON object", "details")
    mail = inner(item, "email_info")
    tag = text(mail.get("tag"))
    place = inner(detail, "ip_location_info")
    client = {"ip": text(detail.get("ip")) or text(place.get("ip")), "user_agent": text(detail.get("user_agent"))}
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "person": {"email": _recipient(item)},
        "campaign": {"tags": [tag]} if tag else None,
        "message_id": text(item.get("request_id")),
        "client": known(client),
        "properties": _properties(mail, detail),
    }
    given = detail.get("time") or detail.get("modified_time")
    if given:
        fields["occurred_at"] = milliseconds(given, "time") if type(given) is int else instant(given, "time")
    else:
        fields |= {"occurred_at": arrival.received_at, "time_uncertain": True}
    url = text(detail.get("clicked_link"))
    if url:
        fields["link"] = {"url": url}
    reply, reason = text(detail.get("diagnostic_message")), text(detail.get("reason"))
    if event in ("hardbounce", "softbounce"):
        fields["failure"] = known({"class": reason, "code": smtp_code(reply), "reason": reply})
    return fields


def _properties(mail: Mapping[str, Any], detail: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if reference := text(mail.get("client_reference")):
        found["client_reference"] = reference
    for name in _FACTS:
        fact = detail.get(name)
        if fact or fact is False or fact == 0:
            found[name] = fact
    return found


def _recipient(item: Item) -> str | None:
    """Who bounced; of all else the first whom the message went to, since opens and clicks do not say."""
    bounced = email(inner(item, "detail").get("bounced_recipient"))
    to = inner(item, "email_info").get("to")
    first = to[0] if isinstance(to, list) and to and isinstance(to[0], dict) else {}
    return bounced or email(inner(first, "email_address").get("address"))


def identity(item: Item) -> tuple[str, ...]:
    """What happened to which message and when; whether `webhook_request_id` outlives a retry is not confirmed.

    An open's details may list the earlier ones again: these are then the same events.
    """
    detail = inner(item, "detail")
    given = text(detail.get("time")) or text(detail.get("modified_time")) or ""
    parts = (item.get("request_id"), _recipient(item), given, detail.get("clicked_link"))
    return (item["object"], *(text(part) or "" for part in parts))


def send_key(item: Item) -> str | None:
    """The request id returned at send time and the recipient."""
    message, recipient = text(item.get("request_id")), _recipient(item)
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="zeptomail",
    verify=hmac_signature(read=read, write=write),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="ZeptoMail webhooks",
        url="https://www.zoho.com/zeptomail/help/webhooks.html",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In ZeptoMail: the Mail Agent, Webhooks, Add webhook; paste the URL.",
            "Choose all events: hard and soft bounces, opens, clicks, feedback loop; save.",
            "Copy the webhook's authorization key into the connection's secret.",
            "Test the webhook, then send a message; its events show up with `espial events --person`.",
        ),
        secret="The webhook's authorization key, as it is shown.",  # noqa: S106
        answers="Any 2xx is a success. Whether and how often a failure is tried again is not confirmed.",
        notes=(
            "The signature does not cover its time: what was once signed can be posted again, and is then a duplicate.",
            "Opens and clicks do not say whose they are: the first recipient's. Send one message to each recipient.",
            "Opens are reported once for each message.",
            "The report of a delivery, the tag and the names of client facts are not confirmed.",
            "`message_id` is the request id returned at send time; client_reference is in `properties`.",
        ),
    ),
)
