"""WalksTable keeps the rules that its fake keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from espial.ports import Walk, Walks
from espial.stores.walks_table import WalksTable
from tests.builders import NOON
from tests.contract.test_ports import events_table
from tests.unit.test_enter_people import FakeWalks

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["fake", "table"])
def walks(request: pytest.FixtureRequest) -> Walks:
    if request.param == "fake":
        return FakeWalks()
    cloud: Any = request.getfixturevalue("cloud")
    events_table(cloud, "walks")
    return WalksTable(cloud.client("dynamodb"), "walks")


def test_one_walks_at_a_time_from_where_it_is(walks: Walks):
    assert walks.go_on("t", "o", now=NOON, until=NOON + MINUTE) == Walk()
    assert walks.go_on("t", "o", now=NOON, until=NOON + MINUTE) is None
    assert walks.go_on("t", "other", now=NOON, until=NOON + MINUTE) == Walk()
    walks.reach("t", "o", Walk(3, "id:a"), until=NOON + 2 * MINUTE)
    assert walks.go_on("t", "o", now=NOON + MINUTE, until=NOON + 9 * MINUTE) is None
    assert walks.go_on("t", "o", now=NOON + 2 * MINUTE, until=NOON + 9 * MINUTE) == Walk(3, "id:a")
    assert not walks.is_done("t", "o")
    walks.reach("t", "o", Walk(16, done=True), until=NOON)
    assert walks.is_done("t", "o")
    assert walks.go_on("t", "o", now=NOON + 9 * MINUTE, until=NOON + 10 * MINUTE) is None


def test_a_request_is_what_it_was_first(walks: Walks):
    assert walks.remember("t", "r", "one", now=NOON) == (NOON, "one")
    assert walks.remember("t", "r", "two", now=NOON + MINUTE) == (NOON, "one")
    assert walks.remember("t2", "r", "two", now=NOON + MINUTE) == (NOON + MINUTE, "two")
