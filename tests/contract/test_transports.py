"""One event over two transports is one event (goal 18): webhooks and the files that platforms put into a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from espial import sources
from espial.deliveries import Arrival
from espial.errors import MalformedItem
from espial.events import content_hash
from espial.normalise import Recordable, normalise
from espial.sources import Export
from tests import samples
from tests.fakes import FakeEventStore

FILES = samples.exports("braze")
PAIRED = samples.case("braze", "paired-with-export")


def over_the_bucket(path: Path) -> list[Recordable]:
    source = sources.load("braze")
    arrival = replace(PAIRED.arrival, transport="export")
    return [normalise(source, item, arrival) for item in samples.export_items(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parts[-5])
def test_the_bucket_copy_is_the_same_event(path: Path) -> None:
    """Equal id, home, send key and content, 32-bit prices, nulls and field order notwithstanding."""
    posted = {record.event.event_id: record for record in PAIRED.recordables}
    copies = over_the_bucket(path)
    assert copies
    for copy in copies:
        twin = posted[copy.event.event_id]
        assert twin.home == copy.home
        assert twin.event.send_key == copy.event.send_key
        assert twin.body == copy.body
        assert content_hash(twin.event) == content_hash(copy.event)


def test_every_posted_event_has_its_copy() -> None:
    """Neither side holds what the other lacks, so nothing above was compared with itself."""
    copies = [record.event.event_id for path in FILES for record in over_the_bucket(path)]
    posted = [record.event.event_id for record in PAIRED.recordables]
    assert len(set(posted)) == len(posted)
    assert sorted(posted) == sorted(copies)


def test_another_price_is_another_content() -> None:
    """The hash tells a real difference from the rounding of a transport."""
    source = sources.load("braze")
    item = next(one for one in PAIRED.items if one["event_type"] == "users.behaviors.Purchase")
    dearer = {**item, "properties": {**item["properties"], "price": item["properties"]["price"] + 0.01}}
    before, after = (normalise(source, one, PAIRED.arrival).event for one in (item, dearer))
    assert before.event_id == after.event_id
    assert content_hash(before) != content_hash(after)


def test_the_event_type_comes_from_the_key_where_the_record_has_no_name() -> None:
    """The record's name first, then the path: vendors rename either."""
    row = {"id": "a", "time": 1768471200, "user_id": "u", "price": None}
    export = Export(bucket="b", key="exports/braze/x/event_type=users.canvas.Entry/date=2026/1.avro", etag="e")
    item = sources.load("braze").exports["avro"](row, export)
    expected = {"event_type": "users.canvas.Entry", "id": "a", "time": 1768471200, "user": {"user_id": "u"}}
    assert {**expected, "properties": {}} == item


class Both(NamedTuple):
    """A platform's files that say again what sample deliveries say.

    files       their number, so that none is overlooked.
    whole       a file says all that the webhook says, so the events are equal to the last byte.
    settings    of a connection that has both.
    nameless    files that name no person, so that their events cannot lie with the person.
    """

    files: int
    whole: bool = False
    settings: Mapping[str, Any] = {}
    nameless: frozenset[str] = frozenset()


BOTH = {
    "airship": Both(files=1, whole=True),
    "custom_json": Both(files=3),
    "customerio": Both(files=2, nameless=frozenset({"metrics_v4_1001_42.parquet"})),
    "iterable": Both(files=7),
    "klaviyo": Both(files=1),
    "moengage": Both(files=1, whole=True),
    "mparticle": Both(files=2, whole=True),
    "segment": Both(files=1, whole=True),
    "sendgrid": Both(files=1, settings={"activity_files": True}),
    "ses": Both(files=4, whole=True),
}


def posted(platform: str) -> dict[str, list[Recordable]]:
    """Event id -> the sample deliveries' events, under the settings of a connection that has both."""
    source = sources.of(replace(samples.connection(platform), settings=dict(BOTH[platform].settings)))
    found: dict[str, list[Recordable]] = {}
    for case in samples.cases(platform):
        if not case.connection.settings:
            for item in case.items:
                try:
                    record = normalise(source, item, case.arrival)
                except MalformedItem:
                    continue
                found.setdefault(record.event.event_id, []).append(record)
    return found


def filed(platform: str) -> list[tuple[Path, list[Recordable]]]:
    """Each file with its events; files that are left alone are left out."""
    settings = dict(BOTH[platform].settings)
    connection = replace(samples.connection(platform), settings=settings)
    source = sources.of(connection)
    found = []
    for path in samples.exports(platform):
        if source.layout(samples.export_key(path), settings).skip:
            continue
        arrival = Arrival(connection=connection, transport="export", received_at=PAIRED.received_at + timedelta(days=9))
        items = list(samples.export_items(path, settings))
        found.append((path, [normalise(source, item, arrival) for item in items]))
    return found


@pytest.mark.parametrize("platform", BOTH)
def test_a_file_says_the_webhooks_events_again(platform: str) -> None:
    """Equal id, home, send key, type and time, whatever else the file leaves out; nine days later, in bulk."""
    both, told, files = BOTH[platform], posted(platform), filed(platform)
    assert both.files == len(files)
    for path, copies in files:
        assert copies
        for copy in copies:
            twins = told[copy.event.event_id]
            if path.name in both.nameless:
                assert copy.home.startswith("C#")
                assert twins[0].event.send_key == copy.event.send_key
                continue
            said = [(one.home, one.event.send_key, one.event.type, one.event.occurred_at) for one in twins]
            assert (copy.home, copy.event.send_key, copy.event.type, copy.event.occurred_at) in said
            if both.whole:
                assert content_hash(copy.event) in [content_hash(one.event) for one in twins]


@pytest.mark.parametrize("platform", BOTH)
def test_no_two_rows_of_a_file_fall_together(platform: str) -> None:
    """What makes a row and a report one must not make one of two rows."""
    for _, copies in filed(platform):
        ids = [copy.event.event_id for copy in copies]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("files_first", [False, True])
@pytest.mark.parametrize("platform", BOTH)
def test_both_channels_are_recorded_once(platform: str, files_first: bool) -> None:
    """Whichever comes first, the other is a duplicate, however much less it says; files that name nobody apart."""
    store, both = FakeEventStore(), BOTH[platform]
    said_again = [copy for path, copies in filed(platform) if path.name not in both.nameless for copy in copies]
    ids = {copy.event.event_id for copy in said_again}
    told = [record for event_id, twins in posted(platform).items() if event_id in ids for record in twins]
    first, second = (said_again, told) if files_first else (told, said_again)
    assert "new" in store.add(first, transport="webhook", expires_days=30)
    verdicts = set(store.add(second, transport="export", expires_days=30))
    assert verdicts == {"duplicate"}
