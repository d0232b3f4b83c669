"""EventsTable's stream -> the files of a feed, each event in exactly one of them, whatever crashes (A13 to A24).

A run reads the stream from where the last batch ended, ties responses to their sends, makes files and commits them
with the new positions in one write. Everything before the commit may be done again: files lie under the run's own
token, and what it leaves in the index counts only once its token is committed. Everything after it can be read from
what was committed. So there is one writer at a time, and no order of crashes feeds an event twice or never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import replace

from espial.errors import TryAgain
from espial.events import Event
from espial.feeds import correlation, records
from espial.feeds.assembly import Assembly
from espial.feeds.correlation import Candidate, Match, Ties
from espial.feeds.definition import FeedDefinition, LayoutDefinition
from espial.feeds.files import (
    Batch,
    Entry,
    FeedArchive,
    FeedBook,
    Page,
    Positions,
    SendIndex,
    Standing,
    TableStream,
    Waiting,
)
from espial.ledger import Ledger
from espial.services.ledger import of_feed
from espial.vocabulary import EventType

FED, IGNORED, WAITING, UNMATCHED, REJECTED = "fed", "ignored", "waiting", "unmatched", "rejected"

_VERDICTS = {True: FED, False: REJECTED, None: f"{IGNORED}:no_layout"}
"""By what became of its row."""

SAME_SEND = f"{IGNORED}:same_send"

NO_SEND, CROWDED, PARENT_REJECTED = "no_campaign_event", "too_many_waiting", "parent_rejected"
"""Why a response has no row."""

MOST_SENDS = 500
"""Kept under one key: of one campaign to one person."""

MOST_WAITING = 500
"""Under one key: one person's responses to one campaign whose send is not known."""

MOST_OVERDUE = 5000
"""Responses given up in one batch; a batch later there are more."""

LEASE = timedelta(minutes=16)
"""Longer than a function may live, so that a writer whose right has ended has ended as well."""

MARGIN_MS = 300_000
"""Time left at which no further batch is begun: more than the largest takes."""

MOST_PAGES = 2000
"""Of the stream in one run: two million records, so that the run ends in time."""


SETTLES = timedelta(minutes=5)
"""After midnight, until a day's log is finished: what was received before it is recorded by then."""


class Written(NamedTuple):
    """What a run did: `busy` (somebody else writes), `early` (too few events, too soon), `nothing`, or `committed`.

    `more`: it stopped at a file's worth of events, so there is work for another run at once.
    """

    outcome: str
    batch: Batch | None = None
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedWriter:
    """Writes one feed.

    `account` and `send` tell of an event its connection's account, and which type its sends are of. `token` makes a new
    random name.
    """

    feed: FeedDefinition
    layouts: Mapping[str, LayoutDefinition]
    account: Callable[[Event], str]
    send: Callable[[Event], EventType | None]
    stream: TableStream
    index: SendIndex
    book: FeedBook
    archive: FeedArchive
    ledger: Ledger
    clock: Callable[[], datetime]
    token: Callable[[], str]

    def run(self, *, at_once: bool = False) -> Written:
        """Write a batch if it is time, or `at_once`. Raises TryAgain, with nothing committed."""
        now = self.clock()
        standing = self.book.take(self.feed.name, now=now, until=now + LEASE)
        if standing is None:
            return Written("busy")
        try:
            return self._run(standing, now, at_once=at_once)
        finally:
            self.book.release(standing)

    def _run(self, standing: Standing, now: datetime, *, at_once: bool) -> Written:
        reading = _Reading(self, standing)
        work = _Work(self, standing, now)
        due = at_once or work.turns or standing.closed_at is None or now - standing.closed_at >= self.feed.rotate.after
        if not due and len(reading.events) < self.feed.rotate.rows:
            return Written("early")
        work.take(reading.events)
        batch = work.batch(reading)
        if batch is None:
            self.book.skip(standing, reading.positions, work.due_from)
            work.tidy()
            return Written("nothing")
        self.ledger.note(of_feed(self.feed.name, work.said, now))
        if not self.book.commit(standing, batch, work.series, work.due_from):
            raise TryAgain(f"another writer of feed {self.feed.name} got in between")
        work.tidy()
        return Written("committed", batch, more=reading.more)


def batches(writer: FeedWriter, time_left: Callable[[], float], *, at_once: bool = False) -> Iterator[Written]:
    """Runs of a writer while there is more than a file's worth of events, and time for another (`time_left` in ms)."""
    while True:
        written = writer.run(at_once=at_once)
        yield written
        if not written.more or time_left() < MARGIN_MS:
            return


class _Reading:
    """The stream from where the last batch ended, up to a file's worth of events that concern the feed."""

    def __init__(self, to: FeedWriter, standing: Standing) -> None:
        self.events: list[Event] = []
        self.positions: Positions = standing.positions
        self.gap = self.more = False
        for number, page in enumerate(to.stream.read(standing.positions), 1):
            self._take(page, to.feed)
            if len(self.events) >= to.feed.rotate.rows or number == MOST_PAGES:
                self.more = True
                return

    def _take(self, page: Page, feed: FeedDefinition) -> None:
        chosen = feed.connections
        self.events += (event for event in page.events if not chosen or event.connection in chosen)
        self.positions = page.positions
        self.gap = self.gap or page.gap


class _Tied(NamedTuple):
    event: Event
    tied: Ties


@dataclass(slots=True)
class _Work:
    """One batch being made."""

    to: FeedWriter
    standing: Standing
    now: datetime
    token: str = ""
    said: list[tuple[Event, str]] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _assembly: Assembly = field(init=False)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _waited: dict[str, Waiting] = field(default_factory=dict)
    _kept: list[Waiting] = field(default_factory=list)
    _settled: dict[str, datetime] = field(default_factory=dict)
    due_from: datetime | None = None

    def __post_init__(self) -> None:
        self.token = self.to.token()
        self.series = dict(self.standing.series)
        number, open_day = self.standing.number + 1, self.standing.open_day
        self._assembly = Assembly(self.to.feed, self.to.layouts, number, self.now, open_day)

    @property
    def turns(self) -> bool:
        """Whether it finishes a day's log, so that others may wait for this batch, even an empty one."""
        return bool(self.standing.open_day) and self.standing.open_day < self._open_day()

    def _open_day(self) -> str:
        """The day whose log is written now; none where a feed has other layouts."""
        return f"{(self.now - SETTLES).astimezone(UTC):%Y-%m-%d}" if self._assembly.is_log else ""

    def take(self, read: Iterable[Event]) -> None:
        """Make rows of events, and of the responses that waited for them or have waited long enough."""
        events = {event.event_id: event for event in read}.values()
        sends: list[_Tied] = []
        responses: list[_Tied] = []
        for event in events:
            if self._assembly.is_log:
                self._log(event)
                continue
            tied = correlation.ties(event, self.to.account(event))
            role = records.role_of(event, tied, self.to.feed, self.to.send(event))
            match role.kind:
                case records.SEND:
                    sends.append(_Tied(event, tied))
                case records.RESPONSE:
                    responses.append(_Tied(event, tied))
                    self._consent(event)  # whether it finds its send or not, and at once
                case records.IGNORED | records.CONSENT:
                    self._say(event, FED if self._consent(event) else f"{IGNORED}:{role.why or 'no_campaign'}")
                case kind:
                    self._onboarding(event, kind)
        overdue = self._overdue()
        keys = {key for found in (*sends, *responses) for key in found.tied.keys}
        self._load(keys | {key for found in responses for key in self._stand_in_keys(found)}, overdue)
        for found in sends:
            self._send(found)
        ready = [one.event for one in self._ready(overdue)]
        responses += [_Tied(event, correlation.ties(event, self.to.account(event))) for event in ready]
        for found in sorted(responses, key=lambda one: (one.event.occurred_at, one.event.event_id)):
            self._response(found, expired=self._is_over(found.event.event_id))

    def batch(self, reading: _Reading) -> Batch | None:
        """The batch, its files and all it leaves in the index durable; None if there is nothing to commit."""
        files = []
        for file, content in self._assembly.files(self.series):
            self.to.archive.put(self.to.feed.name, self.token, file.name, content)
            files.append(file)
        if not (files or self._kept or self.said or reading.gap or self.turns):
            return None
        self.to.index.put({key: self._entries[key] for key in sorted(self._changed)})
        self.to.index.keep(self._kept)
        self.counts += Counter(verdict for _, verdict in self.said)
        for maker in self._assembly.makers:
            self.counts += Counter(values_cut=maker.cut, values_blanked=maker.blanked)
        return Batch(
            feed=self.to.feed.name,
            number=self.standing.number + 1,
            token=self.token,
            closed_at=self.now,
            files=tuple(files),
            positions=dict(reading.positions),
            counts=dict(self.counts),
            gap=reading.gap,
            # Of what is left in the stream some may be of the day before.
            open_day=self.standing.open_day if reading.more else self._open_day(),
        )

    def tidy(self) -> None:
        """What this batch settled need not be reminded of. Where that fails, the next batch finds so."""
        with suppress(TryAgain):
            self.to.index.remind_no_more(self._settled)

    # -- what is known

    def _overdue(self) -> set[str]:
        """Responses whose time is over, a batch's worth of them; notes from when on others may be."""
        since = self.standing.due_from or self.standing.closed_at or self.now
        found = list(islice(self.to.index.due(since, self.now), MOST_OVERDUE))
        self.due_from = since if len(found) == MOST_OVERDUE else self.now
        return set(found)

    def _load(self, keys: set[str], overdue: set[str]) -> None:
        """The entries of the keys, without what a batch left there that was never committed."""
        found = self.to.index.entries(sorted(keys))
        waiting = {event_id for entry in found.values() for event_id in entry.waiting} | overdue
        known = self.to.index.waiting(sorted(waiting))
        more = {key for one in known.values() for key in one.keys} - keys
        found |= self.to.index.entries(sorted(more))
        tokens = {send.token for entry in found.values() for send in entry.sends}
        tokens |= {token for one in known.values() for token in (one.kept_by, one.fed_by) if token}
        committed = self.to.book.committed(self.to.feed.name, sorted(tokens))
        self._waited = {
            event_id: one for event_id, one in known.items() if one.kept_by in committed and one.fed_by not in committed
        }
        self._settled |= {event_id: one.until for event_id, one in known.items() if one.fed_by in committed}
        for key, entry in found.items():
            sends = (send for send in entry.sends if send.token in committed)
            still = tuple(event_id for event_id in entry.waiting if event_id in self._waited)
            self._entries[key] = Entry(tuple(sends), still)

    def _ready(self, overdue: set[str]) -> list[Waiting]:
        """Waiting responses that may have a send now, or whose time is over."""
        return [
            one
            for event_id, one in self._waited.items()
            if (event_id in overdue and self._is_over(event_id)) or not self._changed.isdisjoint(one.keys)
        ]

    def _is_over(self, event_id: str) -> bool:
        return event_id in self._waited and self._waited[event_id].until <= self.now

    # -- what becomes of an event

    def _log(self, event: Event) -> None:
        """A row for the event by itself: it needs no send, and waits for none."""
        feed = self.to.feed
        if why := records.unlogged(event, feed):
            self._say(event, f"{IGNORED}:{why}")
            return
        facts = records.logged(event, feed, records.naming(feed, event))
        self._say(event, _VERDICTS[self._assembly.add("event", event, facts)])

    def _send(self, found: _Tied) -> None:
        event, tied = found
        shelf = {key: self._entry(key).sends for key in tied.keys}
        named = correlation.campaign_event_id(event, tied, shelf)
        # Several sends may have one tie: a push to each device of a person, a send after its stand-in.
        known = any(send.id == named for sends in shelf.values() for send in sends)
        verdict = SAME_SEND if known else self._campaign_event(event, tied, tied.keys, named, records.ESP_SEND)[0]
        self._say(event, verdict)

    def _campaign_event(
        self, event: Event, tied: Ties, keys: Iterable[str], id: str, origin: str
    ) -> tuple[str, Candidate]:
        """Make its row, and have it found by the keys: what became of it, and how it is known."""
        facts = records.sent(event, self.to.feed, records.naming(self.to.feed, event), id, origin=origin)
        made = self._assembly.add("campaign_event", event, facts)
        known = correlation.candidate(
            id,
            tied,
            token=self.token,
            system=facts.system,
            onboarded=facts.onboarded_contact,
            rejected=made is False,
        )
        for key in keys:
            entry = self._entry(key)
            sends = sorted((*entry.sends, known), key=attrgetter("at"))
            self._set(key, Entry(tuple(sends[-MOST_SENDS:]), entry.waiting))
        return _VERDICTS[made], known

    def _response(self, found: _Tied, *, expired: bool) -> None:
        event, tied = found
        feed = self.to.feed
        matched = None
        if reports_sends := self.to.send(event) is not None:
            shelf = {key: self._entry(key).sends for key in tied.keys}
            matched = correlation.match(tied, shelf, window=feed.attribution_window)
        if matched is None and (not reports_sends or (expired and feed.unmatched == "synthesise")):
            matched = self._stand_in(event, tied)
        if matched is None:
            self._wait(event, tied, expired=expired)
            return
        facts = records.responded(event, feed, records.naming(feed, event), matched)
        if matched.send and matched.send.rejected:
            words = "its campaign event was rejected"
            self._assembly.reject("response_event", event, facts, PARENT_REJECTED, words)
            verdict = REJECTED
        else:
            verdict = _VERDICTS[self._assembly.add("response_event", event, facts)]
        self._settle(event, verdict)

    def _stand_in_keys(self, found: _Tied) -> list[str]:
        """What the stand-in of a response is found by, if it has one."""
        wanted = self.to.send(found.event) is None or self.to.feed.unmatched == "synthesise"
        made_up = correlation.stand_in(found.tied) if wanted else None
        return [made_up[1]] if made_up else []

    def _stand_in(self, event: Event, tied: Ties) -> Match | None:
        """A campaign event for a send that nobody reports, made once; found by its id, whatever the clock says."""
        made_up = correlation.stand_in(tied)
        if made_up is None:
            return None
        named, key = made_up
        known = next((send for send in self._entry(key).sends if send.id == named), None)
        if known is None:
            _, known = self._campaign_event(event, tied, {*tied.keys, key}, named, records.SYNTHESISED)
        return Match(named, "synthesised", 1.0, known)

    def _wait(self, event: Event, tied: Ties, *, expired: bool) -> None:
        if event.event_id in self._waited and not expired:
            return  # it waits on: the new send under one of its keys is not its own
        crowded = any(len(self._entry(key).waiting) >= MOST_WAITING for key in tied.keys)
        if expired or crowded:
            named = records.naming(self.to.feed, event)
            facts = replace(records.responded(event, self.to.feed, named, Match("", "", 0.0)), confidence="")
            reason = CROWDED if crowded and not expired else NO_SEND
            self._assembly.unmatched(event, facts, reason, "no campaign event came in time")
            self._settle(event, UNMATCHED)
            return
        until = self.now + self.to.feed.wait
        self._kept.append(Waiting(event=event, keys=tied.keys, until=until, kept_by=self.token))
        for key in tied.keys:
            entry = self._entry(key)
            self._set(key, Entry(entry.sends, (*entry.waiting, event.event_id)))
        self._say(event, WAITING)

    def _settle(self, event: Event, verdict: str) -> None:
        """It waits no more, once this batch is committed."""
        if waited := self._waited.get(event.event_id):
            self._kept.append(replace(waited, fed_by=self.token))
            self._settled[event.event_id] = waited.until
        self._say(event, verdict)

    def _consent(self, event: Event) -> bool:
        facts = records.authorized(event, records.naming(self.to.feed, event))
        return facts is not None and bool(self._assembly.add("contact_authorization", event, facts))

    def _onboarding(self, event: Event, kind: str) -> None:
        feed, assembly = self.to.feed, self._assembly
        named = records.naming(feed, event)
        facts = records.sent(event, feed, named, records.onboarding_id(event), origin=records.ONBOARDING)
        if kind == records.SELECTED:
            made = [assembly.add("offer_history", event, facts)]
        elif kind == records.COMPLETED:
            made = [assembly.add("offer_history_details", event, facts)]
            meta = event.properties.get("meta")
            for name, value in sorted(meta.items()) if isinstance(meta, Mapping) else ():
                line = replace(facts, field_name=name, field_value=str(value))
                made.append(assembly.add("offer_history_meta", event, line))
        else:
            state = "sent" if kind == records.ONBOARDED else "failed"
            made = [assembly.add("offer_history_states", event, replace(facts, state=state))]
            if kind == records.ONBOARDED:
                made.append(assembly.add("campaign_event", event, facts))
        self._say(event, _VERDICTS[False if False in made else True if True in made else None])

    def _say(self, event: Event, verdict: str) -> None:
        self.said.append((event, verdict))

    def _entry(self, key: str) -> Entry:
        return self._entries.get(key) or Entry()

    def _set(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._changed.add(key)
