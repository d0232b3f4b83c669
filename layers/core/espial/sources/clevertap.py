"""CleverTap webhook campaigns and journeys, and post-action webhooks: many profiles a call.

https://docs.clevertap.com/docs/setup-webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import document, email, leaves, phone, remaining, text
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

CAMPAIGN, POST_ACTION = "webhook_campaign", "post_action_webhook"
EVENT_TYPES: Mapping[str, EventType] = {
    CAMPAIGN: EventType.WEBHOOK_TRIGGERED,
    POST_ACTION: EventType.SENT,
}
"""The calls name no event: they are told apart by the push message that a post-action webhook holds a copy of."""

_TARGET, _KEY_VALUES = "_target", "_key_values"
_NAMES = {
    "identity": ("identity", "Identity"),
    "email": ("email", "Email"),
    "phone": ("phone", "Phone"),
}
"""CleverTap writes these with a capital in some payloads."""
_OWN = frozenset([_TARGET, "objectId", "push_token", *(one for names in _NAMES.values() for one in names)])


def split(delivery: RawDelivery) -> list[Item]:
    """One item a profile, with the campaign and key-values of the call; none for the console's test.

    Raises MalformedDelivery for any other envelope, such as a custom template's.
    """
    envelope = document(delivery)
    profiles = envelope.get("profiles") if isinstance(envelope, dict) else None
    if not isinstance(profiles, list):
        raise MalformedDelivery("not_an_envelope", "profiles is missing or not an array", "profiles")
    if envelope.get("is_test") is True:
        return []
    call = {_TARGET: envelope.get("targetId"), _KEY_VALUES: envelope.get("key_values")}
    return [{**profile, **call} if isinstance(profile, dict) else profile for profile in profiles]


def normalise(item: Item, arrival: Arrival) -> EventFields:
    """One profile. Raises MalformedItem for what is not an object or names nobody."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "a profile is not a JSON object")
    person = {
        "external_id": text(_named(item, "identity")),
        "email": email(_named(item, "email")),
        "phone": phone(_named(item, "phone")),
        "source_contact_id": text(item.get("objectId")),
    }
    if not any(person.values()):
        raise MalformedItem("missing_person", "neither identity, objectId, email nor phone is there", "identity")
    kind = _kind(item)
    properties = dict(sorted(remaining(item, _OWN).items()))
    if _KEY_VALUES in properties:
        properties["key_values"] = properties.pop(_KEY_VALUES)
    return {
        "type": EVENT_TYPES[kind],
        "platform_type": kind,
        "channel": "push" if kind == POST_ACTION else "webhook",
        "occurred_at": arrival.received_at,
        "time_uncertain": True,
        "person": person,
        "campaign": {"id": text(item.get(_TARGET))},
        "properties": properties,
    }


def _named(item: Item, name: str) -> Any:
    small, capital = _NAMES[name]
    return item[small] if small in item else item.get(capital)


def _kind(item: Item) -> str:
    return POST_ACTION if isinstance(item.get("payload"), dict) else CAMPAIGN


def _who(item: Item) -> str:
    return text(item.get("objectId")) or text(_named(item, "identity")) or email(_named(item, "email")) or ""


def identity(item: Item) -> tuple[str, ...]:
    """No id and no time: campaign, person and what triggered it; the second of the receipt tells occasions apart."""
    told = (_kind(item), text(item.get(_TARGET)) or "", _who(item), text(_named(item, "phone")) or "")
    caused = item.get("event_properties")
    return told if caused is None else (*told, *leaves(caused))


def send_key(item: Item) -> str | None:
    """The campaign and the person: CleverTap numbers no single message here."""
    campaign, who = text(item.get(_TARGET)), _who(item)
    return f"{campaign}/{who}" if campaign and who else None


SOURCE = Source(
    name="clevertap",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("external_id", "email", "phone", "source_contact_id"),
    send_key=send_key,
    docs=Docs(
        title="CleverTap webhooks",
        url="https://docs.clevertap.com/docs/setup-webhooks",
        setup=(
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it; the webhook's URL is the stack's output ApiUrl and that path.",
            "In CleverTap: Settings, Engage, Channels, Webhooks, Add Webhook; method POST; paste the URL.",
            "Under Authentication choose Basic and give user and password as in the connection's secret.",
            "Keep the standard JSON body; a custom template needs a `custom_json` connection of its own.",
            "Create: CleverTap posts a test, which is answered and not recorded.",
            "Use the webhook in a campaign (Campaigns, Webhooks), in a journey, or as a post-action webhook.",
        ),
        secret="`user:password`, as given under Authentication; or a long random token shown otherwise.",  # noqa: S106
        answers=(
            "200 within 3 s, also for the test that creates the webhook. A failed call is repeated once, then the "
            "campaign's page says Webhook Dispatch Failed."
        ),
        notes=(
            "CleverTap tells neither time nor id: events are dated by their receipt and marked `time_uncertain`.",
            "So a call that is repeated in a later second counts again.",
            "A campaign's profiles are `webhook_triggered`; a post-action webhook, which has the push sent, is `sent`.",
            (
                "Deliveries, opens and clicks of CleverTap's own channels leave it by its exports, whose columns are "
                "not confirmed: put these under a `custom_json` connection, whose mapping names them; `ts` is in the "
                "account's zone, which `time_zone` says."
            ),
            "Device tokens (`push_token`) are not kept with the event.",
        ),
    ),
)
