"""Salesforce Marketing Cloud Engagement, Event Notification Service: arrays of events, an HMAC of the raw body.

https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens.html
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._files import check_times, local_instant, zone_of
from espial.sources._ours import note_own_key
from espial.sources._shared import email, inner, milliseconds, objects, phone, present, smtp_code, text
from espial.verify import NO_SETTINGS
from espial.verify.hmacs import as_it_is, hmac_of_body
from espial.vocabulary import EventType

SIGNATURE = "x-sfmc-ens-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "TransactionalSendEvents.EmailQueued": EventType.QUEUED,
    "TransactionalSendEvents.EmailSent": EventType.SENT,
    "TransactionalSendEvents.EmailNotSent": EventType.DROPPED,
    "TransactionalSendEvents.EmailBounced": EventType.BOUNCED,
    "EngagementEvents.EmailOpen": EventType.OPENED,
    "EngagementEvents.EmailClick": EventType.CLICKED,
    "EngagementEvents.EmailUnsubscribe": EventType.UNSUBSCRIBED,
    "TransactionalSendEvents.SmsSent": EventType.SENT,
    "TransactionalSendEvents.SmsNotSent": EventType.FAILED,
    "TransactionalSendEvents.SmsTransient": EventType.DEFERRED,
    "TransactionalSendEvents.SmsDelivered": EventType.DELIVERED,
    "TransactionalSendEvents.SmsBounced": EventType.BOUNCED,
}

EXTRACTED: Mapping[str, EventType] = {
    "Complaint": EventType.COMPLAINED,
    "SendJob.Complete": EventType.DELIVERY_COMPLETED,
    "StatusChange.Active": EventType.PROFILE_UPDATED,
    "StatusChange.Unsubscribed": EventType.UNSUBSCRIBED,
    "StatusChange.Held": EventType.PROFILE_UPDATED,
    "StatusChange.Bounced": EventType.PROFILE_UPDATED,
    "StatusChange.Deleted": EventType.PROFILE_UPDATED,
}
"""What only tracking extracts tell; all else in them goes by the name that the webhook has for it."""

BOUNCES: Mapping[str, EventType] = {
    "HARD": EventType.BOUNCED,
    "SOFT": EventType.SOFT_BOUNCED,
    "BLOCK": EventType.BLOCKED,
    "TECHNICAL": EventType.FAILED,
    "OTHER": EventType.FAILED,
    "UNKNOWN": EventType.SOFT_BOUNCED,
}
"""`info.bounceCode`, or how the extract's `BounceCategory` begins -> what became of it; else a plain bounce."""

_CHANNELS = {"Email": "email", "Sms": "sms", "Push": "push"}
_CHANNEL = re.compile(r"(?:.*\.)?(Email|Sms|Push)", re.DOTALL)
_FAULT = re.compile(r"\b(?:error|exception|failed|failure|timed? ?out)\b", re.IGNORECASE)
"""What a message that was not sent for a fault says; all else is the subscriber's state."""
_UNDELIVERED = frozenset(
    f"TransactionalSendEvents.{name}"
    for name in ("EmailNotSent", "EmailBounced", "SmsNotSent", "SmsTransient", "SmsBounced")
)
_ABSENT = frozenset({"NA", "0"})
"""How an id is written that there is not: definitions of engagement events, subscribers of test sends."""
_FACTS = (
    *("isUnique", "browser", "emailClient", "operatingSystem", "device", "bounceSubcategory", "unsubReason"),
    *("oldStatus", "newStatus"),
    *("status", "renderedSubject", "unsubscribeMethod", "impressionRegion", "fromAddress", "countryCode", "ordinal"),
)
_SUBSCRIBER = "subscriberId"
_SENT = ("jobId", "listId", "batchId", _SUBSCRIBER)
"""What names one message to one subscriber."""

_KEY = "verificationKey"
_ASKED = frozenset({"callbackId", _KEY})
_LONGEST_REQUEST = 1_000
_PLAIN = re.compile(r"[\w.~+/=-]{1,200}", re.ASCII)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no type or time.

    The request to verify the callback, which is none, is refused with the call that has to be made.
    """
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if is_verification(item):
        raise MalformedItem(
            "callback_verification",
            "Marketing Cloud waits for the call POST /platform/v1/ens-verify with the body "
            + orjson.dumps({name: item[name] for name in sorted(_ASKED)}).decode(),
            _KEY,
        )
    kind = text(item.get("eventCategoryType"))
    if kind is None:
        raise MalformedItem("missing_event", "eventCategoryType is missing or not text", "eventCategoryType")
    info, composite, channel = _info(item), _composite(item), _channel(item, kind)
    recipient = info.get("to")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind) or EXTRACTED.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": channel,
        "occurred_at": milliseconds(item.get("timestampUTC"), "timestampUTC"),
        "person": {
            "external_id": text(info.get("subscriberKey")),
            "email": email(recipient) if channel == "email" else None,
            "phone": phone(recipient) if channel == "sms" else None,
            "source_contact_id": composite.get(_SUBSCRIBER),
        },
        "campaign": _campaign(item, composite),
        "message_id": text(info.get("messageKey")),
        "properties": _properties(item, info),
    }
    note_own_key(fields, info.get("messageKey"))
    if kind in _UNDELIVERED:
        _failed(kind, info, fields)
    if fields["type"] in (EventType.OPENED, EventType.CLICKED):
        fields["client"] = {"ip": text(info.get("ipAddress")), "user_agent": text(info.get("userAgent"))}
    if fields["type"] is EventType.CLICKED:
        fields["link"] = {
            "url": text(info.get("contentLink")),
            "id": text(info.get("jobUrlId")),
            "alias": text(info.get("alias")),
        }
    if kind.startswith("StatusChange."):
        _changed(info, fields)
    return fields


def _changed(info: Mapping[str, Any], fields: EventFields) -> None:
    """Of a subscriber's state; one who was bounced or held and is active again chose nothing."""
    if (info.get("oldStatus"), info.get("newStatus")) == ("Unsubscribed", "Active"):
        fields["type"] = EventType.SUBSCRIBED
    if fields["type"] is EventType.PROFILE_UPDATED:
        fields["properties"]["traits"] = {"status": info.get("newStatus")}


def is_verification(found: Any) -> bool:
    """Whether it is the request to verify a new callback; an event has neither of its two fields."""
    return isinstance(found, dict) and found.keys() == _ASKED and all(_plain(found[name]) for name in _ASKED)


def _plain(value: Any) -> bool:
    return isinstance(value, str) and _PLAIN.fullmatch(value) is not None


def _info(item: Item) -> Mapping[str, Any]:
    """The event's own facts; text messages write the name with a capital."""
    return inner(item, "info") or inner(item, "Info")


def _composite(item: Item) -> dict[str, str]:
    """The send that it is about, by name; read from the old dotted id where there is only that."""
    given = inner(item, "composite")
    if not given and (parts := (text(item.get("compositeId")) or "").split("."))[0] != "api" and len(parts) >= 4:
        given = dict(zip(("jobId", "listId", "batchId", _SUBSCRIBER), parts[-4:], strict=True))
    return {name: found for name in (*_SENT, "emailId") if (found := _id(given.get(name)))}


def _campaign(item: Item, composite: Mapping[str, str]) -> dict[str, Any] | None:
    found = {
        "id": composite.get("jobId"),
        "name": text(_info(item).get("emailName")),
        "send_id": _id(item.get("definitionKey")) or _id(item.get("definitionId")),
        "dispatch_id": composite.get("batchId"),
        "template_id": composite.get("emailId"),
    }
    return present(found) or None


# --- the tracking extract

_OBJECTS: Mapping[str, str] = {
    **dict.fromkeys(("sent", "sends"), "TransactionalSendEvents.EmailSent"),
    **dict.fromkeys(("notsent", "notsents"), "TransactionalSendEvents.EmailNotSent"),
    **dict.fromkeys(("bounce", "bounces"), "TransactionalSendEvents.EmailBounced"),
    **dict.fromkeys(("open", "opens"), "EngagementEvents.EmailOpen"),
    **dict.fromkeys(("click", "clicks"), "EngagementEvents.EmailClick"),
    **dict.fromkeys(("unsub", "unsubs", "unsubscribe", "unsubscribes"), "EngagementEvents.EmailUnsubscribe"),
    **dict.fromkeys(("complaint", "complaints", "spamcomplaints"), "Complaint"),
    **dict.fromkeys(("statuschange", "statuschanges"), "StatusChange"),
    **dict.fromkeys(("sendjob", "sendjobs"), "SendJob"),
}
"""What a file of the extract is named, and what its column `EventType` says, in small letters."""
_OTHERS = frozenset(
    {
        *("subscribers", "attributes", "lists", "listmembership", "listmembershipchanges", "surveys", "conversions"),
        *("sendimpression", "clickimpression", "sendjobimpression", "sendjobimpressions", "multipledataextensionsends"),
    }
)
"""Files that hold no reports, or what has no part in one."""
_WORDS = re.compile(r"[A-Za-z]+")
_TIMES = {"SendJob": ("senttime", "schedtime"), "StatusChange": ("datechanged", "eventdate")}
_STATUSES = {"SendJob": "jobstatus", "StatusChange": "newstatus"}
_COMPOSITE = {"jobId": "sendid", "batchId": "batchid", "listId": "listid", "subscriberId": "subscriberid"}
_INFO = {
    "to": "emailaddress",
    "subscriberKey": "subscriberkey",
    "ipAddress": "ipaddress",
    "jobUrlId": "urlid",
    "contentLink": "url",
    "alias": "alias",
    "statusCode": "smtpcode",
    "smtpReason": "bouncereason",
    "bounceSubcategory": "bouncesubcategory",
    "reason": "reason",
    "unsubReason": "unsubreason",
    "isUnique": "isunique",
    "browser": "browser",
    "emailClient": "emailclient",
    "operatingSystem": "operatingsystem",
    "device": "device",
    "oldStatus": "oldstatus",
    "newStatus": "newstatus",
    "emailName": "emailname",
    "renderedSubject": "subject",
    "fromAddress": "fromemail",
}
_LOCATION = ("country", "region", "city", "latitude", "longitude")


def from_extract(row: Mapping[str, str], export: Export) -> Item | None:
    """A row of a tracking extract as the notification of the same event; None for what reports nothing.

    Times are the system's own: six hours behind UTC all year, unless the settings `time_zone` and `day_first` say
    otherwise. Raises MalformedItem for a time that is none.
    """
    get = row.get
    object_ = _object(export.record_name) or _object(export.key.rpartition("/")[2])
    kind = _OBJECTS.get(object_ or get("eventtype", "").replace(" ", "").lower())
    if kind is None:
        return None
    times = _TIMES.get(kind, ("eventdate",))
    told = next((name for name in times if get(name)), times[0])
    zone, day_first = zone_of(export.settings, "-06:00"), export.settings.get("day_first") is True
    at = local_instant(get(told), export.columns.get(told, told), zone, day_first=day_first)
    info: Item = {ours: found for ours, theirs in _INFO.items() if (found := get(theirs))}
    if category := _WORDS.match(get("bouncecategory", "")):
        info["bounceCode"] = category[0].upper()
    if where := {name: found for name in _LOCATION if (found := get(name))}:
        info["location"] = where
    status = _STATUSES.get(kind)
    return {
        "eventCategoryType": f"{kind}.{get(status, '')}" if status else kind,
        "channel": "email",
        "timestampUTC": int(at.timestamp()) * 1000,
        "mid": get("clientid"),
        "definitionKey": get("triggeredsendexternalkey"),
        "composite": {ours: found for ours, theirs in _COMPOSITE.items() if (found := get(theirs))},
        "info": info,
    }


@lru_cache(maxsize=256)
def _object(name: str) -> str:
    """The last word of a file's name that is an object of the extract."""
    words = (word.lower() for word in reversed(_WORDS.findall(name)))
    return next((word for word in words if word in _OBJECTS or word in _OTHERS), "")


def _configured(settings: Mapping[str, Any]) -> Source:
    check_times(settings)
    return SOURCE


def _id(value: Any) -> str | None:
    found = value if type(value) is str and value.isalnum() else text(value)
    return None if found in _ABSENT else found


def _channel(item: Item, kind: str) -> str:
    found = _CHANNEL.match(kind)
    given = text(item.get("channel"))
    return _CHANNELS[found[1]] if found else given if given in _CHANNELS.values() and given else "none"


def _properties(item: Item, info: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: info.get(name) for name in _FACTS} | {name: text(item.get(name)) for name in ("mid", "eid")}
    location = {name: value for name, value in inner(info, "location").items() if value}
    return present({**facts, "location": location})


def _failed(kind: str, info: Mapping[str, Any], fields: EventFields) -> None:
    reply = text(info.get("smtpReason"))
    said = [text(info.get(name)) for name in ("reason", "statusMessage", "bounceMessage")]
    reason = reply or next((one for one in said if one), None)
    class_ = text(info.get("bounceCode"))
    fields["failure"] = present(
        {"class": class_, "code": smtp_code(reply) or text(info.get("statusCode")), "reason": reason}
    )
    if kind.endswith(".EmailBounced"):
        fields["type"] = BOUNCES.get((class_ or "").upper(), EventType.BOUNCED)
    elif kind.endswith(".EmailNotSent") and any(one and _FAULT.search(one) for one in said):
        fields["type"] = EventType.FAILED


def identity(item: Item) -> tuple[str, ...]:
    """There is no event id: business unit, kind, send, second, link and message tell two events apart.

    The second, not the millisecond, and neither enterprise nor message where the send is named whole: the tracking
    extract knows no more.
    """
    info, composite = _info(item), _composite(item)
    sent = [composite.get(name, "") for name in _SENT]
    kind = text(item.get("eventCategoryType")) or ""
    if "jobId" in composite and _SUBSCRIBER in composite and _channel(item, kind) == "email":
        link = text(info.get("contentLink")) or text(info.get("jobUrlId")) or ""
        return (text(item.get("mid")) or "", kind, *sent, link)
    if not any(sent):
        sent = [text(item.get("compositeId")) or "", text(info.get("to")) or ""]
    names = ("eid", "mid", "eventCategoryType")
    link = text(info.get("contentLink")) or text(info.get("jobUrlId")) or ""
    ordinal = text(info.get("ordinal")) or ""
    return (*(text(item.get(name)) or "" for name in names), *sent, link, text(info.get("messageKey")) or "", ordinal)


def send_key(item: Item) -> str | None:
    """Job, list, batch and subscriber, which opens and clicks carry too; of a text message its key and number."""
    composite = _composite(item)
    if "jobId" in composite and _SUBSCRIBER in composite:
        return ".".join(composite.get(name, "") for name in _SENT)
    info = _info(item)
    message, recipient = text(info.get("messageKey")), text(info.get("to"))
    return f"{message}/{recipient.lower()}" if message and recipient else None


def person_order(item: Item) -> tuple[str, ...]:
    """The subscriber, whom opens and clicks name by this id alone; of a text message the number."""
    channel = _channel(item, text(item.get("eventCategoryType")) or "")
    return (*(("phone",) if channel == "sms" else ()), "source_contact_id", "external_id", "email")


@lru_cache(maxsize=64)
def _keys(secret: bytes) -> Sequence[bytes]:
    """The key as text, which the vendor's own code hands on as it is, and as the bytes that this text encodes."""
    try:
        decoded = b64decode(secret, validate=True)
    except ValueError:
        return as_it_is(secret)
    return (secret, decoded) if len(decoded) >= 16 else as_it_is(secret)


_SIGNED = hmac_of_body(SIGNATURE, encoding="base64", keys=_keys)


def _verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    """The signature. The request to verify a callback comes before there is a key: the setting lets it through."""
    if settings.get("awaiting_verification") is True and len(delivery.body) <= _LONGEST_REQUEST:
        try:
            if is_verification(orjson.loads(delivery.body)):
                return
        except orjson.JSONDecodeError:
            pass
    _SIGNED.verify(delivery, secrets, now, settings=settings)


SOURCE = Source(
    name="sfmc",
    verify=replace(_SIGNED, verify=_verify),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    exports={"csv": from_extract},
    configured=_configured,
    docs=Docs(
        title="Salesforce Marketing Cloud Engagement (ENS)",
        url="https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens.html",
        setup=(
            (
                "Put a connection file under definitions/connections/ with `secrets: []` and, under settings, "
                "`awaiting_verification: true`; apply it. The webhook's URL is the stack's output ApiUrl and the path "
                "that `espial validate` prints; it may have no port and no query."
            ),
            (
                "In Marketing Cloud: Setup, Apps, Installed Packages, a package with the API component and the "
                "permission for Callbacks; get a token with it."
            ),
            (
                "Register the URL: POST /platform/v1/ens-callbacks; keep `callbackId` and `signatureKey`, which is "
                "shown only once, and store the latter as the connection's secret."
            ),
            (
                "Marketing Cloud posts `verificationKey` at once; it lies in quarantine under `callback_verification`. "
                "`espial quarantine show` names the call to make: POST /platform/v1/ens-verify with the two values."
            ),
            "Take `awaiting_verification` out, name the secret in the connection file, and apply it.",
            "Subscribe: POST /platform/v1/ens-subscriptions with the `callbackId` and the `eventCategoryTypes`.",
        ),
        secret="The callback's `signatureKey` as it was returned, 44 characters of base64.",  # noqa: S106
        answers=(
            "Exactly 200 within 30 seconds for the verification, else the callback has to be deleted and made anew. "
            "What fails later is posted again with growing delays; failing for long suspends the callback until an "
            "administrator resumes it, and a paused subscription loses its events."
        ),
        notes=(
            "Without the setting a request to verify is refused like everything else without a signature.",
            "Sent and bounced are told of transactional sends only; bulk sends are in the tracking extract.",
            (
                "Opens, clicks and unsubscribes name the subscriber by an internal id alone: the address comes from a "
                "sent event of the same subscriber."
            ),
            "There is no event id: the same link clicked twice by one subscriber within a second counts once.",
            "`info.unsubscribeDate` is six hours off; `timestampUTC` counts.",
            (
                "Tracking extracts (the ZIP, or single files of it, UTF-16 or UTF-8) go to exports/sfmc/<connection>/. "
                "A row is the notification of the same event by business unit, send, second and the address of a click."
            ),
            (
                "Their times are six hours behind UTC all year. If the extract was set up otherwise, say so by the "
                "settings `time_zone` (-06:00, UTC, Europe/Berlin) and `day_first`."
            ),
            (
                "SendJobs name campaigns. Subscribers, lists, attributes, surveys and impressions are no reports and "
                "left alone. An extract that is encrypted with PGP cannot be read."
            ),
            (
                "Not confirmed of extracts: that the `URL` of a personalised link is the one of the notification, and "
                "that both put an event into the same second."
            ),
            "No flag tells machines: Espial's rules judge by user agent and network.",
            "Not confirmed: the bounce codes BLOCK and TECHNICAL, and which reading of the key signs (both are tried).",
        ),
    ),
)
