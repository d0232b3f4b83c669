"""Export files whose lines are what a webhook posts: Firehose, mParticle, Airship, MoEngage, Segment."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from espial import sources
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

FILE = Export(bucket="exports", key="exports/x/y/2026/file", etag="e")


def read(platform: str, row: Any) -> Any:
    return sources.load(platform).exports["ndjson"](row, FILE)


def skipped(platform: str, key: str) -> bool:
    return sources.load(platform).layout(f"exports/{platform}/prod/{key}", {}).skip


def test_a_firehose_record_is_an_event_of_each_recipient() -> None:
    """Without an envelope around it, and also out of SNS's where the stream is fed by a topic."""
    case = samples.case("ses", "sns-bounce-two-recipients")
    notice = orjson.loads(case.body)
    assert 2 == len(case.items)
    assert case.items == read("ses", orjson.loads(notice["Message"]))
    assert case.items == read("ses", notice)


def test_what_an_endpoint_did_not_take_is_read_from_the_backup() -> None:
    """Firehose keeps it in base64 beside the error; the same events, so a repetition harms nothing."""
    lines = [{"eventType": "Send", "mail": {"messageId": str(n), "destination": ["ada@example.com"]}} for n in (1, 2)]
    raw = b64encode(b"".join(orjson.dumps(line) + b"\n" for line in lines)).decode()
    expected = [one for line in lines for one in read("ses", line)]
    assert expected == read("ses", {"attemptsMade": 5, "errorCode": "HttpEndpoint.ServiceUnavailable", "rawData": raw})


@pytest.mark.parametrize(
    ("platform", "key", "expected"),
    [
        ("ses", "2026/01/15/10/mail-1-2026-01-15-10-05-00-x", False),
        ("ses", "http-endpoint-failed/2026/01/15/10/mail-1", False),
        ("ses", "processing-failed/2026/01/15/10/mail-1", True),
        ("mparticle", "2026-01-15/My App_20260115100040123456_34523.txt", False),
        ("mparticle", "mParticle_Bucket_Verification_20260115-100000.txt", True),
        ("mparticle", "mp-forwarding/mParticle_Bucket_Verification_20260115-100000.txt", True),
    ],
)
def test_what_holds_no_reports_is_left_alone(platform: str, key: str, expected: bool) -> None:
    """By its key, before it is opened."""
    assert expected == skipped(platform, key)


def test_a_batch_without_events_is_of_its_person_and_an_empty_object_of_nobody() -> None:
    """A line is a batch; `{}` is what mParticle tries a new bucket with."""
    assert ["no_events"] == [item["event_type"] for item in read("mparticle", {"mpid": 1, "events": []})]
    assert [] == read("mparticle", {})


def test_a_streams_keep_alives_and_offsets_are_no_events() -> None:
    """Blank lines are no rows at all, updates of the offset are none that report."""
    assert read("airship", {"type": "OFFSET_UPDATE", "offset": "1"}) is None
    assert {"type": "SEND", "id": "1"} == read("airship", {"type": "SEND", "id": "1"})


def test_moengage_writes_events_or_envelopes() -> None:
    """Both shapes are the same events; those without an id are told apart by all that they say."""
    case = samples.case("moengage", "all-types")
    events = orjson.loads(case.body)["events"]
    assert case.items == read("moengage", orjson.loads(case.body))
    assert case.items == [item for event in events for item in read("moengage", event)]
    bare = {name: value for name, value in events[0].items() if name != "event_uuid"}
    other = {**bare, "event_attributes": {**bare.get("event_attributes", {}), "campaign_id": "another"}}
    ids = ["/".join(sources.load("moengage").identity(read("moengage", one)[0])) for one in (bare, dict(bare), other)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("name", ["calls", "skewed-clock"])
def test_an_archived_call_is_dated_as_segment_received_it(name: str) -> None:
    """Its clock is corrected by when Segment received it, years before the archive is read."""
    case, source = samples.case("segment", name), sources.load("segment")
    years_later = replace(case.arrival, transport="export", received_at=case.received_at + timedelta(days=900))
    for item in case.items:
        archived = read("segment", {**item, "receivedAt": case.received_at.isoformat(), "projectId": "p"})
        posted, copied = normalise(source, item, case.arrival), normalise(source, archived, years_later)
        assert (posted.event.event_id, posted.home) == (copied.event.event_id, copied.home)
        assert posted.event.occurred_at == copied.event.occurred_at
