"""What is remembered of onboardings: executions, what each recipient was last told, and the ports that they need.

An *execution* is one file (one version of one object) whose recipients are sent: it has a number, counted up for each
onboarding, and one after the other they have their turn, so that an older file never undoes a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from espial.exports.files import ExportFile

ENDED = frozenset({"done", "failed"})
"""States of an execution in which nothing more happens, and the next one has its turn."""


class Counts(NamedTuple):
    """What became of the rows of a file: each is one of these."""

    sent: int = 0
    failed: int = 0
    unchanged: int = 0
    refused: int = 0

    @property
    def rows(self) -> int:
        """How far the file is dealt with."""
        return sum(self)

    def plus(self, other: Counts) -> Counts:
        """Field by field."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Execution(NamedTuple):
    """A file and what became of it.

    number    the execution's, from 1; 0 of a file that was refused before anything was sent.
    state     refused, running, done or failed (the file is gone); the last two are ENDED.
    reason    why it was refused or failed, or why it stands still at the moment.
    rows      how many rows the file has.
    """

    name: str
    file: ExportFile
    number: int
    state: str
    updated_at: datetime
    counts: Counts = Counts()
    rows: int = 0
    reason: str = ""


class Held(NamedTuple):
    """The right to work on an execution until its lease is over."""

    execution: Execution
    holder: str


class Told(NamedTuple):
    """What a platform was last told of a recipient: hash of the content it acknowledged, and by which contact.

    `outcome` is of the last try; a rejected one leaves `content` as it was.
    """

    content: str
    execution: int
    contact: int
    outcome: Literal["onboarded", "rejected"] = "onboarded"


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="onboarding", tag_field="kind"):
    """One file to work on, as on OnboardingQueue. `handoffs`: how often it came back without having moved on."""

    bucket: str
    key: str
    etag: str
    version_id: str = ""
    handoffs: int = 0

    def to_json(self) -> str:
        """The message's body."""
        return msgspec.json.encode(self).decode()


class Executions(Protocol):
    """Which files were sent, how far, and by whom at the moment. All changes are conditional: repeats are harmless."""

    def find(self, name: str, file: ExportFile) -> Execution | None: ...

    def of(self, name: str) -> list[Execution]:
        """Every execution and refused file of an onboarding, the one that moved last first."""
        ...

    def refuse(self, name: str, file: ExportFile, reason: str, now: datetime) -> None:
        """Enter a file as refused, unless it has a number."""
        ...

    def claim(self, name: str, file: ExportFile, rows: int, now: datetime) -> Execution:
        """Give the file the onboarding's next number, unless it has one; returns what then stands there."""
        ...

    def take(self, execution: Execution, *, now: datetime, until: datetime) -> Held | None:
        """The right to work on it; None while somebody else has it, or while an earlier execution has not ended."""
        ...

    def renew(self, held: Held, *, until: datetime) -> bool:
        """Keep the right for longer; False if it is somebody else's by now."""
        ...

    def advance(self, held: Held, counts: Counts, *, now: datetime, until: datetime) -> Held | None:
        """Note what became of its rows up to here; None if the right is somebody else's by now."""
        ...

    def release(self, held: Held, reason: str = "") -> None:
        """Give the right back; `reason` says why it stands still."""
        ...

    def end(self, execution: Execution, state: str, reason: str, now: datetime) -> None:
        """Enter it as ended, which gives the next one its turn."""
        ...


class Recipients(Protocol):
    """What each recipient was last told."""

    def told(self, name: str, external_ids: Collection[str]) -> Mapping[str, Told]:
        """External id -> what was told; only of those who were told anything."""
        ...

    def remember(self, name: str, told: Mapping[str, Told]) -> None: ...


class OnboardingQueue(Protocol):
    """Work for onboard_recipients."""

    def put(self, work: Work, delay_seconds: int = 0) -> None:
        """Returns once it is durable; raises TryAgain otherwise. `delay_seconds` at most 900."""
        ...


class Drops(Protocol):
    """The exports bucket, to put a file of recipients into."""

    def put(self, key: str, body: bytes) -> None:
        """Returns once it is durable; raises TryAgain otherwise."""
        ...
