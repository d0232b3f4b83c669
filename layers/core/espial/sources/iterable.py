"""Iterable system webhooks: one event a call, without an id; and journey webhooks, whose body the marketer writes.

https://support.iterable.com/hc/en-us/articles/208013936-System-Webhooks
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._ours import note_own_key
from espial.sources._shared import email, inner, instant, leaves, objects, phone, remaining, text
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

JOURNEY = "journeyWebhook"
"""Our name for a journey's webhook: its body names no event."""

EVENT_TYPES: Mapping[str, EventType] = {
    "emailSend": EventType.SENT,
    "emailSendSkip": EventType.DROPPED,
    "emailOpen": EventType.OPENED,
    "emailClick": EventType.CLICKED,
    "hostedUnsubscribeClick": EventType.CLICKED,  # the intent alone: emailUnSubscribe follows
    "emailBounce": EventType.BOUNCED,
    "emailComplaint": EventType.COMPLAINED,
    "emailSubscribe": EventType.SUBSCRIBED,
    "emailUnSubscribe": EventType.UNSUBSCRIBED,
    "smsSend": EventType.SENT,
    "smsSendSkip": EventType.DROPPED,
    "smsReceived": EventType.REPLIED,
    "smsClick": EventType.CLICKED,
    "smsBounce": EventType.FAILED,
    "smsUsageInfo": EventType.CUSTOM,
    "pushSend": EventType.SENT,
    "pushSendSkip": EventType.DROPPED,
    "pushOpen": EventType.OPENED,
    "pushBounce": EventType.BOUNCED,
    "pushUninstall": EventType.UNSUBSCRIBED,
    "inAppSend": EventType.SENT,
    "inAppSendSkip": EventType.DROPPED,
    "inAppDelivery": EventType.DELIVERED,
    "inAppOpen": EventType.OPENED,
    "inAppClick": EventType.CLICKED,
    "inAppClose": EventType.CUSTOM,
    "webPushSend": EventType.SENT,
    "webPushSendSkip": EventType.DROPPED,
    "webPushClick": EventType.OPENED,
    JOURNEY: EventType.WEBHOOK_TRIGGERED,
}

_CHANNELS = {
    "email": "email",
    "hosted": "email",
    "sms": "sms",
    "push": "push",
    "webPush": "push",
    "inApp": "inapp",
    "journey": "webhook",
}
"""How an event's name begins -> channel."""
_CAMPAIGN = {
    "campaignId": "id",
    "campaignName": "name",
    "templateId": "template_id",
    "workflowId": "journey_id",
    "workflowName": "journey_name",
}
_CONSENT = {"messageTypeIds": "type", "emailListIds": "list"}
"""What a change of consent may be about, and how its topic begins; with `channelIds` it is about all of a channel."""
_SCOPE = "_scope"
"""The topic that an item is about, of the ones that the report names."""
_CHOICES = (EventType.SUBSCRIBED, EventType.UNSUBSCRIBED)
_LISTS = frozenset({"labels", "channelIds", *_CONSENT})
_TOLD_BACK = ("metadata", "transactionalData")
"""Where a report may repeat what the call that sent the message said."""
_PLACEHOLDER = "@placeholder.email"
"""Where a project knows its people by user id, Iterable makes up addresses."""
_FAILED = frozenset({EventType.BOUNCED, EventType.SOFT_BOUNCED, EventType.FAILED, EventType.DROPPED})
_MAPPED = frozenset(
    {
        "email",
        "userId",
        "eventName",
        "createdAt",
        "messageId",
        "emailId",
        "labels",
        "url",
        "linkUrl",
        "linkId",
        "canonicalUrlId",
        "ip",
        "userAgent",
        "isBot",
        "recipientState",
        "reason",
        "smsProviderResponse",
        "fromPhoneNumber",
        "toPhoneNumber",
        "phoneNumber",
        "bounceMessage",
        *_CAMPAIGN,
    }
)


def split(delivery: RawDelivery) -> list[Item]:
    """The report, or one for each list and type that it is about joining or leaving. Raises MalformedDelivery."""
    return [one for item in objects(delivery) for one in _each(item)]


def _each(item: Any) -> list[Any]:
    if not isinstance(item, dict) or EVENT_TYPES.get(_name(item) or "") not in _CHOICES:
        return [item]
    return [{**item, _SCOPE: scope} for scope in _scopes(inner(item, "dataFields"))] or [item]


_EXPORTED = {name.lower(): name for name in (*EVENT_TYPES, "purchase", "customEvent", "user") if name != JOURNEY}
"""Data types of exports, in small letters; a file holds one and does not say which."""
_TYPE_FIELDS = ("eventName", "eventType", "dataTypeName")
_LETTERS = re.compile(r"[A-Za-z]+")
_IDS = ("email", "userId")


def _data_type(export: Export) -> str:
    """What the connection's setting `data_type` says, else the last word of the file's key that is one."""
    given = text(export.settings.get("data_type"))
    return given or _named_type(export.record_name) or _named_type(export.key)


def _named_type(key: str) -> str:
    words = _LETTERS.findall(key)
    return next((found for word in reversed(words) if (found := _EXPORTED.get(word.lower()))), "")


def from_json(row: Any, export: Export) -> list[Any]:
    """A line of `data.json`: the webhook's `dataFields` flat, or what a webhook posts."""
    if not isinstance(row, dict) or isinstance(row.get("dataFields"), dict):
        return _each(row)
    return _each(_item(row, _data_type(export)))


def from_csv(row: Mapping[str, str], export: Export) -> list[Any]:
    """A row of `data.csv`: nested names have dots between them, lists and objects are JSON or have commas."""
    facts: Item = {}
    for column, value in row.items():
        if value:
            *places, last = export.columns.get(column, column).split(".")
            place = facts
            for name in places:
                inside = place.get(name)
                if not isinstance(inside, dict):
                    inside = place[name] = {}
                place = inside
            place[last] = _cell(last, value)
    return _each(_item(facts, _data_type(export)))


def _cell(column: str, value: str) -> Any:
    if value[0] in "[{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    if column in _LISTS:
        return value.split(",")
    if column == "isBot" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _item(facts: Item, data_type: str) -> Item:
    named = next((found for name in _TYPE_FIELDS if (found := text(facts.get(name)))), None)
    whose = {name: facts[name] for name in _IDS if name in facts}
    return {**whose, "eventName": named or data_type or None, "dataFields": facts}


def _configured(settings: Mapping[str, Any]) -> Source:
    if not isinstance(settings.get("data_type", ""), str):
        raise ValueError("data_type: must be the name of an event, such as emailClick")  # noqa: TRY004 - as all settings
    return SOURCE


def layout(key: str, settings: Mapping[str, Any]) -> Layout:
    """A list of users reports nothing."""
    return Layout(skip="data_type" not in settings and _named_type(key) == "user")


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, names neither event nor person, or has no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the report is not a JSON object")
    name = _name(item)
    if name is None:
        return _journey(item, arrival)
    facts = inner(item, "dataFields")
    type_ = EVENT_TYPES.get(name, EventType.UNKNOWN)
    if name == "emailBounce" and facts.get("recipientState") == "SoftBounce":
        type_ = EventType.SOFT_BOUNCED
    fields: EventFields = {
        "type": type_,
        "platform_type": name,
        "channel": _EVENT_CHANNELS.get(name) or _channel(name),
        "occurred_at": instant(_created_at(facts), "dataFields.createdAt"),
        "person": _person(item, facts),
        "campaign": _campaign(facts),
        "message_id": text(facts.get("messageId")),
        "properties": remaining(facts, _MAPPED),
    }
    note_own_key(fields, *(inner(facts, name).get("send_key") for name in _TOLD_BACK if name in facts))
    if type_ is EventType.CLICKED:
        fields["link"] = _link(facts)
    if type_ in _FAILED:
        fields["failure"] = _failure(facts)
    if type_ is EventType.OPENED or type_ is EventType.CLICKED:
        fields["client"] = _client(facts)
    if scope := text(item.get(_SCOPE)):
        fields["topic"] = scope
    return fields


def _journey(item: Item, arrival: Arrival) -> EventFields:
    person = _person(item, inner(item, "dataFields"))
    if not any(person.values()):
        raise MalformedItem("missing_event", "neither eventName nor a person is there", "eventName")
    return {
        "type": EventType.WEBHOOK_TRIGGERED,
        "platform_type": JOURNEY,
        "channel": "webhook",
        "occurred_at": arrival.received_at,
        "time_uncertain": True,
        "person": person,
        "campaign": _campaign(item),
        "properties": remaining(item, _MAPPED),
    }


def _name(item: Mapping[str, Any]) -> str | None:
    return text(item.get("eventName")) or text(item.get("eventTitle"))


def _channel(name: str) -> str:
    return next((channel for start, channel in _CHANNELS.items() if name.startswith(start)), "none")


_EVENT_CHANNELS = {name: _channel(name) for name in EVENT_TYPES}


def _created_at(facts: Mapping[str, Any]) -> Any:
    """`2026-01-15 10:00:37 +00:00`: the offset stands apart."""
    given = facts.get("createdAt")
    return given.replace(" +", "+").replace(" -", "-") if type(given) is str else given


def _person(item: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str | None]:
    address = email(item.get("email")) or email(facts.get("email"))
    number = facts.get("toPhoneNumber")
    if _name(item) == "smsReceived":
        number = facts.get("fromPhoneNumber")
    return {
        "external_id": text(item.get("userId")) or text(facts.get("userId")),
        "email": None if address and address.endswith(_PLACEHOLDER) else address,
        "phone": phone(number) or phone(facts.get("phoneNumber")),
    }


def _campaign(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    get = facts.get
    found: dict[str, Any] = {ours: value for theirs, ours in _CAMPAIGN.items() if (value := text(get(theirs)))}
    labels = get("labels")
    if type(labels) is list and (tags := [tag for tag in map(text, labels) if tag]):
        found["tags"] = tags
    return found or None


def _link(facts: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        "url": text(facts.get("url")) or text(facts.get("linkUrl")),
        "id": text(facts.get("linkId")) or text(facts.get("canonicalUrlId")),
    }


def _failure(facts: Mapping[str, Any]) -> dict[str, str | None] | None:
    provider = inner(facts, "smsProviderResponse")
    class_, code = text(facts.get("recipientState")) or text(provider.get("status")), text(provider.get("code"))
    reason = text(facts.get("reason")) or text(facts.get("bounceMessage")) or text(provider.get("message"))
    return {"class": class_, "code": code, "reason": reason} if class_ or code or reason else None


def _client(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    ip, user_agent, machine = text(facts.get("ip")), text(facts.get("userAgent")), facts.get("isBot")
    if type(machine) is bool:
        return {"ip": ip, "user_agent": user_agent, "machine": machine, "machine_reason": "isBot"}
    return {"ip": ip, "user_agent": user_agent} if ip or user_agent else None


def _scopes(facts: Mapping[str, Any]) -> list[str]:
    """What a change of consent is about: `list/12`, `type/7`; nothing where that is all of a channel."""
    if facts.get("channelIds"):
        return []
    given = ((word, facts.get(field)) for field, word in _CONSENT.items())
    named = [f"{word}/{one}" for word, ids in given if type(ids) is list for one in map(text, ids) if one]
    return list(dict.fromkeys(named))


def identity(item: Item) -> tuple[str, ...]:
    """No id is given: message (or person), name, second, for clicks the address, for consent what it is about.

    All of that an export says too.
    """
    name = _name(item)
    if name is None:
        return (JOURNEY, *leaves(item))
    facts = inner(item, "dataFields")
    second = instant(_created_at(facts), "dataFields.createdAt").isoformat(timespec="seconds")
    message = text(facts.get("messageId"))
    person = (message,) if message else tuple(one or "" for one in _person(item, facts).values())
    if EVENT_TYPES.get(name) is not EventType.CLICKED:
        return (name, second, *person, *filter(None, [text(item.get(_SCOPE))]))
    link = _link(facts)
    return (name, second, *person, link["url"] or link["id"] or "")


def send_key(item: Item) -> str | None:
    """The message id: it is of one message to one recipient, and every report of the message carries it."""
    return text(inner(item, "dataFields").get("messageId"))


SOURCE = Source(
    name="iterable",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email", "external_id", "phone"),
    send_key=send_key,
    exports={"csv": from_csv, "ndjson": from_json},
    layout=layout,
    configured=_configured,
    docs=Docs(
        title="Iterable system webhooks",
        url="https://support.iterable.com/hc/en-us/articles/208013936-System-Webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Iterable: Integrations, System Webhooks, Create Webhook; paste the URL as Endpoint URL.",
            "Paste the connection's secret as the auth type's token, or as a header that `secret_header` names.",
            "Tick the events to send, of blast and of triggered messages; tick Enabled and save.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="A long random token, the same in Iterable and here; shown in whichever way Iterable does.",  # noqa: S106
        answers=(
            "Other answers than 2xx and slow ones are tried again with growing pauses for a limited time; how often, "
            "and whether an endpoint that keeps failing is switched off, is not confirmed."
        ),
        notes=(
            "With auth type Basic, Iterable sends the token as it was typed; with OAuth2, behind that word.",
            "Iterable signs nothing and numbers no events: two reports are the same one by message, name and second.",
            "There is no delivered event for e-mail.",
            "A click on the hosted unsubscribe page is a click; the unsubscription follows as an event of its own.",
            "Joining or leaving lists or message types is an event for each; `topic` is `list/<id>` or `type/<id>`.",
            "Joining or leaving where message channels are named, or nothing, is about all e-mail.",
            "Addresses at placeholder.email are made up by Iterable, so they are left out.",
            "A journey's webhook, whose body you write, becomes `webhook_triggered`: put `email` or `userId` into it.",
            "It carries no time of its own, so it is dated by its receipt, and a retry of it may count twice.",
            (
                "Exports (data.csv, data.json, export jobs) go to exports/iterable/<connection>/; which event they "
                "hold is a word of the key, such as `emailClick`, or the setting `data_type`. Lists of users are "
                "left alone."
            ),
            "An exported row is the webhook's event by message, name, second and the address of a click.",
            "Not confirmed: `isBot` on opens and clicks; it is read where it comes.",
        ),
    ),
)
