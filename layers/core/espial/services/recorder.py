"""The one path from an item to a recorded event, for webhooks, exports, tracking calls and replays (DESIGN 1)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from espial.deliveries import Arrival, Item
from espial.errors import MalformedItem, TryAgain
from espial.normalise import Recordable, normalise
from espial.ports import EventStore, Quarantine, Quarantined, Recorded
from espial.sources import Source

INSERT_TOGETHER = 250
"""Records handed to the store at once: ten of its calls, so that its retries are shared."""


class Report(NamedTuple):
    """One item to record, or the reason why it could not even be read.

    raw         pointer to where it is kept whole (`key#line`).
    origin      what is retried as a whole when this item cannot be recorded now: a delivery id, a chunk id.
    position    which item of the origin, the same on a retry.
    facts       what else the quarantine should know, such as bucket, key and row of an export.
    """

    source: Source
    arrival: Arrival
    item: Item | MalformedItem
    raw: str
    origin: str
    position: int
    facts: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """What became of an item. `what` is the event's type, or the reason of a quarantined or retried one."""

    platform: str
    connection: str
    verdict: str
    what: str


@dataclass(slots=True)
class Tally:
    """The balance of a batch: every item is counted once (goal 27).

    `verdict` is one of new, duplicate, conflict, quarantined, retried. `failures` names each origin that
    has to be retried and why. For the ledger: `received`, origin -> items before anything is done with them, where
    whoever reads them counts them; and `said`, origin, outcome and (where it is stored) event id of every item.
    """

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: dict[str, Exception] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    said: list[tuple[str, Outcome, str]] = field(default_factory=list)

    def count(self, origin: str, outcome: Outcome, event_id: str = "") -> None:
        """What became of one item of the origin."""
        self.counts[outcome] += 1
        self.said.append((origin, outcome, event_id))

    def fail(self, origin: str, error: Exception) -> None:
        """The origin has to be retried; the first reason is kept."""
        self.failures.setdefault(origin, error)

    def total(self, verdict: str) -> int:
        """How many items got this verdict."""
        return sum(count for outcome, count in self.counts.items() if outcome.verdict == verdict)

    def totals(self) -> dict[str, int]:
        """Verdict -> items, for the log."""
        found: Counter[str] = Counter()
        for outcome, count in self.counts.items():
            found[outcome.verdict] += count
        return dict(found)


OWN_EXPIRES_DAYS = 60
"""How long our own events are kept: as long as limits may look back."""


def record_own(store: EventStore, record: Recordable) -> bool:
    """Insert one of our own events, which no delivery would bring again: raises whatever stands against it.

    Whether it is new.
    """
    verdict = store.add([record], transport="internal", expires_days=OWN_EXPIRES_DAYS)[0]
    if isinstance(verdict, Exception):
        raise verdict
    return verdict is Recorded.NEW


def entry_id(received_at: datetime, reason: str, *parts: str) -> str:
    """The id of a quarantine entry: the same for every retry of the same thing, and sortable by day."""
    digest = blake2b("\x1f".join((reason, *parts)).encode(), digest_size=12).hexdigest()
    return f"{received_at:%Y-%m-%d}/{reason}/{digest}"


class Recorder:
    """Normalises items and inserts them together, whatever their source; bad ones go to quarantine."""

    def __init__(self, store: EventStore, quarantine: Quarantine, now: datetime) -> None:
        self._store = store
        self._quarantine = quarantine
        self._now = now

    def record(self, reports: Iterable[Report], tally: Tally | None = None) -> Tally:
        """Record everything that can be; never raises for one item.

        A MalformedItem is quarantined and its neighbours go on. Whatever else goes wrong with an item is put
        down to its origin in `Tally.failures`; recording the rest of that origin again is harmless, since the
        insert is the dedupe.
        """
        tally = Tally() if tally is None else tally
        waiting: defaultdict[tuple[str, int], list[tuple[Report, Recordable]]] = defaultdict(list)
        for report in reports:
            if isinstance(report.item, MalformedItem):
                self._refuse(report, report.item, tally)
                continue
            try:
                ready = normalise(report.source, report.item, report.arrival, report.raw)
            except MalformedItem as exc:
                self._refuse(report, exc, tally)
            except Exception as exc:  # noqa: BLE001  a bug in one source must not stop the others
                self._fail(report, exc, tally)
            else:
                arrival = report.arrival
                group = (arrival.transport, arrival.connection.dedupe_days)
                waiting[group].append((report, ready))
                if len(waiting[group]) >= INSERT_TOGETHER:
                    self._insert(group, waiting.pop(group), tally)
        for group, batch in waiting.items():
            self._insert(group, batch, tally)
        return tally

    def _insert(self, group: tuple[str, int], batch: list[tuple[Report, Recordable]], tally: Tally) -> None:
        transport, expires_days = group
        try:
            verdicts = self._store.add([r for _, r in batch], transport=transport, expires_days=expires_days)
        except Exception as exc:  # noqa: BLE001  each origin is retried by itself
            for report, _ in batch:
                self._fail(report, exc, tally)
            return
        for (report, ready), verdict in zip(batch, verdicts, strict=True):
            match verdict:
                case Recorded():
                    event = ready.event
                    self._count(report, verdict.value, event.type.value, tally, event.event_id)
                case MalformedItem():
                    self._refuse(report, verdict, tally)
                case TryAgain():
                    self._fail(report, verdict, tally)

    def _refuse(self, report: Report, error: MalformedItem, tally: Tally) -> None:
        arrival = report.arrival
        entry = Quarantined(
            id=entry_id(arrival.received_at, error.reason, report.origin, str(report.position)),
            reason=error.reason,
            detail=error.detail,
            path=error.path,
            platform=report.source.name,
            connection=arrival.connection.name,
            quarantined_at=self._now,
            content={
                "kind": "item",
                "origin": report.origin,
                "position": report.position,
                "transport": arrival.transport,
                "received_at": arrival.received_at.isoformat(),
                "mode": arrival.mode,
                "raw": report.raw,
                "item": None if isinstance(report.item, MalformedItem) else report.item,
                **report.facts,
            },
        )
        try:
            self._quarantine.put(entry)
        except Exception as exc:  # noqa: BLE001  without its place in quarantine the item is not dealt with
            self._fail(report, exc, tally)
        else:
            self._count(report, "quarantined", error.reason, tally)

    def _fail(self, report: Report, error: Exception, tally: Tally) -> None:
        tally.fail(report.origin, error)
        self._count(report, "retried", type(error).__name__, tally)

    @staticmethod
    def _count(report: Report, verdict: str, what: str, tally: Tally, event_id: str = "") -> None:
        outcome = Outcome(report.source.name, report.arrival.connection.name, verdict, what)
        tally.count(report.origin, outcome, event_id)
