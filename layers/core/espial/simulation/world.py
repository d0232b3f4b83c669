"""Triggers under a simulated clock: what run_triggers and send_message do, one event and one timer after the other."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from espial import senders
from espial.events import Event
from espial.services.deliver import Deliverer, Outcome
from espial.services.run_triggers import Tally, TriggerRunner
from espial.simulation.memory import MemoryClaims, MemoryDecisions, MemoryPeople, MemoryPublished, Outbox
from espial.triggers.definition import Trigger


class _Timer(NamedTuple):
    due_at: datetime
    key: str
    message: dict[str, Any]


class World:
    """One stack in memory. `happens` is an event, `until` lets time pass; `outbox.taken` is what went out.

    `reacts` gives what comes of a message, by our own event of it.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger],
        *,
        providers: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, Mapping[str, Any]],
        now: datetime,
        reacts: Callable[[Event], Iterable[Event]] | None = None,
    ) -> None:
        self.now = now
        self.people = MemoryPeople()
        self.decisions = MemoryDecisions()
        self.outbox = Outbox(lambda: self.now)
        self.published = MemoryPublished(triggers, providers, templates)
        self.tally: Tally = Tally()
        self.reacts = reacts
        self._to_come: list[tuple[datetime, int, Event | _Timer]] = []
        self._set: set[tuple[datetime, str]] = set()
        self._numbers = count()
        store: Any = self.people  # of the EventStore only what triggers use
        self.runner = TriggerRunner(
            people=self.people, runs=self.people, decisions=self.decisions, timers=self, events=store
        )
        self.deliverer = Deliverer(
            people=self.people,
            runs=self.people,
            decisions=self.decisions,
            timers=self,
            claims=MemoryClaims(),
            events=store,
            published=self.published,
            sender=lambda _name, settings: self.outbox.over(senders.load(settings["sender"]).channel),
            clock=lambda: self.now,
        )

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        """See `ports.Timers.at`."""
        if (due_at, key) not in self._set:
            self._set.add((due_at, key))
            self._push(max(due_at, now), _Timer(due_at, key, dict(message)))

    def expect(self, event: Event) -> None:
        """The event will happen when its time comes."""
        self._push(event.occurred_at, event)

    def _push(self, at: datetime, what: Event | _Timer) -> None:
        heapq.heappush(self._to_come, (at, next(self._numbers), what))

    def happens(self, event: Event) -> Tally:
        """The event is recorded and handled, at its own time if that is still to come."""
        self.until(event.occurred_at)
        return self._handle(event)

    def _handle(self, event: Event) -> Tally:
        self.people.record(event)
        tally = self.runner.on_event(event, self.published, self.now)
        self.tally.update(tally)
        return tally

    def until(self, moment: datetime) -> None:
        """Let time pass: each timer fires, and each expected event happens, at its instant."""
        while self._to_come and self._to_come[0][0] <= moment:
            at, _, what = heapq.heappop(self._to_come)
            self.now = max(self.now, at)
            if isinstance(what, _Timer):
                self._set.remove((what.due_at, what.key))
                self.fires(what.message)
            else:
                self._handle(what)
        self.now = max(self.now, moment)

    def fires(self, message: Mapping[str, Any]) -> Outcome:
        """send_message gets a message from the SendQueue; the person may react to what it sends."""
        taken = len(self.outbox.taken)
        outcome = self.deliverer.deliver(message)
        if self.reacts is not None and len(self.outbox.taken) > taken:
            for event in self.reacts(self.people.own[-1]):
                self.expect(event)
        return outcome

    def live(self, events: Iterable[Event], until: datetime) -> None:
        """Everything that happens, in the order of its time, and what it leads to."""
        for event in sorted(events, key=lambda event: (event.occurred_at, event.event_id)):
            self.expect(event)
        self.until(until)
