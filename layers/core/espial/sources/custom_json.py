"""Any sender of JSON and any file, by a mapping in its connection's settings: a platform without a source of its own.

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
    exports=DEFAULT.exports,
    layout=DEFAULT.layout,
    configured=configured(lambda: SOURCE, DEFAULT),
    docs=Docs(
        title="Any JSON sender or file, by mapping",
        url="https://www.rfc-editor.org/rfc/rfc8259",
        setup=(
            "Look at one report of the sender and note the path of each fact: `data.user.email` and so on.",
            "Write a connection file of platform custom_json; under its settings `fields`, `types` and `signature`.",
            "`espial validate` names every path, type and option that does not do; apply it.",
            "Give the sender the stack's output ApiUrl with the path that `espial validate` prints.",
        ),
        secret="What the sender shows or signs with; the setting `signature` says which.",  # noqa: S106
        settings={
            "items": "data.events",
            "fields": {"type": "event", "id": "id", "occurred_at": "created_at", "person.email": "recipient.email"},
            "types": {"bounce": "bounced", "open": "opened"},
            "signature": {"scheme": "hmac", "header": "X-Acme-Signature"},
        },
        answers="200 once durable, 401 without proof, 413 over 6 MB, 503 with Retry-After when it has to come again.",
        notes=(
            "A path is names and list indexes with dots between them; `items` says where an array of reports stands.",
            "Several paths of `type` or `id` are joined by a dot; else the first that leads anywhere counts.",
            (
                "`occurred_at` may be Unix seconds or milliseconds, ISO 8601, `1/15/2026 4:00 PM`, `15.01.2026 16:00` "
                "or `20260115160000`; `time_zone` and `day_first` say what these do not. Without it the receipt counts."
            ),
            "Without `id`, what a report says of whom, what and when makes two of them the same one.",
            (
                "Files that are put under exports/custom_json/<connection>/ are read by the same mapping: CSV by the "
                "names of its columns, JSON lines, Parquet and Avro by paths. What does not show in a text is said by "
                "the settings `encoding`, `delimiter`, `header` (the columns' names) and `quoted`."
            ),
            "A report that comes by webhook and in a file is one event if `id` is mapped for both alike.",
            "An event is kept under the first `person` field there is; begin with one that every report has.",
        ),
    ),
)
