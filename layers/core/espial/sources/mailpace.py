"""MailPace webhooks: one status a post, signed with Ed25519 by a key of each domain.

https://docs.mailpace.com/guide/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import inner, instant, lone_object, mailbox, text, texts
from espial.verify.public_keys import signature_of_body
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "email.queued": EventType.QUEUED,
    "email.delivered": EventType.DELIVERED,
    "email.deferred": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.spam": EventType.REJECTED,
}
OF_EACH = frozenset({"email.queued", "email.spam"})
"""What happens before a message goes out happens to all of its recipients; later it is not said to whom."""


def split(delivery: RawDelivery) -> list[Item]:
    """One item a recipient, who stands under `_recipient`, or one that names nobody. Raises MalformedDelivery."""
    (found,) = lone_object(delivery)
    recipients = _recipients(inner(found, "payload"))
    if len(recipients) == 1:
        found["_recipient"] = recipients[0]
    elif recipients and text(found.get("event")) in OF_EACH:
        return [{**found, "_recipient": one} for one in recipients]
    return [found]


def _recipients(payload: Mapping[str, Any]) -> list[str]:
    """Of `to`, `cc` and `bcc`, each a list with commas."""
    named = (line for name in ("to", "cc", "bcc") if (line := text(payload.get(name))))
    found = (mailbox(one) for line in named for one in line.split(","))
    return list(dict.fromkeys(one for one in found if one))


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem without an event name, an id or a time. The message's words are left out."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the event is not a JSON object")
    event, payload = item.get("event"), inner(item, "payload")
    if type(event) is not str:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    message = text(payload.get("id"))
    if message is None:
        raise MalformedItem("missing_message", "payload.id is missing", "payload.id")
    address = mailbox(item.get("_recipient"))
    if address and "@" not in address:
        raise MalformedItem("bad_recipient", "a recipient is not an address", "_recipient")
    several = None if address else _recipients(payload)
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "occurred_at": instant(payload.get("updated_at"), "payload.updated_at"),
        "person": {"email": address},
        "message_id": message,
        "properties": {"recipients": several} if several else {},
    }
    tags = payload.get("tags")
    if isinstance(tags, list) and tags:
        fields["campaign"] = {"tags": [tag for tag in map(text, tags) if tag]}
    if event == "email.spam":
        fields["failure"] = {"class": "spam"}
    return fields


def identity(item: Item) -> tuple[str, ...]:
    """Message, recipient and when its status changed; MailPace gives events no id."""
    message, at = texts(inner(item, "payload"), ("id", "updated_at"))
    return (item["event"], message, text(item.get("_recipient")) or "", at)


def send_key(item: Item) -> str | None:
    """The id that the API gave at send time, and the recipient."""
    message, address = text(inner(item, "payload").get("id")), mailbox(item.get("_recipient"))
    return f"{message}/{address}" if message and address else None


SOURCE = Source(
    name="mailpace",
    verify=signature_of_body("ed25519", "x-mailpace-signature"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    unproven=202,
    docs=Docs(
        title="MailPace webhooks",
        url="https://docs.mailpace.com/guide/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "In MailPace: your domain, Webhooks, Public Key Verification; copy the key into the connection's secret.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In the same place add the URL as an endpoint, for all events.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The domain's public key as shown: base64 of 32 bytes. Each domain has its own.",  # noqa: S106
        answers=(
            "An HTTP error or a refused connection switches the endpoint off; only time-outs and failures of TLS are "
            "tried again, up to ten times. So what is not proven is answered 202, and not kept."
        ),
        notes=(
            "With a wrong key nothing arrives and MailPace does not notice: watch the metric of refused signatures.",
            "`email.spam` is MailPace's refusal to send, not a complaint of the recipient.",
            "MailPace reports no opens and clicks.",
            (
                "A status of a mail to several recipients, once it went out, does not say whose it is: the event names "
                "nobody, and lists them in `properties.recipients`."
            ),
            "Inbound messages come without a signature, and are not accepted.",
        ),
    ),
)
