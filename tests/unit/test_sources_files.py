"""Local times and settings of text files: every form that platforms write, and nothing guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import exports
from espial.errors import MalformedItem
from espial.sources._files import check_text, check_times, folded, local_instant, zone_of

SIX_BEHIND = timezone(-timedelta(hours=6))
EXPECTED = datetime(2026, 1, 15, 10, 0, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "given_time",
    [
        *("1/15/2026 4:00:37 AM", "01/15/2026 04:00:37", "1/15/2026 4:00:37 a.m.", "01-15-2026, 04:00:37"),
        *("15.01.2026 04:00:37", "2026-01-15 04:00:37.000", "2026-01-15T04:00:37", "20260115040037"),
        *("20260115 040037", "2026-01-15T10:00:37Z", "2026-01-15 11:00:37+01:00", "1768471237", "1768471237000"),
        " 1/15/2026 4:00:37 AM ",
    ],
)
def test_every_form_is_the_same_instant(given_time: str) -> None:
    """The zone is of those alone that name none."""
    assert EXPECTED == local_instant(given_time, "at", SIX_BEHIND)


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ("15/01/2026", "2026-01-15T00:00:00"),
        ("15.01.2026 04:00", "2026-01-15T04:00:00"),
        ("20260115", "2026-01-15T00:00:00"),
    ],
)
def test_what_is_left_out_is_nought(given_time: str, expected: str) -> None:
    """Seconds, or the time of day."""
    assert f"{expected}+00:00" == local_instant(given_time, "at", day_first=True).isoformat()


def test_an_hour_that_comes_twice_is_the_first_and_one_that_does_not_is_read_on() -> None:
    """Where clocks change nobody can tell; nothing is lost for it."""
    berlin = zone_of({"time_zone": "Europe/Berlin"})
    assert datetime(2026, 10, 25, 0, 30, tzinfo=UTC) == local_instant("2026-10-25 02:30:00", "at", berlin)
    assert datetime(2026, 3, 29, 1, 30, tzinfo=UTC) == local_instant("2026-03-29 02:30:00", "at", berlin)


@given(st.none() | st.integers() | st.text(max_size=30) | st.from_regex(r"[0-9/.: -]{1,30}", fullmatch=True))
def test_anything_is_an_instant_or_malformed(value: Any) -> None:
    """Total; and never outside the century."""
    try:
        found = local_instant(value, "at")
    except MalformedItem:
        return
    assert 2000 <= found.year < 2100
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["15/01/2026 10:00", "01/15/1999 10:00", "1/15/2026 13:00 PM", "9" * 14, "tomorrow"])
def test_a_time_that_cannot_be_is_malformed(value: str) -> None:
    """A month of 15 is not taken for a day."""
    with pytest.raises(MalformedItem) as refused:
        local_instant(value, "at")
    assert ("bad_timestamp", "at") == (refused.value.reason, refused.value.path)


@given(st.text(max_size=30))
def test_names_of_columns_are_folded_as_containers_fold_them(name: str) -> None:
    """So that a setting finds its column."""
    assert exports.folded(name) == folded(name)


@pytest.mark.parametrize(
    "settings", [{"time_zone": "UTC"}, {"time_zone": "-06:00"}, {"time_zone": "+0530"}, {"day_first": True}, {}]
)
def test_settings_that_do(settings: dict[str, Any]) -> None:
    """Names of zones and offsets."""
    check_times(settings)
    check_text({"delimiter": "\t", "encoding": "utf-16", "header": ["a"]})
