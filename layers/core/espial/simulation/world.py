"""Triggers under a simulated clock: what run_triggers and send_message do, one event and one timer after the other."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from espial.events import Event
from espial.services.deliver import Deliverer, Outcome
from espial.services.run_triggers import Tally, TriggerRunner
from espial.simulation.memory import MemoryClaims, MemoryDecisions, MemoryPeople, MemoryPublished, Outbox
from espial.triggers.definition import Trigger


class World:
    """One stack in memory. `happens` is an event, `until` lets time pass; `outbox.taken` is what went out."""

    def __init__(
        self,
        triggers: Sequence[Trigger],
        *,
        providers: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, Mapping[str, Any]],
        now: datetime,
    ) -> None:
        self.now = now
        self.people = MemoryPeople()
        self.decisions = MemoryDecisions()
        self.outbox = Outbox(lambda: self.now)
        self.published = MemoryPublished(triggers, providers, templates)
        self.tally: Tally = Tally()
        self._timers: list[tuple[datetime, int, tuple[datetime, str], dict[str, Any]]] = []
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
            sender=lambda _name, _settings: self.outbox,
            clock=lambda: self.now,
        )

    def at(self, due_at: datetime, message: Mapping[str, Any], key: str, *, now: datetime) -> None:
        """See `ports.Timers.at`."""
        name = (due_at, key)
        if name not in self._set:
            self._set.add(name)
            heapq.heappush(self._timers, (max(due_at, now), next(self._numbers), name, dict(message)))

    def happens(self, event: Event) -> Tally:
        """The event is recorded and handled, at its own time if that is still to come."""
        self.until(event.occurred_at)
        self.people.record(event)
        tally = self.runner.on_event(event, self.published, self.now)
        self.tally += tally
        return tally

    def until(self, moment: datetime) -> None:
        """Let time pass; each timer fires at its instant."""
        while self._timers and self._timers[0][0] <= moment:
            at, _, name, message = heapq.heappop(self._timers)
            self._set.remove(name)
            self.now = max(self.now, at)
            self.fires(message)
        self.now = max(self.now, moment)

    def fires(self, message: Mapping[str, Any]) -> Outcome:
        """send_message gets a message from the SendQueue."""
        return self.deliverer.deliver(message)

    def live(self, events: Iterable[Event], until: datetime) -> None:
        """Everything that happens, in the order of its time, and what it leads to."""
        for event in sorted(events, key=lambda event: (event.occurred_at, event.event_id)):
            self.happens(event)
        self.until(until)
