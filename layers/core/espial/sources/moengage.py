"""MoEngage Streams: batches of campaign interactions and user actions, posted as they happen.

https://www.moengage.com/docs/api/data/moengage-streams
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._shared import document, email, epoch, inner, known, leaves, text, unmapped
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "MOE_EMAIL_SENT": EventType.SENT,
    "MOE_EMAIL_DEFERRED": EventType.DEFERRED,
    "MOE_EMAIL_DELIVERED": EventType.DELIVERED,
    "MOE_EMAIL_DROP": EventType.DROPPED,
    "MOE_EMAIL_HARD_BOUNCE": EventType.BOUNCED,
    "MOE_EMAIL_SOFT_BOUNCE": EventType.SOFT_BOUNCED,
    "MOE_EMAIL_OPEN": EventType.OPENED,
    "MOE_EMAIL_CLICK": EventType.CLICKED,
    "MOE_EMAIL_UNSUBSCRIBE": EventType.UNSUBSCRIBED,
    "MOE_EMAIL_SPAM": EventType.COMPLAINED,
    "SMS_SENT": EventType.SENT,
    "SMS_DELIVERED": EventType.DELIVERED,
    "NOTIFICATION_RECEIVED_MOE": EventType.DELIVERED,
    "NOTIFICATION_RECEIVED_WEB_MOE": EventType.DELIVERED,
    "n_i_s": EventType.SENT,
    "NOTIFICATION_CLICKED_MOE": EventType.OPENED,
    "NOTIFICATION_CLICKED_IOS_MOE": EventType.OPENED,
    "NOTIFICATION_CLICKED_WEB_MOE": EventType.OPENED,
    "NOTIFICATION_CLEARED_MOE": EventType.CUSTOM,
}
"""By `event_code`; user actions, whose codes are the customer's own, are `custom`."""

_PREFIXES = {"MOE_EMAIL_": "email", "SMS_": "sms", "NOTIFICATION_": "push", "n_i_s": "push"}
_CHANNELS = {"email": "email", "sms": "sms", "push": "push", "whatsapp": "whatsapp"}
_FAILED = frozenset({EventType.DROPPED, EventType.BOUNCED, EventType.SOFT_BOUNCED, EventType.DEFERRED})
_CAMPAIGN = (
    ("campaign_name", "name"),
    ("variation", "variation_name"),
    ("flow_id", "journey_id"),
    ("parent_flow_id", "journey_id"),
    ("flow_name", "journey_name"),
    ("node_id", "step_id"),
)
"""Theirs and ours; of two for one the later wins."""
_USER_EMAIL = "moe_user_email"
_MAPPED = frozenset(
    [
        "campaign_id",
        "campaign_name",
        "campaign_channel",
        "parent_flow_id",
        "flow_id",
        "flow_name",
        "node_id",
        "variation",
        "url",
        "bounce_reason",
        "email_id",
        "moe_email_id",
    ]
)
_ACTED = _MAPPED - {"url", "variation", "bounce_reason"}
_REQUEST = "_request"
"""Which event of which request an item is, where it has no id of its own."""


def split(delivery: RawDelivery) -> list[Item]:
    """The events of `{"events": [...]}`. Raises MalformedDelivery for any other envelope."""
    envelope = document(delivery)
    events = envelope.get("events") if isinstance(envelope, dict) else None
    if not isinstance(events, list):
        raise MalformedDelivery("not_an_envelope", "events is missing or not an array", "events")
    request = text(envelope.get("moe_request_id")) or ""
    return [
        {**event, _REQUEST: f"{request}/{place}"} if isinstance(event, dict) and not event.get("event_uuid") else event
        for place, event in enumerate(events)
    ]


def from_json(row: Any, _export: Export) -> list[Item]:
    """A line of its files: an event as Streams posts it, or an envelope of them. Without an id it is what it says."""
    events = row.get("events") if isinstance(row, dict) else None
    return [
        {**event, _REQUEST: "/".join(leaves(event))}
        if isinstance(event, dict) and not event.get("event_uuid")
        else event
        for event in (events if isinstance(events, list) else [row])
    ]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no code or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    code = _code(item)
    if code is None:
        raise MalformedItem("missing_event", "event_code is missing or not text", "event_code")
    facts = inner(item, "event_attributes")
    acted = item.get("event_type") == "USER_ACTION_EVENT"
    type_ = EVENT_TYPES.get(code, EventType.CUSTOM if acted else EventType.UNKNOWN)
    fields: EventFields = {
        "type": type_,
        "platform_type": code,
        "channel": _channel(code, facts, acted=acted),
        "occurred_at": epoch(item.get("event_time"), "event_time"),
        "person": {"external_id": text(item.get("uid")), "email": _email(item, facts)},
        "campaign": _campaign(facts) or None,
    }
    if type_ in _FAILED:
        fields["failure"] = known({"reason": text(facts.get("bounce_reason"))})
    if type_ is EventType.CLICKED:
        fields["link"] = known({"url": text(facts.get("url"))})
    fields["properties"] = _properties(item, facts, named=code in EVENT_TYPES)
    return fields


def _code(item: Item) -> str | None:
    return text(item.get("event_code")) or text(item.get("event_name"))


def _channel(code: str, facts: Mapping[str, Any], *, acted: bool) -> str:
    for prefix, channel in _PREFIXES.items():
        if code.startswith(prefix):
            return channel
    if acted:
        return "web" if (text(facts.get("platform")) or "").lower() == "web" else "app"
    return _CHANNELS.get((text(facts.get("campaign_channel")) or "").lower(), "none")


def _email(item: Item, facts: Mapping[str, Any]) -> str | None:
    found = email(facts.get("email_id")) or email(facts.get("moe_email_id"))
    return found or email(inner(item, "user_attributes").get(_USER_EMAIL))


def _campaign(facts: Mapping[str, Any]) -> dict[str, str]:
    """A campaign's id goes on, after its first underscore, with locale and variation; the whole is the variation's."""
    given = text(facts.get("campaign_id"))
    base = given.partition("_")[0] if given else None
    found = {ours: value for theirs, ours in _CAMPAIGN if (value := text(facts.get(theirs)))}
    if given:
        found["id"] = base or given
        if base and base != given:
            found["variation_id"] = given
    return found


def _properties(item: Item, facts: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
    """The attributes of the event, flat, then those of user and device; a user action keeps every one of its own."""
    mapped = _MAPPED if named else _ACTED
    properties = {name: fact for name in unmapped(tuple(facts), mapped) if (fact := facts[name]) is not None}
    user, device = inner(item, "user_attributes"), inner(item, "device_attributes")
    if _USER_EMAIL in user:
        user = {name: value for name, value in user.items() if name != _USER_EMAIL}
    if user:
        properties["user_attributes"] = user
    if device:
        properties["device_attributes"] = device
    return properties


def identity(item: Item) -> tuple[str, ...]:
    """MoEngage's id of the event; older payloads lack it and get their place in the request."""
    code = _code(item) or ""
    given = text(item.get("event_uuid"))
    if given:
        return (code, given)
    return (code, text(item.get(_REQUEST)) or "", text(item.get("uid")) or "", text(item.get("event_time")) or "")


def send_key(item: Item) -> str | None:
    """Campaign, with its variation, and user: MoEngage numbers no single message."""
    campaign, user = text(inner(item, "event_attributes").get("campaign_id")), text(item.get("uid"))
    return f"{campaign}/{user}" if campaign and user else None


SOURCE = Source(
    name="moengage",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("external_id", "email"),
    send_key=send_key,
    exports={"ndjson": from_json},
    docs=Docs(
        title="MoEngage Streams",
        url="https://www.moengage.com/docs/api/data/moengage-streams",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "Streams is an add-on that MoEngage itself enables: ask your Customer Success Manager or Support.",
            "Tell them the URL, the events (all campaign interaction events) and the user attribute `moe_user_email`.",
            "Have them send the header `Authorization` with the value `Bearer <the connection's secret>`.",
            "Send a campaign to yourself; its events show up with `espial events --person`.",
        ),
        secret="A long random text, the same in the header agreed with MoEngage and here.",  # noqa: S106
        answers="Any 2xx. Failed posts are repeated a few times with growing delays (unconfirmed).",
        notes=(
            "MoEngage signs nothing: the header is the proof, and any header will do (`secret_header`).",
            "User actions are `custom` under their own names; a code that is not in the table is `unknown`, and kept.",
            "`campaign.id` is the id up to its first underscore; with locale and variation it is the `variation_id`.",
            "No id names a single message, so the send key is campaign and user: a repeated send shares it.",
            (
                "Its files in a bucket (JSON lines, gzip) go to exports/moengage/<connection>/ and hold the same "
                "events: with `event_uuid` each is the streamed one. Not confirmed: that they all have it."
            ),
            "A clicked notification is an `opened`; one swiped away is `custom`.",
        ),
    ),
)
