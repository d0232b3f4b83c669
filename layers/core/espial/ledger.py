"""The balance of what came in and what became of it, per source, stage and hour (goal 27).

    received  = recorded + duplicates + conflicts + quarantined + ignored
    recorded  = published + what stays off the bus
    published = arrived at each consumer
    recorded  = in a file + left out of it (by reason) + waiting, for each feed that covers the source

Nothing is added up when it happens, for whatever adds is wrong after a retry. A batch leaves a *sheet* instead, which
says what became of which delivery, stretch of a file, or event; reading puts the sheets of an hour together, and a
thing that several sheets tell of counts once. So sheets may come twice, late, in any order and in other batches
(docs/decisions/0010-the-ledger.md has the reasons, and what is left).

The hour is that of the delivery's receipt (a file's: when it was written to the bucket), whenever the work is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgspec

CONSUMERS = ("run_triggers", "route_notifications")
"""Whom every published event goes to, by the rules of the template."""

FED_BY = "feed:"
"""How the verdicts of feeds begin: `feed:<name>:<outcome>`."""

GRACE = timedelta(hours=2)
"""How long after its end an hour is given for what is still on its way."""

PATIENCE = timedelta(hours=26)
"""How long something may wait for a retry, or a file be read, before that is a difference by itself."""

KEPT = timedelta(days=35)
"""Longer than a delivery can come again: 14 days in its queue, 14 in the dead-letter queue."""

HELD = 2_000_000
"""Ids and units in memory at a time, 200 bytes each; an hour of more is read several times."""

MOST_READINGS = 1024

NAMED = 20
"""How many ids a difference names."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one sheet says of one source.

    source     `<platform>/<connection>`.
    unit       what was worked off: a delivery id, or a chunk of a file with the stretch `span` of it, whose `last` is
               True for the one that reached the chunk's end. Empty where only ids are told.
    received   items of the unit, counted before anything is done with them.
    counts     verdict -> items; `quarantined:<reason>`, and `retried` for what has to come again.
    ids        verdict -> events.
    """

    source: str
    unit: str = ""
    span: tuple[int, int] | None = None
    last: bool = False
    received: int = 0
    counts: dict[str, int] = {}
    ids: dict[str, list[str]] = {}


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch did at one stage, for one hour."""

    hour: datetime
    stage: str
    noted_at: datetime
    entries: list[Entry]

    @property
    def name(self) -> str:
        """The same for the same content, whenever it is noted."""
        content = msgspec.json.encode(self.entries, order="deterministic")
        return f"{self.stage}#{blake2b(content, digest_size=12).hexdigest()}"


class Ledger(Protocol):
    """Where sheets are kept."""

    def note(self, sheets: Iterable[Sheet]) -> None:
        """Returns once all are durable. Raises TryAgain otherwise; noting them again is harmless."""
        ...

    def sheets(self, hour: datetime) -> Iterator[Sheet]:
        """Every sheet of an hour, in no order."""
        ...


def hour_of(instant: datetime) -> datetime:
    """The hour that an instant lies in."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(slots=True)
class Difference:
    """Something that does not balance: `kind`, how many, and the first ids where events are concerned.

    unaccounted   items that were received and given no verdict
    overcounted   more verdicts than items
    unpublished   events that were recorded and never came out of the table's stream
    unrouted      events that were published and never arrived at a consumer
    unfed         events that were recorded and that a feed, which had others of the hour, never told of
    unexplained   events that came out of the stream and no sheet tells who recorded them
    pending       items that wait for a retry
    unfinished    chunks of files that are not read to their end
    unread        hours with more than could be checked in time
    """

    kind: str
    count: int
    ids: list[str] = field(default_factory=list)


_IN_FLIGHT = frozenset({"unexplained", "pending", "unfinished", "unfed"})


@dataclass(slots=True)
class Balance:
    """One source's hour. `off` (by reason) was recorded and stays off the bus; `routed` is by consumer.

    `feeds` is feed -> outcome -> events; one that waited and was fed counts as fed.
    """

    hour: datetime
    source: str
    received: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    ignored: int = 0
    pending: int = 0
    published: int = 0
    off: Counter[str] = field(default_factory=Counter)
    routed: Counter[str] = field(default_factory=Counter)
    feeds: dict[str, Counter[str]] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)

    def differ(self, kind: str, count: int, ids: Iterable[str] = ()) -> None:
        """Take a difference in, if it is one."""
        if count:
            known = self.differences.setdefault(kind, Difference(kind, 0))
            known.count += count
            known.ids = sorted([*known.ids, *ids])[:NAMED]

    def state(self, now: datetime) -> str:
        """`balanced`; `open` while what is missing may be on its way; `unbalanced`."""
        if not self.differences:
            return "balanced"
        age = now - self.hour - timedelta(hours=1)
        waits = age < GRACE or (age < PATIENCE and set(self.differences) <= _IN_FLIGHT)
        return "open" if waits else "unbalanced"


def plain(balance: Balance, now: datetime) -> dict[str, Any]:
    """The balance as JSON has it, for logs and programs: names of sources, counts and event ids, nobody's data."""
    return {
        "hour": f"{balance.hour:%Y-%m-%dT%HZ}",
        "source": balance.source,
        "state": balance.state(now),
        "record": {
            "received": balance.received,
            "recorded": balance.recorded,
            "duplicates": balance.duplicates,
            "conflicts": balance.conflicts,
            "quarantined": dict(sorted(balance.quarantined.items())),
            "ignored": balance.ignored,
            "pending": balance.pending,
        },
        "publish": {"published": balance.published, "off": dict(sorted((+balance.off).items()))},
        "route": dict(balance.routed),
        "feeds": {feed: dict(sorted(outcomes.items())) for feed, outcomes in sorted(balance.feeds.items())},
        "differences": [asdict(difference) for _, difference in sorted(balance.differences.items())],
    }


def balances(hour: datetime, read: Callable[[], Iterable[Sheet]], held: int = HELD) -> list[Balance]:
    """Every source's balance for an hour, by name; `read` gives the hour's sheets, as often as it is asked."""
    classes = 1
    while (found := _in_classes(hour, read, classes, held)) is None:
        classes *= 4
    for balance in found.values():
        balance.differ("overcounted", max(0, -balance.duplicates))
        balance.duplicates = max(0, balance.duplicates)
    return sorted(found.values(), key=lambda balance: balance.source)


def _in_classes(
    hour: datetime, read: Callable[[], Iterable[Sheet]], classes: int, held: int
) -> dict[str, Balance] | None:
    """One pass for each class of ids and units; None if they do not fit into memory."""
    found: dict[str, Balance] = {}
    for number in range(classes):
        books: defaultdict[str, _Book] = defaultdict(lambda number=number: _Book(classes, number))  # type: ignore[misc]
        taken = 0
        for sheet in read():
            for entry in sheet.entries:
                taken += books[entry.source].take(entry, sheet.noted_at)
            if taken > held and classes < MOST_READINGS:
                return None
        for source, book in books.items():
            book.close(found.setdefault(source, Balance(hour, source)))
    return found


class _Attempt(NamedTuple):
    """One sheet's word on a unit or stretch; the greatest counts: nothing left to retry, then the latest."""

    retried: int
    noted_at: datetime
    entry: Entry


_Span = tuple[tuple[int, int] | None, bool]


@dataclass(slots=True)
class _Book:
    """The sheets of one source and hour, as far as their ids and units are of one class."""

    classes: int
    number: int
    attempts: dict[str, dict[_Span, _Attempt]] = field(default_factory=dict)
    conflicts: int = 0
    ids: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def take(self, entry: Entry, noted_at: datetime) -> int:
        """Returns by how much the book has grown."""
        grown = 0
        for verdict, ids in entry.ids.items():
            known = self.ids[verdict]
            before = len(known)
            known.update(ids if self.classes == 1 else filter(self._mine, ids))
            grown += len(known) - before
        if entry.unit and self._mine(entry.unit):
            # Each was a write that only one attempt can have made, so they add up; so do the ids of `new`.
            self.conflicts += entry.counts.get("conflict", 0)
            attempt = _Attempt(-entry.counts.get("retried", 0), noted_at, msgspec.structs.replace(entry, ids={}))
            stretches, span = self.attempts.setdefault(entry.unit, {}), (entry.span, entry.last)
            other = stretches.get(span)
            grown += other is None
            if other is None or attempt[:2] > other[:2]:
                stretches[span] = attempt
        return grown

    def _mine(self, name: str) -> bool:
        return self.classes == 1 or crc32(name.encode()) % self.classes == self.number

    def close(self, balance: Balance) -> None:
        """Add what this book holds to the balance."""
        received = refused = pending = 0
        for stretches in self.attempts.values():
            entries = _followed(stretches.values())
            for entry in entries:
                received += entry.received
                pending += entry.counts.get("retried", 0)
                balance.ignored += entry.counts.get("ignored", 0)
                for verdict, count in entry.counts.items():
                    if verdict.startswith("quarantined:"):
                        balance.quarantined[verdict.partition(":")[2]] += count
                        refused += count
                refused += entry.counts.get("ignored", 0)
                left = entry.received - sum(entry.counts.values())
                balance.differ("unaccounted" if left > 0 else "overcounted", abs(left))
            balance.differ("unfinished", entries[-1].span is not None and not entries[-1].last)
        self._close_events(balance, received - refused - pending - self.conflicts)
        balance.received += received
        balance.pending += pending
        balance.conflicts += self.conflicts
        balance.differ("pending", pending)

    def _close_events(self, balance: Balance, reports: int) -> None:
        """`reports` are the items that say what is recorded, by themselves or by another."""
        ids = self.ids
        consumers = set(ids) & set(CONSUMERS)
        routed = set().union(*(ids[consumer] for consumer in consumers))
        published = ids["published"] | routed  # what arrived was published, by hand if need be
        inserted = published | ids["unwanted"] | ids["backfill"]
        unclaimed = inserted - ids["new"]
        # A worker that died, or whose answer was lost, before it could say `new`: its retry said `duplicate`.
        adopted = unclaimed & ids["duplicate"]
        recorded = ids["new"] | adopted
        balance.recorded += len(recorded)
        balance.duplicates += reports - len(recorded)
        balance.published += len(published)
        for reason in ("unwanted", "backfill"):
            balance.off[reason] += len(ids[reason] - published)
        missing = ids["new"] - inserted
        balance.differ("unpublished", len(missing), missing)
        strangers = unclaimed - adopted
        balance.differ("unexplained", len(strangers), strangers)
        for consumer in CONSUMERS:
            balance.routed[consumer] += len(ids[consumer])
        lost = ids["published"] - set[str].intersection(*(ids[consumer] for consumer in CONSUMERS))
        balance.differ("unrouted", len(lost), lost)
        self._close_feeds(balance, recorded)

    def _close_feeds(self, balance: Balance, recorded: set[str]) -> None:
        feeds: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
        for verdict, ids in self.ids.items():
            if verdict.startswith(FED_BY):
                feed, _, outcome = verdict.removeprefix(FED_BY).partition(":")
                feeds[feed][outcome] = ids
        for feed, outcomes in feeds.items():
            counts = balance.feeds.setdefault(feed, Counter())
            settled = set().union(*(ids for outcome, ids in outcomes.items() if outcome != "waiting"))
            counts.update({outcome: len(ids) for outcome, ids in outcomes.items() if outcome != "waiting"})
            if waiting := len(outcomes.get("waiting", set()) - settled):
                counts["waiting"] += waiting
            unfed = recorded - settled - outcomes.get("waiting", set())
            balance.differ("unfed", len(unfed), unfed)


def _followed(stretches: Collection[_Attempt]) -> list[Entry]:
    """The stretches of a chunk that were checkpointed: each ends where the next begins, the last at the chunk's end."""
    entries = [attempt.entry for attempt in stretches]
    beginning: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.span is None:
            return entries
        beginning[entry.span[0]].append(entry)
    starts = sorted(beginning)
    chosen = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        fitting = [entry for entry in beginning[start] if not entry.last and entry.span == (start, following)]
        chosen.append(max(fitting or beginning[start], key=lambda entry: (entry.last, entry.span)))
    return chosen
