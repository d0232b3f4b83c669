"""What the use-cases need of the outside world. `espial.stores` and `espial.senders` implement these.

Every port has one contract suite that its real implementation and its fake in `tests/fakes.py` both pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from espial.deliveries import Connection, RawDelivery
from espial.errors import TryAgain
from espial.events import Event, PersonKey
from espial.normalise import Recordable


class Connections(Protocol):
    """The published connections and their secrets, cached; a stale copy serves when a refresh fails."""

    def find(self, platform: str, name: str) -> Connection:
        """Raises UnknownConnection; TryAgain when nothing was ever loaded and the store is away."""
        ...

    def of_platform(self, platform: str) -> Sequence[Connection]:
        """Every enabled connection of a platform."""
        ...

    def secrets(self, connection: Connection) -> Sequence[bytes]:
        """The connection's accepted secrets, newest first. Raises TryAgain when they cannot be read."""
        ...


class DeliveryQueue(Protocol):
    """RawQueue: verified deliveries, durable before the platform is answered."""

    def put(self, delivery: RawDelivery) -> None:
        """Returns once durable; raises TryAgain otherwise. Bodies over the queue's limit travel as S3 pointers."""
        ...


class Recorded(StrEnum):
    """What became of one insert."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class EventStore(Protocol):
    """EventsTable: the insert is the dedupe and the outbox."""

    def add(self, records: Sequence[Recordable], *, transport: str, expires_days: int) -> list[Recorded | TryAgain]:
        """One verdict a record, in order.

        A duplicate over another transport adds that transport to the event's lineage; one whose content
        differs is kept beside it as a conflict.
        """
        ...

    def events_of(self, key: PersonKey, *, since: datetime | None = None, limit: int = 1000) -> list[Event]:
        """A person's events under one key, oldest first, read consistently."""
        ...


class RawArchive(Protocol):
    """Every delivery kept whole: one compressed object per recorded batch."""

    def keep(self, deliveries: Sequence[RawDelivery]) -> list[str]:
        """Returns one pointer (`key#index`) a delivery."""
        ...


class Quarantined(NamedTuple):
    """One thing in quarantine. `id` is the same on a retry, so nothing is kept twice."""

    id: str
    reason: str
    detail: str
    path: str
    platform: str
    connection: str
    quarantined_at: datetime
    content: Mapping[str, Any]


class Quarantine(Protocol):
    """Everything refused after it was accepted: a place, a reason and a way back (guarantee 4)."""

    def put(self, entry: Quarantined) -> None: ...
    def list(self, *, reason: str | None = None, limit: int = 100) -> Iterator[Quarantined]: ...
    def get(self, id: str) -> Quarantined: ...
    def remove(self, id: str) -> None: ...


class EventBus(Protocol):
    """EventBridge. Reads every receipt: a 200 can hold failures."""

    def put(self, events: Iterable[Event]) -> list[Event]:
        """Returns the events that were not accepted."""
        ...
