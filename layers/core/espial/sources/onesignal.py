"""OneSignal Event Streams: one event a post, in the body that the stream's Liquid template makes of it.

https://documentation.onesignal.com/docs/en/event-streams
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, epoch, inner, instant, known, objects, phone, present, text, texts, unmapped
from espial.verify import NO_SETTINGS, Scheme
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

BODY_TEMPLATE = (
    '{"event": {"id": "{{ event.id }}", "kind": "{{ event.kind }}", "timestamp": "{{ event.timestamp }}", '
    '"datetime": "{{ event.datetime }}", "app_id": "{{ event.app_id }}", '
    '"subscription_id": "{{ event.subscription_id }}", '
    '"subscription_device_type": "{{ event.subscription_device_type }}", "external_id": "{{ event.external_id }}", '
    '"onesignal_id": "{{ event.onesignal_id }}", "data": {"page_name": "{{ event.data.page_name }}", '
    '"page_id": "{{ event.data.page_id }}", "target_name": "{{ event.data.target_name }}", '
    '"target_id": "{{ event.data.target_id }}", "live_activity_id": "{{ event.data.live_activity_id }}", '
    '"failure_reason": "{{ event.data.failure_reason }}"}}, "message": {"id": "{{ message.id }}", '
    '"name": "{{ message.name }}", "template_id": "{{ message.template_id }}"}, '
    '"recipient": "{{ user.subscription.subscription_token }}"}'
)
"""The stream's Custom Body: what this source reads. Everything is quoted, so that blanks stay JSON."""

EVENT_TYPES: Mapping[str, EventType] = {
    "message.push.sent": EventType.SENT,
    "message.push.received": EventType.DELIVERED,
    "message.push.clicked": EventType.OPENED,
    "message.push.failed": EventType.FAILED,
    "message.push.unsubscribed": EventType.UNSUBSCRIBED,
    "message.email.sent": EventType.SENT,
    "message.email.received": EventType.DELIVERED,
    "message.email.opened": EventType.OPENED,
    "message.email.clicked": EventType.CLICKED,
    "message.email.bounced": EventType.BOUNCED,
    "message.email.hardbounced": EventType.BOUNCED,
    "message.email.failed": EventType.FAILED,
    "message.email.suppressed": EventType.DROPPED,
    "message.email.supressed": EventType.DROPPED,
    "message.email.unsubscribed": EventType.UNSUBSCRIBED,
    "message.email.resubscribed": EventType.SUBSCRIBED,
    "message.email.reported_as_spam": EventType.COMPLAINED,
    "message.sms.sent": EventType.SENT,
    "message.sms.delivered": EventType.DELIVERED,
    "message.sms.undelivered": EventType.FAILED,
    "message.sms.failed": EventType.FAILED,
    "message.iam.impression": EventType.OPENED,
    "message.iam.displayed": EventType.OPENED,
    "message.iam.clicked": EventType.CLICKED,
    "message.iam.page_displayed": EventType.CUSTOM,
    "message.iam.pagedisplayed": EventType.CUSTOM,
    "message.live_activity.sent": EventType.CUSTOM,
    "message.live_activity.delivered": EventType.CUSTOM,
    "message.live_activity.clicked": EventType.CUSTOM,
    "message.live_activity.failed": EventType.CUSTOM,
    "message.live_activity.unsubscribed": EventType.CUSTOM,
}
"""Some kinds have an older spelling beside the present one."""

_CHANNELS = {"push": "push", "email": "email", "sms": "sms", "iam": "inapp", "live_activity": "push"}
_FAILED = frozenset({EventType.FAILED, EventType.BOUNCED, EventType.DROPPED})
_PARTS = frozenset({"event", "message", "recipient"})
_MAPPED = frozenset({"failure_reason", "target_id", "target_name"})
_LEGACY = "x-onesignal-event"


def _scheme() -> Scheme:
    """A secret that the stream shows; never what a visitor's browser posts, since a visitor would know it too."""
    shared = shared_secret()

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        if _LEGACY in delivery.headers:
            raise SignatureError("a legacy web push webhook comes from a browser and proves nothing")
        shared.verify(delivery, secrets, now, settings=settings)

    return replace(shared, verify=verify)


def split(delivery: RawDelivery) -> list[Item]:
    """The template's object; dotted names (`event.kind`), as in OneSignal's own example, become nested ones."""
    return [_nested(item) if isinstance(item, dict) and "event.kind" in item else item for item in objects(delivery)]


def _nested(item: Item) -> Item:
    found: Item = {}
    for name, value in item.items():
        *places, last = name.split(".") if name.startswith(("event.", "message.")) else [name]
        place = found
        for part in places[:2]:
            deeper = place.get(part)
            if not isinstance(deeper, dict):
                deeper = place[part] = {}
            place = deeper
        place[last] = value
    return found


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what the template did not make, or has no kind or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    event, message = inner(item, "event"), inner(item, "message")
    kind = text(event.get("kind"))
    if kind is None:
        raise MalformedItem("missing_event", "event.kind is missing or not text: is it the template's?", "event.kind")
    type_, channel, data = EVENT_TYPES.get(kind, EventType.UNKNOWN), _channel(kind), inner(event, "data")
    fields: EventFields = {
        "type": type_,
        "platform_type": kind,
        "channel": channel,
        "occurred_at": _time(event),
        "person": _person(item, event, channel),
        "message_id": text(message.get("id")),
    }
    id_, name, template = text(message.get("id")), text(message.get("name")), text(message.get("template_id"))
    if id_ or name or template:
        fields["campaign"] = {"id": id_, "name": name, "template_id": template}
    if type_ in _FAILED:
        fields["failure"] = known({"reason": text(data.get("failure_reason"))})
    link, alias = text(data.get("target_id")), text(data.get("target_name"))
    if link or alias:
        fields["link"] = {"id": link, "alias": alias}
    fields["properties"] = _properties(item, event, data)
    return fields


def _channel(kind: str) -> str:
    parts = kind.split(".")
    return _CHANNELS.get(parts[1], "none") if len(parts) > 1 else "none"


def _time(event: Mapping[str, Any]) -> datetime:
    given = text(event.get("datetime"))
    return instant(given, "event.datetime") if given else epoch(event.get("timestamp"), "event.timestamp")


def _person(item: Item, event: Mapping[str, Any], channel: str) -> dict[str, str | None]:
    """The recipient is the subscription's token: an address, a number, or for push something that names nobody."""
    return {
        "external_id": text(event.get("external_id")),
        "source_contact_id": text(event.get("onesignal_id")),
        "email": email(item.get("recipient")) if channel == "email" else None,
        "phone": phone(item.get("recipient")) if channel == "sms" else None,
    }


def _properties(item: Item, event: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of the kind, which subscription it was, and whatever else the template was made to say."""
    subscription = {name: event.get(name) for name in ("subscription_id", "subscription_device_type")}
    named = {name: data[name] for name in unmapped(tuple(data), _MAPPED)}
    more = {name: item[name] for name in unmapped(tuple(item), _PARTS)}
    return present(named | subscription | more)


def identity(item: Item) -> tuple[str, ...]:
    """OneSignal's own id of the event; without it (a template of one's own) all that tells events apart."""
    event, message = inner(item, "event"), inner(item, "message")
    kind = text(event.get("kind")) or ""
    given = text(event.get("id"))
    if given:
        return (kind, given)
    target = text(inner(event, "data").get("target_id"))
    told = texts(event, ("subscription_id", "external_id", "onesignal_id"))
    return (kind, text(message.get("id")) or "", target or "", *told)


def send_key(item: Item) -> str | None:
    """The message, one id for all its recipients, and the subscription that it went to."""
    message = text(inner(item, "message").get("id"))
    recipient = text(inner(item, "event").get("subscription_id")) or email(item.get("recipient"))
    return f"{message}/{recipient.lower()}" if message and recipient else None


_ADDRESSES = {"email": ("email",), "sms": ("phone",)}


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the user."""
    channel = _channel(text(inner(item, "event").get("kind")) or "")
    return (*_ADDRESSES.get(channel, ()), "external_id", "source_contact_id")


SOURCE = Source(
    name="onesignal",
    verify=_scheme(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    docs=Docs(
        title="OneSignal Event Streams",
        url="https://documentation.onesignal.com/docs/en/event-streams",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In OneSignal: Data, Event Streams, New Event Stream; select all events; method POST; paste the URL.",
            "Add the header `Authorization` with the value `Bearer <the connection's secret>`.",
            f"Choose Custom Body and paste this template, which is required as it stands: `{BODY_TEMPLATE}`",
            "Send a test request from the form, then set the stream live.",
        ),
        secret="A long random text, the same in the stream's header and here.",  # noqa: S106
        answers=(
            "Any 2xx. A failure that can pass (such as 429) is repeated a few times with growing delays; a stream that "
            "keeps failing or answering slowly is disabled."
        ),
        notes=(
            "More fields may be added at the top of the template: they become properties.",
            "A quotation mark in a message's name would break the JSON; such a post is quarantined as `not_json`.",
            "Thirty days after the send OneSignal knows only the message's id; its name is blank then.",
            "`message_id` is one id for all recipients of a message; the send key adds the subscription.",
            "A clicked push is an `opened`, a shown in-app message too; Live Activities are `custom`.",
            "Legacy web push webhooks are posted by the visitor's browser, so they are refused whatever they show.",
            (
                "Audience activity files (CSV) have other columns for each channel, which are not confirmed, and no "
                "event ids: put them under a `custom_json` connection, whose mapping names the columns."
            ),
            "`message.sms.undelivered` is a failure and not a bounce: the reason is not told.",
        ),
    ),
)
