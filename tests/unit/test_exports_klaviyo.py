"""Klaviyo's files of events, read by the names of their columns."""

from __future__ import annotations

from typing import Any

import pytest

from espial import sources
from espial.errors import MalformedItem
from espial.exports import folded
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

KLAVIYO = sources.load("klaviyo")
CASE = samples.case("klaviyo", "email")
ROW = {
    "Event ID": "9ZyXwVuT001",
    "Metric": "Received Email",
    "Datetime": "2026-01-15 10:00:01+00:00",
    "Profile ID": "01HPROF",
    "Email": "Ada@example.com",
    "Value": "$1,258.54",
    "Campaign Name": "Winter",
}


def read(row: dict[str, str], kind: str = "csv", **settings: Any) -> Any:
    columns = {folded(name): name for name in row}
    file = Export(bucket="b", key="exports/klaviyo/prod/e.csv", etag="e", columns=columns, settings=settings)
    if kind == "ndjson":
        return KLAVIYO.exports[kind](row, Export(bucket="b", key="k", etag="e", settings=settings))
    return KLAVIYO.exports[kind]({folded(name): value for name, value in row.items()}, file)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_row_is_the_webhooks_event(kind: str) -> None:
    """By Klaviyo's event id under the metric, and kept with the same profile."""
    copy = normalise(KLAVIYO, read(ROW, kind), CASE.arrival)
    posted = next(one for one in CASE.recordables if one.event.event_id == copy.event.event_id)
    assert posted.home == copy.home
    assert posted.event.send_key is not None
    assert ("delivered", "email", "ada@example.com") == (
        copy.event.type,
        copy.event.channel,
        copy.event.person.email,
    )
    assert "$1,258.54" == copy.event.properties["$value"]


def test_a_metric_of_another_integration_is_one_event_too() -> None:
    """The file does not name the integration, so it does not count."""
    case = samples.case("klaviyo", "integrations")
    for posted, item in zip(case.recordables, case.items, strict=True):
        event = item["payload"]["data"]
        metric = item["topic"].rpartition(".")[2].replace("_", " ").title()
        row = {"id": event["id"], "metric": metric, "timestamp": str(int(posted.event.occurred_at.timestamp()))}
        assert posted.event.event_id == normalise(KLAVIYO, read(row), case.arrival).event.event_id


def test_columns_of_ones_own_are_named_by_the_settings() -> None:
    """They come before the usual ones."""
    row = {"Ereignis": "9ZyXwVuT001", "Metric": "Received Email", "Zeit": "1768471201", "id": "row 1"}
    event = normalise(KLAVIYO, read(row, columns={"id": "Ereignis", "at": "Zeit"}), CASE.arrival).event
    assert event.event_id in {one.event.event_id for one in CASE.recordables}


def test_machine_flags_are_read_from_text() -> None:
    """True or false, whatever the letters; anything else is no flag."""
    opened = {**ROW, "Metric": "Opened Email"}
    for cell, expected in (("True", True), ("false", False), ("", None), ("maybe", None)):
        client = normalise(KLAVIYO, read({**opened, "Machine Open": cell}), CASE.arrival).event.client
        assert expected == (client.machine if client else None)


def test_a_row_without_a_readable_time_is_refused() -> None:
    """By itself."""
    with pytest.raises(MalformedItem, match="bad_timestamp"):
        read({**ROW, "Datetime": "last Tuesday"})


@pytest.mark.parametrize("settings", [{"columns": ["id"]}, {"columns": {"when": "x"}}, {"columns": {"id": 7}}])
def test_settings_that_do_not_do_are_named(settings: dict[str, Any]) -> None:
    """Said when the connection is applied."""
    assert KLAVIYO.configured is not None
    with pytest.raises(ValueError, match="columns"):
        KLAVIYO.configured(settings)
