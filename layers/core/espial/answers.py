"""Calls to other systems over HTTP, as the use-cases see them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

LONGEST_WAIT = 900.0
"""Seconds: nobody may ask for more."""


class Answer(NamedTuple):
    """What came back: header names in lower case; `is_cut` where the body goes on behind what was read."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    is_cut: bool = False


class Http(Protocol):
    """The way out (`espial.stores.guarded_http`)."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", seconds: float = 10.0
    ) -> Answer:
        """Call once, and return whatever status comes back; redirects are not followed.

        `seconds` is for connecting, for each step of the handshakes and for the whole answer.
        Raises TryAgain if it was surely not sent, AnswerLost (a TryAgain) if nobody knows whether it was taken, and
        Refused where the address may not be called: `bad_address`, `address_not_public`, `address_not_loopback`,
        `bad_header`.
        """
        ...


def wait_for_reset(answer: Answer, now: datetime) -> float:
    """Seconds that `Retry-After` asks for, else `X-RateLimit-Reset` (Unix seconds); else one."""
    reset = answer.headers.get("x-ratelimit-reset", "").strip().partition(".")[0]
    if "retry-after" in answer.headers or not (reset.isascii() and reset.isdigit()):
        return wait(answer, now)
    return min(max(float(reset) - now.timestamp(), 1.0), LONGEST_WAIT)


def wait(answer: Answer, now: datetime, least: float = 1.0) -> float:
    """Seconds that `Retry-After` (seconds or a date) asks for, at least `least`."""
    asked = answer.headers.get("retry-after", "").strip()
    seconds = least
    if asked.isascii() and asked.isdigit():
        seconds = float(asked)
    elif asked:
        with suppress(ValueError):
            seconds = parsedate_to_datetime(asked).timestamp() - now.timestamp()
    return min(max(seconds, least), LONGEST_WAIT)
