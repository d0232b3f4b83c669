"""Customer.io reporting webhooks, one signed event a call; and its exports, which say of the same events less.

https://docs.customer.io/journeys/webhooks/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.messages import KEY_HEADER
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._files import folded
from espial.sources._ours import note_own_key
from espial.sources._shared import (
    email,
    epoch,
    inner,
    json_object,
    lone_object,
    moment,
    phone,
    present,
    remaining,
    smtp_code,
    text,
    texts,
)
from espial.verify import from_hex, whole_seconds
from espial.verify.hmacs import DAY, Mac, Shown, hmac_signature
from espial.vocabulary import EventType

SIGNATURE, STAMP = "x-cio-signature", "x-cio-timestamp"

EVENT_TYPES: Mapping[str, EventType] = {
    "drafted": EventType.QUEUED,
    "attempted": EventType.DEFERRED,
    "sent": EventType.SENT,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "converted": EventType.GOAL_REACHED,
    "bounced": EventType.BOUNCED,
    "dropped": EventType.DROPPED,
    "spammed": EventType.COMPLAINED,
    "failed": EventType.FAILED,
    "undeliverable": EventType.DROPPED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.SUBSCRIBED,
    "cio_subscription_preferences_changed": EventType.PROFILE_UPDATED,
    "replied": EventType.REPLIED,
}
"""Metric -> type; `object_type` says of which channel."""

PREFERENCES = "cio_subscription_preferences_changed"
CHANNELS = {
    "email": "email",
    "sms": "sms",
    "push": "push",
    "in_app": "inapp",
    "webhook": "webhook",
    "whatsapp": "whatsapp",
}
_LEGACY = re.compile(r"(customer|email|sms|push|in_app|slack|webhook|whatsapp)_(.+)", re.DOTALL)
_FAILED = frozenset({EventType.BOUNCED, EventType.DROPPED, EventType.FAILED, EventType.DEFERRED})
_CAMPAIGNS = {
    "campaign_id": "campaign",
    "newsletter_id": "newsletter",
    "broadcast_id": "broadcast",
    "transactional_message_id": "transactional",
}
"""Ids of four kinds, each counted from one: which one it is goes along as `properties.campaign_type`."""
_CAMPAIGN = {
    "content_id": "variation_id",
    "trigger_id": "send_id",
    "action_id": "step_id",
    "journey_id": "journey_id",
}
_MAPPED = frozenset(
    {
        "delivery_id",
        "customer_id",
        "identifiers",
        "recipient",
        "href",
        "link_id",
        "failure_message",
        "prefetched",
        "machine",
        # the message itself, with the option Body Content: large, and kept with the raw copy
        "content",
        "headers",
        *_CAMPAIGN,
    }
)
_FLAGS = {EventType.OPENED: "prefetched", EventType.CLICKED: "machine"}
_TOLD = ("customer_id", "recipient", "link_id", "href")
_ADDRESS = re.compile(r"^(?:[^,]*<)?\s*([^<>,\s]+@[^<>,\s]+)\s*>?\s*$")


_COLUMNS = {
    "linkurl": "href",
    "reason": "failure_message",
    **{folded(name): name for name in (*_CAMPAIGNS, *_CAMPAIGN, "delivery_id", "customer_id", "recipient")},
    **{folded(name): name for name in ("link_id", "href", "failure_message", "subject")},
}
"""Columns of its exports, in small letters alone -> the webhook's names."""
_TIMES = ("createdat", "timestamp")
_OTHER_TABLES = ("deliveries", "subjects", "outputs", "content", "people", "attributes", "campaigns", "broadcasts")
_TABLE = re.compile(rf"(?:{'|'.join(_OTHER_TABLES)}|actions)(?:_v\d+)?[_.]", re.IGNORECASE)


def from_row(row: Mapping[str, Any], _export: Export) -> Item:
    """What became of a message, as a row of the data warehouse's Metrics or of a CSV file with the same columns.

    Raises MalformedItem without a time that can be read.
    """
    told = {folded(name): value for name, value in row.items() if value not in (None, "")}
    at = next((told[name] for name in _TIMES if name in told), None)
    data = {ours: told[theirs] for theirs, ours in _COLUMNS.items() if theirs in told}
    address = told.get("email") or told.get("emailaddr")
    ids = {"id": told.get("customerid"), "email": address, "cio_id": told.get("internalcustomerid")}
    return {
        "object_type": told.get("deliverytype") or told.get("objecttype") or "",
        "metric": told.get("metric"),
        "timestamp": moment(at, "created_at").timestamp(),
        "data": {**data, "identifiers": present(ids)},
    }


def layout(key: str, _settings: Mapping[str, Any]) -> Layout:
    """The other tables of the data warehouse report nothing."""
    return Layout(skip=_TABLE.match(key.rpartition("/")[2]) is not None)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no metric or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the report is not a JSON object")
    kind, metric = _words(item)
    if not metric:
        raise MalformedItem("missing_event", "metric is missing or not text", "metric")
    data = inner(item, "data")
    type_ = EVENT_TYPES.get(metric, EventType.UNKNOWN)
    fields: EventFields = {
        "type": type_,
        "platform_type": metric,
        "channel": CHANNELS.get(kind, "none"),
        "occurred_at": epoch(item.get("timestamp"), "timestamp"),
        "person": _person(kind, data),
        "message_id": text(data.get("delivery_id")),
        "properties": _properties(kind, metric, data),
    }
    if "headers" in data:  # of messages sent, with the option Body Content
        note_own_key(fields, _header(data["headers"]))
    campaign = _campaign(data)
    if campaign:
        fields["campaign"] = campaign
    if type_ is EventType.CLICKED:
        fields["link"] = {"url": text(data.get("href")), "id": text(data.get("link_id"))}
    if type_ in _FAILED:
        _failed(kind, data, fields)
    flag = _FLAGS.get(type_)
    if flag and type(data.get(flag)) is bool:
        fields["client"] = {"machine": data[flag], "machine_reason": flag}
    return fields


def _header(headers: Any) -> Any:
    """The send key among a message's headers; whether these are an object, pairs or JSON is not documented."""
    if isinstance(headers, list):
        named = (one for one in headers if isinstance(one, dict))
        return next((one.get("value") for one in named if one.get("name") == KEY_HEADER), None)
    return (json_object(headers) or {}).get(KEY_HEADER)


def _campaign(data: Mapping[str, Any]) -> dict[str, str]:
    get = data.get
    found = {ours: value for theirs, ours in _CAMPAIGN.items() if (value := text(get(theirs)))}
    campaign = text(get(_campaign_field(data)))
    if campaign:
        found["id"] = campaign
    return found


def _words(item: Item) -> tuple[str, str | None]:
    """What kind of message, and what became of it; before 2021 both stood in one word (`email_sent`)."""
    kind, metric = text(item.get("object_type")) or text(item.get("object_type_type")), text(item.get("metric"))
    if metric is None and (legacy := _LEGACY.fullmatch(text(item.get("event_type")) or "")):
        return legacy[1], legacy[2]
    return kind or "customer", metric


def _person(kind: str, data: Mapping[str, Any]) -> dict[str, str | None]:
    """The profile's keys; of the address the one that was written to, if the recipient names a single one."""
    ids, recipient = inner(data, "identifiers"), data.get("recipient")
    address = _ADDRESS.search(recipient) if kind == "email" and type(recipient) is str else None
    return {
        "external_id": text(data.get("customer_id")) or text(ids.get("id")),
        "email": email(address[1]) if address else email(ids.get("email")),
        "phone": phone(recipient) if kind in ("sms", "whatsapp") else None,
        "source_contact_id": text(ids.get("cio_id")),
    }


def _campaign_field(data: Mapping[str, Any]) -> str:
    for name in _CAMPAIGNS:
        if name in data and text(data[name]):
            return name
    return ""


def _properties(kind: str, metric: str, data: Mapping[str, Any]) -> dict[str, Any]:
    campaign = _campaign_field(data)
    properties = remaining(data, _MAPPED)
    if campaign:
        del properties[campaign]
        properties["campaign_type"] = _CAMPAIGNS[campaign]
    if kind not in CHANNELS and kind != "customer":
        properties["object_type"] = kind
    if metric == PREFERENCES:  # the one place where `content` is no message, but a fact in JSON
        properties["traits"] = {"subscription_preferences": json_object(data.get("content"))}
    return properties


def _failed(kind: str, data: Mapping[str, Any], fields: EventFields) -> None:
    """Hard and soft bounces are one metric: the server's reply tells them apart."""
    devices = data.get("recipients")
    told = [data, *(one for one in devices if isinstance(one, dict))] if isinstance(devices, list) else [data]
    reason = next((found for one in told if (found := text(one.get("failure_message")))), None)
    code = smtp_code(reason) if kind == "email" else None
    if reason:
        fields["failure"] = {"code": code, "reason": reason}
    if fields["type"] is EventType.BOUNCED and code and code.startswith("4"):
        fields["type"] = EventType.SOFT_BOUNCED


def identity(item: Item) -> tuple[str, ...]:
    """Delivery, metric and link: Customer.io's id of the event stands in its webhooks alone.

    That id where there is no delivery; without it all that tells two events apart.
    """
    kind, metric = _words(item)
    data = inner(item, "data")
    if delivery := text(data.get("delivery_id")):
        return (metric or "", delivery, text(data.get("link_id")) or text(data.get("href")) or "")
    if given := text(item.get("event_id")):
        return (metric or "", given)
    return (kind, metric or "", text(item.get("timestamp")) or "", *texts(data, _TOLD))


def send_key(item: Item) -> str | None:
    """The delivery id: it is of one message to one recipient, and every report of it carries it."""
    return text(inner(item, "data").get("delivery_id"))


_PROFILE = ("external_id", "source_contact_id", "email")
_ORDERS = {"email": ("email", *_PROFILE), "sms": ("phone", *_PROFILE), "whatsapp": ("phone", *_PROFILE)}


def person_order(item: Item) -> tuple[str, ...]:
    """The address of an addressed message, else the profile."""
    return _ORDERS.get(_words(item)[0], _PROFILE)


def _read(delivery: RawDelivery) -> Shown:
    stamp, given = delivery.headers.get(STAMP, ""), delivery.headers.get(SIGNATURE, "").strip()
    at = whole_seconds(stamp)
    return Shown((from_hex(given),) if given else (), (f"v0:{stamp}:".encode(), delivery.body), at)


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    stamp = str(int(now.timestamp()))
    signed = {STAMP: stamp, SIGNATURE: mac((f"v0:{stamp}:".encode(), delivery.body)).hex()}
    return replace(delivery, headers={**delivery.headers, **signed})


SOURCE = Source(
    name="customerio",
    verify=hmac_signature(
        read=_read,
        write=_write,
        default_max_age=DAY,  # whether a retry is signed afresh is not documented, and retries go on for a week
    ),
    split=lone_object,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    exports={"csv": from_row, "parquet": from_row},
    layout=layout,
    docs=Docs(
        title="Customer.io reporting webhooks",
        url="https://docs.customer.io/journeys/webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Customer.io: Data & Integrations, Integrations, Reporting Webhooks, Add Reporting Webhook.",
            "Paste the URL as Webhook Endpoint, select the events: all of them; Send Frequency: every occurrence.",
            "Save and Enable Webhook; copy its signing key into the connection's secret.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The signing key that Customer.io shows for this webhook, as it stands there.",  # noqa: S106
        answers=(
            "Waits 4 seconds. Anything but 2xx is tried again for 7 days, after most errors first in an hour, "
            "and all later events wait behind it: a report that cannot be read is accepted and quarantined."
        ),
        notes=(
            "While a wrong secret is configured nothing is lost for 7 days: correct it and the queue drains by itself.",
            "`message_id` is the delivery id, which is of one message to one recipient, so it is the send key too.",
            "Ids of campaigns, newsletters and broadcasts overlap: `properties.campaign_type` tells which one it is.",
            "Hard and soft bounces are one metric; a 4xx reply of the mail server makes a soft one.",
            "An open is a machine's by `prefetched`, a click by `machine`; `proxied` alone is only an image proxy.",
            "With the option Body Content the message's text stays in the raw copy.",
            "Two reports are the same one by delivery, metric, link and second: exports have no event id.",
            (
                "Of the data warehouse's files the Metrics are read, and CSV files with the same columns; the other "
                "tables are left alone. Connect it with the folder exports/customerio/<connection>."
            ),
            (
                "Metrics name nobody, so their events are kept under no person. With the webhook connected too leave "
                "the Metrics out, or each event is kept twice under one id: with its person and without. CSV files "
                "that name the recipient are recorded once."
            ),
            "Not confirmed: the columns of CSV files, which are of your choice; they are read by name.",
            "Not confirmed: whether retries are signed afresh; `max_age_seconds` narrows the tolerance of a day.",
        ),
    ),
)
