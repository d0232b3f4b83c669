"""CloudEvents 1.0 over HTTP: structured, batched and binary, with the web hook's handshake.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from espial.deliveries import Item, RawDelivery, Reply
from espial.errors import MalformedDelivery
from espial.sources import Docs, Source
from espial.sources._mapping import OWN_WORDS, Mapped, configured, paths
from espial.verify.shared import shared_secret

DEFAULT = Mapped(
    items=(),
    channel="email",
    fields=paths(
        {
            "type": "type",
            "id": ("source", "id"),
            "occurred_at": "time",
            "message_id": "data.message_id",
            "person.email": ("data.email", "data.recipient"),
            "person.phone": "data.phone",
            "person.external_id": ("data.user_id", "data.external_id"),
            "campaign.id": "data.campaign_id",
            "link.url": "data.url",
            "properties": "data",
        }
    ),
    types=OWN_WORDS,
)

REQUIRED = ("specversion", "type", "source", "id")


def _events(delivery: RawDelivery) -> list[Item]:
    """Structured and batched events as they are, a binary one as if it were structured."""
    kind = delivery.headers.get("content-type", "").strip().lower()
    headers = delivery.headers
    if not kind.startswith("application/cloudevents") and all(f"ce-{name}" in headers for name in REQUIRED):
        return [_binary(delivery, kind)]
    try:
        found = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as exc:
        raise MalformedDelivery("not_json", str(exc)) from exc
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise MalformedDelivery("not_an_array", "the body is neither an event nor a batch of them")
    return found


def _binary(delivery: RawDelivery, kind: str) -> Item:
    """Attributes from `ce-` headers, the body as data. Raises MalformedDelivery for headers that are no UTF-8."""
    event: Item = {}
    for name, value in delivery.headers.items():
        if name.startswith("ce-"):
            event[name.removeprefix("ce-")] = _attribute(name, value)
    if "json" in kind or not kind:
        try:
            event["data"] = orjson.loads(delivery.body) if delivery.body else None
        except orjson.JSONDecodeError as exc:
            raise MalformedDelivery("not_json", str(exc), "data") from exc
    else:
        event["data"] = delivery.body.decode("utf-8", "replace")
    return event


def _attribute(name: str, value: str) -> str:
    """Unquoted and percent-decoded once (HTTP binding 3.1.3.2)."""
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    plain = value[1:-1].replace('\\"', '"').replace("\\\\", "\\") if quoted else value
    try:
        return unquote_to_bytes(plain).decode()
    except UnicodeError as exc:
        raise MalformedDelivery("not_utf_8", f"{name} is not UTF-8", name) from exc


def handshake(delivery: RawDelivery, _secrets: Sequence[bytes]) -> Reply | None:
    """Grant whoever asks to post, as often as they like: what is posted has to prove itself (web hook spec 4)."""
    if delivery.method != "OPTIONS":
        return None
    origin = delivery.headers.get("webhook-request-origin", "")
    asked = origin.isascii() and origin.isprintable() and 0 < len(origin) <= 255
    granted = {"webhook-allowed-origin": origin, "webhook-allowed-rate": "*"} if asked else {}
    return Reply(headers={"allow": "OPTIONS, POST", **granted})


def _configured(settings: Mapping[str, Any]) -> Source:
    if "items" in settings:
        raise ValueError("items: an event is one report; there is nothing to look for")
    return replace(_plain(settings), split=_events)


SOURCE: Source = Source(
    name="cloudevents",
    verify=shared_secret(),
    split=_events,
    event_types=DEFAULT.types,
    normalise=DEFAULT.normalise,
    identity=DEFAULT.identity,
    person_order=DEFAULT.person_order,
    send_key=DEFAULT.send_key,
    handshake=handshake,
    configured=_configured,
    docs=Docs(
        title="CloudEvents",
        url="https://cloudevents.io/",
        setup=(
            "Put a connection file of platform cloudevents under definitions/connections/ and apply it.",
            "Give the sender the stack's output ApiUrl with the path that `espial validate` prints.",
            "Let it show the connection's secret as bearer token or as `?access_token=` in the URL.",
            "Map its `type`s and the paths into its `data` under settings as for custom_json.",
        ),
        secret="A long random token, the same at the sender and here.",  # noqa: S106
        answers="200 once durable, 401 without proof, 503 when it has to come again. 410 is never answered.",
        notes=(
            "`source` and `id` together make two deliveries the same event, as the specification has it.",
            "Structured, batched and binary mode are told apart by the content type and the `ce-` headers.",
            "A signature (the setting `signature`) covers the body only: not the attributes of binary mode.",
        ),
    ),
)
_plain = configured(lambda: SOURCE, DEFAULT)
