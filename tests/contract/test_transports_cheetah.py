"""Marigold's files: activity by name, the event stream by folder, and one event over file and webhook by its id."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from espial import sources
from espial.deliveries import Connection
from espial.normalise import normalise
from espial.sources import Export, Layout
from espial.sources.cheetah import COLUMNS, layout
from tests import samples
from tests.rows import connection, events

FILES = samples.exports("cheetah")
ACTIVITY = {path.name.split("_")[2]: path for path in FILES if path.parent.name == "activity"}
STREAM = [path for path in FILES if path.parent.name.startswith("client_id=")]
CENTRAL = {"time_zone": "America/Chicago"}
CASE = samples.case("cheetah", "all-types")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("send", ["sent", "sent"]),
        ("open", ["opened", "opened"]),
        ("click", ["clicked", "clicked"]),
        ("bounce", ["bounced", "soft_bounced", "bounced"]),
        ("unsubs", ["unsubscribed"]),
    ],
)
def test_a_file_is_what_its_name_says(name: str, expected: list[str]) -> None:
    """The five standard ones; lines do not say."""
    assert expected == [one.event.type.value for one in events(ACTIVITY[name], CENTRAL)]


def test_a_line_says_who_what_and_when() -> None:
    """Quotation marks are characters; times are the account's own."""
    first, _ = [one.event for one in events(ACTIVITY["send"], CENTRAL)]
    assert ("ada@example.com", "cust-1001") == (first.person.email, first.person.external_id)
    assert ("77", 'Winter "launch"') == (first.campaign.id, first.campaign.name)
    assert "2026-01-15T10:00:37+00:00" == first.occurred_at.isoformat()
    click, other = [one.event for one in events(ACTIVITY["click"], CENTRAL)]
    assert ('https://shop.example.com/p?a=1,2&b="q"', "9") == (click.link.url, click.link.id)
    assert click.event_id != other.event_id


def test_a_line_without_a_time_is_dated_by_its_file() -> None:
    """And says so."""
    _, uncertain = [one.event for one in events(ACTIVITY["open"])]
    assert uncertain.time_uncertain


def test_a_bounce_keeps_its_class_and_reason() -> None:
    """Whatever the class is."""
    hard, soft, other = [one.event.failure for one in events(ACTIVITY["bounce"])]
    assert ("HARD", "550 5.1.1 unknown user") == (hard.class_, hard.reason)
    assert ("Soft bounce", "B7") == (soft.class_, other.class_)


def test_the_event_stream_is_what_its_table_says() -> None:
    """A folder a table, with commas and quotation."""
    found = {one.event.type.value: one.event for path in STREAM for one in events(path)}
    assert {"sent", "clicked"} == found.keys()
    assert "https://shop.example.com/p?a=1,2" == found["clicked"].link.url
    assert ("m-1", "88") == (found["sent"].message_id, found["sent"].campaign.id)
    assert found["sent"].send_key == found["clicked"].send_key


def test_a_line_and_a_report_of_one_id_are_one_event() -> None:
    """Equal id, home and send key, where the mapping names what both have."""
    settings: dict[str, Any] = {"fields": {"id": "eventId", "occurred_at": "timestamp", "message_id": "messageId"}}
    its = connection("cheetah", settings)
    source = sources.of(its)
    posted = {
        "eventType": "open",
        "eventId": "e-1",
        "timestamp": "2026-01-15T10:05:00Z",
        "messageId": "m-1",
        "recipient": "ada@example.com",
    }
    row = {"eventid": "e-1", "eventdt": "2026-01-15 10:05:00", "messageid": "m-1", "email": "Ada@example.com"}
    line: Any = source.exports["csv"](row, Export(bucket="b", key="x/acme__open_1.csv", etag="e", settings=settings))
    twin, copy = (normalise(source, one, CASE.arrival) for one in (orjson.loads(orjson.dumps(posted)), line))
    assert twin.event.event_id == copy.event.event_id
    assert (twin.home, twin.event.send_key) == (copy.home, copy.event.send_key)
    assert twin.event.type == copy.event.type


@pytest.mark.parametrize(
    ("name", "settings", "row", "expected"),
    [
        ("acme__send_1.csv", {}, {}, "sent"),
        ("xyz_77.csv", {"file_types": {"^xyz_": "open"}}, {}, "opened"),
        ("xyz_77.csv", {"file_types": {"^xyz_": "Parked"}, "types": {"Parked": "deferred"}}, {}, "deferred"),
        ("acme__send_1.csv", {}, {"eventtype": "CLICK"}, "clicked"),
        ("acme__send_1.csv", {"fields": {"type": "WHAT"}}, {"what": "click"}, "clicked"),
        ("complaints.csv", {}, {}, "complained"),
        ("hardbounces.csv", {}, {}, "bounced"),
    ],
)
def test_what_a_line_is(name: str, settings: dict[str, Any], row: dict[str, str], expected: str) -> None:
    """Its own column first, then the setting's pattern, then a word of the file's name."""
    source = sources.of(Connection(name="a", platform="cheetah", settings=settings))
    export = Export(bucket="b", key=f"exports/cheetah/a/{name}", etag="e", settings=settings)
    item: Any = source.exports["csv"]({"email": "ada@example.com", "eventdt": "2026-01-15 10:00:00", **row}, export)
    assert expected == normalise(source, item, CASE.arrival).event.type


def test_usual_columns_lead_to_fields_that_there_are() -> None:
    """Every alias is one of the mapping's targets."""
    source = sources.load("cheetah")
    export = Export(bucket="b", key="x/acme__click_1.csv", etag="e")
    for target, columns in COLUMNS.items():
        for column in columns:
            value = "click" if target == "type" else "2026-01-15 10:00:00" if target == "occurred_at" else "x"
            item: Any = source.exports["csv"]({column: value}, export)
            fields = source.normalise(item, CASE.arrival)
            part, _, name = target.partition(".")
            found = fields.get(part, {}).get(name) if name else fields.get(part) or source.identity(item)
            assert found, (target, column)


def test_how_files_are_written() -> None:
    """Pipes without quotation, but for Sailthru's; settings win."""
    assert Layout(delimiter="|", quoted=False) == layout("exports/cheetah/a/acme__send_1.csv", {})
    assert Layout(delimiter=",") == layout("exports/cheetah/a/message_open/dt=20260115/client_id=1/a.csv", {})
    given = {"delimiter": ",", "encoding": "latin-1", "header": ["a", "b"]}
    assert Layout(delimiter=",", encoding="latin-1", columns=("a", "b")) == layout("exports/cheetah/a/x.csv", given)


@pytest.mark.parametrize("settings", [{"file_types": {"(": "open"}}, {"file_types": ["x"]}, {"quoted": 1}])
def test_settings_that_do_not_do_are_named(settings: dict[str, Any]) -> None:
    """Before they are applied."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        sources.of(Connection(name="a", platform="cheetah", settings=settings))
