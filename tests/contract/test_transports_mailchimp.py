"""One event over several transports is one event: Mailchimp's webhooks, account exports and older activity files."""

from __future__ import annotations

from typing import Any

import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem
from espial.sources import Export
from espial.sources.mailchimp import ACTIVITY, from_activity, from_archive, layout
from tests import samples
from tests.rows import events, items

ARCHIVE, LINES = samples.exports("mailchimp")
AUDIENCE = {"list_id": "beefcafe02"}


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe", "cleaned"])
def test_what_a_webhook_told_is_in_the_export_as_the_same_event(name: str) -> None:
    """Equal id and home, once the connection says which audience the export is of."""
    (posted,) = samples.case("mailchimp", name).recordables
    (copy,) = [one for one in events(ARCHIVE, AUDIENCE) if one.event.event_id == posted.event.event_id]
    assert posted.home == copy.home
    assert (posted.event.type, posted.event.occurred_at) == (copy.event.type, copy.event.occurred_at)
    assert posted.event.properties["list_id"] == copy.event.properties["list_id"]


def test_both_kinds_of_export_tell_the_same_events() -> None:
    """Campaign, address, action, second and link; the older files as well as the archive."""
    archived = {one.event.event_id: one for one in events(ARCHIVE)}
    lines = events(LINES)
    shared = [one for one in lines if one.event.event_id in archived]
    assert ["sent", "open", "click", "bounce", "unsubscribe"] == [one.event.platform_type for one in shared]
    assert ["waved"] == [one.event.platform_type for one in lines if one not in shared]
    for one in shared:
        twin = archived[one.event.event_id]
        assert (twin.home, twin.event.type, twin.event.link) == (one.home, one.event.type, one.event.link)


def test_every_action_is_in_a_sample() -> None:
    """And means what its kind says."""
    found = [(one.event.platform_type, one.event.type.value) for one in events(ARCHIVE)]
    assert {kind for kind, _ in found} == {*ACTIVITY, "subscribe", "unsubscribe", "cleaned"}
    assert {"bounced", "soft_bounced"} == {type_ for kind, type_ in found if kind == "bounce"}
    assert ("abuse", "complained") in found


def test_rows_that_repeat_are_one_event_and_sums_are_none() -> None:
    """Two opens of one person within a second cannot be told apart; `aggregate_activity` counts, it does not report."""
    opens = [one.event for one in events(ARCHIVE) if one.event.platform_type == "open"]
    assert (3, 2) == (len(opens), len({event.event_id for event in opens}))
    assert {"c2b4c1c0d9"} == {event.campaign.id for event in opens if event.campaign}


def test_leaving_an_audience_is_about_that_one_alone() -> None:
    """Whether its id is known, or the folder's name, or nothing."""
    topics = [one.event.properties.get("topic") for one in events(ARCHIVE) if one.event.type == "unsubscribed"]
    assert ["list/newsletter", "list/unnamed"] == topics


def test_members_without_a_time_are_no_event() -> None:
    """Imported ones joined at no known instant; when they changed last says something else."""
    joined = [item["data"]["email"] for item in items(ARCHIVE) if item["type"] == "subscribe"]
    assert ["Ada@example.net"] == joined


@pytest.mark.parametrize(
    ("path", "row", "expected"),
    [
        ("lists/open day/subscribed_Click_Club.csv", {"optintime": "2026-01-15 10:00:00"}, "subscribe"),
        ("granular_activity/clicks/open-day.csv", {"timestamp": "2026-01-15 10:00:00"}, "click"),
        ("report_opens.csv", {"timestamp": "2026-01-15 10:00:00"}, "open"),
        ("recipients.csv", {"timestamp": "2026-01-15 10:00:00", "action": "Click"}, "click"),
        ("granular_activity/sent/x.csv", {"email": "ada@example.net"}, None),
        ("campaigns/opens.csv", {"timestamp": "2026-01-15 10:00:00"}, None),
        ("tags.csv", {"timestamp": "2026-01-15 10:00:00"}, None),
    ],
)
def test_a_file_is_known_by_its_folders_or_its_name(path: str, row: dict[str, str], expected: str | None) -> None:
    """Names of campaigns and audiences are in them too, and mislead nobody."""
    item = from_archive(row, Export(bucket="b", key="x.zip", etag="e", record_name=path))
    assert expected == (item and item["type"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"error": "Invalid Mailchimp API Key", "code": 104}, "vendor_error"),
        (["Email Address", "First Name"], "not_an_activity"),
        ({"ada@example.net": {"action": "open"}}, "not_an_activity"),
        ({"ada@example.net": ["open"]}, "not_an_activity"),
        ({"ada@example.net": [{"action": "open", "timestamp": "yesterday"}]}, "bad_timestamp"),
        (None, "not_an_activity"),
    ],
)
def test_a_line_that_is_no_activity_is_malformed(row: Any, reason: str) -> None:
    """Mailchimp wrote its errors into the stream."""
    with pytest.raises(MalformedItem) as refused:
        from_activity(row, Export(bucket="b", key="x/c2b4c1c0d9.json", etag="e"))
    assert reason == refused.value.reason


def test_times_are_in_the_zone_that_the_connection_says() -> None:
    """UTC if it says nothing."""
    row = {"timestamp": "2026-06-15 10:00:00"}
    for settings, expected in (({}, "10"), ({"time_zone": "Europe/Berlin"}, "08")):
        item = from_archive(row, Export(bucket="b", key="opens.csv", etag="e", settings=settings))
        assert item is not None
        assert f"2026-06-15T{expected}:00:00+00:00" == item["fired_at"]
    with pytest.raises(ValueError, match="time_zone"):
        sources.of(Connection(name="a", platform="mailchimp", settings={"time_zone": "Moon"}))


def test_pictures_and_templates_are_left_alone() -> None:
    """They are of the export, and no reports."""
    assert layout("exports/mailchimp/main/gallery_files/a.png", {}).skip
    assert not layout("exports/mailchimp/main/account_export.zip", {}).skip
