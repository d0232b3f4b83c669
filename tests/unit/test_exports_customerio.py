"""Customer.io's exports: the data warehouse's Metrics, and CSV files with the same columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from espial import sources
from espial.errors import MalformedItem
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

CUSTOMERIO = sources.load("customerio")
CASE = samples.case("customerio", "email-clicked")
FILE = Export(bucket="exports", key="exports/customerio/prod/metrics_v4_1001_42.parquet", etag="e")
METRIC: dict[str, Any] = {
    "event_id": "another id than the webhook's",
    "workspace_id": 1001,
    "delivery_id": "RExAmPlEdElIvErY0001",
    "metric": "clicked",
    "reason": None,
    "link_id": 7,
    "link_url": "https://shop.example.com/boots?utm_source=cio",
    "created_at": datetime(2026, 1, 15, 10, 0, 7, tzinfo=UTC),
    "seq_num": 5004,
}


def read(row: dict[str, Any]) -> Any:
    return CUSTOMERIO.exports["parquet"](row, FILE)


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 15, 10, 0, 7, tzinfo=UTC),
        datetime(2026, 1, 15, 10, 0, 7, 999_000),
        "2026-01-15T10:00:07.000000Z",
        "2026-01-15 10:00:07",
        1768471207,
        1768471207123,
        "1768471207",
    ],
)
def test_a_row_is_the_webhooks_event_however_its_time_is_typed(at: Any) -> None:
    """Delivery, metric and link in one second; the warehouse's own event id and its fractions say nothing."""
    event = normalise(CUSTOMERIO, read({**METRIC, "created_at": at}), CASE.arrival).event
    (posted,) = CASE.recordables
    assert posted.event.event_id == event.event_id
    assert posted.event.send_key == event.send_key
    assert posted.event.link == event.link


@pytest.mark.parametrize(
    "changed", [{"link_id": 8}, {"metric": "opened"}, {"delivery_id": "other"}, {"created_at": 1768471208}]
)
def test_what_tells_two_rows_apart(changed: dict[str, Any]) -> None:
    """Each of the four."""
    one, other = (normalise(CUSTOMERIO, read(row), CASE.arrival).event for row in (METRIC, {**METRIC, **changed}))
    assert one.event_id != other.event_id


def test_text_columns_are_read_by_name_and_blank_ones_are_none() -> None:
    """Folded names, as delimited text has them; the person is there where the file names one."""
    row = {"deliveryid": "d", "metric": "bounced", "createdat": "1768471207", "recipient": "ada@example.com"}
    more = {"deliverytype": "email", "customerid": "cust-1001", "reason": "452 4.2.2 full", "linkid": "", "href": ""}
    item: Any = CUSTOMERIO.exports["csv"]({**row, **more}, FILE)
    record = normalise(CUSTOMERIO, item, CASE.arrival)
    assert ("soft_bounced", "email", "P#email:ada@example.com") == (
        record.event.type,
        record.event.channel,
        record.home,
    )
    assert "cust-1001" == record.event.person.external_id


@pytest.mark.parametrize("at", [None, "", "yesterday", 7])
def test_a_row_without_a_readable_time_is_refused(at: Any) -> None:
    """By itself, with the column to blame."""
    with pytest.raises(MalformedItem) as found:
        read({**METRIC, "created_at": at})
    assert ("bad_timestamp", "created_at") == (found.value.reason, found.value.path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metrics_v4_1001_42.parquet", False),
        ("2026-01-15.csv.gz", False),
        ("people-metrics.csv", False),
        ("deliveries_v4_1001_42.parquet", True),
        ("People_v4_1001_42.parquet", True),
        ("attributes_v12_1001_42.parquet", True),
        ("campaigns.parquet", True),
    ],
)
def test_the_warehouses_other_tables_are_left_alone(name: str, expected: bool) -> None:
    """They are about messages and people, and report nothing."""
    assert expected == CUSTOMERIO.layout(f"exports/customerio/prod/{name}", {}).skip
