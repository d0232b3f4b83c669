"""An event in words: what happened, with what particulars, and where it is logged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from espial import sources
from espial.events import Event
from espial.vocabulary import EventType

_MESSAGE: Mapping[EventType, str] = {
    EventType.QUEUED: "queued by {platform}",
    EventType.PROCESSED: "taken by {platform} for sending",
    EventType.SENT: "sent out of {platform}",
    EventType.DELIVERED: "delivered",
    EventType.DEFERRED: "deferred",
    EventType.BOUNCED: "bounced",
    EventType.SOFT_BOUNCED: "soft-bounced",
    EventType.BLOCKED: "blocked",
    EventType.REJECTED: "rejected",
    EventType.DROPPED: "dropped by {platform}",
    EventType.FAILED: "failed",
    EventType.OPENED: "opened",
    EventType.CLICKED: "clicked",
    EventType.COMPLAINED: "reported as spam",
    EventType.UNSUBSCRIBED: "unsubscribed from",
    EventType.SUBSCRIBED: "subscribed to",
    EventType.REPLIED: "replied to",
    EventType.AUTORESPONDED: "answered automatically",
}
"""What became of a message or was done with it; anything else is no event of a message."""

ABOUT_MESSAGES = frozenset(_MESSAGE)

_CHANNELS = {"sms": "SMS", "push": "push", "whatsapp": "WhatsApp", "inapp": "in-app", "webhook": "webhook"}
_TRANSPORTS = {"webhook": "webhook", "export": "bucket file"}
_NAMED_BY_USERS = frozenset({"segment", "custom_json", "cloudevents", "standard_webhooks", "generic"})
"""Platforms that many senders speak: which one it is only the connection's name says."""

_PRODUCT = re.compile(
    r"(?: [(/].*| (?:API|Automation|Currents|Data|Engagement|Events?|I/O|Marketing|Messaging|PureResponse|Real-Time|SMS"
    r"|Streaming|Streams|Webhook|callbacks|contact|data|delivery|event|forwarding|notifications|receipts|reporting"
    r"|return|status|sync|system|webhooks))+$"
)
"""What follows a platform's name in the title of its page: the product that reports."""


def platform(event: Event) -> str:
    """Who reports it, as people call it: `Braze`, `Amazon SES`, the connection's name, `Espial`."""
    return called(event.platform, event.connection)


def called(name: str, connection: str) -> str:
    """As `platform`, by the platform's name."""
    if name in _NAMED_BY_USERS:
        return connection
    if name not in sources.NAMES:
        return name.capitalize()
    return _PRODUCT.sub("", sources.load(name).docs.title)


def message(event: Event) -> str:
    """`Welcome campaign opened`."""
    channel = _CHANNELS.get(event.channel)
    happened = _MESSAGE[event.type].format(platform=platform(event))
    return f"{_campaign(event)}{f' ({channel})' if channel else ''} {happened}"


def _campaign(event: Event) -> str:
    campaign = event.campaign
    if campaign and (name := campaign.name or campaign.journey_name):
        noun = "campaign" if campaign.name else "journey"
        return name if noun in name.lower() else f"{name} {noun}"
    if campaign and (known := campaign.id or campaign.journey_id):
        return f"Campaign {known}"
    return "Message"


def behaviour(event: Event) -> str:
    """`Page viewed`; of what is the sender's own, the name it has there."""
    if event.type in (EventType.CUSTOM, EventType.UNKNOWN) and event.platform_type:
        return event.platform_type
    if (
        event.type is EventType.CART_UPDATED
        and event.commerce
        and event.commerce.cart
        and not event.commerce.cart.items
    ):
        return "Cart emptied"
    return event.type.value.replace("_", " ").capitalize()


def together(events: Iterable[Event]) -> str:
    """Several at once: `Page viewed 5 times, product viewed twice, cart updated`."""
    counts: dict[str, int] = {}
    for event in events:
        counts[behaviour(event)] = counts.get(behaviour(event), 0) + 1
    said = [f"{what}{times(count)}" for what, count in counts.items()]
    return ", ".join((said[0], *(what[0].lower() + what[1:] for what in said[1:])))


def times(count: int) -> str:
    """Nothing for once."""
    return "" if count == 1 else " twice" if count == 2 else f" {count} times"


def particulars(event: Event) -> list[str]:
    """Which link, why it failed, what was bought."""
    said: list[str | None] = []
    if link := event.link:
        said += [link.url or link.alias or link.id]
    if failure := event.failure:
        said += [failure.reason or failure.code or failure.class_]
    if commerce := event.commerce:
        said += [commerce.product.name or commerce.product.id] if commerce.product else []
        said += [_bought(one.total, one.currency) for one in (commerce.order, commerce.cart) if one]
    return [" ".join(one.split()) for one in said if one]


def _bought(total: float | None, currency: str | None) -> str | None:
    return None if total is None else f"{total:.2f} {currency or ''}".strip()


def logged(event: Event, via: Iterable[str]) -> str:
    """Where it lies besides Espial, and the way it came: `Braze, exported by webhook`."""
    ways = sorted(set(via), reverse=True)
    if set(ways) == set(_TRANSPORTS):
        return f"{platform(event)}, exported by both, webhook and bucket file"
    if ways == ["tracking"]:
        return f"{platform(event)}, by tracking call"
    return f"{platform(event)}, exported by {' and '.join(_TRANSPORTS.get(way, way) for way in ways)}"


_METHODS: Mapping[str, str] = {
    "explicit": "by the id that the sender gave the send",
    "send_key": "by the message's id at {platform}",
    "dispatch": "by dispatch and recipient",
    "send": "by send id and address",
    "campaign_email": "by campaign and address",
    "campaign_contact": "by campaign and contact id",
    "synthesised": "{platform} reports no sends: the first response stands for one",
}
_CONFIDENCE = ((1.0, "certain"), (0.95, "nearly certain"), (0.9, "very likely"), (0.7, "likely"), (0.0, "possible"))
UNMATCHED = "no send is known yet"


def correlation(method: str, confidence: float, who: str) -> str:
    """How a response was tied to its send, and how sure that is: `by campaign and address: likely (0.7)`."""
    how = _METHODS.get(method, method.replace("_", " ")).format(platform=who)
    sure = next(words for least, words in _CONFIDENCE if confidence >= least)
    return f"{how}: {sure}{'' if confidence == 1 else f' ({confidence:g})'}"
