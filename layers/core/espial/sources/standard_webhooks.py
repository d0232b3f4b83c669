"""Senders that follow Standard Webhooks 1.0: a signed JSON report with `type`, `timestamp` and `data`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from espial.deliveries import Item, RawDelivery
from espial.sources import Docs, Source
from espial.sources._mapping import OWN_WORDS, Mapped, configured, paths
from espial.verify.hmacs import standard_webhooks

ID = "webhook-id"
"""The header and, in an item, the name of what is the same over every retry of a report."""

DEFAULT = Mapped(
    items=(),
    channel="email",
    fields=paths(
        {
            "type": "type",
            "id": ID,
            "occurred_at": "timestamp",
            "message_id": ("data.message_id", "data.email_id"),
            "person.email": ("data.email", "data.recipient", "data.to.0", "data.to"),
            "person.phone": "data.phone",
            "person.external_id": ("data.user_id", "data.external_id"),
            "campaign.id": "data.campaign_id",
            "link.url": "data.url",
            "properties": "data",
        }
    ),
    types={**OWN_WORDS, **{f"email.{name}": type_ for name, type_ in OWN_WORDS.items()}},
)


def _numbered(split: Callable[[RawDelivery], list[Item]]) -> Callable[[RawDelivery], list[Item]]:
    """Each report with the id of its delivery, and its place where there are several."""

    def numbered(delivery: RawDelivery) -> list[Item]:
        items = split(delivery)
        given = delivery.headers.get(ID) or delivery.headers.get("svix-id", "")
        if not given:
            return items
        several = len(items) > 1
        return [
            {**item, ID: f"{given}/{place}" if several else given} if isinstance(item, dict) else item
            for place, item in enumerate(items)
        ]

    return numbered


def _configured(settings: Mapping[str, Any]) -> Source:
    source = _plain(settings)
    return replace(source, split=_numbered(source.split))


SOURCE: Source = Source(
    name="standard_webhooks",
    verify=standard_webhooks("webhook", "svix"),
    split=_numbered(DEFAULT.split),
    event_types=DEFAULT.types,
    normalise=DEFAULT.normalise,
    identity=DEFAULT.identity,
    person_order=DEFAULT.person_order,
    send_key=DEFAULT.send_key,
    configured=_configured,
    docs=Docs(
        title="Standard Webhooks",
        url="https://www.standardwebhooks.com/",
        setup=(
            "Put a connection file of platform standard_webhooks under definitions/connections/ and apply it.",
            "Give the sender the stack's output ApiUrl with the path that `espial validate` prints.",
            "Copy the signing secret it shows (`whsec_…`) into the connection's secret.",
            "Where its words or fields differ, map them under settings as for custom_json.",
        ),
        secret="`whsec_` and base64, as the sender shows it.",  # noqa: S106
        answers="200 once durable, 401 without proof, 503 when it has to come again. 410 is never answered.",
        notes=(
            "`webhook-id` makes two deliveries the same report, whatever else changes between retries.",
            "The older names `svix-id`, `svix-timestamp` and `svix-signature` are read as well.",
            "The signed time may be 5 minutes off, each way; the setting `max_age_seconds` changes that.",
            "Types may be Espial's words, also behind `email.`; others are mapped under `types`.",
        ),
    ),
)
_plain = configured(lambda: SOURCE, DEFAULT)
