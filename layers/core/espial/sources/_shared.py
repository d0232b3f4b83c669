"""Reading the values that every platform writes a little differently. Total: what cannot be read is None or refused."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from espial.errors import MalformedItem

EARLIEST = 946_684_800  # 2000-01-01
LATEST = 4_102_444_800  # 2100-01-01


def text(value: Any) -> str | None:
    """A name, id or note as text: numbers become text; empty, blank, boolean or nested values are None."""
    if type(value) is str:
        return value.strip() or None
    if type(value) is int or type(value) is float:
        return str(value)
    return None


def email(value: Any) -> str | None:
    """An address trimmed and lower-cased, else None. Not validated: the platform knew where it sent to."""
    return (value.strip().lower() or None) if type(value) is str else None


def phone(value: Any) -> str | None:
    """A number as E.164 where it says its country (`+` or `00`), else trimmed as given; None if there is none."""
    given = text(value)
    if given is None:
        return None
    digits = "".join(filter(str.isdigit, given))
    if given.startswith("+") and digits:
        return f"+{digits}"
    if given.startswith("00") and digits.strip("0"):
        return f"+{digits[2:]}"
    return given


def epoch(value: Any, path: str) -> datetime:
    """Seconds since 1970 UTC, a number or its text, as an instant.

    Raises MalformedItem naming `path` if it is missing, not a number, or outside the years 2000 to 2099
    (milliseconds among them: a platform that changes its unit must be noticed).
    """
    seconds = value
    if type(seconds) is int and EARLIEST <= seconds < LATEST:
        return _instant(seconds)
    if type(seconds) is str:
        try:
            seconds = float(seconds)
        except ValueError as exc:
            raise MalformedItem("bad_timestamp", f"{path} is not a number of seconds", path) from exc
    if type(seconds) is not int and type(seconds) is not float:
        raise MalformedItem("bad_timestamp", f"{path} is missing or not a number of seconds", path)
    if not EARLIEST <= seconds < LATEST:  # NaN and infinities too
        raise MalformedItem("bad_timestamp", f"{path} is outside the years 2000 to 2099", path)
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=4096)
def _instant(second: int) -> datetime:
    """Cached: the events of one delivery share few seconds."""
    return datetime.fromtimestamp(second, UTC)
