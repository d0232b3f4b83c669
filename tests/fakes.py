"""In-memory stand-ins for the ports; each passes the real thing's contract suite (tests/contract/test_ports.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from espial import events
from espial.catalogue import News, Product
from espial.deliveries import Connection, RawDelivery
from espial.errors import MalformedItem, TryAgain, UnknownConnection
from espial.events import Event, PersonKey
from espial.ledger import Sheet
from espial.normalise import Recordable
from espial.ports import (
    Quarantined,
    Recorded,
    Stored,
    Verdict,
)
from espial.streams import Position


class FakeEventStore:
    """EventsTable in a dict. `away` is how many of the next `add` calls find it throttled."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Stored] = {}
        self.expires: dict[tuple[str, str], int] = {}
        self.conflicts: dict[tuple[str, str], set[str]] = {}
        self.together: dict[tuple[str, str], dict[str, Any]] = {}
        self.away = 0

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Verdict]:
        if self.away:
            self.away -= 1
            return [TryAgain("the table is throttled")] * len(records)
        return [self._add(record, transport, expires_days) for record in records]

    def _add(self, record: Recordable, transport: str, expires_days: int) -> Verdict:
        event, key = record.event, (record.home, record.event.event_id)
        if len(record.home.encode()) > 2048:
            return MalformedItem("key_too_long")
        if key not in self.items:
            self.items[key] = Stored(event, (transport,))
            self.expires[key] = int(event.received_at.timestamp()) + expires_days * 86_400
            return Recorded.NEW
        stored = self.items[key]
        self.items[key] = stored._replace(via=tuple(sorted({*stored.via, transport})))
        before = self.together.setdefault(key, said(stored.event))
        if not events.disagree(before, said(event)):
            self.together[key] = events.joined(before, said(event))
            return Recorded.DUPLICATE
        content, known = events.content_hash(event), self.conflicts.setdefault(key, set())
        if content in known:
            return Recorded.DUPLICATE
        known.add(content)
        return Recorded.CONFLICT

    def events_of(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Event]:
        return [stored.event for stored in self.history(key, since=since, limit=limit)]

    def history(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Stored]:
        found = [stored for (home, _), stored in self.items.items() if home == f"P#{key}"]
        found = [stored for stored in found if since is None or stored.event.occurred_at >= since]
        return sorted(found, key=lambda stored: (stored.event.occurred_at, stored.event.event_id))[-limit:]

    def of_campaign(self, campaign: str) -> Iterator[Stored]:
        for stored in self.items.values():
            about = stored.event.campaign
            if about and campaign in (about.id, about.name, about.journey_id, about.journey_name):
                yield stored

    def of_trigger(self, name: str) -> Iterator[Event]:
        told = ("message_requested", "message_skipped")
        for stored in self.items.values():
            if stored.event.type in told and stored.event.properties.get("trigger") == name:
                yield stored.event


def said(event: Event) -> dict[str, Any]:
    """What an event says, as JSON has it."""
    return events.said(msgspec.json.decode(events.encode(event)))


class FakeArchive:
    """The raw archive in a dict. `failure` is raised by the next `keep`."""

    def __init__(self) -> None:
        self.kept: dict[str, RawDelivery] = {}
        self.failure: Exception | None = None

    def keep(self, deliveries: Sequence[RawDelivery]) -> list[str]:
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        name = "+".join(delivery.delivery_id for delivery in deliveries)
        pointers = [f"raw/{name}#{index}" for index in range(len(deliveries))]
        self.kept.update(zip(pointers, deliveries, strict=True))
        return pointers

    def read(self, pointer: str) -> RawDelivery:
        return self.kept[pointer]


class FakeQuarantine:
    """Quarantine in a dict, entries as JSON, because that is what they have to survive."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.failure: Exception | None = None

    def put(self, entry: Quarantined) -> None:
        if self.failure:
            raise self.failure
        self.entries[entry.id] = msgspec.json.encode(entry._asdict())

    def list(self, *, reason: str | None = None, limit: int = 100) -> Iterator[Quarantined]:
        newest = [key for key in reversed(self.entries) if reason is None or key.split("/")[1] == reason]
        newest.sort(key=lambda key: key[:10], reverse=True)
        yield from map(self.get, newest[:limit])

    def get(self, id: str) -> Quarantined:
        fields = msgspec.json.decode(self.entries[id])
        return Quarantined(**{**fields, "quarantined_at": datetime.fromisoformat(fields["quarantined_at"])})

    def remove(self, id: str) -> None:
        self.entries.pop(id, None)


class FakeBus:
    """The bus as a list. `refuses` says which event ids are not accepted."""

    def __init__(self, refuses: frozenset[str] = frozenset()) -> None:
        self.events: list[Event] = []
        self.refuses = refuses

    def put(self, events: Iterable[Event]) -> list[Event]:
        given = list(events)
        self.events += [event for event in given if event.event_id not in self.refuses]
        return [event for event in given if event.event_id in self.refuses]


class FakeConnections:
    """Connections and secrets as given."""

    def __init__(self, *connections: Connection, secrets: Mapping[str, Sequence[bytes]] | None = None) -> None:
        self._connections = {(found.platform, found.name): found for found in connections}
        self._secrets = secrets or {}

    def find(self, platform: str, name: str) -> Connection:
        try:
            return self._connections[platform, name]
        except KeyError:
            raise UnknownConnection(f"{platform}/{name}") from None

    def of_platform(self, platform: str, *, missed: bool = False) -> Sequence[Connection]:
        return [found for found in self._connections.values() if found.platform == platform]

    def secrets(self, connection: Connection) -> Sequence[bytes]:
        return self._secrets.get(connection.name, ())


class FakeDeliveryQueue:
    """RawQueue as a list. `away` makes it refuse."""

    def __init__(self, away: bool = False) -> None:
        self.deliveries: list[RawDelivery] = []
        self.away = away

    def put(self, delivery: RawDelivery) -> None:
        if self.away:
            raise TryAgain("the queue is throttled")
        self.deliveries.append(delivery)


class FakeRequests:
    """Request ids in a dict."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], str] = {}

    def first(self, connection: str, request: str, content: str) -> str:
        return self.known.setdefault((connection, request), content)


class FakeOutside:
    """The world as a dict of documents; `asked` is every address fetched."""

    def __init__(self, **documents: bytes) -> None:
        self.documents: dict[str, bytes] = documents
        self.asked: list[str] = []

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.documents:
            raise TryAgain("nobody answers")
        return self.documents[url]


class FakePositions:
    """Positions of streams in a dict. `killed` is raised where an offset would be kept, `away` everywhere."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, datetime]] = {}
        self.read_to: dict[str, str] = {}
        self.killed: BaseException | None = None
        self.away = False
        self._holders = 0

    def take(self, stream: str, *, now: datetime, until: datetime) -> Position | None:
        self._reach()
        if stream in self.held and self.held[stream][1] > now:
            return None
        self._holders += 1
        self.held[stream] = (str(self._holders), until)
        return Position(stream, str(self._holders), self.read_to.get(stream, ""))

    def keep(self, position: Position, offset: str) -> bool:
        self._reach()
        if self.killed:
            raise self.killed
        if self.held[position.stream][0] != position.holder:
            return False
        self.read_to[position.stream] = offset
        return True

    def release(self, position: Position) -> None:
        self._reach()
        holder, _ = self.held[position.stream]
        if holder == position.holder:
            self.held[position.stream] = (holder, datetime.min.replace(tzinfo=UTC))

    def _reach(self) -> None:
        if self.away:
            raise TryAgain("the table is throttled")


class FakeLedger:
    """The ledger's sheets in a dict. `away` is how many of the next `note` calls cannot be done."""

    def __init__(self) -> None:
        self.kept: dict[datetime, dict[str, Sheet]] = {}
        self.away = 0

    def note(self, sheets: Iterable[Sheet]) -> None:
        for sheet in sheets:
            if self.away:
                self.away -= 1
                raise TryAgain("the ledger cannot be written")
            self.kept.setdefault(sheet.hour, {})[sheet.name] = msgspec.convert(msgspec.to_builtins(sheet), Sheet)

    def sheets(self, hour: datetime) -> Iterator[Sheet]:
        yield from self.kept.get(hour, {}).values()


def stream_record(event: Event, sequence: str, *, name: str = "INSERT", sk: str | None = None) -> dict[str, Any]:
    """A record of EventsTable's stream as Lambda hands it over."""
    keys = {"pk": {"S": "P#id:cust-1"}, "sk": {"S": sk or f"E#{event.event_id}"}}
    image = {**keys, "body": {"S": events.encode(event).decode()}, "via": {"SS": ["webhook"]}, "ttl": {"N": "1"}}
    return {
        "eventID": sequence,
        "eventName": name,
        "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": keys, "NewImage": image, "SequenceNumber": sequence, "StreamViewType": "NEW_IMAGE"},
    }


class FakeCatalogues:
    """CatalogueTable as dicts."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Product]] = {}
        self.lists: dict[str, Mapping[str, list[str]]] = {}
        self.times: dict[str, datetime] = {}
        self.leases: dict[str, datetime] = {}
        self.told: dict[tuple[str, datetime], News] = {}

    def take(self, name: str, *, now: datetime, until: datetime) -> bool:
        if name in self.leases and self.leases[name] > now:
            return False
        self.leases[name] = until
        return True

    def release(self, name: str) -> None:
        self.leases.pop(name, None)

    def loaded_at(self, name: str) -> datetime | None:
        return self.times.get(name)

    def products(self, name: str, ids: Iterable[str]) -> dict[str, Product]:
        held = self.held.get(name, {})
        return {id_: held[id_] for id_ in ids if id_ in held}

    def best(self, name: str, categories: Iterable[str]) -> dict[str, list[str]]:
        lists = self.lists.get(name, {})
        return {one: lists[one] for one in categories if one in lists}

    def everything(self, name: str) -> dict[str, Product]:
        return dict(self.held.get(name, {}))

    def write(self, name: str, products: Iterable[Product], gone: Iterable[str]) -> None:
        held = self.held.setdefault(name, {})
        held.update({one.id: one for one in products})
        for id_ in gone:
            held.pop(id_, None)

    def tell(self, name: str, news: News) -> None:
        self.told.setdefault((name, news.as_of), news)

    def news(self, name: str, since: datetime) -> list[News]:
        return [one for (of, at), one in sorted(self.told.items()) if of == name and at >= since]

    def finish(self, name: str, best: Mapping[str, list[str]], loaded_at: datetime) -> None:
        self.lists[name], self.times[name] = best, loaded_at
