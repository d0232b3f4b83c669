"""What each batch notes in the ledger, and the check of the hours that are over (`espial.ledger`, goal 27)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import msgspec

from espial.deliveries import RawDelivery
from espial.errors import Refused, TryAgain
from espial.events import Event
from espial.ledger import FED_BY, GRACE, KEPT, PATIENCE, Balance, Entry, Ledger, Sheet, balances, hour_of
from espial.own_events import PLATFORM as OURS
from espial.services.recorder import Report, Tally

RECORD, PUBLISH, ROUTE, FEED = "record", "publish", "route", "feed"
"""The stages."""

IDS_A_SHEET = 10_000
"""About 150 KB compressed, of the 400 that an item may have."""

MARGIN_MS = 10_000
"""Time left at which a check is given up."""

_START = -1


def of_deliveries(deliveries: Iterable[RawDelivery], tally: Tally, now: datetime) -> list[Sheet]:
    """The sheets of a batch of deliveries, retried ones included: nearly always one."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    ids: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for origin, outcome, event_id in tally.said:
        counts[origin][_verdict(outcome.verdict, outcome.what)] += 1
        if event_id:
            ids[origin][outcome.verdict].append(event_id)
    hours: defaultdict[datetime, list[Entry]] = defaultdict(list)
    for delivery in deliveries:
        unit = delivery.delivery_id
        entry = Entry(
            source=f"{delivery.platform}/{delivery.connection}",
            unit=unit,
            received=tally.received[unit],
            counts=dict(counts[unit]),
            ids=dict(ids[unit]),
        )
        hours[hour_of(delivery.received_at)].append(entry)
    return [sheet for hour, entries in hours.items() for sheet in _sheets(hour, RECORD, entries, now)]


class Stretch(NamedTuple):
    """Part of an export file, from one checkpoint to the next.

    `unit` names the chunk, `start` and `end` are places (None: its beginning). `ignored` are rows that report nothing,
    `damages` parts that cannot be read; `reasons` why these and single items are in quarantine.
    """

    source: str
    unit: str
    received_at: datetime
    start: int | None
    end: int | None
    last: bool
    ignored: int
    damages: int
    reasons: Mapping[str, int]


def counted(reports: Iterable[Report], tally: Tally) -> Iterator[Report]:
    """The reports of a stretch, counted as received before anything is done with them."""
    for report in reports:
        tally.received[""] += 1
        yield report


def of_stretch(stretch: Stretch, tally: Tally, now: datetime) -> list[Sheet]:
    """The sheets of a stretch, to be noted before its checkpoint: what is behind a checkpoint is in the ledger.

    Stretches that two workers begin at the same place, one of them in vain, are told apart by the places that
    later ones begin at.
    """
    counts = Counter({f"quarantined:{reason}": count for reason, count in stretch.reasons.items()})
    counts["ignored"] += stretch.ignored
    ids: defaultdict[str, list[str]] = defaultdict(list)
    for _, outcome, event_id in tally.said:
        if outcome.verdict != "quarantined":
            counts[outcome.verdict] += 1
        if event_id:
            ids[outcome.verdict].append(event_id)
    entry = Entry(
        source=stretch.source,
        unit=stretch.unit,
        span=(_START if stretch.start is None else stretch.start, _START if stretch.end is None else stretch.end),
        last=stretch.last,
        received=tally.received.total() + stretch.ignored + stretch.damages,
        counts=dict(+counts),
        ids=dict(ids),
    )
    return list(_sheets(hour_of(stretch.received_at), RECORD, [entry], now))


def of_events(stage: str, said: Iterable[tuple[Event, str]], now: datetime) -> list[Sheet]:
    """What became of events by their id: (event, verdict) at the PUBLISH stage, (event, consumer) at ROUTE.

    Espial's own events are left out: nobody sent them.
    """
    found: defaultdict[datetime, dict[str, dict[str, list[str]]]] = defaultdict(dict)
    for event, verdict in said:
        if event.platform != OURS:
            sources = found[hour_of(event.received_at)].setdefault(f"{event.platform}/{event.connection}", {})
            sources.setdefault(verdict, []).append(event.event_id)
    return [
        sheet
        for hour, by_source in found.items()
        for sheet in _sheets(hour, stage, [Entry(source=source, ids=ids) for source, ids in by_source.items()], now)
    ]


def of_feed(feed: str, said: Iterable[tuple[Event, str]], now: datetime) -> list[Sheet]:
    """What a batch of a feed did with each event: (event, outcome, `ignored:<why>` of those left out)."""
    return of_events(FEED, ((event, f"{FED_BY}{feed}:{outcome}") for event, outcome in said), now)


def note_deliveries(ledger: Ledger, deliveries: Sequence[RawDelivery], tally: Tally, now: datetime) -> None:
    """Note a batch; what cannot be noted now is retried, as its balance would be lost."""
    try:
        ledger.note(of_deliveries(deliveries, tally, now))
    except TryAgain as exc:
        for delivery in deliveries:
            tally.fail(delivery.delivery_id, exc)


def note_published(ledger: Ledger, said: Iterable[tuple[Event, str]], now: datetime) -> dict[str, Exception]:
    """Note what became of events from the stream; "ledger" -> why it cannot be done now, so the batch comes again."""
    try:
        ledger.note(of_events(PUBLISH, said, now))
    except TryAgain as exc:
        return {"ledger": exc}
    return {}


def note_arrived(ledger: Ledger, consumer: str, handled: Mapping[str, Event], now: datetime) -> dict[str, Exception]:
    """Note message id -> event that one of `CONSUMERS` has dealt with; message id -> why it has to come again."""
    try:
        ledger.note(of_events(ROUTE, ((event, consumer) for event in handled.values()), now))
    except TryAgain as exc:
        return dict.fromkeys(handled, exc)
    return {}


def _verdict(verdict: str, what: str) -> str:
    return f"{verdict}:{what}" if verdict == "quarantined" else verdict


def _sheets(hour: datetime, stage: str, entries: Iterable[Entry], now: datetime) -> Iterator[Sheet]:
    """Entries as sheets of at most IDS_A_SHEET ids; the ids of a large entry go on in others of its source."""
    page: list[Entry] = []
    room = IDS_A_SHEET
    for entry in entries:
        kept = entry
        pairs = [(verdict, event_id) for verdict, ids in entry.ids.items() for event_id in ids]
        while len(pairs) > room:
            page.append(msgspec.structs.replace(kept, ids=_by_verdict(pairs[:room])))
            yield Sheet(hour=hour, stage=stage, noted_at=now, entries=page)
            page, pairs, room, kept = [], pairs[room:], IDS_A_SHEET, Entry(source=entry.source)
        page.append(msgspec.structs.replace(kept, ids=_by_verdict(pairs)))
        room -= len(pairs)
    if page:
        yield Sheet(hour=hour, stage=stage, noted_at=now, entries=page)


def _by_verdict(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for verdict, event_id in pairs:
        found.setdefault(verdict, []).append(event_id)
    return found


def between(ledger: Ledger, start: datetime, end: datetime, platform: str | None = None) -> Iterator[Balance]:
    """The balances of all hours from that of `start` on, of a platform or `platform/connection`, or of all.

    Raises Refused (`bad_range`) unless the ledger can know all of it.
    """
    if not timedelta() < end - start <= KEPT:
        what = f"since must lie before until, by at most {KEPT.days} days: for so long the ledger is kept"
        raise Refused("bad_range", what)
    hour = hour_of(start)
    while hour < end:
        for one in balances(hour, partial(ledger.sheets, hour)):
            if platform is None or one.source == platform or one.source.startswith(f"{platform}/"):
                yield one
        hour += timedelta(hours=1)


def due(now: datetime) -> list[datetime]:
    """The hours to check now, each twice: when its work should be done, and when nothing may be open any more."""
    return [hour_of(now - GRACE) - timedelta(hours=1), hour_of(now - PATIENCE) - timedelta(hours=1)]


class _OutOfTime(Exception):
    """An hour of too many sheets to be read before this process ends."""


def unbalanced(ledger: Ledger, now: datetime, time_left: Callable[[], float]) -> list[Balance]:
    """What does not balance of the hours that are due, by source; `*` for an hour that could not be read in time.

    `time_left` gives the milliseconds this process still has.
    """
    found = []
    for hour in due(now):
        try:
            found += balances(hour, partial(_read, ledger, hour, time_left))
        except _OutOfTime:
            unread = Balance(hour, "*")
            unread.differ("unread", 1)
            found.append(unread)
    return [balance for balance in found if balance.state(now) == "unbalanced"]


def _read(ledger: Ledger, hour: datetime, time_left: Callable[[], float]) -> Iterator[Sheet]:
    for sheet in ledger.sheets(hour):
        if time_left() < MARGIN_MS:
            raise _OutOfTime
        yield sheet
