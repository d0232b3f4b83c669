"""Mailjet Event API: unsigned flat events, one a call, or mixed in an array where events are grouped.

https://dev.mailjet.com/email/guides/webhooks/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, epoch, json_object, objects, text, texts
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "sent": EventType.DELIVERED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "blocked": EventType.DROPPED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
}

BLOCKED_ERRORS: Mapping[str, EventType] = {
    "sender blocked": EventType.BLOCKED,
    "content blocked": EventType.BLOCKED,
    "policy issue": EventType.BLOCKED,
    "typofix": EventType.REJECTED,
    "invalid domain": EventType.REJECTED,
    "user unknown": EventType.REJECTED,
    "bad or empty template": EventType.REJECTED,
    "error in template language": EventType.REJECTED,
}
"""`error` of a blocked message that is not on a suppression list (preblocked, blacklisted, spam reporter …)."""

RENDERING_ERRORS = frozenset({"bad or empty template", "error in template language"})
_FACTS = (
    ("CustomID", "custom_id"),
    ("Message_GUID", "message_guid"),
    ("smtp_reply", "smtp_reply"),
    ("geo", "geo"),
    ("source", "source"),
    ("mj_list_id", "list_id"),
)
_TOLD = ("MessageID", "time", "url", "ip", "agent", "error", "mj_list_id")


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    get = item.get
    event = get("event")
    if not isinstance(event, str) or not event:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "occurred_at": epoch(get("time"), "time"),
        "person": {"email": email(get("email")), "source_contact_id": _number(item, "mj_contact_id")},
        "message_id": _number(item, "MessageID"),
        "properties": _properties(item),
    }
    campaign, tag = _number(item, "mj_campaign_id"), text(get("customcampaign"))
    if campaign or tag:
        fields["campaign"] = {"id": campaign, "tags": [tag] if tag else ()}
    if event in ("bounce", "blocked"):
        _failed(item, fields)
    elif event in ("open", "click", "unsub"):
        ip, user_agent, url = text(get("ip")), text(get("agent")), text(get("url"))
        fields["client"] = {"ip": ip, "user_agent": user_agent} if ip or user_agent else None
        fields["link"] = {"url": url} if url else None
    if event == "unsub" and (list_id := _number(item, "mj_list_id")):
        fields["topic"] = f"list/{list_id}"
    return fields


def _properties(item: Item) -> dict[str, Any]:
    """Facts worth having, and the sender's metadata, which wins."""
    get = item.get
    found: dict[str, Any] = {}
    for theirs, ours in _FACTS:
        if fact := text(get(theirs)):
            found[ours] = fact
    payload = get("Payload")
    return found if payload is None else found | _payload(payload)


def _failed(item: Item, fields: EventFields) -> None:
    """A bounce by its flag, a block by its error; greylisting goes on."""
    error = text(item.get("error"))
    reason = (error or "").lower()
    class_ = "rendering" if reason in RENDERING_ERRORS else text(item.get("error_related_to"))
    comment = text(item.get("comment"))
    if class_ or error or comment:
        fields["failure"] = {"class": class_, "code": error, "reason": comment}
    if item["event"] == "blocked":
        fields["type"] = BLOCKED_ERRORS.get(reason, EventType.DROPPED)
    elif reason == "greylisted":
        fields["type"] = EventType.DEFERRED
    elif text(item.get("hard_bounce")) not in ("1", "true") and item.get("hard_bounce") is not True:
        fields["type"] = EventType.SOFT_BOUNCED


def _number(item: Item, name: str) -> str | None:
    """An id as text, exact beyond 2^53; Mailjet writes 0 for none."""
    found = text(item.get(name))
    return found if found != "0" else None


def _payload(given: Any) -> dict[str, Any]:
    """Metadata: the text that the sender gave, mostly a JSON object."""
    found = json_object(given)
    if found is not None:
        return found
    plain = text(given)
    return {"payload": plain} if plain else {}


def identity(item: Item) -> tuple[str, ...]:
    """Mailjet has no event id: all that tells two of a recipient's events within one second apart."""
    return (item["event"], email(item.get("email")) or "", *texts(item, _TOLD))


def send_key(item: Item) -> str | None:
    """The MessageID returned at send time and the recipient."""
    message, recipient = _number(item, "MessageID"), email(item.get("email"))
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="mailjet",
    verify=shared_secret(),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    docs=Docs(
        title="Mailjet Event API",
        url="https://dev.mailjet.com/email/guides/webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Mailjet: Account settings, Rest API, Event notifications (webhooks).",
            "Paste the URL, with the secret in it (https://user:password@…), for every event; tick Group events.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="`user:password` as in the URL, or what stands in its parameter `key`.",  # noqa: S106
        answers=(
            "Anything but exactly 200 is tried again every 30 seconds for 24 hours; then the URL is suspended and the"
            " backup URL, if there is one, used."
        ),
        notes=(
            "`sent` means that the recipient's server took the message: it is `delivered` here.",
            "`failure.class` is error_related_to, `failure.code` Mailjet's error, `failure.reason` the server's words.",
            "Payload becomes `properties`, customcampaign a tag, MessageID text: it is too long for most JSON readers.",
            "An unsubscription need not name its message; where it names a list it is from that one alone.",
        ),
    ),
)
