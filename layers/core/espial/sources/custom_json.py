"""Any sender of JSON, by a mapping in its connection's settings: a platform that has no source of its own.

https://json-schema.org/specification
"""

from __future__ import annotations

from espial.sources import Docs, Source
from espial.sources._mapping import OWN_WORDS, Mapped, configured, paths
from espial.verify.shared import shared_secret

DEFAULT = Mapped(
    items=(),
    channel="email",
    fields=paths(
        {
            "type": "type",
            "id": "id",
            "occurred_at": "occurred_at",
            "message_id": "message_id",
            "person.email": "email",
            "person.phone": "phone",
            "person.external_id": "user_id",
            "campaign.id": "campaign_id",
            "link.url": "url",
            "properties": "properties",
        }
    ),
    types=OWN_WORDS,
)
"""Without settings: flat reports in Espial's own words."""

SOURCE: Source = Source(
    name="custom_json",
    verify=shared_secret(),
    split=DEFAULT.split,
    event_types=DEFAULT.types,
    normalise=DEFAULT.normalise,
    identity=DEFAULT.identity,
    person_order=DEFAULT.person_order,
    send_key=DEFAULT.send_key,
    configured=configured(lambda: SOURCE, DEFAULT),
    docs=Docs(
        title="Any JSON sender, by mapping",
        url="https://www.rfc-editor.org/rfc/rfc8259",
        setup=(
            "Look at one report of the sender and note the path of each fact: `data.user.email` and so on.",
            "Write a connection file of platform custom_json; under its settings `fields`, `types` and `signature`.",
            "`espial validate` names every path, type and option that does not do; apply it.",
            "Give the sender the stack's output ApiUrl with the path that `espial validate` prints.",
        ),
        secret="What the sender shows or signs with; the setting `signature` says which.",  # noqa: S106
        answers="200 once durable, 401 without proof, 413 over 6 MB, 503 with Retry-After when it has to come again.",
        notes=(
            "A path is names and list indexes with dots between them; `items` says where an array of reports stands.",
            "Several paths of `type` or `id` are joined by a dot; else the first that leads anywhere counts.",
            "`occurred_at` may be ISO 8601, or Unix seconds or milliseconds; without it the time of receipt counts.",
            "Without `id`, what a report says of whom, what and when makes two of them the same one.",
            "An event is kept under the first `person` field there is; begin with one that every report has.",
        ),
    ),
)
