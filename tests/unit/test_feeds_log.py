"""The event log: PureResponse's lines, read as leniently as its samples need, and the layout of every event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import Client
from espial.feeds import log_lines
from espial.feeds.checking import Present, check
from espial.feeds.definition import built_in
from espial.feeds.formats import decode, encode
from espial.vocabulary import EventType
from tests.builders import an_event
from tests.feeding import World, braze_events
from tests.unit.test_write_feed import opened, send

COLUMNS = built_in()["event_log"].columns
LINE = (
    '"type:OPEN","event date:1700519196","email:ann.lee@example.com","mobile:","message name:Autumn Offer",'
    '"delivery date:1700515400","device os:iOS","delivery id:4711","first name:Ann","external_id:P-1001"'
)
PAIRS = [
    *(("type", "OPEN"), ("event date", "1700519196"), ("email", "ann.lee@example.com"), ("mobile", "")),
    *(("message name", "Autumn Offer"), ("delivery date", "1700515400"), ("device os", "iOS")),
    *(("delivery id", "4711"), ("first name", "Ann"), ("external_id", "P-1001")),
]

KEYS = st.text("abcdefgh xyz_", min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: " ".join(text.splitlines()))


def test_a_line_is_as_published():
    """Key, colon, value, all of it quoted."""
    assert PAIRS == log_lines.read(LINE)
    assert LINE == log_lines.written(PAIRS)


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6))
def test_what_is_written_is_read_again(pairs):
    """Whatever stands in a value: quotes, commas, colons."""
    assert pairs == log_lines.read(log_lines.written(pairs))


def test_a_line_end_in_a_value_becomes_a_blank():
    """One event, one line."""
    assert '"a:one two three ""four"""' == log_lines.written([("a", 'one\r\ntwo\nthree "four"')])


@pytest.mark.parametrize(
    ("written", "slip"),
    [
        ('-1001"', "-1001"),
        ('"mobile:"', '"mobile:""'),
        ('","', '", "'),
        ('Offer","', 'Offer,"'),
        ('","email:', '",email:'),
    ],
)
def test_the_slips_of_the_samples_are_read_all_the_same(written, slip):
    """A missing quote, a doubled empty value, blanks after commas."""
    assert PAIRS == log_lines.read(LINE.replace(written, slip))


def test_every_format_has_the_same_rows():
    """Dates are Unix seconds in the log, and what has no value is not there."""
    row = {"type": "OPEN", "event_date": "2023-11-20 22:26:36", "email": "ann.lee@example.com", "event_id": "e1"}
    rows = [[row.get(column.name, "") for column in COLUMNS]] * 2
    content = encode(COLUMNS, rows, "log")
    assert b'"type:OPEN","event date:1700519196","email:ann.lee@example.com","event id:e1"\n' * 2 == content
    for form in ("csv", "jsonl", "parquet", "log"):
        assert rows == list(decode(COLUMNS, encode(COLUMNS, rows, form), form))


@pytest.mark.parametrize("line", ['"colour:red"', '"event date:soon"', '"event date:99999999999999999"'])
def test_what_is_no_row_of_the_layout_is_refused(line):
    """With the number of its line."""
    with pytest.raises(ValueError, match="line 2: "):
        list(decode(COLUMNS, f'"type:OPEN"\n{line}\n'.encode(), "log"))


def test_every_event_is_logged_once_and_at_once():
    """A response waits for no send; what happened long ago is in the file of the day on which it was received."""
    world = World(layouts=("event_log",), format="log")
    events = [
        *braze_events(opened(id="first", dispatch_id="unknown")),
        *braze_events(send(id="second", dispatch_id="w", campaign_id="welcome")),
    ]
    world.stream.insert(*events, *events)
    assert ["committed", "nothing"] == [world.run().outcome for _ in range(2)]
    [(file, content)] = world.files
    assert ("braze_events_20261120_0001.log", "2026-11-20", "") == (file.name, file.day, file.corrects)
    assert [] == list(check([Present(file, lambda: content)], built_in()))
    rows = [dict(log_lines.read(line)) for line in content.decode().splitlines()]
    assert sorted(event.event_id for event in events) == sorted(row["event id"] for row in rows)
    assert {"OPEN", "sent"} == {row["type"] for row in rows}
    assert {"braze"} == {row["profile"] for row in rows}


def test_our_own_events_and_machines_are_logged_where_the_feed_says_so():
    """As every feed has it."""
    ours = an_event(platform="espial", connection="recipients", event_id="ours")
    machine = an_event(event_id="machine", client=Client(machine=True))
    expectations: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        ({"machine": "drop"}, []),
        ({}, [("machine", "Y")]),
        ({"connections": ["recipients"]}, [("ours", "")]),
    ]
    for fields, expected in expectations:
        world = World(layouts=("event_log",), **fields)
        world.stream.insert(ours, machine)
        world.run()
        assert expected == [(row["event_id"], row["machine"]) for row in world.rows("event_log")]


def test_a_delivery_tells_how_far_it_is_and_to_which_lists():
    """In PureResponse's words."""
    world = World(layouts=("event_log",))
    lists = {"lists": ["Buyers", "VIP, gold"]}
    world.stream.insert(
        an_event(event_id="a", type=EventType.DELIVERY_STARTED, properties=lists),
        an_event(event_id="b", type=EventType.DELIVERY_COMPLETED),
    )
    world.run()
    [(file, _)] = world.files
    assert "sendgrid_events_20261120_0001.csv" == file.name
    assert [("DELIVERYSTART", "PROCESSING", "Buyers,VIP, gold"), ("DELIVERY", "COMPLETED", "")] == [
        (row["type"], row["delivery_status"], row["list_names"]) for row in world.rows("event_log")
    ]
