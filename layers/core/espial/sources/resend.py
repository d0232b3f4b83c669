"""Resend webhooks: one event a post, signed by the Standard Webhooks scheme under Svix's header names.

https://resend.com/docs/dashboard/webhooks/event-types
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, instant, lone_object, mailbox, present, smtp_code, text
from espial.verify.hmacs import standard_webhooks
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "email.scheduled": EventType.QUEUED,
    "email.sent": EventType.SENT,
    "email.delivered": EventType.DELIVERED,
    "email.delivery_delayed": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.suppressed": EventType.DROPPED,
    "email.failed": EventType.FAILED,
    "email.complained": EventType.COMPLAINED,
    "email.opened": EventType.OPENED,
    "email.clicked": EventType.CLICKED,
    "email.received": EventType.REPLIED,
    "contact.created": EventType.PROFILE_UPDATED,
    "contact.updated": EventType.PROFILE_UPDATED,
    "contact.deleted": EventType.UNKNOWN,
    "contact.topics.updated": EventType.SUBSCRIBED,
    "suppression.added": EventType.UNKNOWN,
    "suppression.removed": EventType.UNKNOWN,
    **dict.fromkeys(("domain.created", "domain.updated", "domain.deleted"), EventType.UNKNOWN),
    **dict.fromkeys(("topic.created", "topic.updated", "topic.deleted"), EventType.UNKNOWN),
}

SOFT = frozenset({"transient", "temporary"})
SUPPRESSED = frozenset({"Suppressed", "OnAccountSuppressionList"})


def split(delivery: RawDelivery) -> list[Item]:
    """The event, or one for each topic that a contact joined or left. `_id` is the id of the post, equal over retries.

    Raises MalformedDelivery for what is no JSON object.
    """
    (event,) = lone_object(delivery)
    headers = delivery.headers
    event["_id"] = headers.get("svix-id") or headers.get("webhook-id")
    if event.get("type") != "contact.topics.updated":
        return [event]
    topics = inner(event, "data").get("topics")
    return [{**event, "_topic": topic} for topic in topics] if type(topics) is list else [event]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem without a type or a time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the event is not a JSON object")
    event, data = item.get("type"), inner(item, "data")
    if type(event) is not str:
        raise MalformedItem("missing_event", "type is missing or not text", "type")
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email" if event.startswith("email.") else "none",
        "occurred_at": instant(item.get("created_at"), "created_at"),
        "person": {"email": _address(item)},
        "properties": {},
    }
    if event.startswith("email."):
        _message(data, fields)
    reader = _READERS.get(event)
    if reader is not None:
        reader(item, data, fields)
    return fields


def _address(item: Item) -> str | None:
    """The person: a contact, or the recipient if the message had one only. Who of several it was is not said."""
    data = inner(item, "data")
    if item.get("type") == "email.received":
        return mailbox(data.get("from"))
    named = data.get("to", data.get("email"))
    if isinstance(named, list):
        return mailbox(named[0]) if len(named) == 1 else None
    return mailbox(named)


def _message(data: Mapping[str, Any], fields: EventFields) -> None:
    fields["message_id"] = text(data.get("email_id"))
    broadcast, template = text(data.get("broadcast_id")), text(data.get("template_id"))
    if broadcast or template:
        fields["campaign"] = {"id": broadcast, "template_id": template}
    properties = fields["properties"] = _tags(data.get("tags"))
    recipients = data.get("to")
    if type(recipients) is list and len(recipients) > 1:
        properties["recipients"] = recipients


def _tags(tags: Any) -> dict[str, Any]:
    """Name to value; older events list them."""
    if isinstance(tags, list):
        pairs = [(text(one.get("name")), one.get("value")) for one in tags if isinstance(one, dict)]
        return {name: value for name, value in pairs if name}
    return dict(tags) if isinstance(tags, dict) else {}


def _bounced(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    bounce = inner(data, "bounce")
    kind, sub_type, reason = (text(bounce.get(name)) for name in ("type", "subType", "message"))
    diagnosis = bounce.get("diagnosticCode")
    answer = text(diagnosis[0] if isinstance(diagnosis, list) and diagnosis else diagnosis)
    if sub_type in SUPPRESSED:
        fields["type"] = EventType.DROPPED
    elif (kind or "").lower() in SOFT:
        fields["type"] = EventType.SOFT_BOUNCED
    fields["failure"] = {
        "class": "/".join(filter(None, (kind, sub_type))) or None,
        "code": smtp_code(answer) or smtp_code(reason),
        "reason": answer or reason,
    }


def _suppressed(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    said = inner(data, "suppressed")
    fields["failure"] = {"class": text(said.get("type")), "reason": text(said.get("message"))}


def _failed(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    fields["failure"] = {"reason": text(inner(data, "failed").get("reason"))}


def _clicked(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    click = inner(data, "click")
    fields["client"] = {"ip": text(click.get("ipAddress")), "user_agent": text(click.get("userAgent"))}
    fields["link"] = {"url": text(click.get("link"))}


def _received(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    """A mail to us; its words and attachments lie at Resend."""
    said = {"recipients": data.get("received_for") or data.get("to"), "subject": text(data.get("subject"))}
    fields["properties"] = present(said)


def _contact(item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    fields["person"]["source_contact_id"] = text(data.get("id"))
    if item["type"] == "contact.deleted":
        return
    if data.get("unsubscribed") is True:
        fields["type"], fields["channel"] = EventType.UNSUBSCRIBED, "email"
    fields["properties"] = present({name: text(data.get(name)) for name in ("first_name", "last_name")})


def _topic(item: Item, _data: Mapping[str, Any], fields: EventFields) -> None:
    topic = inner(item, "_topic")
    name = text(topic.get("id"))
    if name is None:
        raise MalformedItem("missing_topic", "a topic has no id", "data.topics")
    if topic.get("subscription") == "opt_out":
        fields["type"] = EventType.UNSUBSCRIBED
    fields["channel"] = "email"
    fields["topic"] = name


def _listed(_item: Item, data: Mapping[str, Any], fields: EventFields) -> None:
    fields["properties"] = present({"origin": text(data.get("origin")), "source_id": text(data.get("source_id"))})


_READERS = {
    "email.bounced": _bounced,
    "email.suppressed": _suppressed,
    "email.failed": _failed,
    "email.clicked": _clicked,
    "email.received": _received,
    **dict.fromkeys(("contact.created", "contact.updated", "contact.deleted"), _contact),
    "contact.topics.updated": _topic,
    **dict.fromkeys(("suppression.added", "suppression.removed"), _listed),
}


def identity(item: Item) -> tuple[str, ...]:
    """The id of the post, which retries and replays repeat; without one, what the event says."""
    topic = text(inner(item, "_topic").get("id")) or ""
    if given := text(item.get("_id")):
        return (item["type"], given, topic)
    data = inner(item, "data")
    told = (data.get("email_id") or data.get("id"), email(_address(item)), item.get("created_at"))
    link = inner(data, "click").get("link")
    return (item["type"], topic, *(text(one) or "" for one in (*told, link)))


def send_key(item: Item) -> str | None:
    """The id that the API gave at send time, and the recipient, if there was one only."""
    message, address = text(inner(item, "data").get("email_id")), _address(item)
    return f"{message}/{address}" if message and address and item["type"] != "email.received" else None


SOURCE = Source(
    name="resend",
    verify=standard_webhooks("svix", "webhook"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Resend webhooks",
        url="https://resend.com/docs/dashboard/webhooks/event-types",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Resend: Webhooks, Add Webhook; paste the URL as Endpoint URL and choose all event types.",
            "Open the webhook and copy its Signing Secret into the connection's secret.",
            "Under Domains, your domain, turn on open and click tracking if you want those events.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The Signing Secret as shown, `whsec_` and base64.",  # noqa: S106
        answers=(
            "Whatever is not 2xx within 15 seconds is sent again eight times over 28 hours, each time signed afresh; "
            "an endpoint that fails for days is switched off."
        ),
        notes=(
            (
                "An event of a mail to several recipients does not say which of them it is about: it names nobody, and "
                "lists them in `properties.recipients`."
            ),
            "Tags become `properties`; a broadcast is the campaign.",
            "Opens carry neither address nor user agent.",
            "A contact that is updated while unsubscribed counts as unsubscribed again.",
            "Events of inboxes are kept as unknown.",
        ),
    ),
)
