"""Adobe I/O Events: CloudEvents alone or in arrays, carrying Journey Optimizer, Campaign and Marketo reports.

https://developer.adobe.com/events/docs/guides/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._files import check_text, check_times, folded, local_instant, zone_of
from espial.sources._shared import email, inner, instant, objects, phone, present, text
from espial.verify import NO_SETTINGS, from_base64
from espial.verify.hmacs import as_it_is, hmac_of_body
from espial.verify.public_keys import Shown, Signer, public_key, public_key_signature
from espial.vocabulary import OWN_TYPES, EventType

MARKETO = "com.adobe.platform.marketo.activity.standard."

EVENT_TYPES: Mapping[str, EventType] = {
    # Journey Optimizer: feedbackStatus
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "delay": EventType.DEFERRED,
    "error": EventType.FAILED,
    "exclude": EventType.DROPPED,
    "duplicate": EventType.DROPPED,
    "denylist": EventType.BLOCKED,
    # Journey Optimizer: interactionType
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "spam_complaint": EventType.COMPLAINED,
    "subscription": EventType.SUBSCRIBED,  # or the opposite, as the form has it
    "submit": EventType.CUSTOM,
    "visit": EventType.CUSTOM,
    # Journey Optimizer: eventType, where there is neither
    "pushTracking.applicationOpened": EventType.OPENED,
    "pushTracking.customAction": EventType.CLICKED,
    # Marketo data streams
    f"{MARKETO}sendemail": EventType.SENT,
    f"{MARKETO}emaildelivered": EventType.DELIVERED,
    f"{MARKETO}emailbounced": EventType.BOUNCED,
    f"{MARKETO}emailbouncedsoft": EventType.SOFT_BOUNCED,
    f"{MARKETO}openemail": EventType.OPENED,
    f"{MARKETO}clickemail": EventType.CLICKED,
    f"{MARKETO}unsubscribeemail": EventType.UNSUBSCRIBED,
}

LOGGED: Mapping[str, EventType] = {
    "broadLog.sent": EventType.SENT,
    "broadLog.failed": EventType.FAILED,  # or bounced, as the kind of failure says
    "broadLog.ignored": EventType.DROPPED,
    "broadLog.pending": EventType.QUEUED,
    "broadLog.delivery cancelled": EventType.DROPPED,
    "broadLog.taken into account by provider": EventType.PROCESSED,
    "broadLog.taken into account by the service provider": EventType.PROCESSED,
    "broadLog.received on mobile": EventType.DELIVERED,
    "trackingLog.open": EventType.OPENED,
    "trackingLog.click": EventType.CLICKED,
    "trackingLog.opt-out": EventType.UNSUBSCRIBED,
    "trackingLog.mirror page": EventType.CUSTOM,
}
"""Campaign's delivery and tracking logs: status or kind of address; the setting `types` adds words to either."""

CHOICES: Mapping[str, EventType] = {
    "y": EventType.SUBSCRIBED,
    "n": EventType.UNSUBSCRIBED,
    "u": EventType.UNSUBSCRIBED,
}
"""A form's answer for one list; `p`, pending, is neither yet."""

_CHANNELS = {"email": "email", "sms": "sms", "push": "push", "inapp": "inapp", "web": "web", "directmail": "none"}
_CAMPAIGN = {
    "id": "campaignID",
    "variation_id": "messagePublicationID",
    "journey_id": "journeyVersionID",
    "step_id": "journeyVersionNodeID",
    "send_id": "messageExecutionID",
    "dispatch_id": "batchInstanceID",
    "template_id": "messageID",
}
_MACHINE = "Is Bot Activity"
_MAPPED = frozenset({"Mailing ID", "Link", "Link ID", "User Agent", "Email", "Details", "Category", _MACHINE})
"""Marketo's attributes that have a canonical field."""
_LIST = "_list"
"""Where `split` says which of a form's lists an item is about."""


# --- what proves a delivery

SIGNATURES = ("x-adobe-digital-signature-1", "x-adobe-digital-signature-2")
PATHS = ("x-adobe-public-key1-path", "x-adobe-public-key2-path")
KEY_HOST = "https://static.adobeioevents.com"
VALIDATION = "validationUrl"
VALIDATION_HOST = "csm.adobe.io"
_PATH = re.compile(r"/prod/keys/pub-key-[0-9A-Za-z-]{1,64}\.pem", re.ASCII)
_CHALLENGE = re.compile(r"[\w.~-]{1,200}", re.ASCII)
_RECIPIENTS = ("recipientclientid", "recipient_client_id")
_OURS = "/prod/keys/pub-key-00000000-0000-4000-8000-000000000000.pem"


def _read(delivery: RawDelivery) -> Shown:
    """One valid signature of the two suffices."""
    given = [delivery.headers.get(name, "").strip() for name in SIGNATURES]
    return Shown([from_base64(one) for one in given if one], (delivery.body,))


def _write(delivery: RawDelivery, _now: datetime, sign: Signer) -> RawDelivery:
    return replace(delivery, headers={**delivery.headers, SIGNATURES[0]: sign(delivery.body), PATHS[0]: _OURS})


def _key_urls(delivery: RawDelivery) -> tuple[str, ...]:
    """Where the delivery says that its keys lie. Raises SignatureError for any other place than Adobe's own."""
    given = [path for name in PATHS if (path := delivery.headers.get(name, "").strip())]
    if not all(map(_PATH.fullmatch, given)):
        raise SignatureError("names a key that is not Adobe's")
    return tuple(KEY_HOST + path for path in given)


def _client_secret(secret: bytes) -> Sequence[bytes]:
    """A public key, pinned or fetched, is known to everybody: it never opens as if it were a client secret."""
    return () if b"-----BEGIN" in secret or public_key("rsa", secret) is not None else as_it_is(secret)


_BY_ADOBE = public_key_signature("rsa", read=_read, write=_write, key_urls=_key_urls)
_BY_CLIENT_SECRET = hmac_of_body("x-adobe-signature", encoding="base64", keys=_client_secret)


def _verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    """Signed with our client secret; or by Adobe, for all of its customers alike, and meant for our client."""
    try:
        return _BY_CLIENT_SECRET.verify(delivery, secrets, now, settings=settings)
    except SignatureError:
        _BY_ADOBE.verify(delivery, secrets, now, settings=settings)
    _require_recipient(delivery.body, settings.get("client_id"))
    return None


def _require_recipient(body: bytes, client: Any) -> None:
    if not isinstance(client, str) or not client:
        raise SignatureError("the setting client_id is missing: Adobe signs for all of its customers with one key")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise SignatureError("names no recipient") from exc
    items = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) and (_is_validation(one) or _recipient(one) == client) for one in items):
        raise SignatureError("is meant for another client")


def _recipient(item: Item) -> Any:
    return next((item[name] for name in _RECIPIENTS if item.get(name)), None)


def _is_validation(found: Any) -> bool:
    """Attributes of CloudEvents have no capitals, so an event is never taken for it."""
    return isinstance(found, dict) and isinstance(found.get(VALIDATION), str)


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """`GET ?challenge=` of a new registration is answered with its value."""
    if delivery.method != "GET":
        return None
    given = dict(parse_qsl(urlsplit(delivery.url).query)).get("challenge", "")
    return Reply(body=given, headers={"content-type": "text/plain"}) if _CHALLENGE.fullmatch(given) else None


def confirm(delivery: RawDelivery, _settings: Mapping[str, Any]) -> str | None:
    """Where a registration is validated whose challenge was not answered. Raises SignatureError for another host."""
    try:
        found = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    if not _is_validation(found):
        return None
    url: str = found[VALIDATION]
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not url.isascii() or (parts.scheme, parts.netloc) != ("https", VALIDATION_HOST):
        raise SignatureError("names an address that is not at Adobe")
    return url


# --- what a delivery says


def split(delivery: RawDelivery) -> list[Item]:
    """The events; a form that answers for several lists is one for each. None for a request to validate."""
    return [item for found in objects(delivery) if not _is_validation(found) for item in _each(found)]


def _each(found: Any) -> list[Item]:
    lists = _lists(found) if isinstance(found, dict) else {}
    return [{**found, _LIST: name} for name in lists] if lists else [found]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no type, or a time that is none."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if log := inner(item, _LOG):
        return _logged(log, arrival)
    xdm = _xdm(item)
    journeys = _journeys(xdm)
    kind = _kind(item, xdm, journeys)
    if kind is None:
        raise MalformedItem("missing_type", "type is missing or not text", "type")
    fields: EventFields = {"type": EVENT_TYPES.get(kind, EventType.UNKNOWN), "platform_type": kind}
    occurred_at = _occurred_at(item, xdm)
    fields["occurred_at"] = occurred_at or arrival.received_at
    if occurred_at is None:
        fields["time_uncertain"] = True
    if journeys:
        _journey(item, xdm, journeys, fields)
    elif kind.startswith(MARKETO):
        _marketo(inner(item, "data"), fields)
    else:
        fields |= {"channel": "push" if kind.startswith("push") else "none", "person": _person({}, xdm, "none")}
        fields["properties"] = dict(inner(item, "data"))
    return fields


def _xdm(item: Item) -> Mapping[str, Any]:
    """The experience event, wherever the integration puts it: it has `_experience` or an `eventType`."""
    data = inner(item, "data")
    if _marks(data):
        return data
    body = inner(data, "body")
    places = (inner(data, "xdmEntity"), inner(body, "xdmEntity"), inner(item, "event"), item)
    return next(filter(_marks, places), {})


def _marks(place: Mapping[str, Any]) -> bool:
    return "_experience" in place or "eventType" in place


def _journeys(xdm: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Journey Optimizer says of it."""
    return inner(inner(xdm, "_experience"), "customerJourneyManagement")


def _kind(item: Item, xdm: Mapping[str, Any], journeys: Mapping[str, Any]) -> str | None:
    """The status or interaction of a message, the type of an experience event, of a CloudEvent, of an activity."""
    told = text(inner(journeys, "messageDeliveryfeedback").get("feedbackStatus"))
    told = told or text(inner(journeys, "messageInteraction").get("interactionType"))
    if told:
        return told.lower()
    return text(xdm.get("eventType")) or text(item.get("type")) or text(inner(item, "event").get("@type"))


def _occurred_at(item: Item, xdm: Mapping[str, Any]) -> datetime | None:
    """The first time there is: when it happened comes before when it was told."""
    if xdm.get("timestamp") is not None:
        return instant(xdm["timestamp"], "timestamp")
    places = (
        (inner(item, "data"), "activityDate"),
        (item, "time"),
        (inner(item, "event"), "activitystreams:published"),
    )
    found = next(((place[name], name) for place, name in places if place.get(name) is not None), None)
    return instant(*found) if found else None


def _journey(item: Item, xdm: Mapping[str, Any], journeys: Mapping[str, Any], fields: EventFields) -> None:
    """Feedback and tracking of Journey Optimizer."""
    execution, profile = inner(journeys, "messageExecution"), inner(journeys, "messageProfile")
    feedback, interaction = inner(journeys, "messageDeliveryfeedback"), inner(journeys, "messageInteraction")
    channel = _channel(journeys)
    campaign = {ours: text(execution.get(theirs)) for ours, theirs in _CAMPAIGN.items()}
    campaign["variation_id"] = text(profile.get("variant")) or campaign["variation_id"]
    facts = {
        "message_type": execution.get("messageType"),
        "retry_count": feedback.get("retryCount"),
        "tracking_type": interaction.get("trackingType"),
        "tags": interaction.get("tags"),
        "secondary_recipient": inner(journeys, "secondaryRecipientDetail"),
    }
    fields |= {
        "topic": text(item.get(_LIST)),
        "channel": channel,
        "person": _person(journeys, xdm, channel),
        "campaign": present(campaign) or None,
        "message_id": text(profile.get("messageProfileID")),
        "properties": present(facts),
    }
    failure = inner(feedback, "messageFailure") or inner(feedback, "messageExclusion")
    if failure:
        named = {"class": text(failure.get("type")), "code": text(failure.get("code"))}
        fields["failure"] = present({**named, "reason": text(failure.get("reason"))}) or None
        if fields["type"] is EventType.BOUNCED and (named["class"] or "").lower() == "soft":
            fields["type"] = EventType.SOFT_BOUNCED
    if interaction:
        link = {"url": text(interaction.get("url")), "id": text(interaction.get("urlID"))}
        fields["link"] = present({**link, "alias": text(interaction.get("label"))}) or None
        if type(interaction.get("isBot")) is bool:
            fields["client"] = {"machine": interaction["isBot"], "machine_reason": "isBot"}
    if _LIST in item:
        answer = text(inner(_lists(item), text(item[_LIST]) or "").get("val")) or ""
        fields["type"] = CHOICES.get(answer.lower(), EventType.UNKNOWN)


def _lists(item: Item) -> Mapping[str, Any]:
    """The lists that a landing page's form answers for."""
    place = _journeys(_xdm(item))
    for name in ("messageInteraction", "landingpage", "formData", "subscriptions"):
        place = inner(place, name)
    return place


def _channel(journeys: Mapping[str, Any]) -> str:
    """By the last part of the channel's address, else by whose context there is."""
    told = text(inner(inner(journeys, "messageProfile"), "channel").get("_id")) or ""
    found = _CHANNELS.get(told.rpartition("/")[2].lower())
    return found or next((one for one in ("email", "sms", "push") if f"{one}ChannelContext" in journeys), "none")


def _person(journeys: Mapping[str, Any], xdm: Mapping[str, Any], channel: str) -> dict[str, str | None]:
    """Whom it was written to, and the profile's primary identity."""
    return {
        "email": email(inner(journeys, "emailChannelContext").get("address")) if channel == "email" else None,
        "phone": phone(inner(journeys, "smsChannelContext").get("address")) if channel == "sms" else None,
        "source_contact_id": _primary(inner(xdm, "identityMap")),
    }


def _primary(identities: Mapping[str, Any]) -> str | None:
    """Of several that are primary the first by namespace, so that the order in which they stand says nothing."""
    for _, known in sorted(identities.items()):
        for one in known if isinstance(known, list) else ():
            if isinstance(one, dict) and one.get("primary") is True and (found := text(one.get("id"))):
                return found
    return None


def _marketo(data: Mapping[str, Any], fields: EventFields) -> None:
    """An activity of Marketo's log."""
    told = data.get("attributes")
    named = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    attributes = {name: one.get("value") for one in named if (name := text(one.get("name")))}
    facts = {name: value for name, value in attributes.items() if name not in _MAPPED}
    fields |= {
        "channel": "email",
        "person": {"source_contact_id": text(data.get("leadId")), "email": email(attributes.get("Email"))},
        "campaign": present({"id": text(attributes.get("Mailing ID"))}) or None,
        "properties": present({**facts, "munchkin_id": text(data.get("munchkinId"))}),
    }
    if fields["type"] in (EventType.BOUNCED, EventType.SOFT_BOUNCED):
        failure = {"class": text(attributes.get("Category")), "reason": text(attributes.get("Details"))}
        fields["failure"] = present(failure) or None
    if fields["type"] in (EventType.OPENED, EventType.CLICKED):
        client: dict[str, Any] = {"user_agent": text(attributes.get("User Agent"))}
        if str(attributes.get(_MACHINE)).lower() in ("true", "1"):
            client |= {"machine": True, "machine_reason": _MACHINE}
        fields["client"] = present(client) or None
        fields["link"] = present({"url": text(attributes.get("Link")), "id": text(attributes.get("Link ID"))}) or None


def identity(item: Item) -> tuple[str, ...]:
    """The experience event's own id, which its dataset has too; else I/O's, else the producer's; a log's is its own."""
    if log := inner(item, _LOG):
        return _log_identity(log)
    xdm = _xdm(item)
    kind, about = _kind(item, xdm, _journeys(xdm)) or "", text(item.get(_LIST)) or ""
    own = text(xdm.get("_id"))
    if own:
        return (kind, "xdm", own, about)
    given = text(item.get("eventid")) or text(item.get("event_id"))
    produced = text(item.get("id")) or text(inner(item, "event").get("@id"))
    return (kind, given or "", "" if given else text(item.get("source")) or "", "" if given else produced or "", about)


def send_key(item: Item) -> str | None:
    """Journey Optimizer's message id, which is of one recipient; a copy (cc, bcc) is a send of its own.

    Of Campaign's logs the delivery and the address.
    """
    if log := inner(item, _LOG):
        delivery, address = text(log.get("delivery_id")) or text(log.get("delivery")), text(log.get("address"))
        return f"{delivery}/{address.lower()}" if delivery and address else None
    journeys = _journeys(_xdm(item))
    message = text(inner(journeys, "messageProfile").get("messageProfileID"))
    copied = email(inner(journeys, "emailChannelContext").get("address"))
    if message and copied and inner(journeys, "secondaryRecipientDetail"):
        return f"{message}/{copied}"
    return message


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the profile or lead."""
    if inner(item, _LOG):
        return ("email", "phone", "external_id", "source_contact_id")
    channel = _channel(_journeys(_xdm(item)))
    return (*{"email": ("email",), "sms": ("phone",)}.get(channel, ()), "source_contact_id")


# --- files

_LOG = "_log"
"""Where `from_log` puts what a line of a log says."""
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "broadlogid", "trackinglogid", "logid", "primarykey"),
    "at": ("eventdate", "logdate", "date", "lastmodified"),
    "status": ("status",),
    "url_type": ("urltype", "urltypelabel"),
    "address": ("address", "email", "recipientemail"),
    "delivery_id": ("deliveryid",),
    "delivery": ("deliveryinternalname", "deliverylabel", "delivery", "internalname"),
    "recipient": ("recipientid",),
    "external_id": (),
    "failure_type": ("failuretype",),
    "reason": ("failurereason", "reason"),
    "url": ("url", "sourceurl", "urlsourceurl"),
}
"""What a log may say -> columns, `folded`, that are taken for it; the setting `columns` names others."""
_URL_TYPES = {"1": "open", "2": "click", "3": "opt-out", "6": "mirror page", "optout": "opt-out", "opt out": "opt-out"}
_FAILURES = {
    **dict.fromkeys(("1", "soft"), EventType.SOFT_BOUNCED),
    **dict.fromkeys(("2", "hard"), EventType.BOUNCED),
}
_LOG_SETTINGS = frozenset({"columns", "types", "channel", "time_zone", "day_first", "encoding", "delimiter", "header"})
_TYPES = frozenset(EventType) - OWN_TYPES
_MANIFEST = re.compile(r"(?:^|/)(?:[^/]*manifest[^/]*|_SUCCESS)$|/exportTime=\d+/(?:.*/)?[^/]*\.json$", re.IGNORECASE)


def layout(key: str, settings: Mapping[str, Any]) -> Layout:
    """Manifests of datasets are no data, whose JSON is always compressed; a log is as the settings say."""
    return Layout(
        skip=_MANIFEST.search(key) is not None,
        encoding=settings.get("encoding", ""),
        delimiter=settings.get("delimiter", ""),
        columns=tuple(settings.get("header", ())),
    )


def from_dataset(row: Any, _export: Export) -> list[Item] | None:
    """A row of a dataset in JSON: the experience event that a notification carries; None for names and labels."""
    if isinstance(row, dict) and not _marks(_xdm(row)) and not {"type", "event"} & row.keys():
        return None
    return _each(row)


def from_parquet(row: Mapping[str, Any], export: Export) -> list[Item] | None:
    """The same in Parquet, where what JSON leaves out is null."""
    return from_dataset(_said(row), export)


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _said(one) for name, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list) else value


def from_log(row: Mapping[str, str], export: Export) -> Item | None:
    """A line of a delivery or tracking log of Campaign; None where it has neither status nor kind of address.

    Raises MalformedItem for a time that is none.
    """
    settings = export.settings
    columns = _columns_of(tuple(sorted(inner(dict(settings), "columns").items())))
    names = {what: next((one for one in known if row.get(one)), "") for what, known in columns.items()}
    log = {what: row[name].strip() for what, name in names.items() if name and what != "at"}
    if not log.get("status") and not log.get("url_type"):
        return None
    when = names["at"] or next((one for one in columns["at"] if one in row), "date")
    day_first = settings.get("day_first") is True
    at = local_instant(row.get(when), export.columns.get(when, when), zone_of(settings), day_first=day_first)
    used = set(names.values())
    more = {export.columns.get(name, name): value for name, value in row.items() if value and name not in used}
    return {_LOG: {**log, "at": at.isoformat(), "more": more}}


@lru_cache(maxsize=64)
def _columns_of(given: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
    return {**_COLUMNS, **{what: (folded(name),) for what, name in given}}


def _logged(log: Mapping[str, Any], arrival: Arrival) -> EventFields:
    settings = arrival.connection.settings
    kind, word = _logged_kind(log)
    types = settings.get("types", {})
    given = next((types[one] for one in types if one.lower() == word), None)
    type_ = EventType(given) if given else LOGGED.get(kind, EventType.UNKNOWN)
    class_ = text(log.get("failure_type"))
    if type_ is EventType.FAILED:
        type_ = _FAILURES.get((class_ or "").lower(), type_)
    channel = settings.get("channel", "email")
    address, url = text(log.get("address")), text(log.get("url"))
    failed = type_ in (EventType.FAILED, EventType.BOUNCED, EventType.SOFT_BOUNCED, EventType.DROPPED)
    campaign = {"id": text(log.get("delivery_id")) or text(log.get("delivery")), "name": text(log.get("delivery"))}
    fields: EventFields = {
        "type": type_,
        "platform_type": kind,
        "channel": channel,
        "occurred_at": instant(log.get("at"), "at"),
        "person": {
            "external_id": text(log.get("external_id")),
            "email": email(address) if channel == "email" else None,
            "phone": phone(address) if channel == "sms" else None,
            "source_contact_id": text(log.get("recipient")),
        },
        "campaign": present(campaign) or None,
        "link": {"url": url} if url else None,
        "properties": dict(inner(dict(log), "more")),
    }
    if failed:
        fields["failure"] = present({"class": class_, "reason": text(log.get("reason"))}) or None
    return fields


def _logged_kind(log: Mapping[str, Any]) -> tuple[str, str]:
    """Our name for it, and the log's own word."""
    status = (text(log.get("status")) or "").lower()
    if status:
        return f"broadLog.{status}", status
    word = (text(log.get("url_type")) or "").lower()
    return f"trackingLog.{_URL_TYPES.get(word, word)}", word


def _log_identity(log: Mapping[str, Any]) -> tuple[str, ...]:
    """The log's id with what it says, as a line's status changes; without one delivery, recipient and address."""
    kind, _ = _logged_kind(log)
    given = text(log.get("id"))
    if given:
        return (kind, "log", given)
    about = ("delivery_id", "delivery", "address", "recipient", "external_id", "url")
    return (kind, "log", "", *(text(log.get(name)) or "" for name in about))


def _configured(settings: Mapping[str, Any]) -> Source:
    client = settings.get("client_id")
    if settings.keys() - _LOG_SETTINGS and not (isinstance(client, str) and client):
        raise ValueError("client_id: is missing; it is the API key of the project in the Adobe Developer Console")
    check_times(settings)
    columns, types = settings.get("columns", {}), settings.get("types", {})
    if not isinstance(columns, dict) or not all(isinstance(one, str) for one in columns.values()):
        raise ValueError("columns: must say which column of a log is what")
    if unknown := columns.keys() - _COLUMNS.keys():
        raise ValueError(f"columns.{min(unknown)}: must be one of {', '.join(_COLUMNS)}")
    if not isinstance(types, dict) or not all(one in _TYPES for one in types.values()):
        raise ValueError("types: must be words of a log with event types")
    if settings.get("channel", "email") not in ("email", "sms", "push"):
        raise ValueError("channel: must be email, sms or push")
    check_text(settings)
    return SOURCE


SOURCE = Source(
    name="adobe",
    verify=replace(_BY_ADOBE, verify=_verify),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    handshake=handshake,
    confirm=confirm,
    exports={"csv": from_log, "ndjson": from_dataset, "parquet": from_parquet},
    layout=layout,
    configured=_configured,
    unproven=429,
    docs=Docs(
        title="Adobe I/O Events (Journey Optimizer, Campaign, Marketo)",
        url="https://developer.adobe.com/events/docs/guides/",
        setup=(
            "In the Adobe Developer Console: Create new project, Add to Project, Event; choose provider and events.",
            (
                "Put a connection file under definitions/connections/ with `secrets: []` and, under settings, "
                "`client_id`: the project's API key (Client ID). `espial validate` prints the webhook's path; apply it."
            ),
            (
                "Under How to receive events choose Webhook, Batch; paste the stack's output ApiUrl with that path. "
                "Adobe's challenge is answered at once."
            ),
            "Save; the registration's Status becomes Active, and its Debug Tracing tab shows the deliveries.",
        ),
        secret=(  # noqa: S106
            "None is needed: what Adobe signs is checked with the public keys at static.adobeioevents.com. Name the "
            "client secret for the older signature, or public keys in PEM to accept these alone."
        ),
        keyless=True,
        settings={"client_id": "0123456789abcdef0123456789abcdef"},
        answers=(
            "Waits 10 seconds, connecting included. Only 429 and 5xx (but 505) are tried again, for 24 hours; any "
            "other answer drops the event, so what proves nothing is answered 429. A registration is disabled when "
            "four in five attempts fail in a day; the Journaling API keeps seven days."
        ),
        notes=(
            (
                "Adobe signs for all of its customers with the same keys: only what names `client_id` as its recipient "
                "is accepted."
            ),
            "The request to fetch a `validationUrl` is followed to csm.adobe.io only, and only if it is signed.",
            "An open or click of Journey Optimizer is a machine's by `isBot`, of Marketo by `Is Bot Activity`.",
            "A form that answers for several lists is one event for each, the list being `properties.topic`.",
            (
                "Datasets of Journey Optimizer (Parquet, or JSON compressed) go to exports/adobe/<connection>/; their "
                "rows are the notifications' events by `_id`. Manifests are left alone."
            ),
            (
                "Logs of Campaign go there too, a connection of its own for each layout: the setting `columns` says "
                "which of your columns is " + ", ".join(f"`{name}`" for name in _COLUMNS) + "; `types` what your "
                "statuses and kinds of address mean; `delimiter`, `encoding`, `header` (names, where the file has "
                "none), `time_zone`, `day_first` and `channel` what they look like."
            ),
            (
                "A line of a log is known by its id and status; without an id by delivery, recipient, address and "
                "second."
            ),
            (
                "Campaign has no events of its own: its delivery logs are exported. Custom actions of a journey are "
                "the marketer's own calls: connect them as custom_json."
            ),
            (
                "Not confirmed: where in `data` the experience event stands (several places are tried), whether its "
                "`_id` is the dataset's, the labels of Campaign's statuses, and the names of Marketo's attributes."
            ),
        ),
    ),
)
