"""A run: one person, one trigger, one thing it is about (a cart, an order), from its event to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from espial.events import Event

State = Literal["waiting", "sent", "skipped", "exited"]


class Bid(NamedTuple):
    """What the run's message is worth against others to the person that share a limit with it (see `Trigger.hold`)."""

    priority: int = 0
    channel: str = "email"
    category: str = ""
    hold: timedelta = timedelta(0)


NO_BID = Bid()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run and the contents it would send.

    person      the key it lives under, as text (`id:cust-1`)
    key         what it is about: the trigger's `key` expression over its event
    version     id of the event that started it, or last restarted it
    started_at  that event's time
    stage       which of the trigger's stages comes next, the first 0; `due_at` is when
    event       that event: what templates and conditions read
    timer_at    when the pending timer fires; None until one was made. It may be earlier than `due_at`: it is
                moved on when it fires
    closed_at   the instant up to which it has spoken (sending or skipping a stage, or the time of the event that
                ended it); None before its first stage. Only something that happened later starts it again
    definitions version of the definitions under which it began, and by which it is judged
    variant     the person's arm, where the trigger has variants or a holdout (`espial.triggers.arms`)
    bid         how its message competes
    lasting     whether it is kept for ever once ended: the person must not enter again
    reason      why it ended, as the decision said; `ended_by` is the event that ended it, where one did
    """

    trigger: str
    person: str
    key: str
    version: str
    started_at: datetime
    due_at: datetime
    event: Event
    stage: int = 0
    state: State = "waiting"
    timer_at: datetime | None = None
    closed_at: datetime | None = None
    reason: str = ""
    ended_by: str = ""
    definitions: str = ""
    variant: str = ""
    bid: Bid = NO_BID
    lasting: bool = False

    @property
    def order(self) -> tuple[datetime, str]:
        """What decides between two versions of one run, whichever arrives first."""
        return (self.started_at, self.version)


def message(run: Run) -> dict[str, Any]:
    """The SendQueue message that makes the run be looked at again at `due_at`."""
    return {
        "person": run.person,
        "trigger": run.trigger,
        "key": run.key,
        "version": run.version,
        "stage": run.stage,
        "variant": run.variant,
        "due_at": run.due_at.isoformat(),
    }


_decoder = msgspec.json.Decoder(Run)


def encode(run: Run) -> bytes:
    """The run as JSON, to be stored."""
    return msgspec.json.encode(run)


def decode(data: bytes | str) -> Run:
    """Read a stored run. Raises msgspec.ValidationError."""
    return _decoder.decode(data)
