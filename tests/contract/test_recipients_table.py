"""RecipientsTable: the table and its fake keep the same rules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.errors import TryAgain
from espial.exports.files import ExportFile
from espial.onboarding.state import Counts, Held, Told
from espial.stores.recipients_table import RecipientsTable
from tests.contract.test_ports import events_table
from tests.onboarding import FakeRecipientsTable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(minutes=6)


def a_file(name: str = "monday", etag: str = "e1") -> ExportFile:
    key = f"onboarding/welcome/{name}.csv"
    return ExportFile(bucket="b", key=key, etag=etag, size=10, modified_at=NOW - timedelta(hours=1))


def table(cloud: Any) -> RecipientsTable:
    events_table(cloud, "Recipients-table")
    return RecipientsTable(cloud.client("dynamodb"), "Recipients-table")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cloud)])
def store(request: pytest.FixtureRequest) -> Any:
    return FakeRecipientsTable() if request.param == "fake" else table(request.getfixturevalue("cloud"))


def taken(store: Any, execution: Any, now: datetime = NOW) -> Held:
    held: Held | None = store.take(execution, now=now, until=now + timedelta(minutes=6))
    assert held
    return held


def test_a_file_gets_the_next_number_once(store):
    """However often it is claimed; each onboarding counts by itself, and no number is left out."""
    first = store.claim("welcome", a_file(), 3, NOW)
    assert (1, "running", 3, Counts(), NOW) == (first.number, first.state, first.rows, first.counts, first.updated_at)
    assert first == store.claim("welcome", a_file(), 3, NOW) == store.find("welcome", a_file())
    assert 2 == store.claim("welcome", a_file("tuesday"), 1, NOW).number
    assert 3 == store.claim("welcome", a_file("tuesday", "e2"), 1, NOW).number
    assert 1 == store.claim("other", a_file(), 1, NOW).number
    assert store.find("welcome", a_file("sunday")) is None


def test_the_file_s_time_is_that_of_the_first_claim(store):
    """The same content put there again later must not make other events."""
    store.claim("welcome", a_file(), 3, NOW)
    again = a_file().__class__(
        **{name: getattr(a_file(), name) for name in a_file().__struct_fields__} | {"modified_at": NOW}
    )
    assert NOW - timedelta(hours=1) == store.claim("welcome", again, 3, NOW).file.modified_at


def test_executions_have_their_turn_in_order(store):
    """The second begins when the first has ended, whatever came of it."""
    first, second = (store.claim("welcome", a_file(day), 1, NOW) for day in ("monday", "tuesday"))
    assert store.take(second, now=NOW, until=UNTIL) is None
    with pytest.raises(TryAgain):
        store.end(second, "failed", "object_gone", NOW)
    store.end(first, "failed", "object_gone", NOW)
    store.end(first, "done", "", NOW)
    assert ("failed", "object_gone") == (store.find("welcome", a_file()).state, store.find("welcome", a_file()).reason)
    assert second.number == taken(store, second).execution.number


def test_one_worker_at_a_time(store):
    """Until it gives the execution back or its lease is over."""
    execution = store.claim("welcome", a_file(), 9, NOW)
    first = taken(store, execution)
    assert store.take(execution, now=UNTIL - timedelta(seconds=1), until=UNTIL) is None
    assert store.renew(first, until=UNTIL + timedelta(minutes=1))
    assert store.take(execution, now=UNTIL, until=UNTIL) is None
    store.release(first, "HTTP 503")
    assert "HTTP 503" == store.find("welcome", a_file()).reason
    second = taken(store, execution)
    store.release(second)
    assert "" == store.find("welcome", a_file()).reason


def test_counts_are_noted_by_whoever_has_the_right(store):
    """A worker that was too slow changes nothing any more."""
    execution = store.claim("welcome", a_file(), 9, NOW)
    slow = taken(store, execution)
    slow = store.advance(slow, Counts(sent=2, refused=1), now=NOW, until=UNTIL)
    assert Counts(sent=2, refused=1) == slow.execution.counts
    quick = taken(store, execution, UNTIL)
    assert Counts(sent=2, refused=1) == quick.execution.counts
    assert store.advance(slow, Counts(sent=9), now=UNTIL, until=UNTIL) is None
    assert not store.renew(slow, until=UNTIL)
    store.release(slow, "late")
    assert ("", Counts(sent=2, refused=1)) == (
        store.find("welcome", a_file()).reason,
        store.find("welcome", a_file()).counts,
    )
    store.end(quick.execution, "done", "", UNTIL)
    assert store.advance(quick, Counts(sent=9), now=UNTIL, until=UNTIL) is None
    assert store.take(execution, now=UNTIL + timedelta(hours=1), until=UNTIL) is None


def test_a_refused_file_has_no_number_until_it_is_claimed(store):
    """And one that has a number is not refused any more."""
    store.refuse("welcome", a_file(), "no_key_column", NOW)
    found = store.find("welcome", a_file())
    assert ("refused", "no_key_column", 0) == (found.state, found.reason, found.number)
    assert (1, "") == (store.claim("welcome", a_file(), 1, NOW).number, store.find("welcome", a_file()).reason)
    store.refuse("welcome", a_file(), "no_key_column", NOW)
    assert "running" == store.find("welcome", a_file()).state


def test_all_of_an_onboarding_are_listed(store):
    """The one that moved last first; nothing of another's, and no recipient."""
    store.claim("welcome", a_file(), 1, NOW)
    store.refuse("welcome", a_file("tuesday"), "not_utf_8", NOW + timedelta(hours=1))
    store.claim("welcome-back", a_file(), 1, NOW)
    store.remember("welcome", {"P-1": Told("h", 1, 1)})
    assert ["tuesday", "monday"] == [one.file.key.split("/")[2].removesuffix(".csv") for one in store.of("welcome")]


def test_what_recipients_were_told_is_remembered_by_onboarding(store):
    """The last one counts; more than a call holds are read and written."""
    told = {f"P-{number}": Told(f"h{number}", 1, number) for number in range(130)}
    store.remember("welcome", told)
    store.remember("welcome", {"P-7": Told("h7", 2, 207, "rejected")})
    asked = [*told, "P-none", "P-1"]
    assert {**told, "P-7": Told("h7", 2, 207, "rejected")} == store.told("welcome", asked)
    assert {} == store.told("welcome-back", asked)
    assert {} == store.told("welcome", [])


@pytest.mark.cloud
def test_of_files_that_begin_together_each_has_a_number(cloud):
    """No two have the same, none is left out."""
    store = table(cloud)
    with ThreadPoolExecutor(8) as pool:
        files = [a_file(str(number % 6)) for number in range(24)]
        claimed = list(pool.map(lambda file: store.claim("welcome", file, 1, NOW), files))
    assert set(range(1, 7)) == {one.number for one in claimed}
    assert 6 == len({(one.number, one.file.key) for one in claimed})


@pytest.mark.cloud
def test_a_key_as_long_as_s3_allows_is_kept(cloud):
    """A sort key is no longer than that, and has to hold more."""
    store = table(cloud)
    file = a_file("x" * 990)
    assert file.key == store.claim("welcome", file, 1, NOW).file.key


@pytest.mark.cloud
def test_a_table_that_is_away_is_tried_again(cloud):
    """Whatever is wrong with it."""
    store = RecipientsTable(cloud.client("dynamodb"), "none")
    with pytest.raises(TryAgain):
        store.find("welcome", a_file())
    with pytest.raises(TryAgain):
        store.told("welcome", ["P-1"])
