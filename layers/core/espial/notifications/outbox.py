"""What waits for each destination, and what became of it: one outbox for every process (goals 62, 64, 74, 76, 77).

A *notification* is one event for one destination. It is put once, whoever routes the event how often, and stays where
it is until its destination has it: a worker or a reader takes some under a lease, and settles each. What is not settled
in time is taken again. Nothing is deleted by failing: what a destination cannot take waits, or is given up visibly and
can be replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

import msgspec

from espial.events import Event

State = Literal["waiting", "delivered", "given_up", "discarded"]
"""`given_up`: its retry plan is over, or the receiver refused it for good."""

SETTLE = timedelta(seconds=5)
"""How long a person's next is held back, where order is asked for: what happened before may be reported after."""


class Notification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event for one destination.

    trigger     by which it is reported, such as `OPEN`; the canonical type where a destination asked for that.
    due         when it may be taken; later than `put_at` after a failure. Where order is asked for: when its event
                happened, whatever becomes of it.
    attempts    how often it was handed over in vain since it was put or replayed.
    replayed    how often somebody had it sent again.
    """

    destination: str
    event: Event
    trigger: str
    put_at: datetime
    due: datetime
    attempts: int = 0
    replayed: int = 0

    @property
    def id(self) -> str:
        """The same for the same event, destination and trigger, over every attempt and replay."""
        return f"{self.event.event_id}-{self.trigger}"

    @property
    def whom(self) -> str:
        """Within what order is kept: the person, else the campaign; empty: everything that names neither."""
        person, campaign = self.event.person, self.event.campaign
        who = person.email or person.phone or person.external_id or person.source_contact_id or person.session_id
        return who or (campaign and (campaign.id or campaign.journey_id)) or ""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications that somebody has under a lease until `until`; `lease` proves it."""

    lease: str
    until: datetime
    notifications: tuple[Notification, ...]
    more: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One hand-over, as evidence: no secret and no address is in it.

    outcome   `delivered`, `failed` (comes again at `again_at`), `refused` or `gone`.
    """

    id: str
    destination: str
    notifications: tuple[str, ...]
    at: datetime
    milliseconds: int
    outcome: str
    status: int = 0
    reason: str = ""
    answer: str = ""
    again_at: datetime | None = None
    replay: bool = False


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a destination is: `open` takes all, `probing` one now and then, `off` nothing (until switched on).

    `failures` in a row since `failing_since`; `probe_at` when the next may be let through; `why` in words.
    """

    destination: str
    state: Literal["open", "probing", "off"] = "open"
    failures: int = 0
    failing_since: datetime | None = None
    probe_at: datetime | None = None
    why: str = ""


class Mails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many mails a destination was sent on a `day` (UTC); `behind`: what waits is late, and goes together."""

    destination: str
    day: str = ""
    count: int = 0
    behind: bool = False

    def on(self, day: str) -> Mails:
        """As they are on that day: none yet, unless it is this one."""
        return self if day == self.day else Mails(destination=self.destination, day=day, behind=self.behind)


class Outbox(Protocol):
    """Every change is conditional: repeating it is harmless. Each raises TryAgain when the store is away."""

    def put(self, notifications: Sequence[Notification]) -> None:
        """Have them waiting; one that is known already, whatever became of it, stays as it is."""
        ...

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
        """Those that are due and nobody has, at most `limit`, by age; hidden from others until then.

        `in_order`: by when they are due, and none whose person has an older one that was held back, or that was put
        within the last SETTLE. Only for who works alone for the destination: what a lease before this one holds is
        taken too.
        """
        ...

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
        """As `take`, and nobody is kept from them; the lease is empty."""
        ...

    def settle(self, destination: str, lease: str, ids: Sequence[str], state: State, *, now: datetime) -> int:
        """Whoever has the lease is done with these. Returns how many were still the caller's."""
        ...

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
        """Whoever has the lease gives these back, to be taken again when they are due; if `tried`, an attempt more.

        `in_order`: they are held back until then, and their place in the order stays.
        """
        ...

    def consume(self, taken: Taken, *, now: datetime) -> bool:
        """Settle all of a batch as delivered in one step; False, with nothing settled, if the lease is over."""
        ...

    def replay(self, destination: str, ids: Sequence[str], *, now: datetime) -> int:
        """Have them waiting again, whatever became of them; how many there were."""
        ...

    def waiting(self, destination: str) -> int:
        """About how many wait."""
        ...

    def of(
        self, destination: str, *, since: datetime, until: datetime, state: State | None = None
    ) -> Iterator[Notification]:
        """Those put between the two, by when their events happened."""
        ...


class Firsts(Protocol):
    """Which event of its kind came first: each is asked for once, and answered the same whenever it is asked again."""

    def first(self, events: Mapping[str, str], *, now: datetime) -> set[str]:
        """Of key -> event id the keys that are this event's; a key that nobody had is from now on. Kept 30 days."""
        ...


class Evidence(Protocol):
    """What was tried. Kept 30 days."""

    def keep(self, attempts: Sequence[Attempt]) -> None: ...

    def of(self, destination: str, *, since: datetime | None = None, notification: str = "") -> Iterator[Attempt]:
        """Newest first."""
        ...


class Conditions(Protocol):
    """How each destination is, shared by all workers."""

    def health(self, destination: str) -> Health: ...

    def change(self, before: Health, after: Health) -> bool:
        """False if it is no longer as it was."""
        ...

    def mails(self, destination: str) -> Mails: ...

    def count(self, before: Mails, after: Mails) -> bool:
        """False if they are no longer as they were."""
        ...

    def enter(self, destination: str, *, now: datetime, until: datetime) -> str:
        """Be the one that works for it until then: who that is, or empty while somebody else does."""
        ...

    def leave(self, destination: str, holder: str) -> None:
        """Let the next one in."""
        ...
