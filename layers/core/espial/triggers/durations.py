"""Lengths of time as people write them: `1h`, `30m`, `3s`, `7d`, `1h30m`, and ISO 8601 (`P1D`, `PT36H`, `P2W`)."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

PATTERN = (
    r"^(?:(?:[0-9]+(?:w|d|h|m|s))+|P(?=.)(?:[0-9]+W)?(?:[0-9]+D)?(?:T(?=.)(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+S)?)?)$"
)
"""The accepted notations, for JSON Schema too."""

LONGEST = timedelta(days=366)

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_shape = re.compile(PATTERN)
_piece = re.compile(r"([0-9]+)([wdhms])")


@lru_cache(maxsize=256)
def parse(text: str) -> timedelta:
    """Read a length of time. Raises ValueError when it is not one or is longer than 366 days.

    Months and years are refused: their length depends on the calendar.
    """
    if not _shape.match(text):
        raise ValueError(f"a duration such as 30m, 1h, 7d or PT1H is expected, not {text!r}")
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in _piece.findall(text.lower()))
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {LONGEST.days} days")
    return timedelta(seconds=seconds)


@lru_cache(maxsize=256)
def text(length: timedelta) -> str:
    """The shortest way to write a whole number of seconds: `90m`, `1d`, `0s`."""
    seconds = int(length.total_seconds())
    unit = next((unit for unit, size in _SECONDS.items() if unit != "w" and seconds and not seconds % size), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"
