"""Sources made of a mapping: paths into a JSON report -> canonical fields, as a connection's settings give them.

    settings:
      items: data.events               # where the array of reports stands; default: the body is it, or one report
      channel: email
      fields:
        type: [event, bounce.kind]     # several paths are joined by a dot: `bounce.hard`
        id: id                         # what makes two reports the same one
        occurred_at: created_at        # ISO 8601, or Unix seconds or milliseconds
        person.email: recipient.email
        campaign.id: meta.campaign
        properties: meta               # kept as it is
      types:                           # the sender's words -> ours; what is not listed is `unknown`
        delivered: delivered
        bounce.hard: bounced
      signature: {…}                   # see espial.verify.chosen
      time_zone: Europe/Berlin         # of times that name none; `day_first: true` reads 02/01/2026 as January 2nd
      encoding: latin-1                # of delimited text, where it does not show; so are `delimiter`,
      header: [event, created_at]      # the names of columns, and `quoted: false`: quotation marks mean nothing

A path is names and list indexes with dots between them. In delimited text it is the name of a column; whether it is
written with capitals, blanks, dots or underscores makes no difference there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Any

import orjson

from espial.deliveries import Arrival, Item, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.sources import EventFields, Export, Layout, Source
from espial.sources._files import check_text, check_times, folded, local_instant, zone_of
from espial.sources._shared import document, email, epoch, instant, json_object, milliseconds, phone, text
from espial.verify.chosen import chosen
from espial.vocabulary import OWN_TYPES, EventType

CHANNELS = frozenset({"email", "sms", "push", "web", "app", "whatsapp", "inapp", "webhook", "pos", "none"})
COMPACT = 14
"""Digits of `20260115100037`."""
_MILLISECONDS_FROM = 100_000_000_000
"""A number from here on counts milliseconds: as seconds it would be past the year 5000."""


def _truth(value: Any) -> bool | None:
    """True or false, or their text, as files have it."""
    if type(value) is str:
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if type(value) is bool else None


def _number(value: Any) -> float | None:
    """A number or its text; None for anything else."""
    try:
        return float(value) if type(value) in (int, float, str) else None
    except (ValueError, OverflowError):
        return None


def _texts(value: Any) -> list[str]:
    many = value if type(value) is list else [value]
    return [one for one in map(text, many) if one]


def _object(value: Any) -> dict[str, Any] | None:
    return value if type(value) is dict and value else None


PARTS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "person": {
        "external_id": text,
        "email": email,
        "phone": phone,
        "source_contact_id": text,
        "session_id": text,
    },
    "campaign": {
        **dict.fromkeys(
            (
                "id",
                "name",
                "variation_id",
                "variation_name",
                "journey_id",
                "journey_name",
                "step_id",
                "step_name",
                "send_id",
                "dispatch_id",
                "template_id",
            ),
            text,
        ),
        "tags": _texts,
    },
    "link": dict.fromkeys(("url", "id", "alias"), text),
    "client": {"ip": text, "user_agent": text, "machine": _truth, "machine_reason": text},
    "failure": dict.fromkeys(("class", "code", "reason"), text),
    "order": {"id": text, "cart_id": text, "currency": text, "total": _number},
    "cart": {"id": text, "currency": text, "total": _number, "url": text},
    "product": {**dict.fromkeys(("id", "sku", "name", "variant", "category", "url"), text), "price": _number},
}
"""What a mapping can fill, and what reads each field; `order`, `cart` and `product` are commerce."""

TOLD = (
    "occurred_at",
    "message_id",
    *(f"person.{name}" for name in PARTS["person"]),
    "link.url",
    "order.id",
    "product.id",
)
"""What makes two reports the same one where they have no id."""
COMMERCE = ("order", "cart", "product")
PLAIN = ("type", "id", "occurred_at", "message_id", "properties")
TARGETS = frozenset((*PLAIN, *(f"{part}.{name}" for part, names in PARTS.items() for name in names)))

Path = tuple[str, ...]


class Mapped:
    """A mapping that was read: everything a source of its own would say. `read` and the generic sources make it.

    items    where the reports stand in a document.
    fields   canonical field -> the paths to look at.
    types    the sender's words -> ours.
    file     how its files are written, where that does not show.
    zone     of times that name none; `day_first` is about those with slashes.
    """

    def __init__(
        self,
        *,
        items: Path,
        channel: str,
        fields: Mapping[str, tuple[Path, ...]],
        types: Mapping[str, EventType],
        file: Layout | None = None,
        zone: tzinfo = UTC,
        day_first: bool = False,
    ) -> None:
        self._zone, self._day_first = zone, day_first
        self.items, self.channel, self.fields, self.types = items, channel, fields, types
        self.file = file or Layout()
        self._columns = [(folded(".".join(path)), path) for paths in fields.values() for path in paths]
        self.people = tuple(target.partition(".")[2] for target in fields if target.startswith("person."))
        parts = [
            (part, name, PARTS[part][name], fields[target])
            for target in fields
            for part, dot, name in [target.partition(".")]
            if dot
        ]
        self._recipients = [(read_as, paths) for part, _, read_as, paths in parts if part == "person"]
        self._parents = list({path[:-1]: None for *_, paths in parts for path in paths})
        self._parts = [
            (part, part in COMMERCE, name, read_as, [(self._parents.index(path[:-1]), path[-1]) for path in paths])
            for part, name, read_as, paths in parts
        ]
        self._type, self._id = fields.get("type", ()), fields.get("id", ())
        self._occurred_at, self._message_id = fields.get("occurred_at", ()), fields.get("message_id", ())
        self._properties = fields.get("properties", ())
        self._told = [fields.get(target, ()) for target in TOLD]

    def split(self, delivery: RawDelivery) -> list[Item]:
        """The reports at `items`. Raises MalformedDelivery if there is no array or object there."""
        found = at(document(delivery), self.items)
        if isinstance(found, dict):
            return [found]
        if not isinstance(found, list):
            where = ".".join(self.items) or "the body"
            raise MalformedDelivery("not_an_array", f"{where} is neither a JSON array nor an object", where)
        return found

    def from_value(self, row: Any, _export: Export) -> list[Any]:
        """The reports in a row that is a JSON value or typed: those at `items`, else itself."""
        found = _plain(at(row, self.items))
        return found if isinstance(found, list) else [found]

    def from_csv(self, row: Mapping[str, str], _export: Export) -> Item:
        """A row of text as a report: its columns at the paths that the mapping has for them; blank ones are none."""
        item: Item = {}
        for column, path in self._columns:
            if value := row.get(column):
                put(item, path, value)
        for path in self._properties:
            if (value := at(item, path)) is not None and (whole := json_object(value)) is not None:
                put(item, path, whole)
        return item

    def layout(self, _key: str, _settings: Mapping[str, Any]) -> Layout:
        """As the setting `file` has it."""
        return self.file

    def normalise(self, item: Item, arrival: Arrival) -> EventFields:
        """One report. Raises MalformedItem for what is not an object or has no type."""
        if type(item) is not dict:
            raise MalformedItem("not_an_object", "a report is not a JSON object")
        named = _joined(item, self._type)
        if not named:
            raise MalformedItem("missing_event", "the report has no type", self._where("type"))
        fields: EventFields = {
            "type": self.types.get(named, EventType.UNKNOWN),
            "platform_type": named,
            "channel": self.channel,
        }
        when = first(item, self._occurred_at)
        if when is None:
            fields["occurred_at"], fields["time_uncertain"] = arrival.received_at, True
        else:
            fields["occurred_at"] = self._time(when)
        if message := text(first(item, self._message_id)):
            fields["message_id"] = message
        if properties := _object(first(item, self._properties)):
            fields["properties"] = properties
            if "topic" in properties:
                fields["topic"] = properties["topic"]
        return self._fill(item, fields)

    def _time(self, value: Any) -> datetime:
        """Unix seconds or milliseconds, or a date as its sender writes it."""
        path = self._where("occurred_at")
        if type(value) is str and len(value) > 18 and value[-1] == "Z":
            return instant(value, path)  # nearly always, and quickly told
        number = _number(value)
        given = "" if number is None else str(value)
        if number is None or (len(given) == COMPACT and given.isdigit()):
            return local_instant(given if number else value, path, self._zone, day_first=self._day_first)
        return milliseconds(value, path) if abs(number) >= _MILLISECONDS_FROM else epoch(value, path)

    def _fill(self, item: Item, fields: EventFields) -> EventFields:
        parents = [at(item, path) for path in self._parents]  # once, since most fields stand beside others
        for part, bought, name, read_as, places in self._parts:
            for parent, step in places:
                within = parents[parent]
                found = within.get(step) if type(within) is dict else at(within, (step,))
                if found is not None:
                    break
            else:
                continue
            value = read_as(found)
            if value is None or value == []:
                continue
            if bought:
                fields.setdefault("commerce", {}).setdefault(part, {})[name] = value
            elif part in fields:
                fields[part][name] = value
            else:
                fields[part] = {name: value}
        return fields

    def identity(self, item: Item) -> tuple[str, ...]:
        """The sender's id where it has one, else whom and what it is about and when."""
        if given := _joined(item, self._id):
            return (given,)
        return (_joined(item, self._type), *(text(first(item, paths)) or "" for paths in self._told))

    def send_key(self, item: Item) -> str | None:
        """Message and recipient, who is the first of the mapping's `person` fields that is there."""
        message = text(first(item, self._message_id))
        if message is None:
            return None
        for read_as, paths in self._recipients:
            if recipient := read_as(first(item, paths)):
                return f"{message}/{recipient}"
        return None

    def person_order(self, _item: Item) -> tuple[str, ...]:
        """As the mapping has it."""
        return self.people

    def _where(self, target: str) -> str:
        """For messages."""
        return " or ".join(".".join(path) for path in self.fields.get(target, ())) or target

    def source(self, base: Source) -> Source:
        """`base` with this mapping in its place."""
        return replace(
            base,
            split=self.split,
            event_types=self.types,
            normalise=self.normalise,
            identity=self.identity,
            send_key=self.send_key,
            person_order=self.person_order,
            exports=self.exports if base.exports else {},
            layout=self.layout if base.exports else base.layout,
        )

    @property
    def exports(self) -> Mapping[str, Callable[[Any, Export], Any]]:
        """Files of every kind."""
        return {**dict.fromkeys(("ndjson", "parquet", "avro"), self.from_value), "csv": self.from_csv}


def put(item: Item, path: Path, value: Any) -> None:
    """Objects all the way, whatever names the steps have, so that `at` finds it."""
    for step in path[:-1]:
        inside = item.get(step)
        if type(inside) is not dict:
            inside = item[step] = {}
        item = inside
    item[path[-1]] = value


def _plain(value: Any) -> Any:
    """Typed values as JSON would have them: times in ISO 8601, decimals as numbers, bytes as text."""
    if type(value) in (str, int, float, bool) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    number = _decimal(value)
    return str(value) if number is None else number


def _decimal(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _joined(item: Item, paths: tuple[Path, ...]) -> str:
    """What stands at all of them, dots between."""
    if len(paths) == 1:
        return text(at(item, paths[0])) or ""
    return ".".join(filter(None, [text(at(item, path)) for path in paths]))


def first(item: Any, paths: tuple[Path, ...]) -> Any:
    """What stands at the first path that leads anywhere, else None."""
    for path in paths:
        found = item
        for step in path:  # as `at` does, which a call for each path would make twice as slow
            if type(found) is dict:
                found = found.get(step)
                if found is None:
                    break
            else:
                found = at(found, (step,))
        if found is not None:
            return found
    return None


def at(found: Any, path: Path) -> Any:
    """What stands at a path; None if it leads nowhere."""
    for step in path:
        if type(found) is dict:
            found = found.get(step)
        elif type(found) is list and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def configured(base: Callable[[], Source], default: Mapped) -> Callable[[Mapping[str, Any]], Source]:
    """The `Source.configured` of a generic platform: its own mapping overlaid with the settings', its scheme chosen.

    What it returns raises ValueError that names the setting to blame.
    """

    @lru_cache(maxsize=64)
    def made(settings: bytes) -> Source:
        given = orjson.loads(settings)
        source = read(given, default).source(base())
        return replace(source, verify=chosen(given["signature"])) if "signature" in given else source

    def of(settings: Mapping[str, Any]) -> Source:
        if not settings:
            return base()
        try:
            return made(orjson.dumps(dict(settings)))
        except orjson.JSONEncodeError as exc:
            raise ValueError(f"must be plain values: {exc}") from exc

    return of


def read(settings: Mapping[str, Any], default: Mapped) -> Mapped:
    """The mapping in a connection's settings. Raises ValueError that names the setting to blame."""
    channel = settings.get("channel", default.channel)
    if channel not in CHANNELS:
        raise ValueError(f"channel: must be one of {', '.join(sorted(CHANNELS))}")
    check_times(settings)
    items = settings.get("items")
    fields = dict(default.fields)
    for target, paths in _mapping(settings, "fields").items():
        if target not in TARGETS:
            raise ValueError(f"fields.{target}: no such field, must be one of {', '.join(sorted(TARGETS))}")
        fields[target] = tuple(_path(one, f"fields.{target}") for one in (paths if type(paths) is list else [paths]))
    types = dict(default.types)
    for theirs, ours in _mapping(settings, "types").items():
        try:
            types[theirs] = EventType(ours)
        except ValueError:
            known = ", ".join(one.value for one in EventType)
            raise ValueError(f"types.{theirs}: no such type {ours!r}, must be one of {known}") from None
    return Mapped(
        items=default.items if items is None else _path(items, "items"),
        channel=channel,
        fields=fields,
        types=types,
        file=_layout(settings),
        zone=zone_of(settings),
        day_first=settings.get("day_first", False),
    )


def _layout(settings: Mapping[str, Any]) -> Layout:
    check_text(settings)
    quoted = settings.get("quoted", True)
    if not isinstance(quoted, bool):
        raise ValueError("quoted: must be true or false")  # noqa: TRY004 - one error for all settings
    return Layout(
        encoding=settings.get("encoding", ""),
        delimiter=settings.get("delimiter", ""),
        columns=tuple(settings.get("header", ())),
        quoted=quoted,
    )


def _mapping(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name, {})
    if not isinstance(found, Mapping):
        raise ValueError(f"{name}: must be a mapping")  # noqa: TRY004 - one error for all settings
    return found


def _path(value: Any, name: str) -> Path:
    if not isinstance(value, str) or not value or not all(value.split(".")):
        raise ValueError(f"{name}: must be a path such as `data.user.email`")
    return tuple(value.split("."))


def paths(fields: Mapping[str, str | Iterable[str]]) -> dict[str, tuple[Path, ...]]:
    """A mapping as a module writes it."""
    return {
        target: tuple(tuple(one.split(".")) for one in ([given] if isinstance(given, str) else given))
        for target, given in fields.items()
    }


OWN_WORDS: Mapping[str, EventType] = {one.value: one for one in EventType if one not in OWN_TYPES}
"""For senders that use Espial's words."""
