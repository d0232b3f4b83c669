"""HubSpot webhooks: signed arrays of subscription events about contacts and the other objects of its CRM.

https://developers.hubspot.com/docs/api/webhooks
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem, SignatureError
from espial.sources import Docs, EventFields, Source
from espial.sources._proofs import any_of
from espial.sources._shared import email, milliseconds, objects, remaining, text, texts
from espial.verify import NO_SETTINGS, Scheme, from_base64, from_hex
from espial.verify.hmacs import Mac, Shown, hmac_signature, keyed_digest
from espial.vocabulary import EventType

SIGNATURE_V3, STAMP = "x-hubspot-signature-v3", "x-hubspot-request-timestamp"
SIGNATURE, VERSION = "x-hubspot-signature", "x-hubspot-signature-version"

_ACTIONS = ("creation", "deletion", "propertyChange", "merge", "restore")
EVENT_TYPES: Mapping[str, EventType] = {
    **{f"contact.{done}": EventType.PROFILE_UPDATED for done in (*_ACTIONS, "associationChange", "privacyDeletion")},
    **{
        f"{kind}.{done}": EventType.CUSTOM
        for kind in ("company", "deal", "ticket", "line_item", "object")
        for done in (*_ACTIONS, "associationChange")
    },
    **{f"product.{done}": EventType.CUSTOM for done in _ACTIONS},
    **{
        f"conversation.{done}": EventType.CUSTOM
        for done in ("creation", "deletion", "propertyChange", "newMessage", "privacyDeletion")
    },
}
"""Changes of a contact are changes of a profile, unless the property that changed says more (`_meaning`)."""

CONTACT = "0-1"
"""`objectTypeId` of contacts, which events of the general kind `object.` tell apart by."""
OPT_OUT = "hs_email_optout"
"""The property of a contact that has refused all e-mail; with `_<id>` behind it, one subscription type."""
LEAD_PROPERTIES = {"hs_lead_status": EventType.LEAD_STATUS_CHANGED, "hubspotscore": EventType.LEAD_SCORE_CHANGED}

_OBJECT = ("objectId", "newObjectId", "primaryObjectId", "fromObjectId")
"""Where the object's id stands: merges and associations have more than one."""
_IDENTITY = ("portalId", "subscriptionId", "eventId", "occurredAt", *_OBJECT, "toObjectId", "associationType")
_IDENTITY_IN_FULL = (*_IDENTITY, "propertyName", "propertyValue")
_MAPPED = frozenset(
    {"eventId", "subscriptionId", "appId", "occurredAt", "subscriptionType", "eventType", "attemptNumber"}
)


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem for what is not an object or has no subscription type or no time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "an event is not a JSON object")
    kind = _kind(item)
    if kind is None:
        raise MalformedItem("missing_event", "subscriptionType is missing or not text", "subscriptionType")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": "none",
        "occurred_at": milliseconds(item.get("occurredAt"), "occurredAt"),
        "properties": remaining(item, _MAPPED),
    }
    if kind.startswith("contact.") or (kind.startswith("object.") and text(item.get("objectTypeId")) == CONTACT):
        _contact(item, kind, fields)
    return fields


def _kind(item: Item) -> str | None:
    return text(item.get("subscriptionType")) or text(item.get("eventType"))


def _contact(item: Item, kind: str, fields: EventFields) -> None:
    if fields["type"] is EventType.CUSTOM:
        fields["type"] = EventType.PROFILE_UPDATED
    fields["person"] = {"source_contact_id": next(filter(None, texts(item, _OBJECT)), None)}
    properties = fields["properties"]
    properties.pop("objectId", None)
    properties["traits"] = {}
    changed = text(item.get("propertyName"))
    if not kind.endswith(".propertyChange") or changed is None:
        return
    value = item.get("propertyValue")
    if changed == "email":
        fields["person"]["email"] = email(value)
    if changed == OPT_OUT or changed.startswith(f"{OPT_OUT}_"):
        refused = text(value) == "true" or value is True
        fields["type"] = EventType.UNSUBSCRIBED if refused else EventType.SUBSCRIBED
        fields["channel"] = "email"
        if changed != OPT_OUT:
            fields["topic"] = changed.removeprefix(f"{OPT_OUT}_")
    else:
        fields["type"] = LEAD_PROPERTIES.get(changed, fields["type"])
        properties["traits"] = {changed: value}


def identity(item: Item) -> tuple[str, ...]:
    """HubSpot's event id counts within a subscription only, and not for sure: so all that does not vary by attempt."""
    return (_kind(item) or "", *texts(item, _IDENTITY if text(item.get("eventId")) else _IDENTITY_IN_FULL))


_ENCODED = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}


def _decoded(url: str) -> str:
    """The URL as HubSpot signs it: these characters decoded, no others."""
    if "%" not in url:
        return url
    for code, plain in _ENCODED.items():
        url = url.replace(code, plain).replace(code.lower(), plain)
    return url


def _as_called(url: str) -> str:
    return url


def _version_3(uri: Callable[[str], str]) -> Scheme:
    """Method, URI, body and milliseconds, under the client secret, base64."""

    def message(delivery: RawDelivery, stamp: str) -> Sequence[bytes]:
        called = f"{delivery.method}{uri(delivery.url)}".encode("utf-8", "surrogatepass")
        return (called, delivery.body, stamp.encode())

    def read(delivery: RawDelivery) -> Shown:
        given, stamp = delivery.headers.get(SIGNATURE_V3, "").strip(), delivery.headers.get(STAMP, "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 15):
            raise SignatureError("the timestamp is not whole milliseconds")
        return Shown((from_base64(given),) if given else (), message(delivery, stamp), int(stamp) / 1000)

    def write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
        stamp = str(int(now.timestamp() * 1000))
        signed = {STAMP: stamp, SIGNATURE_V3: b64encode(mac(message(delivery, stamp))).decode()}
        return replace(delivery, headers={**delivery.headers, **signed})

    return hmac_signature(read=read, write=write)


def _older(version: str) -> Scheme:
    """A plain SHA-256 behind the client secret, hex: of the body (v1), or of method, URI and body (v2).

    No time is signed, and such a hash can be continued by whoever sees it: so the body must be a whole document.
    """

    def message(delivery: RawDelivery) -> Sequence[bytes]:
        called = f"{delivery.method}{delivery.url}" if version == "v2" else ""
        return (b"", called.encode("utf-8", "surrogatepass") + delivery.body)

    def read(delivery: RawDelivery) -> Shown:
        given = delivery.headers.get(SIGNATURE, "").strip()
        if delivery.headers.get(VERSION, "").strip().lower() != version:
            raise SignatureError(f"no signature of {version}")
        try:
            orjson.loads(delivery.body)
        except orjson.JSONDecodeError as exc:
            raise SignatureError("a body that is not JSON needs a signature of v3") from exc
        return Shown((from_hex(given),) if given else (), message(delivery))

    def write(delivery: RawDelivery, _now: datetime, mac: Mac) -> RawDelivery:
        signed = {VERSION: version, SIGNATURE: mac(message(delivery)).hex()}
        return replace(delivery, headers={**delivery.headers, **signed})

    return keyed_digest(read=read, write=write, algorithm="sha256")


V3 = any_of(_version_3(_decoded), _version_3(_as_called))
OLDER = {version: _older(version) for version in ("v2", "v1")}


def _verify(
    delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = NO_SETTINGS
) -> None:
    wanted = settings.get("signature_versions")
    named = wanted if isinstance(wanted, list | tuple) else ()
    older = (scheme for version, scheme in OLDER.items() if version in named)
    any_of(V3, *older).verify(delivery, secrets, now, settings=settings)


SOURCE = Source(
    name="hubspot",
    verify=Scheme(verify=_verify, sign=V3.sign, new_secret=V3.new_secret),
    split=objects,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("source_contact_id",),
    docs=Docs(
        title="HubSpot webhooks",
        url="https://developers.hubspot.com/docs/api/webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In HubSpot: open your app (public or private), Auth, and copy its client secret into the secret.",
            "Under Webhooks, set the URL as Target URL.",
            "Create subscriptions: contact created, deleted, merged, and changes of email and hs_email_optout.",
            "Activate them and change a contact; its events show up with `espial events`.",
        ),
        secret="The app's client secret.",  # noqa: S106
        answers=(
            "Waits 5 seconds. A time-out or any 4xx or 5xx is tried again, up to 10 times within about a day, "
            "perhaps grouped otherwise; the counts are not confirmed."
        ),
        notes=(
            "Version 3 signs the URL: behind a domain of your own, put what HubSpot calls into `public_url`.",
            "Versions 1 and 2 sign no time; they are accepted only if the setting `signature_versions` lists them.",
            "E-mail engagement does not come by webhook; consent does, as a change of hs_email_optout.",
            "A refusal of one subscription type has that type's id as `properties.topic`.",
            "Events name a contact by HubSpot's id alone; subscribe to changes of email to have the address with it.",
            "Changes of hs_lead_status and hubspotscore are `lead_status_changed` and `lead_score_changed`.",
            "Objects that are no contacts become `custom`, about no person.",
        ),
    ),
)
