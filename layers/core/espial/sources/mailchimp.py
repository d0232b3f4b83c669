"""Mailchimp Marketing audience webhooks: form posts of one event, its fields in brackets (`data[merges][FNAME]`).

https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery, Reply
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import email, form, inner, instant, nested, present, text
from espial.verify import NO_SETTINGS, Scheme, from_hex, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

HEADER = "x-mailchimp-signature"

EVENT_TYPES: Mapping[str, EventType] = {
    "subscribe": EventType.SUBSCRIBED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "profile": EventType.PROFILE_UPDATED,
    "upemail": EventType.PROFILE_UPDATED,
    "cleaned": EventType.BOUNCED,
    "campaign": EventType.DELIVERY_COMPLETED,
}

CAMPAIGN_STATES: Mapping[str, EventType] = {
    "sent": EventType.DELIVERY_COMPLETED,
    "canceled": EventType.FAILED,
    "cancelled": EventType.FAILED,
}
ABUSE = "abuse"
"""The reason of an unsubscription or a cleaning that was a complaint."""

_FACTS = (
    *("list_id", "action", "reason", "email_type", "web_id", "ip_signup", "merges"),
    *("old_email", "status", "subject"),
)


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """The validator asks by GET or HEAD whether the URL is there, and is told no more."""
    return Reply() if delivery.method in ("GET", "HEAD") else None


def split(delivery: RawDelivery) -> list[Item]:
    """The post's fields, nested by their brackets. Raises MalformedDelivery for what is no form."""
    return [nested(form(delivery))]


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what has no type, no data or no time; `fired_at` is taken for UTC."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not an object")
    kind, data = text(item.get("type")), inner(item, "data")
    if not kind:
        raise MalformedItem("missing_type", "type is missing or empty", "type")
    if not data:
        raise MalformedItem("missing_data", "there is no data[...]", "data")
    campaign = text(data.get("id" if kind == "campaign" else "campaign_id"))
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "email",
        "occurred_at": instant(item.get("fired_at"), "fired_at"),
        "person": _person(kind, data),
        "properties": present({name: data.get(name) for name in _FACTS}),
    }
    if campaign:
        fields["campaign"] = {"id": campaign}
    special = _SPECIAL.get(kind)
    if special:
        special(data, fields)
    return fields


def _person(kind: str, data: Mapping[str, Any]) -> dict[str, str | None]:
    """Whom it is about; one whose address changed goes by the new one."""
    if kind == "campaign":
        return {}
    return {
        "email": email(data.get("new_email")) or email(data.get("email")),
        "source_contact_id": text(data.get("new_id")) or text(data.get("id")),
    }


def _chosen(data: Mapping[str, Any], fields: EventFields) -> None:
    ip = text(data.get("ip_opt"))
    if ip:
        fields["client"] = {"ip": ip}
    if data.get("reason") == ABUSE:
        fields["type"] = EventType.COMPLAINED


def _cleaned(data: Mapping[str, Any], fields: EventFields) -> None:
    reason = text(data.get("reason"))
    fields["type"] = EventType.COMPLAINED if reason == ABUSE else EventType.BOUNCED
    if reason:
        fields["failure"] = {"class": reason}


def _sent(data: Mapping[str, Any], fields: EventFields) -> None:
    fields["type"] = CAMPAIGN_STATES.get(text(data.get("status")) or "", EventType.UNKNOWN)


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any], EventFields], None]] = {
    "subscribe": _chosen,
    "unsubscribe": _chosen,
    "cleaned": _cleaned,
    "campaign": _sent,
}


def identity(item: Item) -> tuple[str, ...]:
    """Mailchimp numbers nothing: what fired, when, in which audience, about whom and why."""
    data = inner(item, "data")
    parts = ("list_id", "id", "new_id", "email", "new_email", "action", "reason", "status")
    return (
        text(item.get("type")) or "",
        text(item.get("fired_at")) or "",
        *(text(data.get(part)) or "" for part in parts),
    )


def _read(delivery: RawDelivery) -> Shown:
    """`t=<seconds>,v1=<hexadecimal>` over `<seconds>.<body>`."""
    given = [part.partition("=") for part in delivery.headers.get(HEADER, "").replace(" ", "").split(",")]
    stamp = next((value for name, _, value in given if name == "t"), "")
    codes = [from_hex(value) for name, _, value in given if name == "v1"]
    return Shown(codes, (f"{stamp}.".encode("utf-8", "surrogatepass"), delivery.body), whole_seconds(stamp))


def _write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
    stamp = str(int(now.timestamp()))
    code = mac((f"{stamp}.".encode(), delivery.body)).hex()
    return replace(delivery, headers={**delivery.headers, HEADER: f"t={stamp},v1={code}"})


SIGNED = hmac_signature(read=_read, write=_write)
SHOWN = shared_secret()


def _verify(
    delivery: RawDelivery,
    secrets: Sequence[bytes],
    now: datetime,
    *,
    settings: Mapping[str, Any] = NO_SETTINGS,
) -> None:
    """A signature where there is one, else the secret shown: older webhooks do not sign. Each needs the secret."""
    if HEADER in delivery.headers:
        SIGNED.verify(delivery, secrets, now, settings=settings)
    else:
        SHOWN.verify(delivery, secrets, now, settings=settings)


SOURCE = Source(
    name="mailchimp",
    verify=Scheme(verify=_verify, sign=SIGNED.sign, new_secret=SIGNED.new_secret),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email",),
    handshake=handshake,
    docs=Docs(
        title="Mailchimp Marketing",
        url="https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Make up a long random key (letters and digits) as the connection's secret.",
            "Apply it; the webhook's URL is the stack's output ApiUrl, that path, and `?key=` with the key.",
            "In Mailchimp: Audience, Settings, Webhooks, Create New Webhook; paste the URL, choose events and sources.",
            "Or create it by API (POST /lists/{list_id}/webhooks) and store the `signing_secret` of the answer.",
            "Change a test contact; its events show up with `espial events --person`.",
        ),
        secret="The key in the URL, or the webhook's signing secret, which Mailchimp shows once.",  # noqa: S106
        answers="An answer is awaited for ten seconds; failures are retried for about 75 minutes, each signed anew. "
        "Five hundred may be waiting. Saving a webhook asks for the URL by GET, which is answered 200.",
        notes=(
            "Where a post is signed the signature alone counts; where it is not, the key in the URL.",
            "`fired_at` says no time zone: it is taken for UTC, which is not confirmed.",
            "An unsubscription or cleaning for `abuse` is a complaint, a cleaning else a bounce.",
            "`upemail` is about the new address, with `properties.old_email`; mostly a `profile` comes with it.",
            "A `campaign` sent is `delivery_completed`; sends, opens and clicks do not come by webhook.",
            "Fields of `cleaned`, `upemail` and `campaign` are known from use, not from the manual.",
        ),
    ),
)
