"""What rows of text files have in common: local times, and the settings that say how a file is written."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any

from espial.errors import MalformedItem
from espial.sources._shared import instant, seconds_or_milliseconds

_NUMBERED = re.compile(
    r"(\d{1,2})([/.-])(\d{1,2})[/.-](\d{4})(?:[ T,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?",
    re.ASCII,
)
_COMPACT = re.compile(r"(?:19|20)\d{6}(?:[ T]?\d{6})?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def local_instant(value: Any, path: str, zone: tzinfo = UTC, *, day_first: bool = False) -> datetime:
    """A date and time as an instant: one of the forms below, ISO 8601 with a blank for the T, or Unix time.

    `1/15/2026 4:00:37 AM`, `15.01.2026 04:00`, `15/01/2026 04:00:37`, `20260115040037`. `zone` is of those that name
    none. With dots the day comes first, with slashes if `day_first`.
    Raises MalformedItem naming `path` if it is missing, none of these, or outside the years 2000 to 2099.
    """
    if type(value) is not str or not (given := value.strip()):
        raise MalformedItem("bad_timestamp", f"{path} is missing or empty", path)
    if given.isascii() and given.isdigit() and len(given) in (10, 13):
        return seconds_or_milliseconds(given, path)
    found = _read(given, zone, day_first)
    if found is None:
        raise MalformedItem("bad_timestamp", f"{path} is not a date with a time", path)
    if not 2000 <= found.year < 2100:
        raise MalformedItem("bad_timestamp", f"{path} is outside the years 2000 to 2099", path)
    return found


@lru_cache(maxsize=4096)
def _read(given: str, zone: tzinfo, day_first: bool) -> datetime | None:
    """Cached: rows come in order of time, many in one second."""
    try:
        if numbered := _NUMBERED.fullmatch(given):
            local = _numbered(numbered, day_first)
        elif _COMPACT.fullmatch(given):
            local = datetime.strptime(re.sub("[ T]", "", given).ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007
        else:
            return instant(_with_zone(datetime.fromisoformat(given), zone).isoformat(), "")
        return _with_zone(local, zone).astimezone(UTC)
    except (MalformedItem, ValueError, OverflowError):
        return None


def _numbered(found: re.Match[str], day_first: bool) -> datetime:
    first, dot, second, year, hour, minute, seconds, half = found.groups()
    day, month = (first, second) if day_first or dot == "." else (second, first)
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError(hour)
        hours = hours % 12 + (12 if half in "Pp" else 0)
    return datetime(int(year), int(month), int(day), hours, int(minute or 0), int(seconds or 0))  # noqa: DTZ001


def _with_zone(found: datetime, zone: tzinfo) -> datetime:
    return found.replace(tzinfo=zone) if found.tzinfo is None else found


def zone_of(settings: Mapping[str, Any], default: str = "UTC") -> tzinfo:
    """The setting `time_zone`: a name such as Europe/Berlin, or an offset such as -06:00. Raises ValueError."""
    return _zone(settings.get("time_zone", default))


@lru_cache(maxsize=64)
def _zone(name: Any) -> tzinfo:
    if name == "UTC":
        return UTC
    if isinstance(name, str) and (offset := _OFFSET.fullmatch(name)):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if ahead < timedelta(hours=24):
            return timezone(-ahead if offset[1] == "-" else ahead)
    from zoneinfo import ZoneInfo  # noqa: PLC0415  few connections have one, and every receiver imports this

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, AttributeError, OSError) as exc:
        raise ValueError("time_zone: must be a name such as Europe/Berlin or an offset such as -06:00") from exc


def check_times(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a `time_zone` or `day_first` that does not do."""
    name = settings.get("time_zone", "UTC")
    if not isinstance(name, str):
        raise ValueError("time_zone: must be a name such as Europe/Berlin or an offset such as -06:00")  # noqa: TRY004 - one error for all settings
    _zone(name)
    if not isinstance(settings.get("day_first", False), bool):
        raise ValueError("day_first: must be true or false")  # noqa: TRY004


def check_text(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for an `encoding`, `delimiter` or `header` of delimited text that does not do."""
    encoding, delimiter, header = (settings.get(name) for name in ("encoding", "delimiter", "header"))
    try:
        codecs.lookup("utf-8" if encoding is None else encoding)
    except (LookupError, TypeError, ValueError) as exc:
        raise ValueError("encoding: must be the name of one, such as latin-1") from exc
    if delimiter is not None and not (isinstance(delimiter, str) and len(delimiter) == 1):
        raise ValueError("delimiter: must be one character")
    if header is not None and not (isinstance(header, list) and all(isinstance(one, str) for one in header)):
        raise ValueError("header: must be a list of the columns' names")


def folded(column: str) -> str:
    """As `espial.exports.folded`, which the receivers have no need of."""
    return "".join(filter(str.isalnum, column)).lower()
