"""Files of platforms without a source of their own: the mapping that reads webhooks reads rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from espial import sources
from espial.deliveries import Arrival, Connection
from espial.exports import folded
from espial.normalise import Recordable, normalise
from espial.sources import Export

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SETTINGS: dict[str, Any] = {
    "fields": {
        "type": "Event Type",
        "id": ["List", "Row No"],
        "occurred_at": "Sent At",
        "person.email": ["Address", "recipient.email"],
        "campaign.id": "recipient.campaign",
        "client.machine": "Bot",
        "order.total": "Total",
        "properties": "Extra",
    },
    "types": {"gesendet": "sent"},
    "time_zone": "Europe/Berlin",
}


def read(kind: str, row: Any, **more: Any) -> list[Recordable]:
    settings = {**SETTINGS, **more}
    connection = Connection(name="acme", platform="custom_json", account="acme", settings=settings)
    source = sources.of(connection)
    file = Export(bucket="b", key="exports/custom_json/acme/f", etag="e", settings=settings)
    found: Any = source.exports[kind](row, file)
    arrival = Arrival(connection=connection, transport="export", received_at=NOW)
    return [normalise(source, one, arrival) for one in (found if isinstance(found, list) else [found])]


REPORT: dict[str, Any] = {
    "Event Type": "gesendet",
    "List": "L1",
    "Row No": 7,
    "Sent At": "15.01.2026 11:00:37",
    "Address": None,
    "recipient": {"email": "Ada@example.com", "campaign": 23},
    "Bot": True,
    "Total": 19.9,
    "Extra": {"a": 1},
}
CELLS = {
    "EVENT-TYPE": "gesendet",
    "list": "L1",
    "row_no": "7",
    "Sent at": "15.01.2026 11:00:37",
    "address": "",
    "Recipient Email": "Ada@example.com",
    "recipient_campaign": "23",
    "bot": "true",
    "total": "19.9",
    "extra": '{"a":1}',
}


def test_every_kind_of_row_is_the_same_event() -> None:
    """Nested values by path, text by column name: equal to the last byte."""
    csv = read("csv", {folded(name): value for name, value in CELLS.items()})
    rows = [read(kind, REPORT) for kind in ("ndjson", "avro", "parquet")]
    assert [csv[0].body] * 3 == [row[0].body for row in rows]
    event = csv[0].event
    assert ("sent", "P#email:ada@example.com", "23") == (
        event.type,
        csv[0].home,
        event.campaign.id if event.campaign else None,
    )
    assert datetime(2026, 1, 15, 10, 0, 37, tzinfo=UTC) == event.occurred_at
    assert {"a": 1} == event.properties


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 15, 10, 0, 37, tzinfo=UTC),
        datetime(2026, 1, 15, 10, 0, 37),
        "2026-01-15T10:00:37Z",
        "20260115100037",
        20260115100037,
        "1/15/2026 10:00:37 AM",
        1768471237,
        "1768471237000",
        1768471237.9,
    ],
)
def test_times_are_read_however_they_are_typed(value: Any) -> None:
    """Typed, ISO 8601, Unix, or as people write them; without a zone in the connection's."""
    (record,) = read("parquet", {**REPORT, "Sent At": value}, time_zone="UTC")
    assert datetime(2026, 1, 15, 10, 0, 37, tzinfo=UTC) == record.event.occurred_at.replace(microsecond=0)


def test_typed_values_leave_as_json_has_them() -> None:
    """Dates, decimals, bytes and maps of them."""
    extra = {"day": date(2026, 1, 15), "sum": Decimal("1.50"), "raw": b"x", "many": (1, None)}
    (record,) = read("avro", {**REPORT, "Extra": extra})
    assert {"day": "2026-01-15", "sum": 1.5, "raw": "x", "many": [1, None]} == record.event.properties


def test_a_row_may_hold_several_reports() -> None:
    """At `items`, as a webhook's body may."""
    found = read("ndjson", {"batch": [REPORT, {**REPORT, "Row No": 8}]}, items="batch")
    assert 2 == len({one.event.event_id for one in found})


def test_how_a_file_is_written_is_said_by_the_settings() -> None:
    """What does not show in it: encoding, delimiter, names, quotation marks."""
    settings = {"encoding": "latin-1", "delimiter": "|", "header": ["a", "b"], "quoted": False}
    source = sources.of(Connection(name="acme", platform="custom_json", account="acme", settings=settings))
    layout = source.layout("exports/custom_json/acme/f", settings)
    assert ("latin-1", "|", ("a", "b"), False) == (layout.encoding, layout.delimiter, layout.columns, layout.quoted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delimiter": ";;"}, "delimiter: must be one character"),
        ({"encoding": "klingon"}, "encoding: must be the name of one"),
        ({"header": "a,b"}, "header: must be a list"),
        ({"header": [1]}, "header: must be a list"),
        ({"quoted": "no"}, "quoted: must be true or false"),
        ({"time_zone": "Europe/Berlim"}, "time_zone: must be a name"),
        ({"day_first": "yes"}, "day_first: must be true or false"),
    ],
)
def test_settings_that_do_not_do_are_named(settings: dict[str, Any], message: str) -> None:
    """When the connection is applied."""
    configured = sources.load("custom_json").configured
    assert configured is not None
    with pytest.raises(ValueError, match=message):
        configured(settings)
