"""What waits for a destination -> its address, by HTTP (steps and crashes: `espial.services.serve_destination`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import msgspec

from espial.answers import Http
from espial.errors import AnswerLost, Refused, TryAgain
from espial.notifications.definition import DestinationDefinition
from espial.notifications.outbox import Health, Notification
from espial.notifications.payloads import body, form
from espial.notifications.posted import HttpProcess
from espial.notifications.retries import PROBE, Verdict, judged
from espial.notifications.signatures import signed
from espial.services.serve_destination import LEASE, Tally, Tried, Worker

MOST = 100
"""How many are taken at a time."""


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
        return bool(self.outbox.look(destination.name, 1, now=self.clock()).notifications)

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
        while left and ports.lets_through(health) and ports.enough(self.destination):
            some, left = left[: self.http.concurrency], left[self.http.concurrency :]
            done = list(self.pool.map(self._post, some))
            health = ports.note(name, taken.lease, done, self.http.retry_for, self.tally)
        if left:  # given back untried: the destination fails, or the time is over
            due = {one.id: ports.clock() for one in left}
            ports.outbox.release(name, taken.lease, due, now=now, tried=False)
        return bool(taken.notifications) and not left

    def _post(self, one: Notification) -> Tried:
        """One call, whatever comes of it."""
        self.pace.wait()
        ports, http = self.ports, self.http
        attempt, at, began = ports.token(), ports.clock(), ports.monotonic()
        try:
            headers, content = self._message(one, attempt, at)
            answer = ports.http.request("POST", http.url, headers, content, http.timeout.total_seconds())
            verdict = judged(answer, ports.clock())
        except Refused as exc:
            verdict = Verdict("failed", reason=exc.reason)
        except TryAgain as exc:
            verdict = Verdict("failed", reason="no_answer" if isinstance(exc, AnswerLost) else "not_reached")
        return Tried((one,), verdict, attempt, at, round(1000 * (ports.monotonic() - began)))

    def _message(self, one: Notification, attempt: str, at: datetime) -> tuple[Mapping[str, str], bytes]:
        """Raises Refused for a secret that is none."""
        of, http = self.destination, self.http
        write = body if http.format == "json" else form
        content = write(one, of.profile, of.subject, of.custom_fields)
        kind = "application/json" if http.format == "json" else "application/x-www-form-urlencoded"
        headers = {
            **http.headers,
            "content-type": kind,
            "user-agent": "Espial",
            "x-notification-id": one.id,
            "espial-attempt": attempt,
        }
        if one.replayed:
            headers["espial-replay"] = str(one.replayed)
        if http.token:
            headers["authorization"] = f"Bearer {self.secrets[http.token]}"
        if http.secrets:
            secrets = [self.secrets[reference] for reference in http.secrets]
            headers |= signed(one.id, int(at.timestamp()), content, secrets)
        return headers, content


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
