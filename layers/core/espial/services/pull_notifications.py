"""Clients collect their events themselves: logins, batches and what becomes of them (B18 to B21; goal 74).

Reading is one transaction: take under a lease, build the whole answer, consume in one conditional write, answer. What
was not consumed waits again when its lease is over, so a crash loses nothing, and two clients share safely.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

from espial.errors import EspialError, Refused, TryAgain
from espial.notifications.contexts import Batch, Context, Contexts
from espial.notifications.outbox import Attempt, Evidence, Notification, Outbox, Taken
from espial.notifications.pull import MOST
from espial.notifications.pulled import PullDestination
from espial.soap.values import Form

READING = timedelta(minutes=1)
"""How long a batch is held that is consumed before it is answered: longer than any answer takes."""
HELD = timedelta(minutes=15)
"""How long a batch is held for a client that reports what became of it."""
PAUSE = 1.0
"""Seconds between two looks, for whoever waits for events."""
EVIDENCE = 1_000
"""Notifications of one batch in one piece of evidence."""

Mode = Literal["look", "read", "hold"]
"""Leave the records, remove them, or hide them until the client says what became of them."""
A = TypeVar("A")


class Denied(EspialError):
    """Not logged in, or not with the right password; the caller is not told which."""


class Wanted(NamedTuple):
    """What a client asks for."""

    limit: int = MOST
    triggers: tuple[str, ...] = ()
    mode: Mode = "read"
    newest_first: bool = True
    wait: float = 0.0


class Page(NamedTuple):
    """What an answer is made of. `lease` is empty where nothing is held."""

    notifications: Sequence[Notification]
    lease: str
    until: datetime
    more: bool


@dataclass(frozen=True, slots=True)
class Pull:
    """One process's view of the pull. `token` makes ids that nobody can guess; `secret` reads one by its reference.

    `fit` of an answer: its size in units of the largest that may be given.
    """

    destinations: Callable[[], Mapping[str, PullDestination]]
    outbox: Outbox
    contexts: Contexts
    evidence: Evidence
    secret: Callable[[str], bytes]
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    token: Callable[[], str]

    # -- who it is

    def login(self, user: str, password: str, form: Form) -> tuple[str, Context]:
        """A new context and its id, for the destinations that this password opens. Raises Denied."""
        now = self.clock()
        if not self.contexts.attempt(user, now=now):
            raise Denied("login refused")
        try:
            roles = tuple(self._opened(user, password))
        except TryAgain:
            self.contexts.right(user)
            raise
        if not roles:
            raise Denied("login refused")
        self.contexts.right(user)
        context_id, context = self.token(), Context(user=user, roles=roles, role=roles[0], form=form)
        self.contexts.open(context_id, context, now=now)
        return context_id, context

    def _opened(self, user: str, password: str) -> Iterator[str]:
        """By every secret that can be read; raises TryAgain if none fits and one cannot."""
        away: TryAgain | None = None
        found = False
        known = [(one.name, secret) for one in self._listed() for name, secret in one.users if name == user]
        for name, reference in known:
            try:
                if is_same(password.encode("utf-8", "replace"), self.secret(reference)):
                    found = True
                    yield name
            except TryAgain as exc:
                away = exc
        if not known:
            is_same(password.encode("utf-8", "replace"), b"nobody")  # takes as long as for somebody
        if away and not found:
            raise away

    def session(self, context_id: str) -> tuple[Context, PullDestination]:
        """Who is logged in under that id, and what is read. Raises Denied."""
        context = self.contexts.use(context_id, now=self.clock())
        if context is None:
            raise Denied("not logged in")
        destination = self.destinations().get(context.role)
        if destination is None or context.user not in dict(destination.users):
            raise Denied("not logged in")
        return context, destination

    def switch(self, context_id: str, role: str) -> tuple[Context, PullDestination]:
        """Read another destination from now on. Raises Denied for one that the login does not open."""
        context, _ = self.session(context_id)
        if role not in context.roles:
            raise Denied("no such role")
        self.contexts.switch(context_id, role)
        return self.session(context_id)

    def logout(self, context_id: str) -> None:
        """End the context."""
        self.session(context_id)
        self.contexts.close(context_id)

    def shown(self, name: str, token: bytes) -> PullDestination:
        """The destination that a bearer token opens. Raises Denied, whether the name or the token is wrong."""
        destination = self.destinations().get(name)
        for reference in destination.tokens if destination else ():
            if destination and is_same(token, self.secret(reference)):
                return destination
        raise Denied("not authorised")

    def _listed(self) -> list[PullDestination]:
        return [one for _, one in sorted(self.destinations().items())]

    # -- batches

    def batch(self, of: PullDestination, wanted: Wanted, render: Callable[[Page], A], fit: Callable[[A], float]) -> A:
        """Take, answer whole, settle: the answer, with as many records as fit.

        Raises TryAgain, with nothing consumed, when it took too long.
        """
        taken = self._waited_for(of, wanted)
        answer, count = _fitted(taken, render, fit)
        kept = taken.notifications[:count]
        if not taken.lease:
            return answer
        self._give_back(of.name, taken.lease, [one.id for one in taken.notifications[count:]])
        ids = tuple(one.id for one in kept)
        if wanted.mode == "hold":
            self.contexts.keep(Batch(destination=of.name, lease=taken.lease, until=taken.until, notifications=ids))
        elif self.outbox.consume(taken, now=self.clock()):
            self._note(of.name, ids, "delivered")
        else:
            raise TryAgain("the batch took too long")
        return answer

    def _waited_for(self, of: PullDestination, wanted: Wanted) -> Taken:
        end = self.clock() + timedelta(seconds=wanted.wait)
        while True:
            now = self.clock()
            how = {"newest_first": wanted.newest_first, "triggers": wanted.triggers}
            if wanted.mode == "look":
                taken = self.outbox.look(of.name, wanted.limit, now=now, **how)  # type: ignore[arg-type]
            else:
                until = now + (HELD if wanted.mode == "hold" else READING)
                taken = self.outbox.take(of.name, wanted.limit, now=now, until=until, **how)  # type: ignore[arg-type]
            if taken.notifications or now >= end:
                return taken
            self.sleep(min(PAUSE, (end - now).total_seconds()))

    def acknowledge(self, of: PullDestination, lease: str, ids: Sequence[str] | None = None) -> int:
        """Done with a batch, or with some of it: how many. Doing so again is harmless.

        Raises Refused with nothing settled: `unknown_lease`, `unknown_id`, `lease_over`.
        """
        batch = self._batch(of, lease, ids)
        if ids is None:
            empty = Taken(lease=lease, until=batch.until, notifications=())
            if not self.outbox.consume(empty, now=self.clock()):
                raise _over()
            settled = len(batch.notifications)
        elif self.clock() >= batch.until or not (
            settled := self.outbox.settle(of.name, lease, ids, "delivered", now=self.clock())
        ):
            raise _over()
        self._note(of.name, batch.notifications if ids is None else ids, "delivered")
        return settled

    def release(self, of: PullDestination, lease: str, ids: Sequence[str] | None = None) -> int:
        """Give back a batch, or some of it, to be taken again at once: how many. Raises as `acknowledge`."""
        batch = self._batch(of, lease, ids)
        chosen = batch.notifications if ids is None else ids
        released = self._give_back(of.name, lease, chosen)
        if not released:
            raise _over()
        self._note(of.name, chosen, "failed")
        return released

    def _batch(self, of: PullDestination, lease: str, ids: Sequence[str] | None) -> Batch:
        batch = self.contexts.batch(lease)
        if batch is None or batch.destination != of.name:
            raise Refused("unknown_lease", "no batch of this destination was given out under this lease")
        if ids is not None and not {*ids} <= {*batch.notifications}:
            raise Refused("unknown_id", "the batch does not hold every one of these ids")
        return batch

    def replay(
        self, of: PullDestination, since: datetime, until: datetime | None = None
    ) -> tuple[int, datetime | None]:
        """Have what was delivered waiting again, by when it was put; how many, and from when on there is more."""
        found = self.outbox.of(of.name, since=since, until=until or self.clock(), state="delivered")
        some = sorted(found, key=lambda one: (one.put_at, one.id))
        count = self.outbox.replay(of.name, [one.id for one in islice(some, MOST)], now=self.clock())
        return count, some[MOST].put_at if len(some) > MOST else None

    def _give_back(self, destination: str, lease: str, ids: Sequence[str]) -> int:
        now = self.clock()
        return self.outbox.release(destination, lease, dict.fromkeys(ids, now), now=now) if ids else 0

    def _note(self, destination: str, ids: Sequence[str], outcome: str) -> None:
        """Keep it as evidence; it is done, whether that can be kept or not."""
        at = self.clock()
        attempts = [
            Attempt(
                id=self.token(),
                destination=destination,
                notifications=tuple(ids[start : start + EVIDENCE]),
                at=at,
                milliseconds=0,
                outcome=outcome,
            )
            for start in range(0, len(ids), EVIDENCE)
        ]
        with suppress(TryAgain):
            self.evidence.keep(attempts)


def is_same(given: bytes, secret: bytes) -> bool:
    """Takes as long whatever is given; what is empty is never right."""
    return hmac.compare_digest(sha256(given).digest(), sha256(secret).digest()) and bool(secret)


def _fitted(taken: Taken, render: Callable[[Page], A], fit: Callable[[A], float]) -> tuple[A, int]:
    """The answer with as many records as fit, and how many those are."""
    count = len(taken.notifications)
    while True:
        more = taken.more or count < len(taken.notifications)
        answer = render(Page(taken.notifications[:count], taken.lease, taken.until, more))
        size = fit(answer)
        if size <= 1 or count <= 1:
            return answer, count
        count = max(1, int(count / size * 0.95))


def _over() -> Refused:
    return Refused("lease_over", "the lease is over: what it held waits again, or somebody else has it")
