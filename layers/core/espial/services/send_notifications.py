"""What waits for a destination -> its address, by HTTP. One worker at a time for each destination.

Steps, and what a crash right after each leaves:

 enter           others wait until this worker's time is over
 take            they wait until the lease is over, and are taken then
 post            the same: the receiver gets them twice, under the same id
 keep evidence   the same, and the attempt is told of
 settle, release nothing
 change health   nothing: the next answers say it again

A receiver that fails is left alone more and more (`espial.notifications.retries`): what waits for it stays in the
outbox, in no queue, and holds up nobody else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple

import msgspec

from espial.answers import Answer, Http
from espial.errors import AnswerLost, Refused, TryAgain
from espial.events import fingerprint
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Attempt, Conditions, Evidence, Health, Notification, Outbox, State
from espial.notifications.payloads import body, form
from espial.notifications.posted import HttpProcess
from espial.notifications.retries import PROBE, Verdict, after, again_at, apart, judged
from espial.notifications.signatures import signed

MOST = 100
"""How many are taken at a time."""
LEASE = timedelta(minutes=10)
"""Longer than any worker lives."""
CLOCK = timedelta(minutes=1)
"""How often all destinations are looked at."""
MARGIN = 15.0
"""Seconds that are kept for the books."""

Tally = Counter[str]
"""Outcome -> notifications."""


class _Tried(NamedTuple):
    notification: Notification
    verdict: Verdict
    attempt: str
    at: datetime
    milliseconds: int


class _Call(NamedTuple):
    """How the destination answered, and what became of each that it was told of."""

    verdict: Verdict
    tried: list[_Tried]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """The ports of this use-case.

    `time_left` is this process's, in seconds; `token` gives ids of attempts; `wake` has destinations looked at after
    some seconds.
    """

    outbox: Outbox
    evidence: Evidence
    conditions: Conditions
    http: Http
    secret: Callable[[str], bytes]
    clock: Callable[[], datetime]
    time_left: Callable[[], float]
    chance: Callable[[], float]
    token: Callable[[], str]
    wake: Callable[[Iterable[str], float], None]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def work(self, destination: DestinationDefinition) -> Tally:
        """Post what is due, until nothing is, it fails, or the time is over. Raises TryAgain when a store is away."""
        tally: Tally = Counter()
        http, name = destination.http, destination.name
        while http is not None and destination.enabled and self.enough(http):
            # First of all a look: most who come by find nothing to do. And after the work another one, for somebody may
            # have found us here with something new, in the instant after our last look.
            waits = self.lets_through(self.conditions.health(name)) and self.outbox.look(name, 1, now=self.clock())
            if not waits or not waits.notifications:
                break
            now = self.clock()
            holder = self.conditions.enter(name, now=now, until=now + timedelta(seconds=self.time_left()))
            if not holder:
                tally["busy"] += 1
                break
            try:
                self._work(destination, http, tally)
            finally:
                self.conditions.leave(name, holder)
        return tally

    def _work(self, destination: DestinationDefinition, http: HttpProcess, tally: Tally) -> None:
        try:
            secrets = {reference: _text(self.secret(reference)) for reference in http.references}
        except (Refused, TryAgain):
            self.change(destination.name, [Verdict("failed", reason="secret_unreadable", pause=PROBE.total_seconds())])
            return
        with ThreadPoolExecutor(http.concurrency) as pool:
            pace = _Pace(http.rate_limit, self.monotonic, self.sleep)
            run = _Run(self, destination, http, secrets, pace, pool, tally)
            while self.enough(http) and run.batch():
                pass

    def change(self, name: str, verdicts: list[Verdict]) -> Health:
        """Who switches it on or off meanwhile is heard: then the answers count from there."""
        while True:
            before = self.conditions.health(name)
            health = after(before, verdicts, self.clock())
            if health == before or self.conditions.change(before, health):
                return health

    def lets_through(self, health: Health) -> bool:
        """Whether something may be posted now."""
        if health.state == "probing":
            return health.probe_at is None or health.probe_at <= self.clock()
        return health.state == "open"

    def enough(self, http: HttpProcess) -> bool:
        """Whether there is time for a call and its books."""
        return self.time_left() > http.timeout.total_seconds() + MARGIN


@dataclass(frozen=True, slots=True)
class _Run:
    """One worker's time with one destination. `secrets` are by reference."""

    ports: Poster
    destination: DestinationDefinition
    http: HttpProcess
    secrets: Mapping[str, str]
    pace: _Pace
    pool: ThreadPoolExecutor
    tally: Tally

    def batch(self) -> bool:
        """Take some and post them, so many at once. False if there are none, or the destination wants none now."""
        name, ports, now = self.destination.name, self.ports, self.ports.clock()
        health = ports.conditions.health(name)
        if not ports.lets_through(health):
            return False
        limit = 1 if health.state == "probing" else MOST
        taken = ports.outbox.take(name, limit, now=now, until=now + LEASE)
        left = list(taken.notifications)
        while left and ports.lets_through(health) and ports.enough(self.http):
            size, at_once = self.http.batch, self.http.batch * self.http.concurrency
            calls = [left[start : min(start + size, at_once)] for start in range(0, min(at_once, len(left)), size)]
            left = left[at_once:]
            health = self._note(taken.lease, [call for made in self.pool.map(self._post, calls) for call in made])
        if left:  # given back untried: the destination fails, or the time is over
            due = {one.id: ports.clock() for one in left}
            ports.outbox.release(name, taken.lease, due, now=now, tried=False)
        return bool(taken.notifications) and not left

    def _post(self, some: Sequence[Notification]) -> list[_Call]:
        """One call, whatever comes of it. Of a batch that was refused each goes by itself: one may be to blame."""
        self.pace.wait()
        ports, http = self.ports, self.http
        attempt, at, began = ports.token(), ports.clock(), ports.monotonic()
        told: Mapping[str, int] = {}
        try:
            headers, content = self._message(some, attempt, at)
            answer = ports.http.request("POST", http.url, headers, content, http.timeout.total_seconds())
            verdict = judged(answer, ports.clock())
            told = apart(answer) if len(some) > 1 and verdict.outcome == "delivered" else {}
        except Refused as exc:
            verdict = Verdict("failed", reason=exc.reason)
        except TryAgain as exc:
            verdict = Verdict("failed", reason="no_answer" if isinstance(exc, AnswerLost) else "not_reached")
        if verdict.outcome == "refused" and len(some) > 1:
            return [call for one in some for call in self._post([one])]
        took = round(1000 * (ports.monotonic() - began))
        tried = []
        for number, one in enumerate(some):
            mine = judged(Answer(told[one.id]), ports.clock()) if one.id in told else verdict
            known = f"{attempt}-{number}" if len(some) > 1 else attempt
            tried.append(_Tried(one, mine, known, at, took))
        return [_Call(verdict, tried)]

    def _message(self, some: Sequence[Notification], attempt: str, at: datetime) -> tuple[Mapping[str, str], bytes]:
        """Raises Refused for a secret that is none."""
        of, http = self.destination, self.http
        write = body if http.format == "json" else form
        parts = [write(one, of.profile, of.subject, of.custom_fields) for one in some]
        content = parts[0] if len(parts) == 1 else b"[" + b",".join(parts) + b"]"
        known = some[0].id if len(some) == 1 else f"batch-{fingerprint([one.id for one in some])}"
        kind = "application/json" if http.format == "json" else "application/x-www-form-urlencoded"
        headers = {
            **http.headers,
            "content-type": kind,
            "user-agent": "Espial",
            "x-notification-id": known,
            "espial-attempt": attempt,
        }
        if replayed := max(one.replayed for one in some):
            headers["espial-replay"] = str(replayed)
        if http.token:
            headers["authorization"] = f"Bearer {self.secrets[http.token]}"
        if http.secrets:
            secrets = [self.secrets[reference] for reference in http.secrets]
            headers |= signed(known, int(at.timestamp()), content, secrets)
        return headers, content

    def _note(self, lease: str, calls: list[_Call]) -> Health:
        """Evidence first, then what becomes of each, then how the destination is."""
        ports, name, now = self.ports, self.destination.name, self.ports.clock()
        due: dict[str, datetime] = {}
        settled: dict[State, list[str]] = {"delivered": [], "given_up": []}
        attempts = []
        for one in (one for call in calls for one in call.tried):
            verdict, known = one.verdict, one.notification.id
            again = self._again(one, now)
            if again:
                due[known] = again
            else:
                settled["delivered" if verdict.outcome == "delivered" else "given_up"].append(known)
            self.tally[verdict.outcome] += 1
            attempts.append(_attempt(one, name, again))
        ports.evidence.keep(attempts)
        for state, ids in settled.items():
            if ids:
                ports.outbox.settle(name, lease, ids, state, now=now)
        if due:
            ports.outbox.release(name, lease, due, now=now)
        self.tally["given_up"] += len(settled["given_up"])
        health = ports.change(name, [call.verdict for call in calls])
        self._wake(health, due, now)
        return health

    def _wake(self, health: Health, due: Mapping[str, datetime], now: datetime) -> None:
        """Have somebody look again when the next try is due, if that is before the clock does."""
        moment = health.probe_at or min(due.values(), default=None)
        if moment and health.state != "off" and moment - now < CLOCK:
            self.ports.wake([self.destination.name], (moment - now).total_seconds())

    def _again(self, one: _Tried, now: datetime) -> datetime | None:
        """When it may be tried again; what found nobody home any more waits until somebody switches it on."""
        if one.verdict.outcome == "gone":
            return now
        if one.verdict.outcome != "failed":
            return None
        attempts, pause = one.notification.attempts, one.verdict.pause
        return again_at(attempts, self.http.retry_for, now, pause, self.ports.chance)


class _Pace:
    """So many calls a second at most, each as long after the one before as that asks for."""

    def __init__(self, rate: int, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._between = 1 / rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = 0.0
        self._lock = Lock()

    def wait(self) -> None:
        with self._lock:
            now = self._monotonic()
            mine = max(now, self._next)
            self._next = mine + self._between
        if mine > now:
            self._sleep(mine - now)


def _attempt(one: _Tried, destination: str, again: datetime | None) -> Attempt:
    return Attempt(
        id=one.attempt,
        destination=destination,
        notifications=(one.notification.id,),
        at=one.at,
        milliseconds=one.milliseconds,
        outcome=one.verdict.outcome,
        status=one.verdict.status,
        reason=one.verdict.reason,
        answer=one.verdict.answer,
        again_at=again,
        replay=one.notification.replayed > 0,
    )


def _text(secret: bytes) -> str:
    """Raises Refused."""
    try:
        return secret.decode("ascii")
    except UnicodeDecodeError:
        raise Refused("bad_secret", "a secret that cannot stand in a header") from None


def off(health: Health, why: str) -> Health:
    """By hand."""
    return msgspec.structs.replace(Health(destination=health.destination), state="off", why=why)
