"""mParticle event forwarding: batches of one person's events, by webhook or any of its streams, and alias requests.

https://docs.mparticle.com/integrations/webhook/event/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._ours import note_own_key
from espial.sources._shared import email, inner, milliseconds, objects, phone, present, remaining, text, texts
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

NO_EVENTS, ALIAS = "no_events", "alias"
"""Our names for a batch that says only who somebody is, and for a request to join two ids."""

EVENT_TYPES: Mapping[str, EventType] = {
    "custom_event": EventType.CUSTOM,
    "screen_view": EventType.PAGE_VIEWED,
    "commerce_event": EventType.CUSTOM,
    "push_message": EventType.SENT,
    "push_registration": EventType.SUBSCRIBED,
    "opt_out": EventType.UNSUBSCRIBED,
    "uninstall": EventType.UNSUBSCRIBED,
    "session_start": EventType.CUSTOM,
    "session_end": EventType.CUSTOM,
    "application_state_transition": EventType.CUSTOM,
    "crash_report": EventType.CUSTOM,
    "breadcrumb": EventType.CUSTOM,
    "network_performance": EventType.CUSTOM,
    "profile": EventType.PROFILE_UPDATED,
    "user_attribute_change": EventType.PROFILE_UPDATED,
    "user_identity_change": EventType.PROFILE_UPDATED,
    NO_EVENTS: EventType.PROFILE_UPDATED,
    ALIAS: EventType.PROFILE_UPDATED,
}

PUSH = {"sent": EventType.SENT, "received": EventType.DELIVERED, "action": EventType.OPENED}
COMMERCE = {
    "purchase": EventType.ORDER_COMPLETED,
    "checkout": EventType.CHECKOUT_STARTED,
    "view_detail": EventType.PRODUCT_VIEWED,
}
FEEDS: Mapping[EventType, frozenset[str]] = {
    EventType.PROCESSED: frozenset({"processed"}),
    EventType.SENT: frozenset({"emailsend", "emailsent"}),
    EventType.DELIVERED: frozenset({"delivered", "emaildelivered"}),
    EventType.DEFERRED: frozenset({"deferred"}),
    EventType.BOUNCED: frozenset({"bounce", "emailbounce", "emailbounced"}),
    EventType.DROPPED: frozenset({"dropped", "emailsendskip", "emailsuppressed"}),
    EventType.FAILED: frozenset({"emailfailed"}),
    EventType.OPENED: frozenset({"open", "emailopen", "emailopened"}),
    EventType.CLICKED: frozenset({"click", "emailclick", "emailclicked", "emaillinkclicked"}),
    EventType.COMPLAINED: frozenset({"spamreport", "emailcomplaint", "emailmarkedasspam"}),
    EventType.UNSUBSCRIBED: frozenset({"unsubscribe", "groupunsubscribe", "emailunsubscribe", "emailunsubscribed"}),
    EventType.SUBSCRIBED: frozenset({"groupresubscribe", "emailsubscribe", "emailsubscribed"}),
}
"""What messaging platforms call their events, as they come through a partner's feed (SendGrid, Iterable, Customer.io),
in small letters alone."""
_PARTNER_TYPES = {word: type_ for type_, words in FEEDS.items() for word in words}
_SURFACES = {"javascript": "web", "pixel": "web", "native": "app"}
_BATCH = "_batch"
_MAPPED = frozenset(
    {
        "event_id",
        "timestamp_unixtime_ms",
        "message_id",
        "product_action",
        # numbers of the session and of the device, which the raw copy keeps better
        "event_num",
        "session_id",
        "session_start_unixtime_ms",
        "event_start_unixtime_ms",
        "device_current_state",
    }
)
_ALIAS_OWN = frozenset({"destination_mpid"})
_PERIOD = ("source_mpid", "destination_mpid", "start_unixtime_ms", "end_unixtime_ms")
_BATCH_TOLD = ("batch_id", "source_request_id", "mpid", "timestamp_unixtime_ms")
_IDENTITIES = {
    "customer_id": "external_id",
    "customerid": "external_id",
    "email": "email",
    "mobile_number": "phone",
}


def split(delivery: RawDelivery) -> list[Item]:
    """The events of a batch, each with what the batch says of its person; an alias request is one too.

    Nothing for `{}`, with which mParticle tries a new output. Raises MalformedDelivery for what is no object.
    """
    return [item for batch in objects(delivery) for item in _events(batch)]


def _events(batch: Any) -> list[Item]:
    if not isinstance(batch, dict) or batch.get("request_type") == ALIAS:
        return [batch]
    if not batch:
        return []
    context = dict(batch)
    events = context.pop("events", None)
    if not events:
        return [{"event_type": NO_EVENTS, _BATCH: context}]
    found = events if isinstance(events, list) else [events]
    return [{**event, _BATCH: context} if isinstance(event, dict) else event for event in found]


VERIFICATION = "mParticle_Bucket_Verification"
"""How the file's name begins that mParticle writes when the output is set up."""


def from_json(row: Any, _export: Export) -> list[Item]:
    """A line of its files is one batch."""
    return _events(row)


def layout(key: str, _settings: Mapping[str, Any]) -> Layout:
    """The verification file holds no batch."""
    return Layout(skip=key.rpartition("/")[2].startswith(VERIFICATION))


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no type or no time.

    What comes from the other environment than the connection's (setting `environment`, else production) is kept
    as `unknown`, so that nothing acts on what developers try out.
    """
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    if item.get("request_type") == ALIAS:
        return _alias(item, arrival)
    kind = text(item.get("event_type"))
    if kind is None:
        raise MalformedItem("missing_event", "event_type is missing or not text", "event_type")
    data, batch = inner(item, "data"), inner(item, _BATCH)
    at = data.get("timestamp_unixtime_ms") or batch.get("timestamp_unixtime_ms")
    surface = text(inner(batch, "source_info").get("channel")) or ""
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": _SURFACES.get(surface, "none"),
        "occurred_at": milliseconds(at, "data.timestamp_unixtime_ms"),
        "person": _person(batch),
        "properties": remaining(data, _MAPPED),
    }
    if surface in _SURFACES and (ip := text(batch.get("ip"))):  # else it is a server's
        fields["client"] = {"ip": ip}
    note_own_key(fields, inner(data, "custom_attributes").get("send_key"))
    _refine(kind, data, surface, fields)
    if fields["type"] is EventType.PROFILE_UPDATED:
        fields["properties"]["traits"] = present(inner(batch, "user_attributes"))
    return _kept_apart(_environment(batch), arrival, fields)


def _environment(batch: Mapping[str, Any]) -> str:
    return text(batch.get("environment")) or "production"


def _kept_apart(environment: str, arrival: Arrival, fields: EventFields) -> EventFields:
    if environment != "production":
        fields["properties"]["environment"] = environment
    if environment != arrival.connection.settings.get("environment", "production"):
        fields["type"] = EventType.UNKNOWN
    return fields


def _person(batch: Mapping[str, Any]) -> dict[str, str | None]:
    """Identities come as an array, on feeds of raw data as an object; the first of a kind counts."""
    given = batch.get("user_identities")
    if type(given) is list:
        pairs = [(text(one.get("identity_type")), one.get("identity")) for one in given if type(one) is dict]
    else:
        pairs = list(inner(batch, "user_identities").items())
    known: dict[str, Any] = {}
    for kind, value in pairs:
        name = _IDENTITIES.get(kind or "")
        if name and name not in known and text(value):
            known[name] = value
    return {
        "external_id": text(known.get("external_id")),
        "email": email(known.get("email")),
        "phone": phone(known.get("phone")),
        "source_contact_id": text(batch.get("mpid")),
    }


def _refine(kind: str, data: Mapping[str, Any], surface: str, fields: EventFields) -> None:
    """What an event's own fields say of its type and channel."""
    if kind == "push_message":
        fields |= {"channel": "push", "type": PUSH.get(text(data.get("push_message_type")) or "", EventType.UNKNOWN)}
    elif kind == "push_registration":
        gone = data.get("register") is False
        fields |= {"channel": "push", "type": EventType.UNSUBSCRIBED if gone else EventType.SUBSCRIBED}
    elif kind == "uninstall":
        fields["channel"] = "push"
    elif kind == "opt_out":  # of being tracked: no word about messages
        fields["topic"] = "tracking"
        if data.get("is_opted_out") is False:
            fields["type"] = EventType.SUBSCRIBED
    elif kind == "commerce_event":
        _bought(inner(data, "product_action"), data, fields)
    elif kind == "custom_event" and surface == "partner":
        word = "".join(filter(str.isalpha, text(data.get("event_name")) or "")).lower()
        if word in _PARTNER_TYPES:
            fields |= {"channel": "email", "type": _PARTNER_TYPES[word]}
            _partners(inner(data, "custom_attributes"), fields)


def _partners(told: Mapping[str, Any], fields: EventFields) -> None:
    """What the partner's own words make of it: Iterable's state of a recipient, SendGrid's bounce type and group."""
    if fields["type"] is EventType.BOUNCED:
        if (text(told.get("recipientState")) or "").lower() == "softbounce":
            fields["type"] = EventType.SOFT_BOUNCED
        elif text(told.get("type")) == "blocked":
            fields["type"] = EventType.BLOCKED
    elif fields["type"] in (EventType.UNSUBSCRIBED, EventType.SUBSCRIBED) and (group := text(told.get("asm_group_id"))):
        fields["topic"] = group


def _bought(action: Mapping[str, Any], data: Mapping[str, Any], fields: EventFields) -> None:
    """Products looked at or bought; what is put into a cart or taken out is no whole cart, so it stays `custom`."""
    named = text(action.get("action"))
    products = action.get("products")
    lines = [_line(one) for one in products if isinstance(one, dict)] if isinstance(products, list) else []
    currency, total = text(data.get("currency_code")), _number(action.get("total_amount"))
    if named:
        fields["properties"]["action"] = named
    fields["type"] = COMMERCE.get(named or "", EventType.CUSTOM)
    if fields["type"] is EventType.ORDER_COMPLETED:
        order = {"id": text(action.get("transaction_id")), "currency": currency, "total": total, "items": lines}
        fields["commerce"] = {"order": order}
    elif fields["type"] is EventType.CHECKOUT_STARTED:
        fields["commerce"] = {"cart": {"currency": currency, "total": total, "items": lines}}
    elif len(lines) == 1:
        fields["commerce"] = {"product": lines[0]}
    elif lines:
        fields["properties"]["products"] = lines


def _line(product: Mapping[str, Any]) -> dict[str, Any]:
    count = _number(product.get("quantity"))
    return present(
        {
            "id": text(product.get("id")),
            "name": text(product.get("name")),
            "variant": text(product.get("variant")),
            "category": text(product.get("category")),
            "price": _number(product.get("price")),
            "quantity": int(count) if count is not None and count.is_integer() else None,
        }
    )


def _number(value: Any) -> float | None:
    return float(value) if type(value) is float or (type(value) is int and abs(value) < 2**63) else None


def _alias(item: Item, arrival: Arrival) -> EventFields:
    """Two ids of one person; the request says for which period, not when it was made."""
    data = inner(item, "data")
    properties = remaining(data, _ALIAS_OWN)
    fields = {
        "type": EventType.PROFILE_UPDATED,
        "platform_type": ALIAS,
        "channel": "none",
        "occurred_at": arrival.received_at,
        "time_uncertain": True,
        "person": {"source_contact_id": text(data.get("destination_mpid"))},
        "properties": {**properties, "traits": {}},
    }
    return _kept_apart(_environment(item), arrival, fields)


def identity(item: Item) -> tuple[str, ...]:
    """The id that the SDK or the partner gave the event, which outlives a feed's own repetitions; else mParticle's.

    Replays keep both. Without either, and for batches without events, the batch and the event's number in it.
    """
    if item.get("request_type") == ALIAS:
        data = inner(item, "data")
        return (ALIAS, text(item.get("request_id")) or "/".join(texts(data, _PERIOD)))
    data, batch = inner(item, "data"), inner(item, _BATCH)
    what = (_environment(batch), text(item.get("event_type")) or "", text(data.get("event_name")) or "")
    given = text(data.get("source_message_id")) or text(data.get("event_id")) or text(data.get("message_id"))
    if given:
        return (*what, given)
    return (*what, *texts(data, ("event_num", "timestamp_unixtime_ms")), *texts(batch, _BATCH_TOLD))


SOURCE = Source(
    name="mparticle",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("source_contact_id", "external_id", "email"),
    exports={"ndjson": from_json},
    layout=layout,
    docs=Docs(
        title="mParticle event forwarding",
        url="https://docs.mparticle.com/integrations/webhook/event/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In mParticle: Setup, Outputs, Add Outputs, Event, Webhook; paste the URL.",
            "Put `Bearer` and the connection's secret, or any other header value, into Authorization.",
            "Connections, Connect: choose the inputs, the webhook as output, and the events; turn the status on.",
            "For the development environment make a second connection with the setting `environment: development`.",
        ),
        secret="A long random token; the Authorization value of the output holds it, alone or behind a word.",  # noqa: S106
        answers=(
            "A time-out or an error that is not final is tried again a limited number of times, at growing distances; "
            "how often is not published."
        ),
        notes=(
            "mParticle signs nothing.",
            (
                "The Amazon S3 output's files go to exports/mparticle/<connection>/ (Folder Name): the same batches, "
                "and so the same events."
            ),
            "Events of the other environment than the connection's are kept as `unknown`; see properties.environment.",
            "A batch without events updates the profile (`no_events`); user attributes are `properties.traits`.",
            "`source_message_id` identifies an event; from a partner's feed it is the partner's own event id.",
            "The same event straight from that partner is another one here: connect it one way only.",
            "E-mail events that come by a partner's feed are read by their names; see `properties.event_name`.",
            "Opting out of tracking is an unsubscription of the topic `tracking`, not of messages.",
            "Alias requests carry no time of their own and are dated by their receipt.",
        ),
    ),
)
