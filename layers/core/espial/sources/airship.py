"""Airship Real-Time Data Streaming: one JSON event a line, pulled from its stream or posted on by an integration.

https://docs.airship.com/developer/rest-api/connect/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._shared import email, inner, instant, phone, present, text
from espial.sources._sparkpost import bounced
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

OFFSET_UPDATE = "OFFSET_UPDATE"
"""Tells how far the stream was read, and nothing else: another one at every connection."""

_MAIL: Mapping[str, EventType] = {
    "injection": EventType.PROCESSED,
    "delivery": EventType.DELIVERED,
    "delay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "open": EventType.OPENED,
    "initial_open": EventType.UNKNOWN,  # the same view as `open`; the setting `opens` chooses
    "amp_open": EventType.OPENED,
    "amp_initial_open": EventType.UNKNOWN,
    "click": EventType.CLICKED,
    "amp_click": EventType.CLICKED,
    "spam_complaint": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "list_unsubscribe": EventType.UNSUBSCRIBED,
    "link_unsubscribe": EventType.UNSUBSCRIBED,
}
"""What the mail provider tells, as `CUSTOM` events of e-mail channels."""
_TEXTS: Mapping[str, EventType] = {
    "dispatched": EventType.PROCESSED,
    "delivered": EventType.DELIVERED,
    "read": EventType.OPENED,  # RCS
    "failed": EventType.FAILED,
    "undeliverable": EventType.BOUNCED,
    "rejected": EventType.REJECTED,
    "aborted": EventType.DROPPED,
    "expired": EventType.FAILED,
}
"""What the aggregator tells, as delivery reports of text message channels."""
_REPORT = "delivery_report"
TOLD_TWICE = ("bounce", "spam_complaint", "unsubscribe", "list_unsubscribe", "link_unsubscribe")
"""What comes as `CUSTOM` and, with an id of its own, as `COMPLIANCE`; the setting `mail_reports` chooses."""

EVENT_TYPES: Mapping[str, EventType] = {
    "SEND": EventType.SENT,
    "SEND_ABORTED": EventType.DROPPED,
    "SEND_REJECTED": EventType.DROPPED,
    "CONTROL": EventType.DROPPED,
    "PUSH_BODY": EventType.UNKNOWN,  # of no person: what was sent
    "OPEN": EventType.CUSTOM,  # of the app; of a push where that brought it about
    "FIRST_OPEN": EventType.CUSTOM,
    "CLOSE": EventType.CUSTOM,
    "SCREEN_VIEWED": EventType.CUSTOM,
    "REGION": EventType.CUSTOM,
    "LOCATION": EventType.CUSTOM,
    "UNINSTALL": EventType.UNSUBSCRIBED,
    "CLICK": EventType.CLICKED,
    "WEB_CLICK": EventType.CLICKED,
    "SHORT_LINK_CLICK": EventType.CLICKED,
    "MOBILE_ORIGINATED": EventType.REPLIED,
    "TAG_CHANGE": EventType.PROFILE_UPDATED,
    "ATTRIBUTE_OPERATION": EventType.PROFILE_UPDATED,
    "SUBSCRIPTION_LIST": EventType.PROFILE_UPDATED,
    "NAMED_USER": EventType.PROFILE_UPDATED,
    "IN_APP_MESSAGE_DISPLAY": EventType.OPENED,
    "IN_APP_MESSAGE_RESOLUTION": EventType.CUSTOM,
    "IN_APP_MESSAGE_EXPIRATION": EventType.CUSTOM,
    "RICH_DELIVERY": EventType.DELIVERED,
    "RICH_READ": EventType.OPENED,
    "RICH_DELETE": EventType.CUSTOM,
    **{f"CUSTOM.email.{name}": type_ for name, type_ in _MAIL.items()},
    **{f"CUSTOM.{_REPORT}.{name}": type_ for name, type_ in _TEXTS.items()},
    **dict.fromkeys((f"COMPLIANCE.{name}" for name in TOLD_TWICE), EventType.UNKNOWN),
    "COMPLIANCE.registration": EventType.PROFILE_UPDATED,
    "COMPLIANCE.create_and_send": EventType.UNKNOWN,
    "COMPLIANCE.commercial_opt_in": EventType.SUBSCRIBED,
    "COMPLIANCE.commercial_opt_out": EventType.UNSUBSCRIBED,
    "COMPLIANCE.transactional_opt_in": EventType.SUBSCRIBED,
    "COMPLIANCE.transactional_opt_out": EventType.UNSUBSCRIBED,
    "COMPLIANCE.api_initiate_opt_in": EventType.UNKNOWN,  # asked, and not answered yet
    "COMPLIANCE.mobile_opt_in": EventType.SUBSCRIBED,
    "COMPLIANCE.mobile_opt_out": EventType.UNSUBSCRIBED,
    "COMPLIANCE.opted_out": EventType.UNSUBSCRIBED,
    "COMPLIANCE.mobile_keyword_matched": EventType.REPLIED,
    "COMPLIANCE.mobile_keyword_unmatched": EventType.REPLIED,
    "COMPLIANCE.mobile_terminated_message": EventType.UNKNOWN,  # an automatic answer to the one before
    "COMPLIANCE.carrier_deactivation": EventType.BOUNCED,
}

OPENS: Mapping[str, tuple[str, ...]] = {
    "open": ("CUSTOM.email.open", "CUSTOM.email.amp_open"),
    "initial_open": ("CUSTOM.email.initial_open", "CUSTOM.email.amp_initial_open"),
}
"""The setting `opens` -> the reports that count as opens; those of the other pixel are kept as `unknown`."""
_ALL_OPENS = OPENS["open"] + OPENS["initial_open"]
_MAIL_REPORTS = {"custom": "CUSTOM.email", "compliance": "COMPLIANCE"}
_URLS = ("url", "target_link_url")
_BOUNCES = ("bounce", "out_of_band")
_DEVICES = {
    **dict.fromkeys(("IOS", "ANDROID", "AMAZON", "WEB"), "push"),
    "EMAIL": "email",
    "SMS": "sms",
    "MMS": "sms",
    "RCS": "sms",
}
_APP = frozenset({"OPEN", "FIRST_OPEN", "CLOSE", "SCREEN_VIEWED", "REGION", "LOCATION"})
_MAPPED = frozenset(
    {
        *("name", "event_type", "push_id", "group_id", "variant_id", "campaigns"),
        *("triggering_push", "properties", "identifiers"),
        "payload",  # of a PUSH_BODY: large, and kept with the raw copy
    }
)
"""What of an event's body has a canonical field."""
_UNREADABLE = "_line"
"""Where `split` keeps a line that is not JSON."""
_TOPICS = ("commercial", "transactional")


def split(delivery: RawDelivery) -> list[Item]:
    """The events of newline-delimited JSON, of an array, or one alone; keep-alives and updates of the offset are none.

    A line that cannot be read is left for `normalise` to refuse. Raises MalformedDelivery if none can.
    """
    try:
        whole = orjson.loads(delivery.body)
        found = whole if isinstance(whole, list) else [whole]
    except orjson.JSONDecodeError:
        found = _lines(delivery.body)
    return [one for one in found if not _is_offset(one)]


def _is_offset(one: Any) -> bool:
    return isinstance(one, dict) and one.get("type") == OFFSET_UPDATE


def from_json(row: Any, _export: Export) -> Item | None:
    """A line of the stream as whoever consumed it put it into a bucket."""
    return None if _is_offset(row) else row


def _lines(body: bytes) -> list[Any]:
    found: list[Any] = []
    unreadable = ""
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError as exc:
            unreadable = f"line {number}: {exc}"
            found.append({_UNREADABLE: line.decode("utf-8", "replace"), "_why": unreadable})
    if unreadable and all(isinstance(one, dict) and _UNREADABLE in one for one in found):
        raise MalformedDelivery("not_json", unreadable)
    return found


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no type, or a time that is none."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if _UNREADABLE in item:
        raise MalformedItem("not_json", text(item.get("_why")) or "the line is not JSON", _UNREADABLE)
    kind = _kind(item)
    if kind is None:
        raise MalformedItem("missing_type", "type is missing or not text", "type")
    body, device = inner(item, "body"), inner(item, "device")
    channel = _channel(kind, device)
    own = kind.startswith("CUSTOM.") and kind not in EVENT_TYPES and not kind.startswith(f"CUSTOM.{_REPORT}.")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.CUSTOM if own else EventType.UNKNOWN),
        "platform_type": kind,
        "channel": channel,
        "occurred_at": instant(item.get("occurred"), "occurred"),
        "person": _person(body, device, channel),
        "campaign": _campaign(body),
        "message_id": _push(body),
        "properties": _properties(body, device),
    }
    _refine(kind, body, fields, arrival.connection.settings)
    return fields


def _kind(item: Item) -> str | None:
    """The type; of `CUSTOM` and `COMPLIANCE` events with the name of what it is about.

    What the mail provider tells is told apart from an app's own event of the same name by its device.
    """
    kind, body = text(item.get("type")), inner(item, "body")
    name = text(body.get({"CUSTOM": "name", "COMPLIANCE": "event_type"}.get(kind or "", "")))
    if name is None:
        return kind
    if kind == "CUSTOM" and body.get("interaction_type") == _REPORT:
        return f"CUSTOM.{_REPORT}.{name}"
    if kind == "CUSTOM" and name in _MAIL and inner(item, "device").get("device_type") == "EMAIL":
        return f"CUSTOM.email.{name}"
    return f"{kind}.{name}"


def _channel(kind: str, device: Mapping[str, Any]) -> str:
    if kind.startswith(("IN_APP_", "RICH_")):
        return "inapp"
    channel = _DEVICES.get(text(device.get("device_type")) or "", "none")
    if kind == "SHORT_LINK_CLICK":
        return "sms"
    return "app" if kind in _APP and channel == "push" else channel


def _address(body: Mapping[str, Any], device: Mapping[str, Any]) -> str | None:
    """What the device is reached at, which the event's own facts repeat."""
    told = inner(body, "identifiers")
    given = (device.get("delivery_address"), told.get("address"), told.get("msisdn"))
    return next((found for one in given if (found := text(one))), text(inner(body, "properties").get("email")))


def _person(body: Mapping[str, Any], device: Mapping[str, Any], channel: str) -> dict[str, str | None]:
    """A number is an MSISDN: it begins with its country, without a sign for it."""
    address = _address(body, device)
    number = f"+{address}" if address and address.isascii() and address.isdigit() else address
    return {
        "external_id": text(device.get("named_user_id")) or text(device.get("named_user")),
        "email": email(address) if channel == "email" else None,
        "phone": phone(number) if channel == "sms" else None,
        "source_contact_id": text(device.get("channel")),
    }


def _sent(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The push that it is about: the one that brought it about, or the event's own."""
    return inner(body, "triggering_push") or body


def _push(body: Mapping[str, Any]) -> str | None:
    return text(_sent(body).get("push_id"))


def _campaign(body: Mapping[str, Any]) -> dict[str, Any] | None:
    sent = _sent(body)
    push, group = text(sent.get("push_id")), text(sent.get("group_id"))
    categories = inner(sent, "campaigns").get("categories")
    found = {
        "id": group or push,
        "send_id": push,
        "variation_id": text(sent.get("variant_id")),
        "tags": [tag for one in categories if (tag := text(one))] if isinstance(categories, list) else None,
    }
    return present(found) or None


def _properties(body: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the event, then the sender's own properties, which win."""
    facts = {name: value for name, value in body.items() if name not in _MAPPED}
    about = {name: text(device.get(name)) for name in ("device_type", "contact_id")}
    sender = text(inner(device, "identifiers").get("sender")) or text(inner(body, "identifiers").get("sender"))
    own = {name: value for name, value in inner(body, "properties").items() if name != "email"}
    return present({**facts, **about, "sender": sender, **own})


def _refine(kind: str, body: Mapping[str, Any], fields: EventFields, settings: Mapping[str, Any]) -> None:
    """What a report is by its own facts and by what the settings count."""
    kind_of, _, name = kind.rpartition(".")
    properties = inner(body, "properties")
    if kind in _ALL_OPENS:
        opens = OPENS.get(str(settings.get("opens")), OPENS["open"])
        fields["type"] = EventType.OPENED if kind in opens else EventType.UNKNOWN
    elif name in TOLD_TWICE and kind_of in _MAIL_REPORTS.values():
        counted = _MAIL_REPORTS.get(str(settings.get("mail_reports")), "CUSTOM.email")
        fields["type"] = _MAIL[name] if kind_of == counted else EventType.UNKNOWN
    elif kind == "OPEN" and inner(body, "triggering_push"):
        fields |= {"type": EventType.OPENED, "channel": "push"}
    if name in _BOUNCES and kind_of in _MAIL_REPORTS.values():
        class_ = text(properties.get("bounce_class"))
        fields["failure"] = present({"class": class_, "reason": text(properties.get("reason"))}) or None
        if fields["type"] is EventType.BOUNCED:
            fields["type"] = bounced(class_)
    if fields["type"] is EventType.CLICKED:
        url = next((found for name in _URLS if (found := text(fields["properties"].pop(name, None)))), None)
        fields["link"] = {"url": url} if url else None
    if fields["type"] is EventType.PROFILE_UPDATED:
        fields["properties"]["traits"] = {}  # what changed is of a device, in a shape of its own
    if topic := next((one for one in _TOPICS if kind.startswith(f"COMPLIANCE.{one}_opt_")), ""):
        fields["topic"] = topic


def identity(item: Item) -> tuple[str, ...]:
    """Airship's event id, the same from any offset and in any sink; without one who did what, when and over what."""
    kind, given = _kind(item) or "", text(item.get("id"))
    if given:
        return (kind, given)
    body, device = inner(item, "body"), inner(item, "device")
    parts = (text(item.get("occurred")), text(device.get("channel")), _address(body, device), _push(body))
    return (kind, *(part or "" for part in parts))


def send_key(item: Item) -> str | None:
    """The push and the channel that it went to."""
    push, channel = _push(inner(item, "body")), text(inner(item, "device").get("channel"))
    return f"{push}/{channel.lower()}" if push and channel else None


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the named user or the device."""
    channel = _channel(_kind(item) or "", inner(item, "device"))
    return (*{"email": ("email",), "sms": ("phone",)}.get(channel, ()), "external_id", "source_contact_id")


_ONE_OF: Mapping[str, tuple[str, ...]] = {
    "region": ("us", "eu"),
    "start": ("EARLIEST", "LATEST"),
    "opens": tuple(OPENS),
    "mail_reports": tuple(_MAIL_REPORTS),
}
_APP_KEY = re.compile(r"[\w.-]{1,100}", re.ASCII)


def _configured(settings: Mapping[str, Any]) -> Source:
    for name, known in _ONE_OF.items():
        if settings.get(name, known[0]) not in known:
            raise ValueError(f"{name}: must be one of {', '.join(known)}")
    key = settings.get("app_key")
    if settings.get("pull") is True and not (isinstance(key, str) and _APP_KEY.fullmatch(key)):
        raise ValueError("app_key: is missing; it is needed to `pull`")
    seconds = settings.get("pull_seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 1:
        raise ValueError("pull_seconds: must be a number of seconds, 1 or more")
    filters = settings.get("filters", [])
    if not isinstance(filters, list) or not all(isinstance(one, dict) for one in filters):
        raise ValueError("filters: must be a list of Airship's filters")
    return SOURCE


SOURCE = Source(
    name="airship",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    exports={"ndjson": from_json},
    configured=_configured,
    docs=Docs(
        title="Airship Real-Time Data Streaming",
        url="https://docs.airship.com/guides/reports/real-time-data-streaming/",
        setup=(
            "Have Real-Time Data Streaming enabled for your project by Airship.",
            (
                "In Airship: Settings, Tokens, create a token with the scope Real-Time Data Streaming; it is the "
                "connection's secret."
            ),
            (
                "Put a connection file under definitions/connections/ with the settings `pull: true`, `app_key` and "
                "`region`: us or eu; apply it."
            ),
            (
                "Deploy with the parameter PullSchedule, such as `rate(5 minutes)`: the function PullEvents reads the "
                "stream from where it stopped. The first time it begins with the oldest event that Airship has; with "
                "the setting `start: LATEST` it begins with the next one."
            ),
            (
                "An integration that posts batches of lines instead is given the webhook's URL and the secret, as "
                "Basic or Bearer; leave `pull` out then."
            ),
        ),
        secret="The token of Real-Time Data Streaming; for posts `user:password` or a token that you make up.",  # noqa: S106
        settings={"pull": True, "app_key": "AbCdEfGhQRST012345678w", "region": "eu"},
        answers=(
            "Airship keeps seven days or 100 GB: a stream that nobody reads for longer than that loses events. Reading "
            "again from an old offset gives the same events, which are recorded once."
        ),
        notes=(
            (
                "A bounce is told twice, as CUSTOM and as COMPLIANCE. The former counts, as it names the message; the "
                "other is kept as `unknown`. With the setting `mail_reports: compliance`, for a stream of those alone, "
                "it is the other way round."
            ),
            "`open` and `initial_open` are one view by two pixels; the setting `opens` says which of them counts.",
            "An `OPEN` is the app's own; it is of a push, and an `opened`, where `triggering_push` says so.",
            "Files that a consumer of the stream keeps (JSON lines) go to exports/airship/<connection>/: same events.",
            "A number is given as MSISDN, so its country is known.",
            "Not confirmed: that complaints and unsubscribes are told twice too, and where a click's address stands.",
        ),
    ),
)
