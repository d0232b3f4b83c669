"""What an answer's status means, the same for every platform that is spoken to over HTTP."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import orjson

from espial.answers import Answer, wait_for_reset
from espial.errors import Refused, TryAgain

PASSING = frozenset({408, 425, 429})
UNAUTHORISED = frozenset({401, 403, 407})
NOT_THERE = frozenset({404, 405, 406, 410, 415, 421, 426})
"""Whoever answers like this is not the platform, or not at this address."""

_SECRETIVE = re.compile(r"\S*@\S*|\+?\d[\d ().-]{5,}\d")


def was_taken(answer: Answer, now: datetime) -> bool:
    """Whether the request was taken, if not wholly; False if what it holds was refused.

    Raises TryAgain for what passes, with the wait that the answer asks for, and Refused where somebody has to mend
    something: `unauthorised`, or `endpoint_refused` (also for a redirect, which is not followed).
    """
    status = answer.status
    if 200 <= status < 300:
        return True
    if status in PASSING or status >= 500:
        raise TryAgain(f"HTTP {status}", after=wait_for_reset(answer, now))
    if status in UNAUTHORISED:
        raise Refused("unauthorised", f"HTTP {status}: the key is wrong, or may not do this")
    if status in NOT_THERE or status < 400:
        raise Refused("endpoint_refused", f"HTTP {status}: the endpoint is not the platform's")
    return False


def document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it is none."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def discreet(words: Any) -> str:
    """A platform's words without what looks like an address or a telephone number."""
    return _SECRETIVE.sub("…", str(words))[:200]
