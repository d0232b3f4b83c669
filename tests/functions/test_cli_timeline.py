"""`espial timeline` against the stores of a local cloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espial.events import MESSAGE_KEYS, encode, home_key
from espial.normalise import Recordable
from espial.stores.events_table import EventsTable
from espial.stores.people_table import PeopleTable
from tests.functions.test_cli import espial  # noqa: F401  a fixture
from tests.unit.test_journal import EVERYTHING, SEED, UNMATCHED

pytestmark = pytest.mark.cloud


def record(cloud, recorded, table="events"):
    """Put events into the table as the functions do, and join the keys they name."""
    events_table, people = EventsTable(cloud.client("dynamodb"), table), PeopleTable(cloud.client("dynamodb"), table)
    for stored in recorded:
        event = stored.event
        record = Recordable(event, encode(event), home_key(event, MESSAGE_KEYS))
        for transport in stored.via:
            events_table.add([record], transport=transport, expires_days=60)
        people.merge(event)


def test_a_timeline_is_a_table_on_a_narrow_terminal_too(espial, cloud, monkeypatch):
    """Every row with its words, its place, its ids and its send, in 80 columns."""
    record(cloud, [*SEED, UNMATCHED])
    monkeypatch.setenv("COLUMNS", "80")
    result = espial("timeline", "id:cust-1001")
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "7 rows" == lines[-1]
    told = " ".join(" ".join(line.split()) for line in lines)
    for part in (
        "offer history and campaign event",
        "rpi-9001-700001",
        "no send is known yet",
        "no. 2:",
    ):
        assert part in told


def test_a_wide_terminal_has_a_column_for_everything(espial, cloud, monkeypatch):
    """A row's facts stand beside each other."""
    record(cloud, SEED)
    monkeypatch.setenv("COLUMNS", "200")
    lines = espial("timeline", "id:cust-1001").output.splitlines()
    assert ["no.", "time", "(UTC)", "activity", "logged", "in", "loaded", "into", "the", "CDP"] == lines[0].split()[:10]
    assert lines[1].startswith("1    2026-11-20 12:00:00  Recipient data onboarded to Braze")
    assert "offer history and campaign event" in lines[1]


def test_a_timeline_for_programs_is_a_row_a_line(espial, cloud):
    """Under any key of the person, with every id and how sure each tie is."""
    record(cloud, EVERYTHING)
    by_id, by_email = (espial("timeline", key, "--json").stdout for key in ("id:cust-1001", "ada@example.com"))
    assert by_id == by_email
    rows = [json.loads(line) for line in by_id.splitlines()]
    assert list(range(1, len(rows) + 1)) == [row["sequence"] for row in rows]
    opened = next(row for row in rows if row["activity"] == "Welcome campaign opened")
    send = rows[opened["send"] - 1]
    assert ("send", opened["campaign_event_id"]) == (send["kind"], send["campaign_event_id"])
    assert (opened["event_ids"], "send_key", 1.0) == (
        *([opened["response_event_id"]], opened["method"], opened["confidence"]),
    )
    fewer = espial("timeline", "id:cust-1001", "--json", "--messages-only", "--limit", "2").stdout.splitlines()
    assert [False, False] == [json.loads(line)["kind"] == "activity" for line in fewer]


def test_a_timeline_is_written_as_a_page(espial, cloud):
    """And the command says where it is."""
    record(cloud, SEED)
    result = espial("timeline", "id:cust-1001", "--html", "ada.html")
    assert "ada.html: 6 rows\n" == result.stdout
    assert "Newsletter campaign clicked" in Path("ada.html").read_text()


def test_nobody_is_said_and_no_key_is_wrong_usage(espial):
    """An empty timeline is no error; what cannot be a key is."""
    assert "nothing is recorded of id:nobody\n" == espial("timeline", "id:nobody").stdout
    assert 2 == espial("timeline", "fax:1").exit_code
