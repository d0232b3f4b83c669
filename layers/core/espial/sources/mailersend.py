"""MailerSend webhooks: one activity a post, to one recipient, in the shape of either version of its webhooks.

https://developers.mailersend.com/api/v1/webhooks.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, instant, lone_object, mailbox, present, smtp_code, text
from espial.verify.hmacs import hmac_of_body
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "activity.sent": EventType.SENT,
    "activity.delivered": EventType.DELIVERED,
    "activity.deferred": EventType.DEFERRED,
    "activity.soft_bounced": EventType.SOFT_BOUNCED,
    "activity.hard_bounced": EventType.BOUNCED,
    "activity.opened": EventType.OPENED,
    "activity.opened_unique": EventType.OPENED,
    "activity.clicked": EventType.CLICKED,
    "activity.clicked_unique": EventType.CLICKED,
    "activity.unsubscribed": EventType.UNSUBSCRIBED,
    "activity.spam_complaint": EventType.COMPLAINED,
    "activity.survey_opened": EventType.UNKNOWN,
    "activity.survey_submitted": EventType.UNKNOWN,
    "inbound.message": EventType.REPLIED,
    **dict.fromkeys(("recipient.on_hold_added", "recipient.on_hold_removed"), EventType.UNKNOWN),
    **dict.fromkeys(("inbound_forward.failed", "inbound_message.rejected"), EventType.UNKNOWN),
    **dict.fromkeys(("sender_identity.verified", "maintenance.start", "maintenance.end"), EventType.UNKNOWN),
    **dict.fromkeys(("email_single.verified", "email_list.verified", "bulk_email.completed"), EventType.UNKNOWN),
}

TEST = "webhook.test"
LARGEST_TEST = 4096
"""Bytes."""
FAILED = frozenset({"activity.deferred", "activity.soft_bounced", "activity.hard_bounced"})
REASONED = frozenset({"activity.unsubscribed", "activity.spam_complaint"})


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """The ping that must be taken before a webhook can be saved; it is signed with a secret that all share."""
    if len(delivery.body) > LARGEST_TEST or TEST.encode() not in delivery.body:
        return None
    try:
        found = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    return Reply() if isinstance(found, dict) and found.get("type") == TEST else None


def split(delivery: RawDelivery) -> list[Item]:
    """The event; none for the ping. Raises MalformedDelivery for what is no JSON object."""
    found = lone_object(delivery)
    return [] if found[0].get("type") == TEST else found


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem without a type or a time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the event is not a JSON object")
    event, data = item.get("type"), inner(item, "data")
    if type(event) is not str:
        raise MalformedItem("missing_event", "type is missing or not text", "type")
    written = "data.created_at" if "created_at" in data else "created_at"
    email_id = text(inner(data, "email").get("id")) or text(data.get("email_id"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email" if event.startswith(("activity.", "inbound")) else "none",
        "occurred_at": instant(data.get("created_at", item.get("created_at")), written),
        "person": {"email": _address(item)},
        "message_id": _message(data),
        "properties": {"email_id": email_id} if email_id else {},
    }
    template, tags = text(data.get("template_id")), _tags(data)
    if template or tags:
        fields["campaign"] = {"template_id": template, "tags": tags}
    _details(event, data, fields)
    return fields


def _details(event: str, data: Mapping[str, Any], fields: EventFields) -> None:
    """`morph`, or `meta` in version 2: null or an empty array where there is nothing to say."""
    said = inner(data, "morph") or inner(data, "meta")
    ip, url, reason = text(said.get("ip")), text(said.get("url")), text(said.get("reason"))
    if ip:
        fields["client"] = {"ip": ip}
    if url:
        fields["link"] = {"url": url}
    if event in FAILED:
        fields["failure"] = {"code": smtp_code(reason), "reason": reason}
    elif event in REASONED:
        fields["properties"] |= present({"reason": reason, "readable_reason": text(said.get("readable_reason"))})
    elif event == "inbound.message":
        fields["properties"] = present({"subject": text(data.get("subject"))})


def _address(item: Item) -> str | None:
    """The recipient; of a message to us who wrote it."""
    data = inner(item, "data")
    if item.get("type") == "inbound.message":
        wrote = data.get("from")
        return mailbox(wrote.get("email") if isinstance(wrote, dict) else wrote)
    found = data.get("email")
    if isinstance(found, dict):
        return email(inner(found, "recipient").get("email"))
    return email(found) or email(inner(data, "recipient").get("email"))


def _message(data: Mapping[str, Any]) -> str | None:
    """What the API gave as X-Message-Id, shared by all recipients of a request."""
    return text(inner(inner(data, "email"), "message").get("id")) or text(data.get("message_id"))


def _tags(data: Mapping[str, Any]) -> list[str]:
    tags = inner(data, "email").get("tags", data.get("tags"))
    return [tag for tag in map(text, tags) if tag] if isinstance(tags, list) else []


def identity(item: Item) -> tuple[str, ...]:
    """The activity's id; other events have ids of what they are about, so their time counts too."""
    event, data = item["type"], inner(item, "data")
    given = text(data.get("id"))
    if given and event.startswith("activity."):
        return (event, given)
    written = text(data.get("created_at", item.get("created_at"))) or ""
    return (event, given or "", _address(item) or "", _message(data) or "", written)


def send_key(item: Item) -> str | None:
    """X-Message-Id and recipient."""
    message, address = _message(inner(item, "data")), _address(item)
    return f"{message}/{address}" if message and address and item["type"] != "inbound.message" else None


SOURCE = Source(
    name="mailersend",
    verify=hmac_of_body("signature"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    handshake=handshake,
    docs=Docs(
        title="MailerSend webhooks",
        url="https://developers.mailersend.com/api/v1/webhooks.html",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            (
                "In MailerSend: Email, Domains, Manage, Webhooks, Create webhook; paste the URL and choose the events: "
                "all of them but the unique opens and clicks."
            ),
            "Save; MailerSend posts a ping, which is answered. Copy the Signing Secret into the connection's secret.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The webhook's Signing Secret as shown.",  # noqa: S106
        answers=(
            "Answers within 3 seconds count. Time-outs, 429 and 5xx are tried again for about three days, after which "
            "the webhook is paused; any other 4xx is final."
        ),
        notes=(
            (
                "The first open of a message is reported as opened and as opened_unique, under ids of their own: "
                "choose one of them, or it counts twice. So with clicks."
            ),
            "`message_id` is the X-Message-Id returned at send time; `properties.email_id` is the id of one copy.",
            "Nothing but the body is signed, so a repeated request is told by its ids alone.",
            "Events of SMS are kept as unknown, since their shape is not confirmed; so are the details of version 2.",
        ),
    ),
)
