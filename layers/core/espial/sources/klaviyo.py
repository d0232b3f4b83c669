"""Klaviyo webhooks: signed batches of events by topic, and flows' own webhooks, whose body the marketer writes.

https://developers.klaviyo.com/en/docs/working_with_system_webhooks
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Export, Source
from espial.sources._files import folded
from espial.sources._proofs import any_of
from espial.sources._shared import document, email, epoch, inner, instant, known, leaves, moment, phone, remaining, text
from espial.verify import NO_SETTINGS, Scheme, from_hex
from espial.verify.hmacs import DAY, Mac, Shown, hmac_signature
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

SIGNATURE, STAMP, WEBHOOK = "klaviyo-signature", "klaviyo-timestamp", "klaviyo-webhook-id"
FLOW = "flow_webhook"
"""Our name for a flow's webhook: its body names no topic."""

_TOPICS: Mapping[str, tuple[EventType, str]] = {
    "received_email": (EventType.DELIVERED, "email"),
    "bounced_email": (EventType.BOUNCED, "email"),
    "dropped_email": (EventType.DROPPED, "email"),
    "opened_email": (EventType.OPENED, "email"),
    "clicked_email": (EventType.CLICKED, "email"),
    "clicked_email_to_unsubscribe": (EventType.CLICKED, "email"),  # the intent alone: unsubscribed_… follows
    "marked_email_as_spam": (EventType.COMPLAINED, "email"),
    "subscribed_to_email_marketing": (EventType.SUBSCRIBED, "email"),
    "unsubscribed_from_email_marketing": (EventType.UNSUBSCRIBED, "email"),
    "manually_suppressed_from_email_marketing": (EventType.UNSUBSCRIBED, "email"),
    "manually_unsuppressed_from_email_marketing": (EventType.SUBSCRIBED, "email"),
    "updated_email_preferences": (EventType.PROFILE_UPDATED, "email"),
    "sent_sms": (EventType.REPLIED, "sms"),  # by the person, to us
    "received_sms": (EventType.DELIVERED, "sms"),
    "received_automated_response_sms": (EventType.DELIVERED, "sms"),
    "clicked_sms": (EventType.CLICKED, "sms"),
    "failed_to_deliver_sms": (EventType.FAILED, "sms"),  # for good or for now is not said
    "failed_to_deliver_automated_response_sms": (EventType.FAILED, "sms"),
    "subscribed_to_sms_marketing": (EventType.SUBSCRIBED, "sms"),
    "unsubscribed_from_sms_marketing": (EventType.UNSUBSCRIBED, "sms"),
    "received_push": (EventType.DELIVERED, "push"),
    "opened_push": (EventType.OPENED, "push"),
    "bounced_push": (EventType.BOUNCED, "push"),
    "ready_to_review": (EventType.CUSTOM, "none"),
    "submitted_rating": (EventType.CUSTOM, "none"),
    "submitted_review": (EventType.CUSTOM, "none"),
}
_PREFIX, _OWN = "event:", "event:klaviyo."
_CHANNELS = {f"{_OWN}{name}": channel for name, (_, channel) in _TOPICS.items()}
EVENT_TYPES: Mapping[str, EventType] = {
    **{f"{_OWN}{name}": type_ for name, (type_, _) in _TOPICS.items()},
    FLOW: EventType.WEBHOOK_TRIGGERED,
}
"""Topic -> type. Those of other integrations, `event:<integration>.<metric>`, are `custom`."""

_FLAGS = {EventType.OPENED: "Machine Open", EventType.CLICKED: "Bot Click"}
_MAPPED = frozenset(
    {"Recipient Email Address", "Campaign Name", "$message", "$flow", "$_cohort$message_send_cohort", "URL"}
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HTTP_DATE = re.compile(
    rf"(?:{'|'.join(_DAYS)}), (\d\d) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)


def split(delivery: RawDelivery) -> list[Item]:
    """The events of `{"data": [...], "meta": {...}}`; anything else that is JSON is a flow's webhook.

    Raises MalformedDelivery for what is not JSON, and for what is signed but no such envelope.
    """
    found = document(delivery)
    events, meta = (found.get("data"), found.get("meta")) if isinstance(found, dict) else (None, None)
    if isinstance(events, list) and (isinstance(meta, dict) or SIGNATURE in delivery.headers):
        return events
    if SIGNATURE in delivery.headers:
        raise MalformedDelivery("not_an_envelope", "data is missing or not an array", "data")
    return [{FLOW: one} for one in (found if isinstance(found, list) else [found])]


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("eventid", "id"),
    "metric": ("metric", "metricname", "eventname"),
    "at": ("datetime", "timestamp", "time"),
    "profile": ("profileid", "personid"),
    "email": ("email", "recipientemailaddress"),
    "phone": ("phonenumber",),
    "external": ("externalid",),
}
"""What a file says, and the columns that may say it; the setting `columns` names others."""
_TRUTHS = ("true", "false")
_FACTS = {"Value": "$value", "Flow": "$flow"}


def from_row(row: Mapping[str, Any], export: Export) -> Item:
    """An event of a file, read by the names of its columns. Raises MalformedItem without a time that can be read."""
    names = export.columns or {folded(name): name for name in row}
    small = {folded(name): value for name, value in row.items() if value not in (None, "")}
    own = inner(export.settings, "columns")
    places = {what: (folded(text(own.get(what)) or ""), *known_as) for what, known_as in _COLUMNS.items()}
    found = {what: next((small[one] for one in places[what] if one in small), None) for what in places}
    used = {one for known_as in places.values() for one in known_as}
    facts = {names.get(name, name): value for name, value in small.items() if name not in used}
    facts |= {flag: said == "true" for flag in _FLAGS.values() if (said := str(facts.get(flag, "")).lower()) in _TRUTHS}
    if found["email"]:
        facts["Recipient Email Address"] = found["email"]
    profile = {"external_id": found["external"], "phone_number": found["phone"]}
    event = {
        "id": found["id"],
        "attributes": {
            "timestamp": int(moment(found["at"], "datetime").timestamp()),
            "event_properties": {_FACTS.get(name, name): value for name, value in facts.items()},
        },
        "relationships": {"profile": {"data": {"type": "profile", "id": found["profile"]}}},
    }
    included = {"type": "profile", "id": found["profile"], "attributes": profile}
    return {"topic": _topic(text(found["metric"])), "payload": {"data": event, "included": [included]}}


def _configured(settings: Mapping[str, Any]) -> Source:
    given = settings.get("columns", {})
    if not isinstance(given, Mapping):
        raise ValueError("columns: must be a mapping")  # noqa: TRY004 - one error for all settings
    for what, column in given.items():
        if what not in _COLUMNS:
            raise ValueError(f"columns.{what}: no such fact, must be one of {', '.join(_COLUMNS)}")
        if not isinstance(column, str):
            raise ValueError(f"columns.{what}: must be the name of a column")  # noqa: TRY004
    return SOURCE


def from_json(row: Any, export: Export) -> Any:
    """A line of a file: an event as a webhook posts it, or flat."""
    return from_row(row, export) if isinstance(row, dict) and "topic" not in row else row


def _topic(metric: str | None) -> str | None:
    """A file names the metric as the console does, and no integration: `Received Email`."""
    if metric is None:
        return None
    name = re.sub(r"\W+", "_", metric.lower()).strip("_")
    return f"{_OWN}{name}" if name in _TOPICS else f"{_PREFIX}export.{name}"


def _metric(topic: str) -> str:
    """A topic without its integration, which a file does not name."""
    return topic.rpartition(".")[2]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no topic or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if FLOW in item:
        return _flow(item[FLOW], arrival)
    topic = text(item.get("topic"))
    if topic is None:
        raise MalformedItem("missing_event", "topic is missing or not text", "topic")
    event = _event(item)
    attributes = inner(event, "attributes")
    facts = inner(attributes, "event_properties")
    other = topic.startswith(_PREFIX) and not topic.startswith(_OWN)
    type_ = EVENT_TYPES.get(topic, EventType.CUSTOM if other else EventType.UNKNOWN)
    fields: EventFields = {
        "type": type_,
        "platform_type": topic,
        "channel": _CHANNELS.get(topic, "none"),
        "occurred_at": _occurred_at(attributes),
        "person": _person(item, facts),
        "campaign": _campaign(facts),
        "properties": remaining(facts, _MAPPED),
    }
    if type_ is EventType.CLICKED:
        fields["link"] = {"url": text(facts.get("URL"))}
    elif "URL" in facts:
        fields["properties"]["URL"] = facts["URL"]
    if type_ is EventType.BOUNCED and (kind := text(facts.get("Bounce Type"))):
        fields["failure"] = {"class": kind}
        if kind.lower() == "soft":
            fields["type"] = EventType.SOFT_BOUNCED
    if type_ is EventType.PROFILE_UPDATED:
        fields["properties"]["traits"] = {}  # what is said is of the event, not of the person
    flag = _FLAGS.get(type_, "")
    if flag and type(facts.get(flag)) is bool:
        fields["client"] = {"machine": facts[flag], "machine_reason": flag}
    return fields


def _flow(body: Any, arrival: Arrival) -> EventFields:
    """What a marketer wrote: `occurred_at` dates it, else its receipt; whoever it names is who it is about."""
    if not isinstance(body, dict):
        raise MalformedItem("not_an_object", "the flow's body is not a JSON object")
    person = {
        "external_id": text(body.get("external_id")),
        "email": email(body.get("email")),
        "phone": phone(body.get("phone_number")),
        "source_contact_id": text(body.get("profile_id")),
    }
    dated = body.get("occurred_at") is not None
    fields: EventFields = {
        "type": EventType.WEBHOOK_TRIGGERED,
        "platform_type": FLOW,
        "channel": "webhook",
        "occurred_at": instant(body["occurred_at"], "occurred_at") if dated else arrival.received_at,
        "person": person,
        "properties": {name: value for name, value in body.items() if name not in _FLOW_FIELDS},
    }
    if not dated:
        fields["time_uncertain"] = True
    return fields


_FLOW_FIELDS = frozenset({"external_id", "email", "phone_number", "profile_id", "occurred_at"})


def _event(item: Item) -> Mapping[str, Any]:
    return inner(inner(item, "payload"), "data")


def _related(event: Mapping[str, Any], name: str) -> str | None:
    return text(inner(inner(inner(event, "relationships"), name), "data").get("id"))


def _occurred_at(attributes: Mapping[str, Any]) -> datetime:
    if attributes.get("timestamp") is None and attributes.get("datetime") is not None:
        return instant(attributes["datetime"], "payload.data.attributes.datetime")
    return epoch(attributes.get("timestamp"), "payload.data.attributes.timestamp")


def _person(item: Item, facts: Mapping[str, Any]) -> dict[str, str | None]:
    """The profile's id, its other keys where the profile is included, and the address of an e-mail."""
    profile = _related(_event(item), "profile")
    included = inner(item, "payload").get("included")
    found: Mapping[str, Any] = {}
    for one in included if isinstance(included, list) else ():
        if isinstance(one, dict) and one.get("type") == "profile" and text(one.get("id")) == profile:
            found = inner(one, "attributes")
    return {
        "external_id": text(found.get("external_id")),
        "email": email(facts.get("Recipient Email Address")) or email(found.get("email")),
        "phone": phone(found.get("phone_number")),
        "source_contact_id": profile,
    }


def _campaign(facts: Mapping[str, Any]) -> dict[str, str] | None:
    """`$message` is a campaign, or within a flow one of its messages."""
    flow = text(facts.get("$flow"))
    return known(
        {
            "step_id" if flow else "id": text(facts.get("$message")),
            "name": text(facts.get("Campaign Name")),
            "journey_id": flow,
            "send_id": text(facts.get("$_cohort$message_send_cohort")),
        }
    )


def identity(item: Item) -> list[str]:
    """Klaviyo's event id under its metric; without one its parts. A flow's webhook is all that it says."""
    if FLOW in item:
        return [FLOW, *leaves(item[FLOW])]
    event = _event(item)
    attributes = inner(event, "attributes")
    given = text(event.get("id")) or text(item.get("external_id")) or text(attributes.get("uuid"))
    return [_metric(text(item.get("topic")) or ""), *([given] if given else leaves(event))]


def send_key(item: Item) -> str | None:
    """The message and the profile: Klaviyo numbers no single send."""
    event = _event(item)
    message = text(inner(inner(event, "attributes"), "event_properties").get("$message"))
    profile = _related(event, "profile")
    return f"{message}/{profile}" if message and profile else None


def http_date(stamp: str) -> float:
    """`Thu, 15 Jan 2026 10:00:37 GMT` in seconds since 1970. Raises SignatureError for anything else."""
    found = _HTTP_DATE.fullmatch(stamp)
    if not found:
        raise SignatureError("the timestamp is not an HTTP date")
    month = _MONTHS.index(found[2]) + 1
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError) as exc:
        raise SignatureError("the timestamp is no date") from exc


def _read(delivery: RawDelivery) -> Shown:
    stamp, given = delivery.headers.get(STAMP, ""), delivery.headers.get(SIGNATURE, "").strip()
    if not given:
        raise SignatureError("no signature")
    return Shown((from_hex(given),), (delivery.body, stamp.encode("utf-8", "surrogatepass")), http_date(stamp))


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    at = now.astimezone(UTC)
    stamp = f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"
    signed = {STAMP: stamp, SIGNATURE: mac((delivery.body, stamp.encode())).hex()}
    return replace(delivery, headers={**delivery.headers, **signed, WEBHOOK: _webhook_id(delivery.body) or "webhook"})


_SIGNED = hmac_signature(read=_read, write=_write, default_max_age=DAY)


def _webhook_id(body: bytes) -> str | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return text(inner(inner({"body": found}, "body"), "meta").get("klaviyo_webhook_id"))


def _verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    _SIGNED.verify(delivery, secrets, now, settings=settings)
    if _webhook_id(delivery.body) not in (None, delivery.headers.get(WEBHOOK, "").strip()):
        raise SignatureError("the body is of another webhook")


SYSTEM = Scheme(verify=_verify, sign=_SIGNED.sign, new_secret=_SIGNED.new_secret)

SOURCE = Source(
    name="klaviyo",
    verify=any_of(SYSTEM, shared_secret()),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("source_contact_id", "external_id", "email", "phone"),
    send_key=send_key,
    exports={"csv": from_row, "ndjson": from_json},
    configured=_configured,
    docs=Docs(
        title="Klaviyo webhooks",
        url="https://developers.klaviyo.com/en/docs/working_with_system_webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "System webhooks (Advanced KDP, or an app): create one with the Webhooks API (POST /api/webhooks).",
            "Give it the URL as endpoint_url, the connection's secret as secret_key, and all the topics you want.",
            "Flow webhooks: in the flow, add the action Webhook; paste the URL; add a header Authorization.",
            "The header's value is the connection's secret; the body: email or profile_id, and what you need.",
        ),
        secret="The webhook's secret_key, of 16 characters or more; flows show the same or another one.",  # noqa: S106
        answers=(
            "Non-2xx answers and time-outs are tried again with growing pauses; that a long failure switches the "
            "webhook off is not confirmed. Flow webhooks are tried again on 429 and 5xx only."
        ),
        notes=(
            "`received_email` is a delivery; there is no report of an e-mail sent.",
            "`sent_sms` is the person's message to you; `received_sms` is yours on the person's phone.",
            "Topics of other integrations, and of your own metrics, become `custom`.",
            "The address is often not in an event; the profile's id always is.",
            "A machine is told by `Machine Open` and `Bot Click`, where Klaviyo says so.",
            "Klaviyo names no tolerance for its signed time; a day is allowed, `max_age_seconds` narrows it.",
            "A body whose webhook id differs from the header's is refused.",
            "A flow's webhook is dated by `occurred_at` of its body (ISO 8601), else by its receipt.",
            (
                "Files of events (CSV or JSON lines) go to exports/klaviyo/<connection>/. They are read by the names "
                "of their columns, which are not confirmed; the setting `columns` names yours: `columns: {id: …, "
                "metric: …, at: …, profile: …, email: …}`. With an event id each is the webhook's event."
            ),
            "Names of event properties are Klaviyo's usual ones and not all confirmed; all are kept as properties.",
        ),
    ),
)
