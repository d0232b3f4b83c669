"""Positions of streams: the table and its fake keep the same rules, one reader at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.errors import TryAgain
from espial.stores.stream_positions import StreamPositions
from espial.streams import Position, Positions
from tests.contract.test_ports import events_table
from tests.fakes import FakePositions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(minutes=5)
STREAM = "airship/shop"


def table(cloud: Any) -> StreamPositions:
    events_table(cloud)
    return StreamPositions(cloud.client("dynamodb"), "Events-table")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cloud)])
def positions(request: pytest.FixtureRequest) -> Positions:
    return FakePositions() if request.param == "fake" else table(request.getfixturevalue("cloud"))


def taken(positions: Positions, now: datetime = NOW) -> Position:
    found = positions.take(STREAM, now=now, until=now + timedelta(minutes=5))
    assert found is not None
    return found


def test_a_stream_begins_without_an_offset_and_goes_on_where_it_was_left(positions: Positions) -> None:
    """Whoever reads next begins there."""
    first = taken(positions)
    assert "" == first.offset
    assert positions.keep(first, "17")
    assert positions.keep(first, "18")
    positions.release(first)
    assert "18" == taken(positions).offset


def test_one_reader_at_a_time(positions: Positions) -> None:
    """Until it gives the stream back or its time is over; other streams are free."""
    first = taken(positions)
    assert positions.take(STREAM, now=NOW, until=UNTIL) is None
    assert positions.take(STREAM, now=UNTIL - timedelta(seconds=1), until=UNTIL) is None
    assert positions.take("airship/other", now=NOW, until=UNTIL) is not None
    assert first.holder != taken(positions, UNTIL).holder


def test_who_was_too_slow_changes_nothing_any_more(positions: Positions) -> None:
    """Neither the offset nor the right of whoever reads now."""
    slow = taken(positions)
    assert positions.keep(slow, "17")
    quick = taken(positions, UNTIL)
    assert positions.keep(quick, "20")
    assert not positions.keep(slow, "18")
    positions.release(slow)
    assert positions.take(STREAM, now=UNTIL, until=UNTIL) is None
    positions.release(quick)
    assert "20" == taken(positions, UNTIL).offset


@pytest.mark.cloud
def test_of_two_that_begin_together_one_reads(cloud: Any) -> None:
    """The table decides."""
    positions = table(cloud)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: positions.take(STREAM, now=NOW, until=UNTIL), range(8)))
    assert 7 == found.count(None)


@pytest.mark.cloud
def test_a_table_that_is_away_is_tried_again(cloud: Any) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(TryAgain):
        StreamPositions(cloud.client("dynamodb"), "none").take(STREAM, now=NOW, until=UNTIL)
