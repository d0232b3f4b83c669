"""Days and quiet hours by the clock on somebody's wall: IANA zones, with the hours that clocks skip or repeat.

A day is from one midnight to the next, which may be 23 or 25 hours. Where clocks are set back, an hour of the wall
comes twice and is quiet twice; where they are set forward, quiet hours that would end in the hour left out end with it
or soon after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

Calendar = Literal["day", "week", "month"]

ZONE_ATTRIBUTES = ("timezone", "time_zone")
"""What a person's zone may be called among the attributes."""

_DAYS_TO_LOOK = 4
"""More than quiet hours can last: one night, and a day that a country left out of its calendar."""


@lru_cache(maxsize=1024)
def zone(name: str) -> tzinfo | None:
    """The zone of an IANA name; None for what is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  few triggers look at a clock

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        return None


def first_zone(names: Iterable[object]) -> tzinfo:
    """The first that is a zone, else UTC."""
    return next((found for name in names if isinstance(name, str) and (found := zone(name))), UTC)


def day_began(unit: Calendar, now: datetime, where: tzinfo) -> datetime:
    """The midnight with which the day, the week (a Monday) or the month began there."""
    today = now.astimezone(where).date()
    first = {
        "day": today,
        "week": today - timedelta(days=today.weekday()),
        "month": today.replace(day=1),
    }[unit]
    return datetime.combine(first, time(), where).astimezone(UTC)


def quiet(start: time, end: time, at: datetime, where: tzinfo) -> bool:
    """Whether the wall's clock is in the quiet hours, `end` not included; they may go past midnight."""
    shown = at.astimezone(where).time()
    return start <= shown < end if start < end else shown >= start or shown < end


def quiet_until(start: time, end: time, at: datetime, where: tzinfo) -> datetime | None:
    """When the quiet hours that hold the instant are over; None outside them."""
    if not quiet(start, end, at, where):
        return None
    today = at.astimezone(where).date()
    ends = (
        datetime.combine(today + timedelta(days=day), end.replace(fold=fold), where).astimezone(UTC)
        for day in range(_DAYS_TO_LOOK)
        for fold in (0, 1)
    )
    return min(over for over in ends if over > at and not quiet(start, end, over, where))
