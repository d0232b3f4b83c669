"""Brevo (formerly Sendinblue) webhooks, transactional and marketing: unsigned flat events, one a call or batched.

https://developers.brevo.com/docs/transactional-webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import document, email, json_object, seconds_or_milliseconds, smtp_code, text, texts
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "request": EventType.QUEUED,
    "sent": EventType.QUEUED,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "soft_bounce": EventType.SOFT_BOUNCED,
    "soft_bounced": EventType.SOFT_BOUNCED,
    "hard_bounce": EventType.BOUNCED,
    "hard_bounced": EventType.BOUNCED,
    "invalid_email": EventType.REJECTED,
    "blocked": EventType.DROPPED,
    "error": EventType.FAILED,
    "spam": EventType.COMPLAINED,
    "complaint": EventType.COMPLAINED,
    "opened": EventType.OPENED,
    "unique_opened": EventType.OPENED,
    "proxy_open": EventType.OPENED,
    "unique_proxy_open": EventType.OPENED,
    "unique_proxy_opened": EventType.OPENED,
    "click": EventType.CLICKED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "list_addition": EventType.SUBSCRIBED,
    "contact_updated": EventType.PROFILE_UPDATED,
    "contact_deleted": EventType.UNKNOWN,
}

_SPELLINGS = {name.replace("_", ""): name for name in EVENT_TYPES}
"""The configuration API writes hardBounce for hard_bounce: case and underscores do not tell events apart."""
_FAILURES = frozenset({"deferred", "soft_bounce", "soft_bounced", "hard_bounce", "hard_bounced", "invalid_email"})
_FAILURES |= {"blocked", "error"}
_ADDED = ("list_addition", "listAddition")
_LIST = "_list"
"""Where `split` says which of the lists that a contact was added to an item is about."""
_TIMES = ("ts_epoch", "s_epoch", "ts_event", "ts")
"""Best first: `ts_epoch` is UTC for sure (`s_epoch` is its name in proxy opens), `ts` may follow the account's zone."""
_TOLD = ("message-id", "camp_id", *_TIMES[:3], "link", "URL", "key")
_TOLD_BY_TS = (*_TOLD, "ts")
_FACTS = ("list_id", "segment_ids", "mirror_link", "content", "api_key_name", "device_used")


def split(delivery: RawDelivery) -> list[Item]:
    """One event; or, where batched, an array of them or an object around one. Raises MalformedDelivery.

    A contact that is added to several lists is one for each.
    """
    found = document(delivery)
    if isinstance(found, dict) and "event" not in found:
        found = next((value for value in found.values() if isinstance(value, list)), found)
    if not isinstance(found, dict | list):
        raise MalformedDelivery("not_an_object", "the body is neither a JSON object nor an array")
    return [one for item in (found if isinstance(found, list) else [found]) for one in _each(item)]


def _each(item: Any) -> list[Any]:
    if not isinstance(item, dict) or item.get("event") not in _ADDED:
        return [item]
    given = item.get("list_id")
    lists = dict.fromkeys(filter(None, map(text, given if isinstance(given, list) else [given])))
    return [{**item, _LIST: one} for one in lists] or [item]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event name or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    event = _event(item)
    get = item.get
    contact = text(get("contact_id"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "email",
        "occurred_at": _occurred_at(item),
        "person": {"email": email(get("email")), "source_contact_id": contact if contact != "0" else None},
        "message_id": text(get("message-id")),
        "properties": _properties(item),
    }
    campaign, named, template = text(get("camp_id")), text(get("campaign name")), text(get("template_id"))
    tags = _tags(get("tags")) or _tags(get("tag"))
    if campaign or named or template or tags:
        fields["campaign"] = {"id": campaign, "name": named, "template_id": template, "tags": tags}
    if event in _ADDED and (added := text(get(_LIST))):  # not all mail: an import must not undo a refusal of everything
        fields["topic"] = f"list/{added}"
    elif event in _FAILURES:
        reason = text(get("reason"))
        fields["failure"] = {"code": smtp_code(reason), "reason": reason} if reason else None
    elif event == "click":
        url = text(get("link")) or text(get("URL"))
        fields["link"] = {"url": url} if url else None
    user_agent = text(get("user_agent"))
    if "proxy_open" in event:
        fields["client"] = {"user_agent": user_agent, "machine": True, "machine_reason": event}
    elif user_agent:
        fields["client"] = {"user_agent": user_agent}
    return fields


def _properties(item: Item) -> dict[str, Any]:
    """Facts worth having at hand, and the message's own metadata, which wins."""
    get = item.get
    properties: dict[str, Any] = {}
    for name in _FACTS:
        if fact := get(name):
            properties[name] = fact
    custom = get("X-Mailin-custom")
    if custom is not None:
        properties |= _custom(custom)
    return properties


def _event(item: Item) -> str:
    """Its name as the webhooks spell it. Raises MalformedItem."""
    given = item.get("event")
    if not isinstance(given, str) or not given:
        raise MalformedItem("missing_event", "event is missing or not text", "event")
    return given if given in EVENT_TYPES else _SPELLINGS.get(given.replace("_", "").lower(), given)


def _occurred_at(item: Item) -> datetime:
    for name in _TIMES:
        if given := item.get(name):
            return seconds_or_milliseconds(given, name)
    raise MalformedItem("bad_timestamp", "there is no time", "ts_epoch")


def _tags(given: Any) -> list[str]:
    """Text, an array, or an array as JSON text."""
    if given is None:
        return []
    if type(given) is str and given[:1] == "[":
        try:
            given = orjson.loads(given)
        except orjson.JSONDecodeError:
            return [given]
    if type(given) is list:
        return [tag for tag in map(text, given) if tag]
    tag = text(given)
    return [tag] if tag else []


def _custom(given: Any) -> dict[str, Any]:
    """Metadata, which Brevo hands back as the text it was given: a JSON object, `name:value|…`, or anything."""
    found = json_object(given)
    if found is not None:
        return found
    plain = text(given)
    if plain is None:
        return {}
    pairs = [one.partition(":") for one in plain.split("|")]
    if all(colon for _, colon, _ in pairs):
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {"custom": plain}


def identity(item: Item) -> tuple[str, ...]:
    """Brevo has no event id (`id` is the webhook's): all that tells two of a recipient's events apart.

    Both times, since `ts_epoch` is said in places to be that of the message.
    """
    get = item.get
    dated = get("ts_epoch") or get("s_epoch") or get("ts_event")
    told = texts(item, _TOLD if dated else _TOLD_BY_TS)
    return (_event(item), email(get("email")) or "", *told, *filter(None, [text(get(_LIST))]))


def send_key(item: Item) -> str | None:
    """The id returned at send time, or the campaign of marketing mail, and the recipient."""
    recipient = email(item.get("email"))
    sent = text(item.get("message-id")) or text(item.get("camp_id"))
    return f"{sent}/{recipient}" if sent and recipient else None


SOURCE = Source(
    name="brevo",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    send_key=send_key,
    busy=429,
    unproven=429,
    docs=Docs(
        title="Brevo webhooks",
        url="https://developers.brevo.com/docs/transactional-webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Brevo: Transactional, Settings, Webhook, Add a new webhook (campaigns: Contacts, Settings, Webhooks).",
            "Paste the URL, with the secret in it: https://user:password@…; or choose token authentication.",
            "Choose the events to send: all of them; save.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="`user:password` as in the URL, or the token, or the value of a header that `secret_header` names.",  # noqa: S106
        answers=(
            "Any 4xx but 429, and any 5xx, makes Brevo throw the event away; a time-out or 429 is tried again after"
            " 10 minutes, 1, 2 and 8 hours. A wrong secret is therefore answered with 429. A dead endpoint is paused."
        ),
        notes=(
            "A first open is reported twice, as `opened` and as `unique_opened`: count one of them.",
            "Opens by a mail privacy proxy are their own events and have `client.machine` true.",
            "Names of events may be written hardBounce or hard_bounce; `platform_type` is always the latter.",
            "Where `ts_epoch` is missing, the time may be off by the account's time zone.",
            "Being added to lists is about these alone, an event for each: `properties.topic` is `list/<id>`.",
            "An unsubscription is from all mail: Brevo puts the address on its blocklist.",
            "The body of batched webhooks is not documented: an array, and an object around one, are read.",
            "Webhooks about SMS and inbound mail are not read: such events lie in quarantine.",
        ),
    ),
)
