"""One event over two transports is one event (goal 18): Braze's HTTP connector and its files in a bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from espial import sources
from espial.events import content_hash
from espial.normalise import Recordable, normalise
from espial.sources import Export
from tests import samples

FILES = samples.exports("braze")
PAIRED = samples.case("braze", "paired-with-export")


def over_the_bucket(path: Path) -> list[Recordable]:
    source = sources.load("braze")
    arrival = replace(PAIRED.arrival, transport="export")
    return [normalise(source, item, arrival) for item in samples.avro_items(path)]


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
