"""Adobe I/O Events: CloudEvents alone or in arrays, carrying Journey Optimizer, Campaign and Marketo reports.

https://developer.adobe.com/events/docs/guides/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, instant, objects, phone, present, text
from espial.verify import NO_SETTINGS, from_base64
from espial.verify.hmacs import as_it_is, hmac_of_body
from espial.verify.public_keys import Shown, Signer, public_key, public_key_signature
from espial.vocabulary import EventType

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
_JOURNEYS = "customerJourneyManagement"


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
    items: list[Item] = []
    for found in objects(delivery):
        if not _is_validation(found):
            lists = _lists(found) if isinstance(found, dict) else {}
            items += [{**found, _LIST: name} for name in lists] if lists else [found]
    return items


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no type, or a time that is none."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    journeys = inner(inner(_xdm(item), "_experience"), _JOURNEYS)
    kind = _kind(item, journeys)
    if kind is None:
        raise MalformedItem("missing_type", "type is missing or not text", "type")
    fields: EventFields = {"type": EVENT_TYPES.get(kind, EventType.UNKNOWN), "platform_type": kind}
    occurred_at = _occurred_at(item)
    fields["occurred_at"] = occurred_at or arrival.received_at
    if occurred_at is None:
        fields["time_uncertain"] = True
    if journeys:
        _journey(item, journeys, fields)
    elif kind.startswith(MARKETO):
        _marketo(inner(item, "data"), fields)
    else:
        fields |= {"channel": "push" if kind.startswith("push") else "none", "person": _person({}, _xdm(item), "none")}
        fields["properties"] = dict(inner(item, "data"))
    return fields


def _xdm(item: Item) -> Mapping[str, Any]:
    """The experience event, wherever the integration puts it: it has `_experience` or an `eventType`."""
    data = inner(item, "data")
    for place in (data, inner(data, "xdmEntity"), inner(inner(data, "body"), "xdmEntity"), inner(item, "event"), item):
        if "_experience" in place or "eventType" in place:
            return place
    return {}


def _kind(item: Item, journeys: Mapping[str, Any]) -> str | None:
    """The status or interaction of a message, the type of an experience event, of a CloudEvent, of an activity."""
    told = text(inner(journeys, "messageDeliveryfeedback").get("feedbackStatus"))
    told = told or text(inner(journeys, "messageInteraction").get("interactionType"))
    if told:
        return told.lower()
    return text(_xdm(item).get("eventType")) or text(item.get("type")) or text(inner(item, "event").get("@type"))


def _occurred_at(item: Item) -> datetime | None:
    """The first time there is: when it happened comes before when it was told."""
    places = (
        (_xdm(item), "timestamp"),
        (inner(item, "data"), "activityDate"),
        (item, "time"),
        (inner(item, "event"), "activitystreams:published"),
    )
    found = next(((place[name], name) for place, name in places if place.get(name) is not None), None)
    return instant(*found) if found else None


def _journey(item: Item, journeys: Mapping[str, Any], fields: EventFields) -> None:
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
        "topic": text(item.get(_LIST)),
    }
    fields |= {
        "channel": channel,
        "person": _person(journeys, _xdm(item), channel),
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
    place: Mapping[str, Any] = inner(inner(_xdm(item), "_experience"), _JOURNEYS)
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
    """The experience event's own id, which its dataset has too; else I/O's, else the producer's."""
    xdm = _xdm(item)
    journeys = inner(inner(xdm, "_experience"), _JOURNEYS)
    kind, about = _kind(item, journeys) or "", text(item.get(_LIST)) or ""
    own = text(xdm.get("_id"))
    if own:
        return (kind, "xdm", own, about)
    given = text(item.get("eventid")) or text(item.get("event_id"))
    produced = text(item.get("id")) or text(inner(item, "event").get("@id"))
    return (kind, given or "", "" if given else text(item.get("source")) or "", "" if given else produced or "", about)


def send_key(item: Item) -> str | None:
    """Journey Optimizer's message id, which is of one recipient; a copy (cc, bcc) is a send of its own."""
    journeys = inner(inner(_xdm(item), "_experience"), _JOURNEYS)
    message = text(inner(journeys, "messageProfile").get("messageProfileID"))
    copied = email(inner(journeys, "emailChannelContext").get("address"))
    if message and copied and inner(journeys, "secondaryRecipientDetail"):
        return f"{message}/{copied}"
    return message


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the profile or lead."""
    channel = _channel(inner(inner(_xdm(item), "_experience"), _JOURNEYS))
    return (*{"email": ("email",), "sms": ("phone",)}.get(channel, ()), "source_contact_id")


def _configured(settings: Mapping[str, Any]) -> Source:
    client = settings.get("client_id")
    if settings and not (isinstance(client, str) and client):
        raise ValueError("client_id: is missing; it is the API key of the project in the Adobe Developer Console")
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
                "Campaign has no events of its own: its delivery logs are exported. Custom actions of a journey are "
                "the marketer's own calls: connect them as custom_json."
            ),
            (
                "Not confirmed: where in `data` the experience event stands (several places are tried), whether its "
                "`_id` is the dataset's, and the names of Marketo's attributes."
            ),
        ),
    ),
)
