"""SparkPost event webhooks: arrays of `{"msys": {class: event}}`, unsigned, every value of an event a text.

https://developers.sparkpost.com/api/webhooks/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, epoch, inner, instant, known, objects, phone, present, text, texts
from espial.sources._sparkpost import SUPPRESSED, bounced
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "injection": EventType.PROCESSED,
    "delivery": EventType.DELIVERED,
    "delay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "policy_rejection": EventType.REJECTED,
    "generation_rejection": EventType.REJECTED,
    "generation_failure": EventType.REJECTED,
    "spam_complaint": EventType.COMPLAINED,
    "open": EventType.OPENED,
    "amp_open": EventType.OPENED,
    "initial_open": EventType.UNKNOWN,  # the same view as `open`; the setting `opens` chooses
    "amp_initial_open": EventType.UNKNOWN,
    "click": EventType.CLICKED,
    "amp_click": EventType.CLICKED,
    "list_unsubscribe": EventType.UNSUBSCRIBED,
    "link_unsubscribe": EventType.UNSUBSCRIBED,
    "relay_message": EventType.REPLIED,
    "relay_injection": EventType.UNKNOWN,  # the way of one inbound message, whose content is the relay_message
    "relay_delivery": EventType.UNKNOWN,
    "relay_tempfail": EventType.UNKNOWN,
    "relay_permfail": EventType.UNKNOWN,
    "relay_rejection": EventType.UNKNOWN,
    "sms_status": EventType.UNKNOWN,
    "ab_test_completed": EventType.UNKNOWN,
    "ab_test_cancelled": EventType.UNKNOWN,
    "success": EventType.UNKNOWN,
    "error": EventType.UNKNOWN,
}

OPENS: Mapping[str, frozenset[str]] = {
    "open": frozenset({"open", "amp_open"}),
    "initial_open": frozenset({"initial_open", "amp_initial_open"}),
}
"""The setting `opens` -> the reports that count as opens; those of the other pixel are kept as `unknown`."""
_ALL_OPENS = frozenset().union(*OPENS.values())

CLASS = "_class"
"""Where `split` keeps the class that an event stood under."""
_BESIDE = "cust"
"""What may stand beside the class: the account, where a relay serves several."""
_INBOUND = ("relay_message", "relay_event")
_TOLD = ("transmission_id", "message_id", "timestamp", "rcpt_to", "msg_from", "target_link_url", "ip_address")
_FACTS = (
    *("subaccount_id", "template_version", "ip_pool", "num_retries"),
    *("fbtype", "report_by", "report_to", "subject"),
)


def split(delivery: RawDelivery) -> list[Item]:
    """The events, each with its class in it; none for a ping, `{"msys": {}}`. Raises MalformedDelivery.

    What is no event stays what it is, for `normalise` to refuse.
    """
    items: list[Item] = []
    for entry in objects(delivery):
        msys = entry.get("msys") if type(entry) is dict else None
        if type(msys) is not dict:
            items.append(entry)
            continue
        for name, event in msys.items():
            if type(event) is dict and name != _BESIDE:
                event[CLASS] = name
            if name != _BESIDE:
                items.append(event)
    return items


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object, has no type, or a time that is none.

    An inbound message carries no time and is dated by its receipt.
    """
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    kind = _kind(item)
    if not kind:
        raise MalformedItem("missing_type", "type is missing or not text", "type")
    get = item.get
    inbound = kind == "relay_message"
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "sms" if kind == "sms_status" else "email",
        "occurred_at": arrival.received_at if inbound else _time(get("timestamp")),
        "person": {"email": _person(item), "phone": phone(get("sms_dst"))},
        "campaign": _campaign(item),
        "message_id": text(get("transmission_id")),
        "properties": _properties(item),
    }
    if inbound:
        fields["time_uncertain"] = True
    if kind in _ALL_OPENS:
        counted = OPENS.get(str(arrival.connection.settings.get("opens")), OPENS["open"])
        fields["type"] = EventType.OPENED if kind in counted else EventType.UNKNOWN
    special = _SPECIAL.get(kind)
    if special:
        special(item, fields)
    return fields


def _kind(item: Item) -> str | None:
    """The event's type; an inbound message has its class alone."""
    return text(item.get("type")) or ("relay_message" if item.get(CLASS) == "relay_message" else None)


def _time(value: Any) -> datetime:
    """Seconds, mostly as text; ISO 8601 in ingest events and samples."""
    return instant(value, "timestamp") if type(value) is str and "-" in value[1:] else epoch(value, "timestamp")


def _person(item: Item) -> str | None:
    """The recipient; on the inbound way the sender. `raw_rcpt_to` differs from `rcpt_to` in case alone."""
    if item.get(CLASS) in _INBOUND:
        return email(item.get("friendly_from")) or email(item.get("msg_from"))
    return email(item.get("rcpt_to")) or email(item.get("raw_rcpt_to"))


def _campaign(item: Item) -> dict[str, Any] | None:
    tags = item.get("rcpt_tags")
    found = {
        "id": text(item.get("campaign_id")),
        "template_id": text(item.get("template_id")),
        "tags": [tag for tag in map(text, tags) if tag] if type(tags) is list else [],
    }
    return known(found)


def _properties(item: Item) -> dict[str, Any]:
    """Facts worth having at hand, and the recipient's own metadata, which wins."""
    get = item.get
    return {name: fact for name in _FACTS if (fact := get(name))} | inner(item, "rcpt_meta")


def _failure(item: Item, fields: EventFields, class_: str | None) -> None:
    failure = {
        "class": class_,
        "code": text(item.get("error_code")),
        "reason": text(item.get("raw_reason")) or text(item.get("reason")),
    }
    fields["failure"] = known(failure)


def _bounced(item: Item, fields: EventFields) -> None:
    fields["type"] = bounced(item.get("bounce_class"))
    _failure(item, fields, text(item.get("bounce_class")))


def _delayed(item: Item, fields: EventFields) -> None:
    _failure(item, fields, text(item.get("bounce_class")))


def _rejected(item: Item, fields: EventFields) -> None:
    """SparkPost's refusal, unless its suppression list is the reason."""
    _delayed(item, fields)
    said = f"{text(item.get('raw_reason'))} {text(item.get('reason'))}".lower()
    if text(item.get("bounce_class")) == SUPPRESSED or "suppress" in said:
        fields["type"] = EventType.DROPPED


def _unrendered(item: Item, fields: EventFields) -> None:
    _failure(item, fields, "rendering")


def _engaged(item: Item, fields: EventFields) -> None:
    get = item.get
    client: dict[str, Any] = {"ip": text(get("ip_address")), "user_agent": text(get("user_agent"))}
    if inner(item, "user_agent_parsed").get("is_prefetched") is True:
        client |= {"machine": True, "machine_reason": "user_agent_parsed.is_prefetched"}
    fields["client"] = known(client)
    link = {"url": text(get("target_link_url")), "alias": text(get("target_link_name"))}
    fields["link"] = known(link)


def _received(item: Item, fields: EventFields) -> None:
    subject = text(inner(item, "content").get("subject"))
    fields["properties"] |= present({"to": text(item.get("rcpt_to")), "subject": subject})


_SPECIAL: Mapping[str, Callable[[Item, EventFields], None]] = {
    **dict.fromkeys(("bounce", "out_of_band"), _bounced),
    **dict.fromkeys(("policy_rejection", "generation_rejection"), _rejected),
    **dict.fromkeys((*_ALL_OPENS, "click", "amp_click", "list_unsubscribe", "link_unsubscribe"), _engaged),
    "delay": _delayed,
    "generation_failure": _unrendered,
    "relay_message": _received,
}


def identity(item: Item) -> tuple[str, ...]:
    """SparkPost's event id, stable over retries of a batch; an inbound message has none."""
    kind, given = _kind(item) or "", text(item.get("event_id"))
    if given:
        return (kind, given)
    subject = text(inner(item, "content").get("subject"))
    return (kind, subject or "", *texts(item, _TOLD))


def send_key(item: Item) -> str | None:
    """The transmission that the API returned at send time, and the recipient."""
    transmission, recipient = text(item.get("transmission_id")), _person(item)
    return f"{transmission}/{recipient}" if transmission and recipient else None


def person_order(item: Item) -> tuple[str, ...]:
    """The address; of a text message the number."""
    return ("phone",) if _kind(item) == "sms_status" else ("email",)


SOURCE = Source(
    name="sparkpost",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    docs=Docs(
        title="SparkPost",
        url="https://developers.sparkpost.com/api/webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Make up a user name and a long random password; the connection's secret is `user:password`.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In SparkPost: Configuration, Webhooks, Create Webhook; paste the URL as target.",
            "Choose Basic Auth and fill in user name and password; choose the events: all of them.",
            "Test posts a sample batch; a message's events show up with `espial events --person`.",
        ),
        secret="`user:password` of Basic Auth, the token of OAuth 2, or the value of a custom header that the setting "  # noqa: S106
        "`secret_header` names.",
        answers="Only 200 within ten seconds counts as taken; a batch is tried twelve times in eight hours, then "
        "dropped. Saving a webhook posts a ping, which is answered 200 and holds no event.",
        notes=(
            "One view may be reported as `initial_open` (the pixel on top) and as `open` (the one at the end).",
            "One of them counts: `open`, or the other (clipped messages too) with the setting `opens: initial_open`.",
            "`bounce_class` becomes `failure.class` and decides what a bounce is; suppressed addresses are `dropped`.",
            "An undetermined bounce (class 1) counts as soft.",
            "Recipient metadata becomes `properties`, `campaign_id` the campaign, `message_id` is the transmission.",
            "Of an inbound message `relay_message` counts; the other relay events are kept as `unknown`.",
            "The states of `sms_status` are not confirmed: it is kept as `unknown`.",
            "`client.machine` is set by `user_agent_parsed.is_prefetched`, which is not confirmed.",
        ),
    ),
)
