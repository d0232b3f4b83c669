"""A notifications' world in memory: the outbox, the evidence and the conditions, each of which may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from espial.notifications.outbox import SETTLE, Attempt, Health, Mails, Notification, State, Taken
from tests.builders import NOON, an_event

Call = Callable[[], None]


def a_notification(identity: str = "one", destination: str = "crm", **fields: Any) -> Notification:
    """One that waits since noon; the same `identity` gives the same id."""
    event = fields.pop("event", None) or an_event(identity)
    given: dict[str, Any] = {"destination": destination, "event": event, "trigger": "OPEN"}
    return Notification(**given | {"put_at": NOON, "due": NOON} | fields)


class Waiting(msgspec.Struct):
    """A notification, what became of it, and who has it."""

    notification: Notification
    state: State = "waiting"
    lease: str = ""
    held: datetime = NOON


class FakeOutbox:
    """`Outbox`. `call` is called at every call, before anything and again after a change, and may raise."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.held: dict[tuple[str, str], Waiting] = {}
        self.leases: dict[str, tuple[str, datetime]] = {}
        self._call = call

    def put(self, notifications: Sequence[Notification]) -> None:
        for one in notifications:
            self._call()
            self.held.setdefault((one.destination, one.id), Waiting(one))
        self._call()

    def take(
        self,
        destination: str,
        limit: int,
        *,
        now: datetime,
        until: datetime,
        newest_first: bool = False,
        triggers: Sequence[str] = (),
        in_order: bool = False,
    ) -> Taken:
        self._call()
        due = self._due(destination, now, newest_first=newest_first, triggers=triggers, in_order=in_order)
        some = due[:limit]
        lease = str(len(self.leases) + 1) if some else ""
        if some:
            self.leases[lease] = ("open", until)
        for one in some:
            if one.lease in self.leases:
                self.leases[one.lease] = ("over", until)
            one.lease = lease
            if not in_order:
                one.notification = msgspec.structs.replace(one.notification, due=until)
        self._call()
        found = tuple(one.notification for one in some)
        return Taken(lease=lease, until=until, notifications=found, more=len(due) > limit)

    def look(
        self,
        destination: str,
        limit: int,
        *,
        now: datetime,
        newest_first: bool = False,
        triggers: Sequence[str] = (),
        in_order: bool = False,
    ) -> Taken:
        self._call()
        due = self._due(destination, now, newest_first=newest_first, triggers=triggers, in_order=in_order)
        found = tuple(one.notification for one in due[:limit])
        return Taken(lease="", until=now, notifications=found, more=len(due) > limit)

    def settle(self, destination: str, lease: str, ids: Sequence[str], state: State, *, now: datetime) -> int:
        done = 0
        for known in dict.fromkeys(ids):
            self._call()
            one = self.held.get((destination, known))
            if one and one.lease == lease and self._state(one) in ("waiting", state) and not self._consumed(lease):
                one.state = state
                done += 1
        self._call()
        return done

    def release(
        self,
        destination: str,
        lease: str,
        due: Mapping[str, datetime],
        *,
        now: datetime,
        tried: bool = True,
        in_order: bool = False,
    ) -> int:
        done = 0
        for known, moment in due.items():
            self._call()
            one = self.held.get((destination, known))
            if one and one.lease == f"back-{lease}":
                done += 1
            elif one and one.lease == lease and self._state(one) == "waiting":
                one.lease = f"back-{lease}"
                attempts = one.notification.attempts + tried
                one.notification = msgspec.structs.replace(one.notification, attempts=attempts)
                if in_order:
                    one.held = moment
                else:
                    one.notification = msgspec.structs.replace(one.notification, due=moment)
                done += 1
        self._call()
        return done

    def consume(self, taken: Taken, *, now: datetime) -> bool:
        self._call()
        state, until = self.leases.get(taken.lease, ("over", now))
        if state == "open" and now < until:
            self.leases[taken.lease] = ("consumed", until)
        self._call()
        return self._consumed(taken.lease)

    def replay(self, destination: str, ids: Sequence[str], *, now: datetime) -> int:
        self._call()
        found = [self.held[destination, known] for known in dict.fromkeys(ids) if (destination, known) in self.held]
        for one in found:
            one.state, one.lease, one.held = "waiting", "again-", NOON
            replayed = one.notification.replayed + 1
            one.notification = msgspec.structs.replace(one.notification, due=now, attempts=0, replayed=replayed)
        self._call()
        return len(found)

    def waiting(self, destination: str) -> int:
        self._call()
        return sum(1 for (name, _), one in self.held.items() if name == destination and self._state(one) == "waiting")

    def of(
        self, destination: str, *, since: datetime, until: datetime, state: State | None = None
    ) -> Iterator[Notification]:
        self._call()
        for (name, _), one in sorted(self.held.items(), key=lambda pair: pair[0]):
            put_between = since <= one.notification.put_at <= until
            if name == destination and put_between and state in (None, self._state(one)):
                yield one.notification

    def states(self, destination: str) -> dict[str, State]:
        """What became of each."""
        return {known: self._state(one) for (name, known), one in self.held.items() if name == destination}

    def _due(
        self, destination: str, now: datetime, *, newest_first: bool, triggers: Sequence[str], in_order: bool
    ) -> list[Waiting]:
        due = [
            one
            for (name, _), one in self.held.items()
            if name == destination
            and self._state(one) == "waiting"
            and one.notification.due <= now
            and (not triggers or one.notification.trigger in triggers)
        ]
        if not in_order:
            return sorted(due, key=lambda one: (one.notification.put_at, one.notification.id), reverse=newest_first)
        by_place = sorted(due, key=lambda one: (one.notification.due, one.notification.id))
        behind = [
            number for number, one in enumerate(by_place) if one.held > now or one.notification.put_at > now - SETTLE
        ]
        return [
            one
            for number, one in enumerate(by_place)
            if not any(by_place[held].notification.whom == one.notification.whom for held in behind if held <= number)
        ]

    def _consumed(self, lease: str) -> bool:
        return self.leases.get(lease, ("", NOON))[0] == "consumed"

    def _state(self, one: Waiting) -> State:
        return "delivered" if one.state == "waiting" and self._consumed(one.lease) else one.state


class FakeFirsts:
    """`Firsts`."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.known: dict[str, str] = {}
        self._call = call

    def first(self, events: Mapping[str, str], *, now: datetime) -> set[str]:
        for key, event_id in events.items():
            self._call()
            self.known.setdefault(key, event_id)
        self._call()
        return {key for key, event_id in events.items() if self.known[key] == event_id}


class FakeEvidence:
    """`Evidence`."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.kept: dict[tuple[str, str], Attempt] = {}
        self._call = call

    def keep(self, attempts: Sequence[Attempt]) -> None:
        self._call()
        self.kept |= {(one.destination, one.id): one for one in attempts}

    def of(self, destination: str, *, since: datetime | None = None, notification: str = "") -> Iterator[Attempt]:
        self._call()
        for one in sorted(self.kept.values(), key=lambda one: (one.at, one.id), reverse=True):
            wanted = not notification or notification in one.notifications
            if one.destination == destination and (since is None or since <= one.at) and wanted:
                yield one


class FakeConditions:
    """`Conditions`."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.known: dict[str, Health] = {}
        self.counted: dict[str, Mails] = {}
        self.workers: dict[str, tuple[str, datetime]] = {}
        self._entered = 0
        self._call = call

    def health(self, destination: str) -> Health:
        self._call()
        return self.known.get(destination, Health(destination=destination))

    def change(self, before: Health, after: Health) -> bool:
        self._call()
        if self.known.get(before.destination, Health(destination=before.destination)) not in (before, after):
            return False
        self.known[after.destination] = after
        self._call()
        return True

    def mails(self, destination: str) -> Mails:
        self._call()
        return self.counted.get(destination, Mails(destination=destination))

    def count(self, before: Mails, after: Mails) -> bool:
        self._call()
        if self.counted.get(before.destination, Mails(destination=before.destination)) not in (before, after):
            return False
        self.counted[after.destination] = after
        self._call()
        return True

    def enter(self, destination: str, *, now: datetime, until: datetime) -> str:
        self._call()
        if destination in self.workers and now < self.workers[destination][1]:
            return ""
        self._entered += 1
        self.workers[destination] = (str(self._entered), until)
        return str(self._entered)

    def leave(self, destination: str, holder: str) -> None:
        if self.workers.get(destination, ("",))[0] == holder:
            del self.workers[destination]
