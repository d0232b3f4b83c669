"""Marigold (Cheetah Digital): delivery webhooks of Engage, whose field names a mapping has to give.

https://getstarted.meetmarigold.com/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from espial.deliveries import Arrival, Item, RawDelivery
from espial.sources import Docs, EventFields, Source
from espial.sources._mapping import Mapped, configured, paths
from espial.sources._shared import form, json_object
from espial.verify.shared import shared_secret
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "send": EventType.SENT,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "softbounce": EventType.SOFT_BOUNCED,
    "soft_bounce": EventType.SOFT_BOUNCED,
    "bounced.soft": EventType.SOFT_BOUNCED,
    "hardbounce": EventType.BOUNCED,
    "bounce": EventType.BOUNCED,
    "bounced": EventType.BOUNCED,
    "bounced.hard": EventType.BOUNCED,
    "block": EventType.BLOCKED,
    "open": EventType.OPENED,
    "view": EventType.OPENED,
    "click": EventType.CLICKED,
    "complaint": EventType.COMPLAINED,
    "spam": EventType.COMPLAINED,
    "optout": EventType.UNSUBSCRIBED,
    "unsub": EventType.UNSUBSCRIBED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "optin": EventType.SUBSCRIBED,
    "skip": EventType.DROPPED,
    "suppressed": EventType.DROPPED,
}
"""Words of all of the vendor's products, whatever their case."""

DEFAULT = Mapped(
    items=(),
    channel="email",
    fields=paths(
        {
            "type": ("eventType", "bounce.type"),
            "id": "eventId",
            "occurred_at": "timestamp",
            "message_id": "messageId",
            "person.email": "recipient",
            "campaign.id": "campaignId",
            "link.url": "url",
            "failure.class": "bounce.type",
            "failure.code": "bounce.code",
            "failure.reason": "bounce.reason",
        }
    ),
    types=EVENT_TYPES,
)
"""Without settings. The names are a guess at the usual ones: they are to be configured."""

_PROOF = ("api_key", "sig", "format")
"""What stands beside the event in a postback of Engage by Sailthru."""


def _flat(delivery: RawDelivery) -> list[Item]:
    """A form's fields, or what its field `json` holds. Raises MalformedDelivery."""
    fields: Item = dict(form(delivery))
    return [json_object(fields.get("json")) or {name: one for name, one in fields.items() if name not in _PROOF}]


def _shaped(source: Source) -> Source:
    """The mapping's source, for which the case of a word says nothing and a form is an event too."""

    def split(delivery: RawDelivery) -> list[Item]:
        a_form = delivery.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")
        return _flat(delivery) if a_form else source.split(delivery)

    def normalise(item: Item, arrival: Arrival) -> EventFields:
        fields = source.normalise(item, arrival)
        word = fields["platform_type"].lower()
        if fields["type"] is EventType.UNKNOWN and word in source.event_types:
            fields |= {"type": source.event_types[word], "platform_type": word}
        return fields

    return replace(source, split=split, normalise=normalise)


def _configured(settings: Mapping[str, Any]) -> Source:
    return _shaped(_mapped(settings)) if settings else SOURCE


_PLAIN: Source = Source(
    name="cheetah",
    verify=shared_secret(),
    split=DEFAULT.split,
    event_types=DEFAULT.types,
    normalise=DEFAULT.normalise,
    identity=DEFAULT.identity,
    person_order=DEFAULT.person_order,
    send_key=DEFAULT.send_key,
    configured=_configured,
    docs=Docs(
        title="Cheetah Digital / Marigold Engage",
        url="https://getstarted.meetmarigold.com/",
        setup=(
            "Put a connection file under definitions/connections/; make up a long random secret.",
            (
                "In Marigold's Delivery Cloud add a webhook for deliveries and bounces: the stack's output ApiUrl with "
                "the path that `espial validate` prints; Basic, Bearer or a header of your own shows the secret."
            ),
            (
                "Look at the first report with `espial quarantine show` or in the raw archive, and map its fields "
                "under settings as for custom_json."
            ),
            "For Engage by Sailthru: put the URL with `?key=<the secret>` into the postback of each event.",
        ),
        secret="`user:password` of Basic Auth, a token, or the value of the header that the setting "  # noqa: S106
        "`secret_header` names.",
        answers="Up to five attempts within 24 hours, the first again after a second; what fails in between is lost.",
        notes=(
            (
                "Find out which of the vendor's products you have: Engage+ (Cheetah Messaging) and CheetahMail post no "
                "events; they drop activity files."
            ),
            (
                "Not confirmed: the field names of the Delivery Cloud and whether it signs. The mapping can be changed "
                "by settings, and a signature chosen by `signature`, as for custom_json."
            ),
            (
                "Not confirmed either: how Sailthru signs its postbacks (an MD5 in the field `sig`). It is not "
                "checked; the secret in the URL is."
            ),
        ),
    ),
)
SOURCE = _shaped(_PLAIN)
_mapped = configured(lambda: _PLAIN, DEFAULT)
