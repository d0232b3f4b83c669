"""Sweego webhooks: signed flat events about e-mail and SMS, one a call.

https://learn.sweego.io/docs/webhooks/webhook_signature
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, inner, instant, known, objects, phone, smtp_code, text, unmapped
from espial.verify.hmacs import DAY, standard_webhooks
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "email_sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "soft-bounce": EventType.SOFT_BOUNCED,
    "hard_bounce": EventType.BOUNCED,
    "complaint": EventType.COMPLAINED,
    "list_unsub": EventType.UNSUBSCRIBED,
    "email_opened": EventType.OPENED,
    "email_clicked": EventType.CLICKED,
    "email_inbound": EventType.REPLIED,
    "sms_sent": EventType.SENT,
    "sms_delivered": EventType.DELIVERED,
    "sms_undelivered": EventType.FAILED,
    "sms_stop": EventType.UNSUBSCRIBED,
    "sms_clicked": EventType.CLICKED,
}

_SPELLINGS = {name.replace("-", "_"): name for name in EVENT_TYPES}
"""Hyphens and underscores are mixed, for one event even: they say the same."""
_FAILURES = frozenset({"soft-bounce", "hard_bounce", "sms_undelivered"})
_FACTS = ("campaign_type", "domain_from", "country_code", "sms_type", "one_click", "test_mode")
_THEIR_HEADERS = frozenset(
    ["x-mailer", "x-swg-uid", "x-client-id", "x-client-ip", "x-originating-ip", "x-transaction-id"]
)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no event type or no time."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "an item is not a JSON object")
    get = item.get
    event, is_sms = _event(item), _is_sms(item)
    fields: EventFields = {
        "type": EVENT_TYPES.get(event, EventType.UNKNOWN),
        "platform_type": event,
        "channel": "sms" if is_sms else "email",
        "occurred_at": instant(get("timestamp"), "timestamp"),
        "person": {"phone": _number(item)} if is_sms else {"email": email(get("recipient"))},
        "message_id": text(get("swg_uid")),
        "campaign": known({"id": text(get("campaign_id")), "tags": _tags(get("campaign_tags"))}),
        "properties": _properties(item),
    }
    if event in _FAILURES:
        reason = text(get("status")) or text(get("details"))
        code = smtp_code(reason) or text(get("response_code"))
        fields["failure"] = known({"code": code, "reason": reason})
    for name in ("open", "click"):
        if seen := inner(item, name):
            fields["client"] = _client(seen, name)
    url = text(inner(item, "click").get("url")) or text(get("url"))
    if url:
        fields["link"] = {"url": url}
    return fields


def _client(seen: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    client: dict[str, Any] = {"ip": text(seen.get("ip_address")), "user_agent": text(seen.get("user_agent"))}
    if seen.get("proxy") is True:  # a mail service's, which may fetch for a person as well as ahead of one
        client["machine_reason"] = f"{name}.proxy"
    return known(client)


def _event(item: Item) -> str:
    """Its name as listed above. Raises MalformedItem."""
    given = item.get("event_type")
    if not isinstance(given, str) or not given:
        raise MalformedItem("missing_event", "event_type is missing or not text", "event_type")
    return given if given in EVENT_TYPES else _SPELLINGS.get(given.replace("-", "_").lower(), given)


def _is_sms(item: Item) -> bool:
    event: str = item["event_type"]
    return item.get("channel") == "sms" or event.startswith("sms")


def _number(item: Item) -> str | None:
    return phone(item.get("phone_number")) or phone(item.get("recipient"))


def _tags(given: Any) -> list[str]:
    """Nothing, text, or an array."""
    return [tag for tag in map(text, given if type(given) is list else [given]) if tag] if given is not None else []


def _properties(item: Item) -> dict[str, Any]:
    """Facts worth having, and the message's headers that are the sender's own."""
    headers = inner(item, "headers")
    found: dict[str, Any] = {}
    transaction = text(item.get("transaction_id")) or text(headers.get("x-transaction-id"))
    if transaction:
        found["transaction_id"] = transaction
    for name in _FACTS:
        if fact := item.get(name):
            found[name] = fact
    for name in unmapped(tuple(headers), _THEIR_HEADERS):
        if not name.startswith("x-campaign-"):
            found[name] = headers[name]
    return found


def identity(item: Item) -> tuple[str, ...]:
    """Sweego's event id; without one, all that tells events apart."""
    get = item.get
    event = _event(item)
    given = text(get("event_id"))
    if given:
        return (event, given)
    seen = inner(item, "click")
    parts = (get("swg_uid"), get("timestamp"), get("recipient"), get("phone_number"), seen.get("url") or get("url"))
    return (event, *(text(part) or "" for part in parts))


def person_order(item: Item) -> tuple[str, ...]:
    """The number of an SMS, the address of everything else."""
    return ("phone",) if _is_sms(item) else ("email",)


def send_key(item: Item) -> str | None:
    """The swg_uid returned at send time and the recipient."""
    message = text(item.get("swg_uid"))
    recipient = _number(item) if _is_sms(item) else email(item.get("recipient"))
    return f"{message}/{recipient}" if message and recipient else None


SOURCE = Source(
    name="sweego",
    # Whether a retry is signed afresh is not confirmed.
    verify=standard_webhooks("webhook", bare=True, default_max_age=DAY),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=person_order,
    send_key=send_key,
    docs=Docs(
        title="Sweego webhooks",
        url="https://learn.sweego.io/docs/webhooks/webhook_signature",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In Sweego: Webhooks, add a webhook; paste the URL and choose all events of e-mail and SMS.",
            "Copy the webhook's secret into the connection's secret.",
            "Send a message; its events show up with `espial events --person`.",
        ),
        secret="The webhook's secret, base64, as it is shown.",  # noqa: S106
        answers="Any 2xx is a success. Whether and how often a failure is tried again is not confirmed.",
        notes=(
            "The way of signing is agreed by two implementations; no published signature could be reproduced.",
            "The setting `max_age_seconds` narrows the tolerance of the signed timestamp (a day by default).",
            "`proxy` of an open or click hides who it was: `client.machine` stays unknown, with that as its reason.",
            "Headers of the message that are not Sweego's become `properties`; campaign_tags are tags.",
            "That `sms_delivered` is reported is not confirmed.",
        ),
    ),
)
