"""Espial's own pages and tracked links: what readers of our mails do there, reported as any platform reports.

The pages put their reports on RawQueue themselves (`espial.services.serve_pages`); there is nothing to set up but a
connection with the secret that signs the links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.mail_links import PLATFORM
from espial.sources import Docs, EventFields, Source
from espial.sources._shared import inner, instant, known, present, text, texts
from espial.verify.hmacs import hmac_of_body
from espial.vocabulary import EventType

EVENT_TYPES: Mapping[str, EventType] = {
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.SUBSCRIBED,
}
MOST_TOPICS = 50
_HOST = re.compile(r"[a-z0-9.-]+(:\d+)?")


def split(delivery: RawDelivery) -> list[Item]:
    """The reports of one request. Raises MalformedDelivery."""
    try:
        reports = orjson.loads(delivery.body)["reports"]
    except (ValueError, TypeError, KeyError) as exc:
        raise MalformedDelivery("not_reports", "the body is not a JSON object with `reports`") from exc
    if not isinstance(reports, list):
        raise MalformedDelivery("not_reports", "`reports` is not a list", "reports")
    return reports


def normalise(item: Item, _arrival: Arrival) -> EventFields:
    """One event. Raises MalformedItem without a type, an id or a time."""
    if type(item) is not dict:
        raise MalformedItem("not_an_object", "the report is not a JSON object")
    kind = text(item.get("type"))
    if kind is None:
        raise MalformedItem("missing_type", "type is missing or not text", "type")
    if text(item.get("id")) is None:
        raise MalformedItem("missing_id", "id is missing", "id")
    fields: EventFields = {
        "type": EVENT_TYPES.get(kind, EventType.UNKNOWN),
        "platform_type": kind,
        "channel": text(item.get("channel")) or "email",
        "occurred_at": instant(item.get("at"), "at"),
        "person": present({name: text(value) for name, value in inner(item, "person").items()}),
        "link": known({"url": text(item.get("url"))}),
        "client": known(present({name: text(value) for name, value in inner(item, "client").items()})),
        "properties": present({"how": text(item.get("how"))}),
    }
    if topic := text(item.get("topic")):
        fields["topic"] = topic
    return fields


def identity(item: Item) -> list[str]:
    """The request that told it, and its place there: whoever changes their mind twice says two things."""
    return texts(item, ("type", "id"))


def _configured(settings: Mapping[str, Any]) -> Source:
    """Raises ValueError for settings that the pages could not show."""
    topics = settings.get("topics", {})
    if not isinstance(topics, dict) or not all(isinstance(title, str) and title.strip() for title in topics.values()):
        raise ValueError("topics: must map each topic to the title that readers see")
    if len(topics) > MOST_TOPICS:
        raise ValueError(f"topics: at most {MOST_TOPICS}")
    hosts = settings.get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(one, str) and _HOST.fullmatch(one) for one in hosts):
        raise ValueError("hosts: must be a list of host names such as `shop.example.com`")
    if not isinstance(settings.get("sender", ""), str):
        raise ValueError("sender: must be the name that readers know")  # noqa: TRY004  settings raise ValueError
    return SOURCE


SOURCE: Source = Source(
    name=PLATFORM,
    verify=hmac_of_body("x-espial-signature"),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("email", "phone", "external_id", "session_id"),
    send_key=lambda item: text(item.get("send_key")),
    unsent=frozenset({"email"}),
    configured=_configured,
    docs=Docs(
        title="Espial's own pages and links",
        url="https://www.rfc-editor.org/rfc/rfc8058",
        setup=(
            "Make a secret of 32 random bytes or more: `openssl rand -hex 32`.",
            "Put a connection file under definitions/connections/ that names it; its settings are what readers see.",
            "Apply it. Providers without an `unsubscribe_url` use the pages from now on.",
            "The pages lie at the stack's output PagesUrl; for a domain of yours give the connection a `public_url`.",
        ),
        secret="What signs the links. Put a new one before the old; links in old mails live as long as theirs.",  # noqa: S106
        settings={"sender": "Juniper & Pine", "topics": {"offers": "Offers and sales"}},
        answers="The pages put what readers do on the queue themselves; nobody needs to post.",
        notes=(
            "A GET of a preference page changes nothing: scanners may follow every link.",
            "Links are tracked to hosts that the template spells out, and to those listed under the setting `hosts`.",
            "A click or open is marked as a machine's by the same rules as any platform's.",
            "Whoever was mailed under a platform's contact id alone is named by the address.",
        ),
    ),
)
