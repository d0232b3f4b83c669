"""Onboarding: recipients of a file handed to an engagement platform, each once per change (A1 to A9).

A platform is one module, `onboarding/<platform>.py`, pure and behind the contract `Platform`, so that platforms are
exchangeable (A4). Which recipients are sent, and what becomes of them, is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import NamedTuple, Protocol

from espial.answers import Answer
from espial.onboarding.definition import OnboardingDefinition

Value = str | int | float | bool


class Recipient(NamedTuple):
    """One person to be handed over. `attributes` are named as the definition names them; `meta` is all text.

    `contact` is the offer history's contact id: the same whenever the same row of the same execution is read.
    """

    contact: int
    external_id: str
    email: str | None = None
    phone: str | None = None
    attributes: Mapping[str, Value] = {}
    meta: Mapping[str, str] = {}


class Batch(NamedTuple):
    """What goes in one request: recipients of one execution (the channel execution id)."""

    of: OnboardingDefinition
    execution: int
    recipients: Sequence[Recipient]


class Request(NamedTuple):
    """A POST; the endpoint is the definition's, `path` comes behind it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Refusal(NamedTuple):
    """The platform does not take a recipient: a snake_case reason, and its words without anybody's address."""

    reason: str
    detail: str = ""


class Platform(Protocol):
    """How one platform is spoken to. Pure: the same batch gives the same bytes, so that it may be repeated."""

    def request(self, batch: Batch, secret: str) -> Request: ...

    def verdicts(self, answer: Answer, batch: Batch, now: datetime) -> list[Refusal | None] | None:
        """For each recipient why it is refused, or None if it was taken.

        None for all: the batch was refused and nobody says for whose sake. Raises TryAgain for what passes, and
        Refused for what a person has to mend (a wrong key, a wrong address): nothing was taken then.
        """
        ...


def load(name: str) -> Platform:
    """A platform's module, which is a `Platform`."""
    platform: Platform = import_module(f"espial.onboarding.{name}")
    return platform
