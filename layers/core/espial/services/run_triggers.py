"""One event from the bus: take over what it says of its person, end the runs it ends, start or restart its own.

Steps for a run, and what a crash right after each leaves for the redelivery of the event:

 start  put the run             the run waits without a timer: the redelivery makes it
        create the timer        a timer too many: the redelivery makes the same again, and firing twice sends once
        note timer_at           nothing
 end    finish the run          the redelivery finds the run ended by this very event, and goes on
        decision, skipped event nothing: their ids are computed
 over   put the run, ended      the redelivery finds this very version ended, and goes on
        decision, skipped event nothing: their ids are computed

"Over" is a run whose end was recorded before its beginning was looked at, such as an order that overtook its cart: it
leaves what it would have left in the usual order (guarantee 6).

A timer pending earlier than a run's new due time is left alone: it fires early, finds the run not due, and is set
again. So an edit of a cart costs one write and no timer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from espial import own_events
from espial.errors import TryAgain
from espial.events import BEHAVIOUR_KEYS, Event, PersonKey, home_key, person_keys
from espial.people import PersonView
from espial.ports import Decisions, EventStore, People, Published, Runs, Timers
from espial.services.recorder import record_own
from espial.triggers.arms import assign
from espial.triggers.decision import Decision, Ended, advance, barred_by, begin, decide, exit_of, exited
from espial.triggers.definition import Trigger
from espial.triggers.run import Run, message
from espial.vocabulary import OWN_TYPES, EventType

MARGIN = timedelta(seconds=10)
"""How far ahead a pending timer must be to be relied on: more than two clocks may differ."""

SKEW = timedelta(seconds=1)
"""A run this near to being due, or past it, is left to the sender: it sees the same events, and only it knows whether
a message is on its way, which must not be booked as skipped."""

ATTEMPTS = 5
"""How often a run is looked at again when somebody else moved it meanwhile."""


class Segments(Protocol):
    """Who is in which segment (`espial.services.enter_people`)."""

    def look(self, trigger: Trigger, view: PersonView, now: datetime) -> bool:
        """Note whether the person is in the trigger's segment by now; whether they enter the trigger by that."""
        ...


Tally = Counter[tuple[str, str]]
"""(trigger, what became of it): started, restarted, late, over, unchanged, not_again, or the reason it ended for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRunner:
    """The ports of this use-case."""

    people: People
    runs: Runs
    decisions: Decisions
    timers: Timers
    events: EventStore
    segments: Segments | None = None

    def on_event(self, event: Event, published: Published, now: datetime) -> Tally:
        """Act on one event, however often it is delivered. Raises TryAgain when a store is away."""
        tally: Tally = Counter()
        ours = event.platform == own_events.PLATFORM and event.type in OWN_TYPES - {EventType.TRIGGER_ENTERED}
        if ours or not person_keys(event):
            return tally
        running = [trigger for trigger in published.triggers() if trigger.status in ("live", "staging")]
        watching = [trigger for trigger in running if event.type in trigger.watches]
        by_segment = [trigger for trigger in running if trigger.entry and trigger.entry.segment]
        if not watching and not by_segment:
            self.people.merge(event)
            return tally
        home = PersonKey.parse(home_key(event, BEHAVIOUR_KEYS).removeprefix("P#"))
        person = self.people.meet(event, home)
        for trigger in watching:
            for run in person.runs:
                if run.trigger == trigger.name:
                    own = published.trigger(run.trigger, run.definitions) or trigger
                    tally.update(self._ended(own, run, event, person, now))
            if started := self.start(trigger, event, person, published.version, now):
                tally[trigger.name, started] += 1
        for trigger in by_segment if self.segments else ():
            assert self.segments
            if self.segments.look(trigger, person, now):
                tally[trigger.name, "entered"] += 1
        return tally

    # -- ending

    def _ended(self, trigger: Trigger, run: Run, event: Event, person: PersonView, now: datetime) -> Tally:
        early = run.state == "waiting" and now + SKEW < run.due_at
        ended = exit_of(trigger, run, person) if early else None
        if ended is not None:
            return Tally([(trigger.name, self._end(trigger, run, person, ended, now))])
        if run.state == "exited" and run.ended_by == event.event_id:
            self._book_again(run, now)
        return Tally()

    def _end(self, trigger: Trigger, run: Run, person: PersonView, ended: Ended, now: datetime) -> str:
        decision = decide(trigger, run, person, now)
        finished = self.runs.finish(
            run,
            "exited",
            closed_at=ended.event.occurred_at,
            reason=decision.reason,
            ended_by=ended.event.event_id,
        )
        if not finished:  # a newer version moved in, or it was sent in this instant: decided before its next step
            return "unchanged"
        self._book(run, decision, ended.event.occurred_at, now)
        return decision.reason

    def _book(self, run: Run, decision: Decision, ended_at: datetime, now: datetime) -> None:
        self.decisions.record(run.person, decision, run, now=now)
        record_own(self.events, own_events.message_skipped(run, decision, at=ended_at))

    def _book_again(self, run: Run, now: datetime) -> None:
        """An event that ended a run, or began an ended one, is redelivered: a crash may have come before the books."""
        self._book(run, Decision("skip", run.reason), run.closed_at or run.due_at, now)

    # -- starting

    def start(self, trigger: Trigger, event: Event, person: PersonView, version: str, now: datetime) -> str | None:
        """Start or restart a run by an event, under this version of the definitions; None if it starts none."""
        candidate = begin(trigger, event, str(person.key))
        if candidate is None:
            return None
        candidate = replace(candidate, variant=assign(trigger, person.identity), definitions=version)
        return self._start(trigger, candidate, person, now)

    def _start(self, trigger: Trigger, candidate: Run, person: PersonView, now: datetime) -> str:
        run = _known(candidate, person)
        candidate = replace(candidate, person=run.person if run else candidate.person)
        ended = exit_of(trigger, candidate, person)  # what ends it may be there already: an order overtook its cart
        for _ in range(ATTEMPTS):
            following = advance(trigger, run, candidate)
            if following is run:
                return self._same(run, candidate, ended, now)
            if barred_by(trigger, candidate, person.runs) is not None:
                return "not_again"
            if ended is not None:
                if run is not None and run.state == "waiting" and run.due_at <= now + SKEW:
                    return "over"
                decision = decide(trigger, following, person, now)
                if self.runs.put(exited(following, ended), run):
                    self._book(following, decision, ended.event.occurred_at, now)
                    return decision.reason
            elif self.runs.put(following, run):
                self._arm(following, now)
                return "restarted" if run else "started"
            run = self.runs.get(candidate.person, candidate.trigger, candidate.key)  # somebody moved it meanwhile
        raise TryAgain(f"a run of {trigger.name} keeps changing")

    def _same(self, run: Run, candidate: Run, ended: Ended | None, now: datetime) -> str:
        """The candidate changes nothing; if the run is its own, its event is redelivered: a crash may have come."""
        if run.version == candidate.version and run.state == "waiting":
            self._arm(run, now)
        elif run.version == candidate.version and run.state == "exited":
            self._book_again(run, now)
        if ended is not None:
            return "over"
        return "late" if candidate.order < run.order else "unchanged"

    def _arm(self, run: Run, now: datetime) -> None:
        pending = run.timer_at is not None and now + MARGIN < run.timer_at <= run.due_at
        if pending or run.timer_at == run.due_at:
            return
        self.timers.at(run.due_at, message(run), f"{run.person}/{run.trigger}/{run.key}", now=now)
        self.runs.put(replace(run, timer_at=run.due_at), run)


def _known(candidate: Run, person: PersonView) -> Run | None:
    """The candidate's run as the view has it, whichever of the person's keys began it."""
    same = [run for run in person.runs if (run.trigger, run.key) == (candidate.trigger, candidate.key)]
    return max(same, key=lambda run: (*run.order, run.person), default=None)
