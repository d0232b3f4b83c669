"""What waits for a destination -> its address, by HTTP (steps and crashes: `espial.services.serve_destination`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import NamedTuple

import msgspec

from espial.answers import Answer, Http
from espial.errors import AnswerLost, Refused, TryAgain
from espial.events import fingerprint
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Health, Notification
from espial.notifications.payloads import body, form
from espial.notifications.posted import HttpProcess
from espial.notifications.retries import PROBE, Verdict, apart, judged
from espial.notifications.signatures import signed
from espial.services.serve_destination import LEASE, Tally, Tried, Worker

MOST = 100
"""How many are taken at a time."""


class _Call(NamedTuple):
    """How the destination answered, and what became of each that it was told of."""

    verdict: Verdict
    tried: list[Tried]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster(Worker):
    """The further ports of this use-case."""

    http: Http
    secret: Callable[[str], bytes]
    sleep: Callable[[float], None] = time.sleep

    def call_seconds(self, destination: DestinationDefinition) -> float:
        """See `Worker.call_seconds`."""
        return destination.http.timeout.total_seconds() if destination.http else math.inf

    def has_work(self, destination: DestinationDefinition) -> bool:
        """See `Worker.has_work`."""
        look = self.outbox.look(destination.name, 1, now=self.clock(), in_order=destination.in_order)
        return bool(look.notifications)

    def serve(self, destination: DestinationDefinition, tally: Tally) -> None:
        """See `Worker.serve`."""
        http = destination.http
        if http is None:
            return
        try:
            secrets = {reference: _text(self.secret(reference)) for reference in http.references}
        except (Refused, TryAgain):
            self.change(destination.name, [Verdict("failed", reason="secret_unreadable", pause=PROBE.total_seconds())])
            return
        with ThreadPoolExecutor(http.concurrency) as pool:
            pace = _Pace(http.rate_limit, self.monotonic, self.sleep)
            run = _Run(self, destination, http, secrets, pace, pool, tally)
            while self.enough(destination) and run.batch():
                pass


@dataclass(frozen=True, slots=True)
class _Run:
    """One worker's time with one destination. `secrets` are by reference.

    `held`: whose order is held back by one that failed; the index may not know yet.
    """

    ports: Poster
    destination: DestinationDefinition
    http: HttpProcess
    secrets: Mapping[str, str]
    pace: _Pace
    pool: ThreadPoolExecutor
    tally: Tally
    held: set[str] = field(default_factory=set)

    def batch(self) -> bool:
        """Take some and post them, so many at once. False if there are none, or the destination wants none now."""
        name, ports, now = self.destination.name, self.ports, self.ports.clock()
        health = ports.conditions.health(name)
        if not ports.lets_through(health):
            return False
        limit = 1 if health.state == "probing" else MOST
        in_order = self.destination.in_order
        taken = ports.outbox.take(name, limit, now=now, until=now + LEASE, in_order=in_order)
        left = [one for one in taken.notifications if one.whom not in self.held]
        behind = [one for one in taken.notifications if one.whom in self.held]
        posted = False
        while left and ports.lets_through(health) and ports.enough(self.destination):
            parts, left = self._next(left)
            calls = [call for made in self.pool.map(self._post, parts) for call in made]
            posted = True
            done, answers = [one for call in calls for one in call.tried], [call.verdict for call in calls]
            plan = self.http.retry_for
            health = ports.note(name, taken.lease, done, answers, retry_for=plan, tally=self.tally, in_order=in_order)
            if in_order:
                self.held.update(one.whom for tried in done if _comes_again(tried) for one in tried.notifications)
                behind += [one for one in left if one.whom in self.held]
                left = [one for one in left if one.whom not in self.held]
        if back := [*behind, *left]:  # untried: one before them failed, or the destination, or the time is over
            due = {one.id: ports.clock() for one in back}
            ports.outbox.release(name, taken.lease, due, now=now, tried=False, in_order=in_order)
        return posted and not left

    def _next(self, left: list[Notification]) -> tuple[list[list[Notification]], list[Notification]]:
        """What is posted at once, a list for each call, and what is left; where order is kept, one of each person's."""
        http = self.http
        if not self.destination.in_order:
            at_once = left[: http.batch * http.concurrency]
            parts = [at_once[start : start + http.batch] for start in range(0, len(at_once), http.batch)]
            return parts, left[len(at_once) :]
        firsts: dict[str, Notification] = {}
        rest = []
        for one in left:
            if one.whom in firsts or len(firsts) == http.concurrency:
                rest.append(one)
            else:
                firsts[one.whom] = one
        return [[one] for one in firsts.values()], rest

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
            tried.append(Tried((one,), mine, known, at, took))
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


def _comes_again(tried: Tried) -> bool:
    return tried.verdict.outcome in ("failed", "gone")


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


def _text(secret: bytes) -> str:
    """Raises Refused."""
    try:
        return secret.decode("ascii")
    except UnicodeDecodeError:
        raise Refused("bad_secret", "a secret that cannot stand in a header") from None


def off(health: Health, why: str) -> Health:
    """By hand."""
    return msgspec.structs.replace(Health(destination=health.destination), state="off", why=why)
