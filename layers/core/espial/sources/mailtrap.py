"""Mailtrap webhooks: signed batches of up to 500 flat events, as a JSON object or as JSON Lines.

https://docs.mailtrap.io/email-api-smtp/advanced/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import document, email, inner, known, lines, seconds_or_milliseconds, smtp_code, text, texts
from espial.verify.hmacs import hmac_of_body
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "delivery": EventType.DELIVERED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "spam": EventType.COMPLAINED,
    "soft bounce": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "suspension": EventType.DEFERRED,
    "reject": EventType.REJECTED,
}
"""A soft bounce and a suspension (unverified domain) are tried ten times more, says "Statuses and Events"."""

_TOLD = ("message_id", "timestamp", "url", "ip", "user_agent", "description")
_FAILURES = frozenset({"soft bounce", "bounce", "suspension", "reject"})


def split(delivery: RawDelivery) -> list[Item]:
    """The events of `{"events": [...]}`, of an array, or one on each line. Raises MalformedDelivery."""
    try:
        found = document(delivery)
    except MalformedDelivery:
        return lines(delivery)
    if isinstance(found, dict):
        found = found.get("events", [found])
    if not isinstance(found, list):
        raise MalformedDelivery("not_an_envelope", "neither an array of events nor an object with one")
    return found


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    get = item.get
    event = get("event")
    if not isinstance(event, str) or not event:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    tag, stream, url = text(get("category")), text(get("sending_stream")), text(get("url"))
    custom = inner(item, "custom_variables")
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "occurred_at": seconds_or_milliseconds(get("timestamp"), "timestamp"),
        "person": {"email": email(get("email"))},
        "campaign": {"tags": [tag]} if tag else None,
        "message_id": text(get("message_id")),
        "link": {"url": url} if url else None,
        "client": known({"ip": text(get("ip")), "user_agent": text(get("user_agent"))}),
        "properties": {"sending_stream": stream, **custom} if stream else custom,
    }
    if event in _FAILURES:
        reply, reason = text(get("response")), text(get("reason"))
        fields["failure"] = known(
            {
                "class": text(get("bounce_category")),
                "code": smtp_code(reply) or text(get("response_code")),
                "reason": reply or reason,
            }
        )
        if event == "reject" and "suppress" in (reason or "").lower():
            fields["type"] = EventType.DROPPED
    return fields


def identity(item: Item) -> tuple[str, ...]:
    """Mailtrap's event id; without one, all that tells events apart."""
    get = item.get
    event: str = item["event"]
    given = text(get("event_id"))
    if given:
        return (event, given)
    return (event, email(get("email")) or "", *texts(item, _TOLD))


def send_key(item: Item) -> str | None:
    """The message id returned at send time and the recipient."""
    message, recipient = text(item.get("message_id")), email(item.get("email"))
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="mailtrap",
    verify=hmac_of_body("mailtrap-signature"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Mailtrap webhooks",
        url="https://docs.mailtrap.io/email-api-smtp/advanced/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Mailtrap: Settings, Webhooks, Create New Webhook; paste the URL, choose JSON or JSON Lines.",
            "Choose Email Sending, the sending stream, the domain and all event types; Run Test, then Save.",
            "Copy the signing secret into the connection's secret: it is shown when the webhook is created.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The webhook's signing secret, as it is shown.",  # noqa: S106
        answers=(
            "Anything but 200 within 30 seconds is tried again every 5 minutes, 40 times; then the webhook is paused"
            " and has to be resumed by hand."
        ),
        notes=(
            "Events are gathered for 30 seconds and come in batches of up to 500.",
            "A soft bounce is tried again by Mailtrap: it is `deferred`, and `delivery` or `bounce` follows.",
            "A rejection whose reason names the suppression list is `dropped`; the wording is not documented.",
            "Custom variables become `properties`, the category a tag.",
            "The signature covers no time: what was once signed can be posted again, and is then a duplicate.",
            "Audit log and inbound webhooks are kept as `unknown`.",
        ),
    ),
)
