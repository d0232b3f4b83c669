"""SessionM return data: what its campaigns awarded, asked for and heard, as a JSON body that the account composes.

https://docs.sessionm.com/

SessionM's webhooks have no body of their own: a provider template says what is in it (C1, C27). The one below holds
everything this reads; names are those of SessionM's own API (user, tags and ttl, offers_to_issue, request_payload).

    {"user": {"id": …, "external_id": …, "email": …}, "campaign": {"id": …, "name": …}, "timestamp": …, "event_id": …,
     "messages": [{"name": "EmailOpen", "message_id": …, "url": …}], "points": [{"account": …, "amount": …}],
     "offers": [{"offer_id": …, "user_offer_id": …}], "tags": ["vip;;3600"],
     "events": [{"name": …, "timestamp": …, "event_id": …, "payload": {}}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedItem
from espial.sources import Docs, EventFields, Export, Layout, Source
from espial.sources._files import check_text
from espial.sources._shared import (
    email,
    inner,
    instant,
    leaves,
    objects,
    phone,
    present,
    seconds_or_milliseconds,
    text,
)
from espial.verify.shared import shared_secret
from espial.vocabulary import OWN_TYPES, EventType

WORDS: Mapping[str, EventType] = {"EmailOpen": EventType.OPENED, "ClickData": EventType.CLICKED}
"""Names of what a messaging provider reports back, as far as they are published; the setting `types` adds others."""

EVENT_TYPES: Mapping[str, EventType] = {
    **WORDS,
    "message": EventType.QUEUED,  # asked of a provider
    "points": EventType.POINTS_AWARDED,
    "offer": EventType.OFFER_ISSUED,
    "tag": EventType.TAG_ADDED,
    "transaction": EventType.TRANSACTION,
    "user": EventType.PROFILE_UPDATED,
}
"""By outcome (C10) or the name a message or event has; any other name of an event is `custom`."""

SECTIONS: Mapping[str, str] = {
    "messages": "message",
    "message": "message",
    "points": "points",
    "offers": "offer",
    "offers_to_issue": "offer",
    "tags": "tag",
    "events": "event",
    "event": "event",
}
"""Member of a body -> the kind of its rows, of which there may be one or an array."""
_ENVELOPE = ("user", "user_id", "external_id", "email", "campaign", "timestamp", "event_id", "request_id", "ttl")
_CHANNELS = frozenset({"email", "sms", "push", "inapp", "web", "app", "whatsapp", "pos"})
_TIMED = frozenset({"timestamp", "event_id"})
_OF_MESSAGES = _TIMED | {"name", "message_id", "url", "channel"}
_OF_ORDERS = frozenset({"transaction_id", "channel", "items", "payments", "open_time", "modified_time"})
_PERSONAL = frozenset({"id", "external_id", "email", "phone_numbers"})


def split(delivery: RawDelivery) -> list[Item]:
    """Each row of each section, with what the body says for all of them. Raises MalformedDelivery for what is no JSON.

    A body without any section is about its user alone. Whom a call of the REST API is about may stand in its path.
    """
    named = _in_path(delivery.url)
    return [
        item for body in objects(delivery) for item in _items({**named, **body} if isinstance(body, dict) else body)
    ]


_PATH = re.compile(r"/priv/v1/apps/-/(external/)?users/([^/?]+)")


def _in_path(url: str) -> dict[str, Any]:
    found = _PATH.search(url)
    return {"external_id" if found[1] else "user_id": unquote(found[2])} if found else {}


def _items(body: Any) -> Iterator[Any]:
    if not isinstance(body, dict):
        yield body
        return
    shared = {name: body[name] for name in _ENVELOPE if name in body}
    rows = [(SECTIONS[name], row) for name in body if name in SECTIONS for row in _rows(body[name])]
    if "request_payload" in body:
        place = {name: body[name] for name in ("store_id", "client_id") if name in body}
        payload = body["request_payload"]
        rows.append(("transaction", {**place, **payload} if isinstance(payload, dict) else payload))
        shared = {**_payer(payload), **shared}
    if not rows and isinstance(body.get("user"), dict):
        rows.append(("user", body["user"]))
    if body and not rows:
        rows.append(("", body))
    for kind, row in rows:
        yield {**shared, "kind": kind, "row": row}


def _payer(payload: Any) -> dict[str, Any]:
    """Who paid, where the body names nobody else: the first payment's user, by id, external id or email."""
    payments = payload.get("payments") if isinstance(payload, dict) else None
    first = next((one for one in _objects(payments) if one.get("user_id")), {})
    kind = (text(first.get("user_id_type")) or "").lower()
    name = "email" if "email" in kind else "external_id" if "external" in kind else "user_id"
    return {name: first["user_id"]} if first else {}


def _rows(section: Any) -> list[Any]:
    return section if isinstance(section, list) else [] if section is None else [section]


# --- batch files

_ROWS: Mapping[str, str] = {
    **SECTIONS,
    "offer": "offer",
    "tag": "tag",
    **dict.fromkeys(("transaction", "transactions"), "transaction"),
    **dict.fromkeys(("user", "users", "customers"), "user"),
}
"""A word of a file's name, or what its lines say -> the kind of row that a line is."""
_KIND_COLUMNS = ("kind", "section", "outcome")
_WORDS = re.compile(r"[A-Za-z]+")
_SHARED: Mapping[str, tuple[str, str]] = {
    "userid": ("user", "id"),
    "externalid": ("user", "external_id"),
    "userexternalid": ("user", "external_id"),
    "email": ("user", "email"),
    "useremail": ("user", "email"),
    "campaignid": ("campaign", "id"),
    "campaignname": ("campaign", "name"),
}
"""Columns, `folded`, of what a body says for all of its rows."""
_MEMBERS: Mapping[str, str] = {
    name.replace("_", ""): name
    for name in (
        *("name", "event_id", "timestamp", "message_id", "url", "channel", "variant", "payload", "tag", "ttl"),
        *("account", "amount", "offer_id", "user_offer_id", "transaction_id", "items", "payments", "open_time"),
        *("modified_time", "first_name", "last_name", "phone_numbers"),
    )
} | {"payloadjson": "payload"}
"""Columns of a row; others keep the name that the file has."""


def from_json(row: Any, _export: Export) -> list[Any]:
    """A line of a batch file in JSON: a body as the webhook posts it."""
    return list(_items(row))


def from_csv(row: Mapping[str, str], export: Export) -> Item | None:
    """A line of a batch file: a row of a section, which the line or a word of the file's name tells; None without one.

    Columns are named as the members of a body are; what is an array or object there is JSON here.
    """
    kind = next((found for name in _KIND_COLUMNS if (found := _ROWS.get(row.get(name, "").lower()))), "")
    kind = kind or _file_kind(export.record_name or export.key.rpartition("/")[2])
    if not kind:
        return None
    item: Item = {"kind": kind, "row": {}}
    for name, value in row.items():
        if not value or name in _KIND_COLUMNS:
            continue
        if name in _SHARED:
            place, inside = _SHARED[name]
            item.setdefault(place, {})[inside] = value
        elif name == "requestid":
            item["request_id"] = value
        else:
            item["row"][_MEMBERS.get(name) or export.columns.get(name, name)] = _cell(value)
    if kind == "user":
        item |= {name: item["row"].pop(name) for name in _TIMED if name in item["row"]}
        item["row"] = {**item.get("user", {}), **item["row"]}
    return item


def _cell(value: str) -> Any:
    if value[0] in "[{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


@lru_cache(maxsize=256)
def _file_kind(name: str) -> str:
    return next((_ROWS[word] for word in reversed(_WORDS.findall(name.lower())) if word in _ROWS), "")


def layout(_key: str, settings: Mapping[str, Any]) -> Layout:
    """As the settings say, where it does not show."""
    return Layout(
        encoding=settings.get("encoding", ""),
        delimiter=settings.get("delimiter", ""),
        columns=tuple(settings.get("header", ())),
    )


def normalise(item: Item, arrival: Arrival, types: Mapping[str, EventType] = EVENT_TYPES) -> EventFields:
    """One event. Raises MalformedItem for a row that cannot be read, is of no kind, about nobody, or has a bad time."""
    kind, row = _read(item)
    name = text(row.get("name")) if kind in ("message", "event") else None
    word = name or kind
    fallback = EventType.CUSTOM if kind == "event" else EventType.UNKNOWN
    fields: EventFields = {
        "type": types.get(word, fallback),
        "platform_type": word,
        "channel": _channel(kind, word, row),
        "person": _person(item),
        "campaign": _campaign(item, row),
        **_times(item, row, arrival.received_at),
    }
    return {**fields, **_KINDS[kind](item, row)}


def _read(item: Item) -> tuple[str, Mapping[str, Any]]:
    """The kind and the row; a tag, which may be text alone, as an object too. Raises MalformedItem."""
    if not isinstance(item, dict):
        raise MalformedItem("not_an_object", "a body is not a JSON object")
    kind, row = item.get("kind"), item.get("row")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise MalformedItem("missing_kind", "there is none of the sections, and no user", "kind")
    if kind == "tag" and isinstance(row, str):
        row = {"tag": row}
    if not isinstance(row, dict):
        raise MalformedItem("not_an_object", f"a row of kind {kind} is not an object", kind)
    return kind, row


def _channel(kind: str, word: str, row: Mapping[str, Any]) -> str:
    given = (text(row.get("channel")) or "").lower()
    if given in _CHANNELS:
        return given
    return "email" if kind == "message" or word in WORDS else "pos" if kind == "transaction" else "none"


def _person(item: Item) -> dict[str, str | None]:
    """The user, as an object or beside it. Raises MalformedItem if nothing names one."""
    user = inner(item, "user")
    numbers = user.get("phone_numbers")
    first = numbers[0] if isinstance(numbers, list) and numbers else None
    person = {
        "external_id": text(user.get("external_id")) or text(item.get("external_id")),
        "email": email(user.get("email")) or email(item.get("email")),
        "phone": phone(first.get("phone_number") if isinstance(first, dict) else first),
        "source_contact_id": text(user.get("id")) or text(item.get("user_id")),
    }
    if not any(person.values()):
        raise MalformedItem("missing_person", "neither the user's id, external_id nor email is there", "user")
    return person


def _campaign(item: Item, row: Mapping[str, Any]) -> dict[str, Any] | None:
    campaign = inner(row, "campaign") or inner(item, "campaign")
    found = {"id": text(campaign.get("id")), "name": text(campaign.get("name"))}
    return present({**found, "variation_name": text(row.get("variant"))}) or None


def _times(item: Item, row: Mapping[str, Any], received_at: datetime) -> dict[str, Any]:
    """The row's own time, a transaction's last change, the body's time, else the receipt. Raises MalformedItem."""
    for place, name in ((row, "timestamp"), (row, "modified_time"), (row, "open_time"), (item, "timestamp")):
        given = text(place.get(name))
        if given:
            number = given.replace(".", "", 1).isdigit()
            return {"occurred_at": seconds_or_milliseconds(given, name) if number else instant(given, name)}
    return {"occurred_at": received_at, "time_uncertain": True}


def _rest(row: Mapping[str, Any], mapped: frozenset[str]) -> dict[str, Any]:
    return present({name: row[name] for name in sorted(row) if name not in mapped})


def _message(_item: Item, row: Mapping[str, Any]) -> EventFields:
    url = text(row.get("url"))
    return {
        "message_id": text(row.get("message_id")),
        "link": {"url": url} if url else None,
        "properties": _rest(row, _OF_MESSAGES | {"campaign", "variant"}),
    }


def _event(item: Item, row: Mapping[str, Any]) -> EventFields:
    fields = _message(item, row)
    payload = fields["properties"].pop("payload", {})
    return {**fields, "properties": {**fields["properties"], **(payload if isinstance(payload, dict) else {})}}


def _award(_item: Item, row: Mapping[str, Any]) -> EventFields:
    return {"properties": _rest(row, _TIMED | {"campaign", "variant", "channel"})}


def _tag(item: Item, row: Mapping[str, Any]) -> EventFields:
    """A tag's life may stand behind it (`vip;;3600`) or beside it, in seconds; without one it is counted."""
    tag, _, life = (text(row.get("tag")) or "").partition(";;")
    if not tag:
        raise MalformedItem("empty_tag", "the tag has no name", "tag")
    seconds = text(row.get("ttl")) or life or text(item.get("ttl")) or ""
    short = seconds.isascii() and seconds.isdigit() and len(seconds) < 12
    return {"properties": present({"tag": tag, "ttl_seconds": int(seconds) if short else None})}


def _user(_item: Item, row: Mapping[str, Any]) -> EventFields:
    return {"properties": {"traits": _rest(row, _PERSONAL)}}


def _transaction(item: Item, row: Mapping[str, Any]) -> EventFields:
    """What was paid is the total; what is not paid yet has none, since whether prices hold tax is said by line."""
    paid = [amount for one in _objects(row.get("payments")) if (amount := _amount(one.get("amount"))) is not None]
    order = {
        "id": text(row.get("transaction_id")) or text(item.get("request_id")),
        "total": round(sum(paid), 2) if paid else None,
        "items": [_line(one) for one in _objects(row.get("items"))],
    }
    return {"commerce": {"order": order}, "properties": _rest(row, _OF_ORDERS)}


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    quantity = _amount(line.get("quantity"))
    whole = quantity is not None and quantity.is_integer()
    return {
        "id": text(line.get("item_id")),
        "price": _amount(line.get("unit_price")),
        "quantity": int(quantity) if whole and quantity is not None else None,
    }


def _objects(given: Any) -> list[dict[str, Any]]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _amount(given: Any) -> float | None:
    """A number or its text, of a size that money and quantities have."""
    try:
        number = float(given) if type(given) in (int, float, str) else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and abs(number) < 2**53 else None


_KINDS: Mapping[str, Callable[[Item, Mapping[str, Any]], EventFields]] = {
    "message": _message,
    "event": _event,
    "points": _award,
    "offer": _award,
    "tag": _tag,
    "transaction": _transaction,
    "user": _user,
}


def identity(item: Item) -> list[str]:
    """The row's own id; a transaction's `request_id`, which SessionM takes once; else the body's id and all of the row.

    Without any id the user, the row and, in every event id, the second tell events apart.
    """
    kind, row = _read(item)
    if own := text(row.get("event_id")):
        return [kind, own]
    given = text(item.get("request_id")) or text(item.get("event_id"))
    if given and kind == "transaction":
        return [kind, given]
    user = inner(item, "user")
    who = (text(user.get("id")) or text(item.get("user_id")), text(user.get("external_id")), email(user.get("email")))
    return [kind, given or "", *(one or "" for one in who), *leaves(row)]


def send_key(item: Item) -> str | None:
    """The provider's message id and the recipient."""
    message = text(_read(item)[1].get("message_id"))
    recipient = email(inner(item, "user").get("email")) or email(item.get("email"))
    return f"{message}/{recipient}" if message and recipient else None


def configured(settings: Mapping[str, Any]) -> Source:
    """The source with the connection's own `types`. Raises ValueError for one that is not an event type."""
    given = settings.get("types") or {}
    if not isinstance(given, dict):
        raise ValueError("types: must be names with event types")  # noqa: TRY004 - as for every wrong setting
    check_text(settings)
    known = {one.value for one in EventType if one not in OWN_TYPES}
    for name, type_ in given.items():
        if not isinstance(type_, str) or type_ not in known:
            raise ValueError(f"types.{name}: {type_!r} is not an event type")
    types = {**EVENT_TYPES, **{name: EventType(type_) for name, type_ in given.items()}}
    return replace(SOURCE, event_types=types, normalise=partial(normalise, types=types))


SOURCE = Source(
    name="sessionm",
    verify=shared_secret(),
    split=split,
    event_types=EVENT_TYPES,
    normalise=normalise,
    identity=identity,
    person_order=lambda _item: ("external_id", "source_contact_id", "email", "phone"),
    send_key=send_key,
    exports={"csv": from_csv, "ndjson": from_json},
    layout=layout,
    configured=configured,
    docs=Docs(
        title="SessionM return data",
        url="https://docs.sessionm.com/",
        setup=(
            "Agree with your SessionM team on a return flow: by default only one-way flows are supported.",
            "Put a connection file under definitions/connections/; `espial validate` prints the webhook's path.",
            "Apply it: until then, and with `enabled: false`, everything SessionM posts is answered 404 and not kept.",
            "In SessionM: have a provider of the group Ad-Hoc Webhooks made for the stack's ApiUrl and that path.",
            "Give it Basic authentication with the user and password of the connection's secret.",
            "Make a provider template with `user`, `campaign`, `timestamp` and `event_id`.",
            "Add the sections that it is about: `messages`, `points`, `offers`, `tags`, `events`.",
            "Bind provider and template in a variant and use it as external message of a live campaign.",
            "Its outcomes show up with `espial events --person`.",
        ),
        secret="`user:password`, as given to the provider; or a long random token shown otherwise.",  # noqa: S106
        answers="200 once it is durable. How often SessionM tries again, and how long it waits, is not published.",
        notes=(
            "The body is your own template; the members are named as in SessionM's API. Not confirmed by a capture.",
            "A section holds one row or an array of them; a body may hold several sections, an array several bodies.",
            "Give every event an `event_id`: without one, events that say the same in the same second are one.",
            "A message without a name is one that SessionM asked a provider to send: `queued`.",
            (
                "Batch files go to exports/sessionm/<connection>/: bodies, one a line, or delimited text with the "
                "names of a body's members as columns, whose section is in the column `kind` or the file's name "
                "(`points_20260115.csv`). `delimiter`, `encoding` and `header` say how it is written. Their layout is "
                "agreed with SessionM, and not confirmed. What has an `event_id` is one event over both."
            ),
            "The setting `types` says what names mean, besides EmailOpen and ClickData: `EmailBounce: bounced`.",
            "Events of any other name are `custom`, under their own name.",
            "A tag's life is `name;;seconds`, or `ttl`; a transaction is known by its `request_id`.",
        ),
    ),
)
