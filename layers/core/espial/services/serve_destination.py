"""What every worker that hands notifications over shares: who works, what an outcome leaves in the books, and waking.

One worker at a time for each destination. Steps, and what a crash right after each leaves:

 enter           others wait until this worker's time is over
 take            they wait until the lease is over, and are taken then
 hand over       the same: the receiver gets them twice, under the same id
 keep evidence   the same, and the attempt is told of
 settle, release nothing
 change health   nothing: the next answers say it again

A receiver that fails is left alone more and more (`espial.notifications.retries`): what waits for it stays in the
outbox, in no queue, and holds up nobody else.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Attempt, Conditions, Evidence, Health, Notification, Outbox, State
from espial.notifications.retries import Verdict, after, again_at

LEASE = timedelta(minutes=10)
"""Longer than any worker lives."""
CLOCK = timedelta(minutes=1)
"""How often all destinations are looked at."""
MARGIN = 15.0
"""Seconds that are kept for the books."""

Tally = Counter[str]
"""Outcome -> notifications."""


class Tried(NamedTuple):
    """One hand-over, and what became of it."""

    notifications: tuple[Notification, ...]
    verdict: Verdict
    attempt: str
    at: datetime
    milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker(ABC):
    """The ports of all workers.

    `time_left` is this process's, in seconds; `token` gives ids of attempts; `wake` has destinations looked at after
    some seconds.
    """

    outbox: Outbox
    evidence: Evidence
    conditions: Conditions
    clock: Callable[[], datetime]
    time_left: Callable[[], float]
    chance: Callable[[], float]
    token: Callable[[], str]
    wake: Callable[[Iterable[str], float], None]
    monotonic: Callable[[], float] = time.monotonic

    @abstractmethod
    def call_seconds(self, destination: DestinationDefinition) -> float:
        """How long one hand-over may take; infinite for a destination of another process."""

    @abstractmethod
    def has_work(self, destination: DestinationDefinition) -> bool:
        """Whether something is to be handed over now."""

    @abstractmethod
    def serve(self, destination: DestinationDefinition, tally: Tally) -> None:
        """Hand over, as the only one who does."""

    def work(self, destination: DestinationDefinition) -> Tally:
        """Hand over what is due, until nothing is, it fails or time is over. Raises TryAgain when a store is away."""
        tally: Tally = Counter()
        name = destination.name
        while destination.enabled and self.enough(destination):
            # First of all a look: most who come by find nothing to do. And after the work another one, for somebody may
            # have found us here with something new, in the instant after our last look.
            if not (self.lets_through(self.conditions.health(name)) and self.has_work(destination)):
                break
            now = self.clock()
            holder = self.conditions.enter(name, now=now, until=now + timedelta(seconds=self.time_left()))
            if not holder:
                tally["busy"] += 1
                break
            try:
                self.serve(destination, tally)
            finally:
                self.conditions.leave(name, holder)
        return tally

    def change(self, name: str, verdicts: list[Verdict]) -> Health:
        """Who switches it on or off meanwhile is heard: then the answers count from there."""
        while True:
            before = self.conditions.health(name)
            health = after(before, verdicts, self.clock())
            if health == before or self.conditions.change(before, health):
                return health

    def lets_through(self, health: Health) -> bool:
        """Whether something may be handed over now."""
        if health.state == "probing":
            return health.probe_at is None or health.probe_at <= self.clock()
        return health.state == "open"

    def enough(self, destination: DestinationDefinition) -> bool:
        """Whether there is time for a call and its books."""
        return self.time_left() > self.call_seconds(destination) + MARGIN

    def note(
        self,
        name: str,
        lease: str,
        done: list[Tried],
        answers: list[Verdict],
        *,
        retry_for: timedelta,
        tally: Tally,
        in_order: bool = False,
    ) -> Health:
        """Evidence first, then what becomes of each, then how the destination is; `answers` has one of each call."""
        now = self.clock()
        due: dict[str, datetime] = {}
        settled: dict[State, list[str]] = {"delivered": [], "given_up": []}
        attempts = []
        for one in done:
            again = self._again(one, retry_for, now)
            due |= again
            over = [known.id for known in one.notifications if known.id not in again]
            settled["delivered" if one.verdict.outcome == "delivered" else "given_up"] += over
            tally[one.verdict.outcome] += len(one.notifications)
            attempts.append(_attempt(one, name, min(again.values(), default=None)))
        self.evidence.keep(attempts)
        for state, ids in settled.items():
            if ids:
                self.outbox.settle(name, lease, ids, state, now=now)
        if due:
            self.outbox.release(name, lease, due, now=now, in_order=in_order)
        tally["given_up"] += len(settled["given_up"])
        health = self.change(name, answers)
        self._wake(name, health, due, now)
        return health

    def _wake(self, name: str, health: Health, due: Mapping[str, datetime], now: datetime) -> None:
        """Have somebody look again when the next try is due, if that is before the clock does."""
        moment = health.probe_at or min(due.values(), default=None)
        if moment and health.state != "off" and moment - now < CLOCK:
            self.wake([name], (moment - now).total_seconds())

    def _again(self, one: Tried, retry_for: timedelta, now: datetime) -> dict[str, datetime]:
        """When each may be tried again; what found nobody home any more waits until somebody switches it on."""
        if one.verdict.outcome == "gone":
            return {known.id: now for known in one.notifications}
        if one.verdict.outcome != "failed":
            return {}
        chance, pause = self.chance(), one.verdict.pause
        moments = {
            known.id: again_at(known.attempts, retry_for, now, pause, lambda: chance) for known in one.notifications
        }
        return {known: moment for known, moment in moments.items() if moment}


def _attempt(one: Tried, destination: str, again: datetime | None) -> Attempt:
    return Attempt(
        id=one.attempt,
        destination=destination,
        notifications=tuple(known.id for known in one.notifications),
        at=one.at,
        milliseconds=one.milliseconds,
        outcome=one.verdict.outcome,
        status=one.verdict.status,
        reason=one.verdict.reason,
        answer=one.verdict.answer,
        again_at=again,
        replay=any(known.replayed for known in one.notifications),
    )
