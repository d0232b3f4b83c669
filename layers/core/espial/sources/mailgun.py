"""Mailgun webhooks: one event a post, its signature in the body, over a timestamp and a token but not over the event.

JSON since 2018; webhooks from before post flat forms in which the message's own variables stand among the fields.
`split` makes the JSON shape of both, so that there is one normaliser.

https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import MOST_FIELDS, document, email, epoch, form, inner, known, present, text, texts
from espial.verify import from_hex, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.vocabulary import EventType

HOURS_12 = 43_200.0
"""Retries go on for eight hours and show the signature of the first try."""

EVENT_TYPES: Mapping[str, EventType] = {
    "accepted": EventType.QUEUED,
    "rejected": EventType.REJECTED,
    "delivered": EventType.DELIVERED,
    "failed": EventType.BOUNCED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "complained": EventType.COMPLAINED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "stored": EventType.REPLIED,
    "bounced": EventType.BOUNCED,  # legacy
    "dropped": EventType.DROPPED,  # legacy
}

SUPPRESSED_CODES = frozenset({"605", "606", "607"})
"""Mailgun's own codes: it did not try, because the address bounced, unsubscribed or complained before."""

REASONS = {"old": EventType.FAILED, "espblock": EventType.BLOCKED, "blacklisted": EventType.BLOCKED}
"""Reasons of a permanent failure that is no plain bounce: given up after retries; refused by policy."""

_PROOF = ("timestamp", "token", "signature")
_FORM_FIELDS = frozenset(
    [
        *_PROOF,
        *("event", "recipient", "domain", "code", "error", "notification", "reason", "description", "url", "ip"),
        *("Message-Id", "message-id", "message-headers", "tag", "X-Mailgun-Tag", "X-Mailgun-Variables"),
        *("user-agent", "client-type", "client-name", "client-os", "device-type", "city", "region", "country"),
        *("campaign-id", "campaign-name", "mailing-list", "body-plain", "X-Mailgun-Sid", "attachment-count"),
    ]
)
"""Fields of a legacy form that are Mailgun's; all others are the message's own variables."""
_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)', re.IGNORECASE)
_PART_NAME = re.compile(rb'\bname="([^"]*)"')
_BRACKETED = re.compile(r"<([^<>]+)>")


def split(delivery: RawDelivery) -> list[Item]:
    """The event, as `event-data` has it. Raises MalformedDelivery."""
    if _is_form(delivery):
        return [_from_form(_form(delivery))]
    envelope = document(delivery)
    data = envelope.get("event-data") if isinstance(envelope, dict) else None
    if not isinstance(data, dict):
        raise MalformedDelivery("not_an_envelope", "the body is not an object with event-data")
    return [data]


def _is_form(delivery: RawDelivery) -> bool:
    return "form" in delivery.headers.get("content-type", "").lower()


def _form(delivery: RawDelivery) -> list[tuple[str, str]]:
    """The fields of either kind of form in order; files are passed over. Raises MalformedDelivery."""
    boundary = _BOUNDARY.search(delivery.headers.get("content-type", ""))
    if not boundary:
        return form(delivery)
    parts = delivery.body.split(b"--" + boundary[1].encode("utf-8", "surrogatepass"), MOST_FIELDS)
    fields = []
    for part in parts[1:]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        if name and b"filename=" not in head:
            try:
                fields.append((name[1].decode(), value.removesuffix(b"\r\n").decode()))
            except UnicodeDecodeError as exc:
                raise MalformedDelivery("not_a_form", f"a field is not UTF-8: {exc.reason}") from exc
    return fields


def _from_form(fields: list[tuple[str, str]]) -> Item:
    """A legacy form as `event-data`. Where a variable shares the name of a field, the field of the proof comes last.

    Of all other repeated names the first is Mailgun's.
    """
    last = dict(fields)
    first = dict(reversed(fields))
    variables = {
        name: value
        for name, value in first.items()
        if name not in _FORM_FIELDS or (name in _PROOF and value != last[name])
    }
    tags = [value for name, value in fields if name == "tag"]
    get = first.get
    return {
        "event": get("event"),
        "timestamp": last.get("timestamp"),
        "recipient": get("recipient"),
        "reason": get("reason"),
        "url": get("url"),
        "ip": get("ip"),
        "tags": tags or [value for name, value in fields if name == "X-Mailgun-Tag"],
        "campaigns": [{"id": get("campaign-id"), "name": get("campaign-name")}],
        "mailing-list": {"address": get("mailing-list")},
        "message": {"headers": {"message-id": get("Message-Id") or get("message-id")}},
        "client-info": {"user-agent": get("user-agent")},
        "domain": {"name": get("domain")},
        "delivery-status": {
            "code": get("code"),
            "message": get("error") or get("notification"),
            "description": get("description"),
        },
        "user-variables": variables,
    }


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    get = item.get
    event = get("event")
    if type(event) is not str or not event:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "occurred_at": epoch(get("timestamp"), "timestamp"),
        "person": {"email": _person(item)},
        "campaign": _campaign(item),
        "message_id": _message_id(item),
        "properties": _properties(item),
    }
    special = _SPECIAL.get(event)
    if special:
        special(item, fields)
    return fields


def _headers(item: Item) -> Mapping[str, Any]:
    return inner(inner(item, "message"), "headers")


def _message_id(item: Item) -> str | None:
    """Without the angle brackets that the API's answer and legacy posts put around it."""
    return (text(_headers(item).get("message-id")) or "").strip("<>") or None


def _person(item: Item) -> str | None:
    """The recipient, which a rejected message names in its header only; of a stored one the sender."""
    headers = _headers(item)
    if item.get("event") == "stored":
        return _address(headers.get("from"))
    return email(item.get("recipient")) or _address(headers.get("to"))


def _address(header: Any) -> str | None:
    if type(header) is not str:
        return None
    bracketed = _BRACKETED.search(header)
    return email(bracketed[1] if bracketed else header)


def _campaign(item: Item) -> dict[str, Any] | None:
    tags, campaigns = item.get("tags"), item.get("campaigns")
    campaign = campaigns[0] if isinstance(campaigns, list) and campaigns else None
    campaign = campaign if isinstance(campaign, dict) else {}
    found = {
        "id": text(campaign.get("id")),
        "name": text(campaign.get("name")),
        "template_id": text(inner(item, "template").get("name")),
        "tags": [tag for tag in map(text, tags) if tag] if type(tags) is list else [],
    }
    return known(found)


def _properties(item: Item) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if domain := text(inner(item, "domain").get("name")):
        found["domain"] = domain
    if mailing_list := text(inner(item, "mailing-list").get("address")):
        found["mailing_list"] = mailing_list
    if inner(item, "flags").get("is-test-mode") is True:
        found["test_mode"] = True
    return found | inner(item, "user-variables")


def _failed(item: Item, fields: EventFields) -> None:
    status = inner(item, "delivery-status")
    reason = text(item.get("reason"))
    failure = {
        "class": reason,
        "code": text(status.get("enhanced-code")) or text(status.get("code")),
        "reason": text(status.get("message")) or text(status.get("description")),
    }
    fields["failure"] = known(failure)
    event, severity = item["event"], item.get("severity")
    if event == "failed" and severity == "temporary":
        fields["type"] = EventType.DEFERRED
    elif (reason or "").startswith("suppress-") or text(status.get("code")) in SUPPRESSED_CODES:
        fields["type"] = EventType.DROPPED
    elif reason in REASONS:
        fields["type"] = REASONS[reason]
    elif event == "failed" and severity != "permanent":
        fields["type"] = EventType.FAILED


def _rejected(item: Item, fields: EventFields) -> None:
    reject = inner(item, "reject")
    said = text(reject.get("reason")) or text(reject.get("description"))
    fields["failure"] = {"reason": said} if said else None


def _engaged(item: Item, fields: EventFields) -> None:
    info = inner(item, "client-info")
    client: dict[str, Any] = {"ip": text(item.get("ip")), "user_agent": text(info.get("user-agent"))}
    bot = info.get("bot")
    if type(bot) is str:  # `apple`, `gmail`, `generic`; empty where none was detected
        client |= {"machine": bool(bot), "machine_reason": f"client-info.bot {bot}".strip()}
    fields["client"] = known(client)
    url = text(item.get("url"))
    if url:
        fields["link"] = {"url": url}


def _stored(item: Item, fields: EventFields) -> None:
    headers, storage = _headers(item), inner(item, "storage")
    facts = {"to": headers.get("to"), "subject": headers.get("subject"), "storage_url": storage.get("url")}
    fields["properties"] |= present({name: text(fact) for name, fact in facts.items()})


_SPECIAL: Mapping[str, Callable[[Item, EventFields], None]] = {
    **dict.fromkeys(("failed", "bounced", "dropped"), _failed),
    **dict.fromkeys(("opened", "clicked", "unsubscribed"), _engaged),
    "rejected": _rejected,
    "stored": _stored,
}


def identity(item: Item) -> tuple[str, ...]:
    """Mailgun's id, unique within a day, the second being part of the event id; legacy posts have none."""
    event: str = item["event"]
    given = text(item.get("id"))
    if given:
        return (event, given)
    return (event, _message_id(item) or "", _person(item) or "", *texts(item, ("timestamp", "url", "ip", "reason")))


def send_key(item: Item) -> str | None:
    """The message's id and its recipient; a message that came in has its own id and answers no send by it."""
    message, recipient = _message_id(item), _person(item)
    return f"{message}/{recipient}" if message and recipient and item.get("event") != "stored" else None


def _read(delivery: RawDelivery) -> Shown:
    """The body's `signature`, or the last of the form's fields of its name.

    A subaccount's post may hold the parent account's code too, over the same: each needs its key.
    """
    try:
        found = {"signature": dict(_form(delivery))} if _is_form(delivery) else document(delivery)
    except MalformedDelivery as exc:
        raise SignatureError("the body holds no signature") from exc
    block = inner(found, "signature") if isinstance(found, dict) else {}
    stamp, token = text(block.get("timestamp")) or "", text(block.get("token"))
    if not token:
        raise SignatureError("no token")
    codes = [text(block.get(name)) for name in ("signature", "parent-signature")]
    at = whole_seconds(stamp)
    return Shown([from_hex(code) for code in codes if code], ((stamp + token).encode("utf-8", "surrogatepass"),), at)


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    """As Mailgun posts it: the proof first in a JSON object, last in a form. Another body can hold none."""
    body = delivery.body
    stamp, token = str(int(now.timestamp())), sha256(body).hexdigest()[:50]
    values = (stamp, token, mac(((stamp + token).encode(),)).hex())
    proof = dict(zip(_PROOF, values, strict=True))
    boundary = _BOUNDARY.search(delivery.headers.get("content-type", ""))
    if boundary:
        part = '--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        head, closing, rest = body.rpartition(f"--{boundary[1]}--".encode())
        parts = "".join(part % (boundary[1], name, value) for name, value in proof.items())
        body = head + parts.encode() + closing + rest
    elif _is_form(delivery):
        body += "".join(f"&{name}={value}" for name, value in proof.items()).encode()
    elif body.startswith(b"{"):
        block = ",".join(f'"{name}":"{value}"' for name, value in proof.items())
        comma = b"" if body[1:].lstrip().startswith(b"}") else b","
        body = b'{"signature":{%b}%b' % (block.encode(), comma) + body[1:]
    return replace(delivery, body=body)


SOURCE = Source(
    name="mailgun",
    verify=hmac_signature(read=_read, write=_write, default_max_age=HOURS_12),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Mailgun",
        url="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "In Mailgun: Send, Sending, API keys; copy the HTTP webhook signing key into the connection's secret.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Mailgun: Send, Sending, Webhooks; choose the domain, Add webhook, an event type, and paste the URL.",
            "Do so for every event type.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The HTTP webhook signing key, not the API key; with subaccounts the subaccount's, or the parent's.",  # noqa: S106
        answers="Only 200 counts as taken and 406 is never sent again; all else is retried for about eight hours, "
        "except reports of deliveries, which are sent once. A wrong signature is answered 401, so that a wrong "
        "secret put right within that time loses nothing else.",
        notes=(
            "The signature covers a timestamp and a token but not the event.",
            "Who has seen a valid post can show its proof with another body for twelve hours: no token is remembered.",
            "The setting `max_age_seconds` narrows these hours, at the cost of retries that come later.",
            "A body that is no JSON holds no signature, so it is refused, not quarantined.",
            "`client.machine` is Mailgun's verdict `client-info.bot`: an empty one means that none was detected.",
            "`message_id` stands without the angle brackets of the API's answer.",
            "User variables become `properties`; in legacy form posts these are all fields that are not Mailgun's.",
            "What `espblock`, `blacklisted` and `old` mean is known from Mailgun's client library, not its manual.",
        ),
    ),
)
