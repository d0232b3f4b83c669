"""One event over several transports is one event: Adobe's notifications and datasets; and logs of Campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem
from espial.events import content_hash
from espial.sources import Export
from espial.sources.adobe import LOGGED, from_dataset, from_log, layout
from tests import samples
from tests.rows import events, items

FILES = {path.name: path for path in samples.exports("adobe")}
JSON = next(path for name, path in FILES.items() if name.endswith(".json.gz"))
PARQUET = next(path for name, path in FILES.items() if name.endswith(".parquet"))
BROAD, TRACKING = FILES["broadlog_20260115.csv"], FILES["trackinglog_20260115.csv"]
NOTIFIED = {
    record.event.event_id: record
    for name in ("journey-optimizer", "copies-and-texts")
    for record in samples.case("adobe", name).recordables
}
BROAD_SETTINGS: dict[str, Any] = {"encoding": "latin-1", "day_first": True, "types": {"Quarantined": "blocked"}}
TRACKING_SETTINGS: dict[str, Any] = {
    "delimiter": ",",
    "header": ["Log", "When", "Kind", "Address", "Delivery", "Link"],
    "columns": {"id": "Log", "at": "When", "url_type": "Kind", "delivery_id": "Delivery", "url": "Link"},
}


@pytest.mark.parametrize("path", [JSON, PARQUET], ids=["json", "parquet"])
def test_a_row_of_a_dataset_is_the_notification(path: Path) -> None:
    """Equal id, home, send key and content: `_id` is the experience event's own."""
    copies = events(path)
    assert copies
    for copy in copies:
        twin = NOTIFIED[copy.event.event_id]
        assert twin.home == copy.home
        assert twin.event.send_key == copy.event.send_key
        assert content_hash(twin.event) == content_hash(copy.event)


def test_every_notification_has_its_row() -> None:
    """So that nothing above was compared with itself; a form that answers for several lists is one row."""
    assert NOTIFIED.keys() == {copy.event.event_id for copy in events(JSON)}
    assert len(NOTIFIED) > len(items(PARQUET)) > 10


def test_what_is_no_event_is_left_alone() -> None:
    """Manifests before they are opened; rows that name messages, not events."""
    assert [] == items(FILES["manifest.json"])
    export = Export(bucket="b", key="k", etag="e")
    assert from_dataset({"_id": "a", "messageID": "m", "_experience_label": "x"}, export) is None
    odd: Any = [7]
    assert odd == from_dataset(7, export)  # for the normaliser to refuse


@pytest.mark.parametrize(
    ("key", "skip"),
    [
        ("exports/adobe/main/5f0a/exportTime=202601151100/part-0.json", True),
        ("exports/adobe/main/5f0a/exportTime=202601151100/part-0.json.gz", False),
        ("exports/adobe/main/5f0a/exportTime=202601151100/part-0.gz.parquet", False),
        ("exports/adobe/main/Manifest_1.json", True),
        ("exports/adobe/main/_SUCCESS", True),
        ("exports/adobe/main/journal.json", False),
    ],
)
def test_manifests_are_known_by_their_key(key: str, skip: bool) -> None:
    """Adobe compresses all JSON that is data."""
    assert skip == layout(key, {}).skip


def test_a_delivery_log_is_read_by_its_columns() -> None:
    """Technical names need no setting; statuses of one's own do."""
    found = [(one.event.platform_type.partition(".")[2], one.event.type.value) for one in events(BROAD, BROAD_SETTINGS)]
    expected = [
        ("sent", "sent"),
        ("failed", "bounced"),
        ("failed", "soft_bounced"),
        ("failed", "failed"),
        ("ignored", "dropped"),
        ("pending", "queued"),
        ("delivery cancelled", "dropped"),
        ("taken into account by provider", "processed"),
        ("taken into account by the service provider", "processed"),
        ("received on mobile", "delivered"),
        ("quarantined", "blocked"),
    ]
    assert expected == found


def test_a_line_of_a_log_says_who_what_and_when() -> None:
    """In the file's own encoding and order of day and month; what is no canonical field is kept."""
    first, second, *_ = [one.event for one in events(BROAD, BROAD_SETTINGS)]
    assert ("ada@example.com", "7001") == (first.person.email, first.person.source_contact_id)
    assert ("501", "DM501") == (first.campaign.id, first.campaign.name)
    assert "2026-01-15T10:00:37+00:00" == first.occurred_at.isoformat()
    assert {"Région": "Île"} == first.properties
    assert ("2", "User unknown") == (second.failure.class_, second.failure.reason)
    assert "501/ada@example.com" == first.send_key


def test_a_line_whose_status_changes_is_another_event() -> None:
    """The log's id stays, what it says does not; exported again, the same line is the same event."""
    ids = [one.event.event_id for one in events(BROAD, BROAD_SETTINGS)]
    assert len(ids) == len(set(ids))
    assert ids == [one.event.event_id for one in events(BROAD, BROAD_SETTINGS)]


def test_a_tracking_log_without_a_header() -> None:
    """Names and meanings by settings; kinds of addresses by number or word."""
    found = [one.event for one in events(TRACKING, {**TRACKING_SETTINGS, "types": {"share": "custom", "6": "opened"}})]
    assert ["opened", "clicked", "unsubscribed", "opened", "custom"] == [event.type.value for event in found]
    assert "https://shop.example.com/p" == found[1].link.url
    assert {"501/ada@example.com"} == {event.send_key for event in found}


def test_every_word_of_the_logs_is_in_a_sample() -> None:
    """And the unknown ones stay unknown."""
    both = events(BROAD, BROAD_SETTINGS) + events(TRACKING, TRACKING_SETTINGS)
    found = {one.event.platform_type: one.event.type.value for one in both}
    assert {"broadLog.quarantined", "trackingLog.share"} == found.keys() - LOGGED.keys()
    assert found.keys() >= LOGGED.keys()
    assert "unknown" == found["trackingLog.share"]


def test_a_line_without_an_id_is_known_by_whom_it_is_about() -> None:
    """Delivery, recipient, address, status and second."""
    source = sources.load("adobe")
    row = {"status": "Sent", "eventdate": "2026-01-15 10:00:37", "address": "ada@example.com", "deliveryid": "501"}
    export = Export(bucket="b", key="k", etag="e")
    variants = [row, {**row, "status": "Failed"}, {**row, "address": "bo@example.org"}, {**row, "deliveryid": "502"}]
    ids = {tuple(source.identity(item)) for one in variants if (item := from_log(one, export))}
    assert len(variants) == len(ids)


def test_a_line_that_cannot_be_dated_is_malformed() -> None:
    """Its column is named."""
    export = Export(bucket="b", key="k", etag="e", columns={"eventdate": "@eventDate"})
    with pytest.raises(MalformedItem) as refused:
        from_log({"status": "Sent", "eventdate": ""}, export)
    assert ("bad_timestamp", "@eventDate") == (refused.value.reason, refused.value.path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"columns": {"nose": "x"}}, "columns.nose"),
        ({"columns": ["x"]}, "columns"),
        ({"types": {"Sent": "nose"}}, "types"),
        ({"channel": "smoke"}, "channel"),
        ({"encoding": "klingon"}, "encoding"),
        ({"delimiter": "||"}, "delimiter"),
        ({"header": "a,b"}, "header"),
        ({"time_zone": "Moon"}, "time_zone"),
        ({"channel": "email", "other": 1}, "client_id"),
    ],
)
def test_settings_that_do_not_do_are_named(settings: dict[str, Any], named: str) -> None:
    """Before they are applied; a connection for files alone needs no client."""
    with pytest.raises(ValueError, match=named):
        sources.of(Connection(name="a", platform="adobe", settings=settings))
    sources.of(Connection(name="a", platform="adobe", settings=TRACKING_SETTINGS))
