"""One event over two transports is one event: Marketing Cloud's notifications and its tracking extracts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from espial import sources
from espial.deliveries import Connection
from espial.errors import MalformedItem
from espial.sources import Export
from espial.sources.sfmc import EVENT_TYPES, EXTRACTED, from_extract
from tests import samples
from tests.rows import events

WIDE, NARROW = samples.exports("sfmc")
NOTIFIED = {record.event.event_id: record for record in samples.case("sfmc", "all-types").recordables}


def test_what_was_notified_is_in_the_extract_as_the_same_event() -> None:
    """Equal id, home and send key: job, list, batch, subscriber, second and, of a click, the address."""
    both = [(copy, NOTIFIED[copy.event.event_id]) for copy in events(WIDE) if copy.event.event_id in NOTIFIED]
    told = {"EmailSent", "EmailNotSent", "EmailBounced", "EmailOpen", "EmailClick", "EmailUnsubscribe"}
    assert told == {copy.event.platform_type.rpartition(".")[2] for copy, _ in both}
    assert len(told) == len(both)
    for copy, twin in both:
        assert twin.home == copy.home
        assert twin.event.send_key == copy.event.send_key
        assert (twin.event.type, twin.event.channel) == (copy.event.type, copy.event.channel)
        assert (twin.event.occurred_at, twin.event.campaign.id) == (copy.event.occurred_at, copy.event.campaign.id)


def test_encoding_and_delimiter_say_nothing() -> None:
    """UTF-16 with commas, UTF-8 with tabs."""
    assert [record.body for record in events(WIDE)] == [record.body for record in events(NARROW)]


def test_every_word_of_the_extract_is_in_a_sample() -> None:
    """And nothing in it is unknown but a job that is not complete."""
    found = {record.event.platform_type: record.event.type for record in events(WIDE)}
    assert found.keys() >= EXTRACTED.keys()
    assert {"SendJob.Scheduled"} == found.keys() - EXTRACTED.keys() - EVENT_TYPES.keys()
    assert "unknown" == found["SendJob.Scheduled"]


def test_different_rows_are_different_events() -> None:
    """None of the samples repeats one."""
    ids = [record.event.event_id for record in events(WIDE)]
    assert len(set(ids)) == len(ids)


def test_a_bounce_is_what_its_category_says() -> None:
    """With the word bounce or without, in any case."""
    expected = ["bounced", "soft_bounced", "blocked", "failed", "soft_bounced", "blocked"]
    bounces = [record.event for record in events(WIDE) if record.event.platform_type.endswith("EmailBounced")]
    assert expected == [event.type.value for event in bounces]
    assert ("5.1.1", "HARD") == (bounces[0].failure.code, bounces[0].failure.class_)
    assert "452" == bounces[1].failure.code


def test_a_status_that_comes_back_is_a_choice_only_after_an_unsubscription() -> None:
    """Held and bounced subscribers become active without doing anything."""
    changes = [record.event.type.value for record in events(WIDE) if "StatusChange" in record.event.platform_type]
    assert ["unsubscribed", "subscribed", *["profile_updated"] * 4] == changes


def test_a_job_names_its_campaign() -> None:
    """Sends and responses know its number alone."""
    (job,) = [record for record in events(WIDE) if record.event.platform_type == "SendJob.Complete"]
    assert ("2001", "winter-launch") == (job.event.campaign.id, job.event.campaign.name)
    assert "delivery_completed" == job.event.type
    assert datetime(2026, 1, 15, 9, 59, tzinfo=UTC) == job.event.occurred_at


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        ({}, "6/15/2026 4:00:37 AM", "2026-06-15T10:00:37+00:00"),
        ({}, "6/15/2026 12:00:37 AM", "2026-06-15T06:00:37+00:00"),
        ({}, "6/15/2026 12:00:37 PM", "2026-06-15T18:00:37+00:00"),
        ({}, "2026-06-15 04:00:37.000", "2026-06-15T10:00:37+00:00"),
        ({"time_zone": "UTC"}, "6/15/2026 4:00:37 AM", "2026-06-15T04:00:37+00:00"),
        ({"time_zone": "Europe/Berlin"}, "6/15/2026 4:00:37 AM", "2026-06-15T02:00:37+00:00"),
        ({"day_first": True}, "15/6/2026 04:00:37", "2026-06-15T10:00:37+00:00"),
    ],
)
def test_times_are_the_systems_own(settings: dict[str, object], given: str, expected: str) -> None:
    """Six hours behind UTC in June too: it knows no daylight saving."""
    export = Export(bucket="b", key="exports/sfmc/x/Opens.csv", etag="e", settings=settings)
    item = from_extract({"eventdate": given, "sendid": "1"}, export)
    assert item is not None
    assert expected == datetime.fromtimestamp(item["timestampUTC"] / 1000, UTC).isoformat()


@pytest.mark.parametrize("given", ["", "soon", "13/40/2026 4:00:37 AM", "1/15/2026 14:00:37 AM", "1/15/1026 4:00 AM"])
def test_a_time_that_is_none_is_malformed(given: str) -> None:
    """The column is named as the file has it."""
    export = Export(bucket="b", key="x/Opens.csv", etag="e", columns={"eventdate": "EventDate"})
    with pytest.raises(MalformedItem) as refused:
        from_extract({"eventdate": given}, export)
    assert ("bad_timestamp", "EventDate") == (refused.value.reason, refused.value.path)


@pytest.mark.parametrize(
    ("record_name", "key", "kind", "expected"),
    [
        ("acme_Opens_20260115.txt", "x.zip", "", "EngagementEvents.EmailOpen"),
        ("part.csv", "exports/sfmc/main/Sent.zip", "", "TransactionalSendEvents.EmailSent"),
        ("", "exports/sfmc/main/2026.csv", "Click", "EngagementEvents.EmailClick"),
        ("ListMembership.csv", "Opens.zip", "Open", None),
        ("", "exports/sfmc/main/2026.csv", "", None),
    ],
)
def test_a_file_or_its_rows_name_the_event(record_name: str, key: str, kind: str, expected: str | None) -> None:
    """The member first, then the file, then the column; what is none of the three is no report."""
    row = {"eventdate": "1/15/2026 4:00:37 AM", "eventtype": kind}
    item = from_extract(row, Export(bucket="b", key=key, etag="e", record_name=record_name))
    assert expected == (item and item["eventCategoryType"])


@pytest.mark.parametrize(
    "settings", [{"time_zone": "Nowhere/Land"}, {"time_zone": 6}, {"time_zone": "+25:00"}, {"day_first": "yes"}]
)
def test_settings_that_do_not_do_are_named(settings: dict[str, object]) -> None:
    """Before they are applied."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        sources.of(Connection(name="a", platform="sfmc", settings=settings))
