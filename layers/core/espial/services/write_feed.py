"""EventsTable's stream -> the files of a feed, each event in exactly one of them, whatever crashes (A13 to A24).

A run reads the stream from where the last batch ended, ties responses to their sends, makes files and commits them
with the new positions in one write. Everything before the commit may be done again: files lie under the run's own
token, and what it leaves in the index counts only once its token is committed. Everything after it can be read from
what was committed. So there is one writer at a time, and no order of crashes feeds an event twice or never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

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

NO_SEND, NOTHING_IN_COMMON, PARENT_REJECTED = "no_campaign_event", "no_ties", "parent_rejected"
"""Why a response has no row."""

MOST_SENDS = 500
"""Kept under one key: of one campaign to one person."""

LEASE = timedelta(minutes=16)
"""Longer than a function may live, so that a writer whose right has ended has ended as well."""

MOST_PAGES = 2000
"""Of the stream in one run: two million records, so that the run ends in time."""


class Written(NamedTuple):
    """What a run did: `busy` (somebody else writes), `early` (too few events, too soon), `nothing`, or `committed`."""

    outcome: str
    batch: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedWriter:
    """Writes one feed.

    `account` and `send` tell of an event its connection's account, and which type its sends are of. `token` makes a new
    random name, `time_left` gives the milliseconds this process still has.
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
    now: datetime
    token: Callable[[], str]

    def run(self, *, at_once: bool = False) -> Written:
        """Write a batch if it is time, or `at_once`. Raises TryAgain, with nothing committed."""
        standing = self.book.take(self.feed.name, now=self.now, until=self.now + LEASE)
        if standing is None:
            return Written("busy")
        try:
            return self._run(standing, at_once=at_once)
        finally:
            self.book.release(standing)

    def _run(self, standing: Standing, *, at_once: bool) -> Written:
        reading = _Reading(self, standing)
        due = at_once or standing.closed_at is None or self.now - standing.closed_at >= self.feed.rotate.after
        if not due and len(reading.events) < self.feed.rotate.rows:
            return Written("early")
        work = _Work(self, standing)
        work.take(reading.events)
        batch = work.batch(reading)
        if batch is None:
            self.book.skip(standing, reading.positions)
            return Written("nothing")
        self.ledger.note(of_feed(self.feed.name, work.said, self.now))
        if not self.book.commit(standing, batch, work.series):
            raise TryAgain(f"another writer of feed {self.feed.name} got in between")
        return Written("committed", batch)


class _Reading:
    """The stream from where the last batch ended, up to a file's worth of events that concern the feed."""

    def __init__(self, to: FeedWriter, standing: Standing) -> None:
        self.events: list[Event] = []
        self.positions: Positions = standing.positions
        self.gap = False
        for number, page in enumerate(to.stream.read(standing.positions), 1):
            self._take(page, to.feed)
            if len(self.events) >= to.feed.rotate.rows or number == MOST_PAGES:
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
    token: str = ""
    said: list[tuple[Event, str]] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _assembly: Assembly = field(init=False)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _waited: dict[str, Waiting] = field(default_factory=dict)
    _kept: list[Waiting] = field(default_factory=list)
    _here: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.token = self.to.token()
        self.series = dict(self.standing.series)
        self._assembly = Assembly(self.to.feed, self.to.layouts, self.standing.number + 1, self.to.now)

    def take(self, read: Iterable[Event]) -> None:
        """Make rows of events, and of the responses that waited for them or have waited long enough."""
        events = {event.event_id: event for event in read}.values()
        sends: list[_Tied] = []
        responses: list[_Tied] = []
        for event in events:
            tied = correlation.ties(event, self.to.account(event))
            role = records.role_of(event, tied, self.to.feed, self.to.send(event))
            match role.kind:
                case records.SEND:
                    sends.append(_Tied(event, tied))
                case records.RESPONSE:
                    responses.append(_Tied(event, tied))
                case records.IGNORED | records.CONSENT:
                    self._say(event, FED if self._consent(event) else f"{IGNORED}:{role.why or 'no_campaign'}")
                case kind:
                    self._onboarding(event, kind)
        overdue = set(self.to.index.due(self.standing.closed_at or self.to.now, self.to.now))
        self._load({key for found in (*sends, *responses) for key in found.tied.keys}, overdue)
        for found in sends:
            self._send(found)
        self._here = {tied.event.event_id for tied in responses}
        ready = [one.event for one in self._ready(overdue)]
        responses += [_Tied(event, correlation.ties(event, self.to.account(event))) for event in ready]
        for found in sorted(responses, key=lambda one: (one.event.occurred_at, one.event.event_id)):
            event_id = found.event.event_id
            self._response(found, expired=event_id not in self._here and self._is_over(event_id))

    def batch(self, reading: _Reading) -> Batch | None:
        """The batch, its files and all it leaves in the index durable; None if there is nothing to commit."""
        files = []
        for file, content in self._assembly.files(self.series):
            self.to.archive.put(self.to.feed.name, self.token, file.name, content)
            files.append(file)
        if not (files or self._kept or self.said or reading.gap):
            return None
        # In this order: what waits is always found by its keys, also by a run that reads it from the stream again.
        self.to.index.put({key: self._entries[key] for key in sorted(self._changed)})
        self.to.index.keep(self._kept)
        self.counts += Counter(verdict for _, verdict in self.said)
        for maker in self._assembly.makers:
            self.counts += Counter(values_cut=maker.cut, values_blanked=maker.blanked)
        return Batch(
            feed=self.to.feed.name,
            number=self.standing.number + 1,
            token=self.token,
            closed_at=self.to.now,
            files=tuple(files),
            positions=dict(reading.positions),
            counts=dict(self.counts),
            gap=reading.gap,
        )

    # -- what is known

    def _load(self, keys: set[str], overdue: set[str]) -> None:
        """The entries of the keys, without what a batch left there that was never committed."""
        found = self.to.index.entries(sorted(keys))
        waiting = {event_id for entry in found.values() for event_id in entry.waiting} | overdue
        self._waited = self.to.index.waiting(sorted(waiting))
        more = {key for one in self._waited.values() for key in one.keys} - keys
        found |= self.to.index.entries(sorted(more))
        tokens = {send.token for entry in found.values() for send in entry.sends}
        tokens |= {one.fed_by for one in self._waited.values() if one.fed_by}
        committed = self.to.book.committed(self.to.feed.name, sorted(tokens))
        self._waited = {known: one for known, one in self._waited.items() if one.fed_by not in committed}
        for key, entry in found.items():
            sends = sorted((send for send in entry.sends if send.token in committed), key=attrgetter("at"))
            still = tuple(known for known in entry.waiting if known in self._waited)
            self._entries[key] = Entry(tuple(sends[-MOST_SENDS:]), still)

    def _ready(self, overdue: set[str]) -> list[Waiting]:
        """Waiting responses that may have a send now, or whose time is over.

        One that this batch read itself was kept by a batch that was never committed.
        """
        return [
            one
            for known, one in self._waited.items()
            if known not in self._here
            and ((known in overdue and self._is_over(known)) or not self._changed.isdisjoint(one.keys))
        ]

    def _is_over(self, event_id: str) -> bool:
        return self._waited[event_id].until <= self.to.now

    # -- what becomes of an event

    def _send(self, found: _Tied) -> None:
        event, tied = found
        named = correlation.campaign_event_id(event, tied)
        # Several sends may have one tie: a push to each device of a person, a send after its stand-in.
        known = any(send.id == named for key in tied.keys for send in self._entry(key).sends)
        verdict = SAME_SEND if known else self._campaign_event(event, tied, named, records.ESP_SEND)[0]
        self._say(event, verdict)

    def _campaign_event(self, event: Event, tied: Ties, id: str, origin: str) -> tuple[str, Candidate]:
        """Make its row, and have it found: what became of it, and how."""
        facts = records.sent(event, self.to.feed, records.naming(self.to.feed, event), id, origin=origin)
        made = self._assembly.add("campaign_event", event, facts)
        contact = facts.onboarded_contact
        known = correlation.candidate(id, tied, token=self.token, onboarded=contact, rejected=made is False)
        for key in tied.keys:
            entry = self._entry(key)
            self._set(key, Entry((*entry.sends, known), entry.waiting))
        return _VERDICTS[made], known

    def _response(self, found: _Tied, *, expired: bool) -> None:
        event, tied = found
        feed = self.to.feed
        shelf = {key: self._entry(key).sends for key in tied.keys}
        matched = correlation.match(tied, shelf, window=feed.attribution_window)
        if matched is None and (self.to.send(event) is None or (expired and feed.unmatched == "synthesise")):
            matched = self._stand_in(event, tied)
        if matched is None:
            self._wait(event, tied, expired=expired)
            return
        facts = records.responded(event, feed, records.naming(feed, event), matched)
        self._consent(event)
        if matched.send and matched.send.rejected:
            words = "its campaign event was rejected"
            self._assembly.reject("response_event", event, facts, PARENT_REJECTED, words)
            verdict = REJECTED
        else:
            verdict = _VERDICTS[self._assembly.add("response_event", event, facts)]
        self._settle(event, verdict)

    def _stand_in(self, event: Event, tied: Ties) -> Match | None:
        """A campaign event for a send that nobody reports."""
        made_up = correlation.synthesised_id(tied)
        if made_up is None:
            return None
        _, known = self._campaign_event(event, tied, made_up, records.SYNTHESISED)
        return Match(made_up, "synthesised", 1.0, known)

    def _wait(self, event: Event, tied: Ties, *, expired: bool) -> None:
        if event.event_id not in self._here and not expired:
            return  # it waits on: the new send under one of its keys is not its own
        if expired or not tied.keys:
            reason = NO_SEND if tied.keys else NOTHING_IN_COMMON
            named = records.naming(self.to.feed, event)
            facts = records.responded(event, self.to.feed, named, Match("", "", 0.0))
            self._consent(event)
            self._assembly.unmatched(event, facts._replace(confidence=""), reason, "no campaign event came in time")
            self._settle(event, UNMATCHED)
            return
        self._kept.append(Waiting(event=event, keys=tied.keys, until=self.to.now + self.to.feed.wait))
        for key in tied.keys:
            entry = self._entry(key)
            waiting = tuple(dict.fromkeys((*entry.waiting, event.event_id)))
            self._set(key, Entry(entry.sends, waiting))
        self._say(event, WAITING)

    def _settle(self, event: Event, verdict: str) -> None:
        """It waits no more, once this batch is committed."""
        if waited := self._waited.get(event.event_id):
            self._kept.append(Waiting(event=waited.event, keys=waited.keys, until=waited.until, fed_by=self.token))
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
                line = facts._replace(field_name=name, field_value=str(value))
                made.append(assembly.add("offer_history_meta", event, line))
        else:
            state = "sent" if kind == records.ONBOARDED else "failed"
            made = [assembly.add("offer_history_states", event, facts._replace(state=state))]
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
