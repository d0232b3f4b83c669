"""What an answer means, when it is tried again, and how a destination is after it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Literal, NamedTuple

import msgspec

from espial.answers import Answer, wait
from espial.notifications.outbox import Health

WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800))
"""Before each further try; the last again and again."""
JITTER = 0.2
"""Up to so much is added, and nothing ever taken away."""
BREAK = 10
"""Failures in a row after which a destination is only probed."""
PROBE = timedelta(minutes=1)
SHOWN = 500
"""Characters of an answer that are kept."""

Outcome = Literal["delivered", "failed", "refused", "gone"]

_OF_THE_DESTINATION = frozenset({401, 403, 404, 405, 408, 421, 425, 429})
"""Refusals that say nothing of this notification: the next one would fare no better."""
_SLOWER = frozenset({429, 502, 503, 504})
_HIDDEN = re.compile(
    r"[^\s@<>\"']+@[^\s@<>\"']+|\+?\d[\d ().-]{6,}\d|wh(?:sec|sk)_\S+|(?i:bearer\s+\S+)|[A-Za-z0-9+/_=-]{24,}"
)


class Verdict(NamedTuple):
    """What became of a call; `pause` is how long the receiver wants to be left alone, in seconds."""

    outcome: Outcome
    status: int = 0
    reason: str = ""
    answer: str = ""
    pause: float = 0.0


def judged(answer: Answer, now: datetime) -> Verdict:
    """By its status. A redirect is never followed, as it may lead anywhere."""
    status, shown = answer.status, masked(answer.body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Verdict("delivered", status, answer=shown)
    if status == HTTPStatus.GONE:
        return Verdict("gone", status, "gone", shown)
    if status in _SLOWER:
        asked = wait(answer, now, 0.0)
        return Verdict(
            "failed", status, "slow_down", shown, max(asked, 1.0 if "retry-after" in answer.headers else 0.0)
        )
    if status in _OF_THE_DESTINATION or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict("failed", status, "not_now" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "not_here", shown)
    if status < HTTPStatus.BAD_REQUEST:
        return Verdict("failed", status, "redirected", shown)
    return Verdict("refused", status, "refused", shown)


class _Result(msgspec.Struct):
    id: str
    status: int


class _Results(msgspec.Struct):
    results: list[_Result]


def apart(answer: Answer) -> dict[str, int]:
    """The status of each of a batch that the receiver tells apart: `{"results": [{"id": …, "status": 422}]}`."""
    try:
        return {one.id: one.status for one in msgspec.json.decode(answer.body, type=_Results).results}
    except msgspec.MsgspecError:
        return {}


def masked(body: bytes) -> str:
    """The head of an answer, without addresses, numbers of phones and what may be a secret."""
    return _HIDDEN.sub("…", body[: 4 * SHOWN].decode(errors="replace"))[:SHOWN]


def again_at(
    attempts: int, retry_for: timedelta, now: datetime, pause: float, chance: Callable[[], float]
) -> datetime | None:
    """When to try again after so many attempts before this one; None if the plan is over. `chance` is from 0 to 1."""
    waits = [WAITS[min(number, len(WAITS) - 1)] for number in range(attempts + 1)]
    if sum(waits, timedelta(0)) > retry_for:
        return None
    return now + max(waits[-1] * (1 + JITTER * chance()), timedelta(seconds=pause))


def after(health: Health, verdicts: list[Verdict], now: datetime) -> Health:
    """How the destination is after these calls, in order."""
    for verdict in verdicts:
        health = _after(health, verdict, now)
    return health


def _after(health: Health, verdict: Verdict, now: datetime) -> Health:
    known = Health(destination=health.destination)
    if health.state == "off":
        return health
    if verdict.outcome in ("delivered", "refused"):
        return known
    if verdict.outcome == "gone":
        return msgspec.structs.replace(known, state="off", why="the receiver answered 410: it wants nothing any more")
    failures = health.failures + 1
    since = health.failing_since or now
    why = f"{verdict.status or ''} {verdict.reason}".strip()
    slowed = bool(verdict.pause) or verdict.reason == "slow_down"
    state: Literal["open", "probing"] = "probing" if slowed or failures >= BREAK else "open"
    pause = min(PROBE, timedelta(seconds=2 ** min(failures, 6))) if slowed and failures < BREAK else PROBE
    probe = now + max(pause, timedelta(seconds=verdict.pause)) if state == "probing" else None
    return Health(
        destination=health.destination, state=state, failures=failures, failing_since=since, probe_at=probe, why=why
    )
