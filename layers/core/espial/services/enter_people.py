"""Who enters a trigger by its schedule, a date of theirs or its segment, and what a lost event would have started.

All people are walked over, part by part, and each step may be repeated:

 go on      the walk is ours for a while     nobody else's until then, and then anybody's
 look       nothing
 place      in the segment, not yet told     who looks next tells it
 record     the event, whose id is computed  recording it again changes nothing
 reach      how far it has come              the people since are looked at again
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import msgspec

from espial import own_events
from espial.campaigns import happened
from espial.campaigns.compiled import CampaignTrigger
from espial.catalogue import News, Product
from espial.errors import Refused
from espial.events import BEHAVIOUR_KEYS, PersonKey, fingerprint, home_key
from espial.people import Membership, PersonView
from espial.ports import Catalogues, EventStore, Members, People, Walk, Walks
from espial.services.recorder import record_own
from espial.services.run_triggers import TriggerRunner
from espial.triggers.decision import begin
from espial.triggers.definition import Trigger
from espial.triggers.entries import CatalogueNews, Occasion, Segment, holds
from espial.vocabulary import EventType

PARTS = 16
PAGE = 100
"""People between two notes of how far a walk has come."""
AT_ONCE = 8
HELD = timedelta(minutes=2)
"""How long a walk is its walker's after each note."""
MARGIN = 30.0
"""Seconds that a page may take."""
CATCH_UP = timedelta(days=2)
"""An occasion longer ago is not begun any more: the trigger was applied late, or the stack stood still."""
SETTLED = timedelta(minutes=2)
"""An event younger than that is on its usual way."""
REQUEST = re.compile(r"[A-Za-z0-9._:-]{1,100}")
FIRST = "first"
"""The walk that notes who is in a segment already."""

Tally = Counter[tuple[str, str]]
"""(trigger, what became of it): entered, looked_at, or of what was caught up with, what `run_triggers` says."""
Look = Callable[[PersonView], Counter[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Who is in which segment. Used with each event of a person, and by the walks."""

    people: People
    members: Members
    walks: Walks
    events: EventStore

    def look(self, trigger: Trigger, view: PersonView, now: datetime, *, first: bool | None = None) -> bool:
        """Note whether the person is in the segment; whether they entered the trigger by it.

        `first`: this is the walk that notes who is in already; None: whether that walk is over is looked up.
        """
        segment, key = trigger.entry.segment if trigger.entry else None, view.main
        if segment is None or key is None:
            return False
        before, inside = view.segments.get(trigger.name), holds(segment.when, view, now)
        if before is not None and (before.inside, before.told) == (inside, True):
            return False
        if before is not None and before.inside == inside:
            return self._tell(trigger.name, segment, key, before)
        if before is None and not inside:
            return False  # whoever was never in leaves nothing behind
        after = Membership(inside, now.astimezone(UTC).replace(microsecond=0), told=False)
        if before is None and not segment.existing:
            if first is None:
                first = not self.walks.is_done(trigger.name, FIRST)
            after = after._replace(told=first)
        if not self.members.place(key, trigger.name, before, after):
            return False  # somebody else has just looked
        return not after.told and self._tell(trigger.name, segment, key, after)

    def _tell(self, trigger: str, segment: Segment, key: PersonKey, change: Membership) -> bool:
        became, enters = "enter" if change.inside else "exit", False
        if became == segment.on:
            occasion = f"{became} {change.since:%Y-%m-%dT%H:%M:%SZ}"
            enters = record_own(self.events, own_events.trigger_entered(trigger, key, occasion, change.since, {}))
        self.members.place(key, trigger, change, change._replace(told=True))
        return enters


class Called(NamedTuple):
    """What came of a call: the event, and whether it is new."""

    event_id: str
    is_new: bool


def enter_by_call(
    trigger: Trigger | None,
    person: PersonKey,
    request: str,
    said: Mapping[str, Any],
    *,
    walks: Walks,
    events: EventStore,
    now: datetime,
) -> Called:
    """Have a person enter a trigger whose entry is `call`, once a request id (goal 38).

    Raises Refused: `unknown_trigger`, `not_by_call`, `not_running`, `bad_request_id`, `request_id_reused` (the id was
    used for something else), and TryAgain.
    """
    if trigger is None:
        raise Refused("unknown_trigger")
    if not (trigger.entry and trigger.entry.call):
        raise Refused("not_by_call", "`entry: {call: true}` lets people enter by a call")
    if trigger.status not in ("live", "staging"):
        raise Refused("not_running", f"the trigger is {trigger.status}")
    if not REQUEST.fullmatch(request):
        raise Refused("bad_request_id", "1 to 100 letters, digits, and any of . _ : -")
    content = fingerprint([str(person), msgspec.json.encode(said, order="deterministic").decode()])
    at, first = walks.remember(trigger.name, request, content, now=now.astimezone(UTC))
    if first != content:
        raise Refused("request_id_reused", "this id came with another person or other properties before")
    entered = own_events.trigger_entered(trigger.name, person, request, at, said)
    return Called(entered.event.event_id, record_own(events, entered))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """The ports of this use-case. `time_left` is this process's, in seconds."""

    segments: Segments
    catalogues: Catalogues
    runner: TriggerRunner
    clock: Callable[[], datetime]
    time_left: Callable[[], float]

    def enter(self, triggers: Iterable[Trigger], version: str) -> Tally:
        """Walk for every occasion that has come and is not over. Raises TryAgain when a store is away.

        `version` of the definitions: the one that runs begin under.
        """
        tally: Tally = Counter()
        for trigger in triggers:
            if trigger.status not in ("live", "staging"):
                continue
            for name, look in self._walks(trigger, version):
                self._walk(trigger, name, look, tally)
        return tally

    def _walks(self, trigger: Trigger, version: str) -> Iterator[tuple[str, Look]]:
        """Each walk that there is now, by name."""
        now = self.clock()
        entry = trigger.entry
        if entry and entry.timed and (occasion := entry.timed.latest(now)) and now - occasion.at < CATCH_UP:
            yield occasion.name, self._by_time(trigger, occasion)
        if entry and entry.segment:
            yield FIRST, self._by_segment(trigger, first=True)
            if self.segments.walks.is_done(trigger.name, FIRST):
                yield entry.segment.latest(now).name, self._by_segment(trigger, first=False)
        if entry and entry.catalogue:
            for news in self.catalogues.news(entry.catalogue.name, now - CATCH_UP):
                yield f"news {news.as_of:%Y-%m-%dT%H:%M:%SZ}", self._by_news(trigger, entry.catalogue, news)
        if trigger.fallback:
            at = Segment(when="true", every=trigger.fallback.every).latest(now).name
            yield f"fallback {at}", self._by_events(trigger, version)

    def _by_time(self, trigger: Trigger, occasion: Occasion) -> Look:
        def look(view: PersonView) -> Counter[str]:
            timed, key = trigger.entry.timed if trigger.entry else None, view.main
            said: Mapping[str, Any] | None = timed.about(view, occasion, self.clock()) if timed else None
            if said is None or key is None:
                return Counter()
            entered = own_events.trigger_entered(trigger.name, key, *occasion, said)
            return Counter(entered=int(record_own(self.segments.events, entered)))

        return look

    def _by_news(self, trigger: Trigger, wanted: CatalogueNews, news: News) -> Look:
        @cache  # of a walk, when the first is looked at
        def products() -> Mapping[str, Product]:
            return self.catalogues.products(wanted.name, wanted.ids(news))

        def look(view: PersonView) -> Counter[str]:
            now, key = self.clock(), view.main
            told = wanted.about(view, news, products(), now)
            if told is None or key is None:
                return Counter()
            product = {**msgspec.to_builtins(products()[told]), "old_price": news.dropped.get(told)}
            occasion = f"{wanted.name} {news.as_of:%Y-%m-%dT%H:%M:%SZ}"
            entered = own_events.trigger_entered(trigger.name, key, occasion, news.as_of, {"product": product})
            return Counter(entered=int(record_own(self.segments.events, entered)))

        return look

    def _by_segment(self, trigger: Trigger, *, first: bool) -> Look:
        def look(view: PersonView) -> Counter[str]:
            return Counter(entered=int(self.segments.look(trigger, view, self.clock(), first=first)))

        return look

    def _by_events(self, trigger: Trigger, version: str) -> Look:
        """What is recorded and started nothing is run as if it came from the bus: under the same keys."""

        def look(view: PersonView) -> Counter[str]:
            found: Counter[str] = Counter()
            now, back = self.clock(), trigger.fallback.back if trigger.fallback else timedelta(0)
            for event in view.events:
                candidate = begin(trigger, event, str(view.key))
                if candidate is None or not now - back <= event.occurred_at <= now - SETTLED:
                    continue
                known = [run for run in view.runs if (run.trigger, run.key) == (trigger.name, candidate.key)]
                if not any(candidate.order <= run.order for run in known):
                    home = PersonKey.parse(home_key(event, BEHAVIOUR_KEYS).removeprefix("P#"))
                    found[self.runner.start(trigger, event, replace(view, key=home), version, now) or "nothing"] += 1
            return found

        return look

    def _walk(self, trigger: Trigger, name: str, look: Look, tally: Tally) -> None:
        """From where it is to its end, or until time is over."""
        walks, now = self.segments.walks, self.clock()
        walk = walks.go_on(trigger.name, name, now=now, until=now + HELD)
        if walk is not None and not walk.done:
            self._announce(trigger, name, EventType.DELIVERY_STARTED)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while walk is not None and not walk.done and self.time_left() > MARGIN:
                keys = self.segments.members.everybody(walk.part, walk.after, PAGE)
                for found in pool.map(lambda key: self._look(key, look), keys):
                    tally.update({(trigger.name, what): count for what, count in found.items() if count})
                tally[trigger.name, "looked_at"] += len(keys)
                walk = _after(walk, keys)
                if walk.done:
                    self._announce(trigger, name, EventType.DELIVERY_COMPLETED)
                walks.reach(trigger.name, name, walk, until=self.clock() + HELD)
            if walk is not None and not walk.done:
                walks.reach(trigger.name, name, walk, until=self.clock())  # whoever comes next goes on

    def _announce(self, trigger: Trigger, name: str, type_: EventType) -> None:
        """That a campaign by schedule, whose walks are named after their time, has begun, or everybody has entered."""
        if isinstance(trigger, CampaignTrigger) and trigger.campaign.awards and trigger.entry:
            occasion = Occasion(name, datetime.fromisoformat(name))
            if not trigger.is_valid(occasion.at):
                return
            at = occasion.at if type_ is EventType.DELIVERY_STARTED else self.clock()
            record_own(self.segments.events, happened.delivery(trigger, occasion, type_, at))

    def _look(self, key: PersonKey, look: Look) -> Counter[str]:
        """Somebody with several keys is looked at under each, and does nothing twice: all lies under the main one."""
        return look(self.segments.people.load(key))


def _after(walk: Walk, keys: list[PersonKey]) -> Walk:
    if len(keys) == PAGE:
        return Walk(walk.part, str(keys[-1]))
    return Walk(walk.part + 1, done=walk.part + 1 == PARTS)
