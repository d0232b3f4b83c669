"""Mandrill (Mailchimp Transactional) webhooks: form posts with an array of events in one field, signed with the URL.

https://mailchimp.com/developer/transactional/docs/webhooks/
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, epoch, form, inner, known, present, text, texts
from espial.verify import from_base64
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.vocabulary import EventType

FIELD = "mandrill_events"
HEADER = "x-mandrill-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "send": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferral": EventType.DEFERRED,
    "hard_bounce": EventType.BOUNCED,
    "soft_bounce": EventType.SOFT_BOUNCED,
    "reject": EventType.DROPPED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
    "inbound": EventType.REPLIED,
    "blacklist": EventType.UNKNOWN,  # a change of the lists, once called so
    "whitelist": EventType.UNKNOWN,
    "denylist": EventType.UNKNOWN,
    "safelist": EventType.UNKNOWN,
}

REFUSALS = frozenset({"invalid-sender", "invalid", "test-mode-limit", "unsigned", "rule"})
"""Reasons of a rejection that are about the message; all others name an entry of the denylist."""

_NO_EVENTS = frozenset({b"mandrill_events=%5b%5d", b"mandrill_events=[]"})
_FACTS = ("subaccount", "subject", "state")


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """The probes at set-up, before there is a key: HEAD, else a post of no events signed with a key that all know."""
    return Reply() if delivery.method == "HEAD" or delivery.body.lower() in _NO_EVENTS else None


def split(delivery: RawDelivery) -> list[Item]:
    """The events in the form's field. Raises MalformedDelivery if there is none, or no array in it."""
    held = dict(form(delivery)).get(FIELD)
    if held is None:
        raise MalformedDelivery("missing_events", f"the form has no field {FIELD}", FIELD)
    try:
        events = orjson.loads(held.encode("utf-8", "surrogatepass"))
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", f"{FIELD}: {exc}", FIELD) from exc
    if not isinstance(events, list):
        raise MalformedDelivery("not_an_array", f"{FIELD} is not an array", FIELD)
    return events


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    kind = _kind(item)
    if not kind:
        raise MalformedItem("missing_event", "neither event nor type is text", "event")
    message = inner(item, "msg")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "email",
        "occurred_at": epoch(item.get("ts"), "ts"),
        "person": {"email": _person(item)},
        "campaign": _campaign(message),
        "message_id": _message_id(item),
        "properties": _properties(message),
    }
    special = _SPECIAL.get(kind)
    if special:
        special(item, fields)
    elif "event" not in item:
        _listed(item, fields)
    return fields


def _properties(message: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: fact for name in _FACTS if (fact := text(message.get(name)))}
    return facts | inner(message, "metadata")  # an empty one is an array, the PHP way


def _kind(item: Item) -> str | None:
    """The event's name; changes of the lists have a `type` instead."""
    return text(item.get("event")) or text(item.get("type"))


def _entry(item: Item) -> Mapping[str, Any]:
    """The entry of a list that changed; its name varies."""
    return inner(item, "reject") or inner(item, "entry")


def _person(item: Item) -> str | None:
    """The recipient, of an inbound message the sender, of a changed list whom the entry is about."""
    message = inner(item, "msg")
    if item.get("event") == "inbound":
        return email(message.get("from_email"))
    return email(message.get("email")) or email(_entry(item).get("email"))


def _message_id(item: Item) -> str | None:
    return text(item.get("_id")) or text(inner(item, "msg").get("_id"))


def _campaign(message: Mapping[str, Any]) -> dict[str, Any] | None:
    tags = message.get("tags")
    found = {
        "template_id": text(message.get("template")),
        "tags": [tag for tag in map(text, tags) if tag] if type(tags) is list else [],
    }
    return known(found)


def _failed(item: Item, fields: EventFields) -> None:
    message = inner(item, "msg")
    failure = {
        "class": text(message.get("bounce_description")),
        "code": text(message.get("bgtools_code")),
        "reason": text(message.get("diag")) or _last_answer(message),
    }
    fields["failure"] = known(failure)


def _last_answer(message: Mapping[str, Any]) -> str | None:
    """What the receiving server said last: a deferral has it among its SMTP events alone."""
    answers = message.get("smtp_events")
    last = answers[-1] if isinstance(answers, list) and answers else None
    return text(last.get("diag")) if isinstance(last, dict) else None


def _rejected(item: Item, fields: EventFields) -> None:
    message = inner(item, "msg")
    reason = text(inner(message, "reject").get("reason")) or text(message.get("reject"))
    if reason:
        fields["failure"] = {"class": reason, "reason": text(inner(message, "reject").get("detail"))}
    if reason in REFUSALS:
        fields["type"] = EventType.REJECTED


def _engaged(item: Item, fields: EventFields) -> None:
    client = {"ip": text(item.get("ip")), "user_agent": text(item.get("user_agent"))}
    fields["client"] = known(client)
    url = text(item.get("url"))
    if url:
        fields["link"] = {"url": url}


def _received(item: Item, fields: EventFields) -> None:
    fields["properties"] |= present({"to": text(inner(item, "msg").get("email"))})


def _listed(item: Item, fields: EventFields) -> None:
    entry = {name: text(fact) for name, fact in _entry(item).items() if name != "email"}
    fields["properties"] = present({"action": text(item.get("action")), **entry})


_SPECIAL: Mapping[str, Callable[[Item, EventFields], None]] = {
    **dict.fromkeys(("deferral", "hard_bounce", "soft_bounce"), _failed),
    **dict.fromkeys(("open", "click", "spam", "unsub"), _engaged),
    "reject": _rejected,
    "inbound": _received,
}


def identity(item: Item) -> tuple[str, ...]:
    """Mandrill numbers messages, not events: message, event, second, link and client, or what changed in a list."""
    told = texts(item, ("ts", "url", "ip", "user_agent", "action"))
    return (_kind(item) or "", _message_id(item) or "", _person(item) or "", *told)


def send_key(item: Item) -> str | None:
    """The message, which is one recipient's; one that came in answers no send by its own id."""
    message, recipient = _message_id(item), _person(item)
    return f"{message}/{recipient}" if message and recipient and item.get("event") != "inbound" else None


def _signed(delivery: RawDelivery) -> tuple[bytes, ...]:
    """The webhook's URL as it was configured, then every field by name: name and value, nothing between."""
    parts = (delivery.url, *(part for field in sorted(dict(form(delivery)).items()) for part in field))
    return tuple(part.encode("utf-8", "surrogatepass") for part in parts)


def _read(delivery: RawDelivery) -> Shown:
    given = delivery.headers.get(HEADER, "").strip()
    try:
        return Shown((from_base64(given),) if given else (), _signed(delivery))
    except MalformedDelivery as exc:
        raise SignatureError("the body is no form") from exc


def _write(delivery: RawDelivery, _now: datetime, mac: Mac) -> RawDelivery:
    code = b64encode(mac(_signed(delivery))).decode()
    return replace(delivery, headers={**delivery.headers, HEADER: code})


SOURCE = Source(
    name="mandrill",
    verify=hmac_signature(read=_read, write=_write, algorithm="sha1"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    handshake=handshake,
    docs=Docs(
        title="Mandrill (Mailchimp Transactional)",
        url="https://mailchimp.com/developer/transactional/docs/webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Its secret may hold anything yet: Mandrill shows the key after it has probed the URL.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Mandrill: Settings, Webhooks, Add a Webhook; choose all events, paste the URL, Create Webhook.",
            "Copy the key that the list shows beside the URL into the connection's secret.",
            "Send Test posts samples; a message's events show up with `espial events --person`.",
        ),
        secret="The webhook's key as the console shows it; of several webhooks and inbound routes, all their keys.",  # noqa: S106
        answers="All but 200 puts the batch into Mandrill's queue, to be sent again with growing delays or by hand. "
        "The schedule is not published.",
        notes=(
            "The URL is signed: `public_url` of the connection must be to the letter what Mandrill was given.",
            "A post shows no time, so there is nothing but the event's identity against a replay.",
            "A rejection is `dropped` when a denylist entry is its reason, `rejected` when the message is.",
            "Changes of denylist and safelist are kept as `unknown`, with action and entry in `properties`.",
            "`delivered` does not come in all accounts; nothing tells whether a machine opened.",
        ),
    ),
)
