"""SendGrid Event Webhook: signed arrays of flat events, mixed types, repeated and out of order; Email Activity CSV.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._shared import email, epoch, json_object, moment, text
from espial.verify.public_keys import ecdsa_timestamped
from espial.vocabulary import EventType

DAY = 86_400.0

EVENT_TYPES: Mapping[str, EventType] = {
    "processed": EventType.PROCESSED,
    "dropped": EventType.DROPPED,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "group_resubscribe": EventType.SUBSCRIBED,
    "account_status_change": EventType.UNKNOWN,
}

BOUNCE_TYPES = {"blocked": EventType.BLOCKED, "expired": EventType.FAILED}
"""`type` of a bounce that is not a plain one: refused by policy; given up at the end of the retries."""

REJECTED_REASONS = frozenset({"invalid", "invalid smtpapi header", "spam content", "recipient list over package quota"})
"""Reasons of a drop that are SendGrid's refusal of the message; the others are its suppression lists."""

# What has a canonical field, or says nothing that the raw copy does not keep better. The rest of the flat object is
# custom arguments (any name) and a few facts worth having at hand: asm_group_id, attempt, sg_content_type.
_OWN = frozenset(
    [
        "_activity",
        "email",
        "timestamp",
        "event",
        "sg_event_id",
        "sg_message_id",
        "smtp-id",
        "category",
        "reason",
        "status",
        "response",
        "type",
        "bounce_classification",
        "ip",
        "useragent",
        "url",
        "url_offset",
        "sg_machine_open",
        "tls",
        "cert_err",
        "pool",
        "send_at",
        "marketing_campaign_id",
        "marketing_campaign_name",
        "marketing_campaign_version",
        "marketing_campaign_split_id",
        "singlesend_id",
        "singlesend_name",
        "newsletter",
        "sg_template_id",
        "sg_template_name",
    ]
)
_CAMPAIGN = frozenset({"category", "marketing_campaign_id", "singlesend_id", "newsletter", "sg_template_id"})


_ACTIVITY = "_activity"
"""Marks what comes from a file."""
_EVENTS = {"drop": "dropped"}
_COLUMNS = {
    "email": "email",
    "reason": "reason",
    "type": "type",
    "url": "url",
    "attempt": "attempt",
    "useragent": "useragent",
    "asmgroupid": "asm_group_id",
    "templateid": "sg_template_id",
    "marketingcampaignid": "marketing_campaign_id",
    "marketingcampaignname": "marketing_campaign_name",
    "marketingcampaignsplitid": "marketing_campaign_split_id",
}
"""Columns of an Email Activity file -> the webhook's names."""


def split(delivery: RawDelivery) -> list[Item]:
    """The array's items; a lone object counts as an array of one. Raises MalformedDelivery for anything else."""
    try:
        document = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if isinstance(document, dict):
        return [document]
    if not isinstance(document, list):
        raise MalformedDelivery("not_an_array", "the body is neither a JSON array nor an object")
    return document


def from_csv(row: Mapping[str, str], _export: Export) -> Item:
    """A row of an Email Activity file: the same events without their ids. Raises MalformedItem without a time.

    Whose address a row has is the sender's where it is of the call (`originating_ip`), so none is taken.
    """
    get = row.get
    item: Item = dict(json_object(get("uniqueargs")) or {})
    item |= {theirs: value for column, theirs in _COLUMNS.items() if (value := get(column))}
    item |= {
        "event": _EVENTS.get(get("event", "").lower(), get("event", "").lower()) or None,
        "timestamp": int(moment(get("processed"), "processed").timestamp()),
        "sg_message_id": get("messageid") or get("recvmessageid"),
        _ACTIVITY: True,
    }
    if categories := get("categories"):
        item["category"] = _categories(categories)
    return item


def _categories(cell: str) -> Any:
    """JSON, or the only one itself."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an item of the array is not a JSON object")
    get = item.get
    event = get("event")
    if type(event) is not str:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    type_, special = _READ.get(event, _UNKNOWN)
    custom, tagged, in_campaign = _shape(tuple(item))
    fields: EventFields = {
        "type": type_,
        "platform_type": event,
        "channel": "email",
        "occurred_at": epoch(get("timestamp"), "timestamp"),
        "person": {"email": email(get("email"))},
    }
    message = get("sg_message_id")
    if type(message) is str:
        fields["message_id"] = message.partition(".")[0]
    if tagged:
        tags = _tags(get("category"))
        if tags:
            fields["campaign"] = {"tags": tags}
    elif in_campaign:
        fields["campaign"] = _campaign(item)
    if custom:
        properties = fields["properties"] = {}
        for name in custom:
            properties[name] = item[name]
    if special:
        special(item, fields)
    return fields


@lru_cache(maxsize=1024)
def _shape(names: tuple[str, ...]) -> tuple[tuple[str, ...], bool, bool]:
    """The names that are not SendGrid's own, in order; whether tags alone, or more, say what campaign it is.

    Cached: an account's events come in a few shapes.
    """
    campaign = _CAMPAIGN.intersection(names)
    return tuple(sorted(set(names) - _OWN)), campaign == {"category"}, bool(campaign)


def _failed(item: Item, fields: EventFields) -> None:
    get = item.get
    reason = text(get("reason"))
    fields["failure"] = {
        "class": text(get("bounce_classification")),
        "code": text(get("status")),
        "reason": reason or text(get("response")),
    }
    event = item["event"]
    if event == "bounce":
        fields["type"] = BOUNCE_TYPES.get(text(get("type")) or "", EventType.BOUNCED)
    elif event == "dropped" and (reason or "").lower() in REJECTED_REASONS:
        fields["type"] = EventType.REJECTED


def _engaged(item: Item, fields: EventFields) -> None:
    get = item.get
    ip, user_agent, machine = text(get("ip")), text(get("useragent")), get("sg_machine_open")
    if type(machine) is bool:
        fields["client"] = {
            "ip": ip,
            "user_agent": user_agent,
            "machine": machine,
            "machine_reason": "sg_machine_open",
        }
    elif ip or user_agent:
        fields["client"] = {"ip": ip, "user_agent": user_agent}
    url = get("url")
    if type(url) is str:
        fields["link"] = {"url": url}


def _account(item: Item, fields: EventFields) -> None:
    fields["properties"] = {**fields.get("properties", {}), "status": text(item.get("type"))}


_Reader = Callable[[Item, EventFields], None]
_SPECIAL: Mapping[str, _Reader] = {
    **dict.fromkeys(("dropped", "deferred", "bounce"), _failed),
    **dict.fromkeys(("open", "click", "unsubscribe", "group_unsubscribe", "group_resubscribe"), _engaged),
    "account_status_change": _account,
}
_READ: Mapping[str, tuple[EventType, _Reader | None]] = {
    event: (type_, _SPECIAL.get(event)) for event, type_ in EVENT_TYPES.items()
}
"""Event -> its type, and who reads what it says besides who, what and when."""
_UNKNOWN: tuple[EventType, _Reader | None] = (EventType.UNKNOWN, None)


def _campaign(item: Item) -> dict[str, Any]:
    get = item.get
    newsletter = get("newsletter")
    return {
        "id": text(get("singlesend_id"))
        or text(get("marketing_campaign_id"))
        or (text(newsletter.get("newsletter_id")) if isinstance(newsletter, dict) else None),
        "name": text(get("singlesend_name")) or text(get("marketing_campaign_name")),
        "variation_id": text(get("marketing_campaign_split_id")),
        "template_id": text(get("sg_template_id")),
        "tags": _tags(get("category")),
    }


def _tags(category: Any) -> list[str]:
    """`category` is text or an array, also within one batch."""
    if type(category) is list:
        return [tag for tag in map(text, category) if tag]
    tag = text(category)
    return [tag] if tag else []


def identity(item: Item) -> tuple[str, ...]:
    """SendGrid's event id, stable over its retries; the console's test events lack it and get a composite.

    A file has no ids, so its events are `told` apart.
    """
    get = item.get
    event: str = item["event"]
    if _ACTIVITY in item:
        return told(item)
    given = get("sg_event_id")
    if type(given) is str and given:
        return (event, given)
    parts = ("sg_message_id", "timestamp", "url", "ip", "useragent", "asm_group_id", "attempt", "type")
    return (event, email(get("email")) or "", *(text(get(part)) or "" for part in parts))


def told(item: Item) -> tuple[str, ...]:
    """Message, event, recipient and link, which the webhook and the files both have: with the second, one event.

    What is about no message keeps its id.
    """
    get = item.get
    message = get("sg_message_id")
    if type(message) is not str:
        return (item["event"], text(get("sg_event_id")) or "", email(get("email")) or "")
    return (item["event"], message.partition(".")[0], email(get("email")) or "", text(get("url")) or "")


def _configured(settings: Mapping[str, Any]) -> Source:
    both = settings.get(_BOTH, False)
    if type(both) is not bool:
        raise ValueError(f"{_BOTH}: must be true or false")
    return _TOLD_APART if both else SOURCE


_BOTH = "activity_files"
"""The setting that says that Email Activity files come beside the webhook."""


def send_key(item: Item) -> str | None:
    """The id returned at send time (`sg_message_id` up to its first dot) and the recipient."""
    message = item.get("sg_message_id")
    recipient = item.get("email")
    if type(message) is str and type(recipient) is str:
        return f"{message.partition('.')[0]}/{recipient.strip().lower()}"
    return None


SOURCE = Source(
    name="sendgrid",
    verify=ecdsa_timestamped(
        signature_header="x-twilio-email-event-webhook-signature",
        timestamp_header="x-twilio-email-event-webhook-timestamp",
        default_max_age=DAY,  # whether a retry is signed afresh is not documented, and retries go on for a day
    ),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    exports={"csv": from_csv},
    configured=_configured,
    docs=Docs(
        title="SendGrid Event Webhook",
        url="https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In SendGrid: Settings, Mail Settings, Event Webhooks, Create new webhook; paste the URL as Post URL.",
            "Choose the events to send: all of them; turn on Signed Event Webhook and save.",
            "Copy the verification key into the connection's secret.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The verification key as the console shows it: base64 of a public key, one line, or PEM.",  # noqa: S106
        answers="Any 2xx counts; else it posts again at growing intervals for 24 hours, and then never. It has "
        "no probe.",
        notes=(
            "Custom arguments and other unlisted keys become `properties`; categories become `campaign.tags`.",
            "The console's test button always posts the same ids, so a second test counts as duplicates.",
            "The setting `max_age_seconds` narrows the tolerance of the signed timestamp (a day by default).",
            "`message_id` is the X-Message-Id returned at send time.",
            "Email Activity files (POST /v3/messages/download) go to exports/sendgrid/<connection>/.",
            (
                "They have no event ids. Where they come beside the webhook, set `activity_files: true` from the "
                "start: events of both are then the same by message, event, recipient, link and second, so two opens "
                "within one second count once. Without it the webhook's id counts, and a file's events are others."
            ),
            "Not confirmed: that `message_id` in the files begins as `sg_message_id` does, up to the first dot.",
        ),
    ),
)

_TOLD_APART = replace(SOURCE, identity=told)
"""For a connection that has both channels."""
