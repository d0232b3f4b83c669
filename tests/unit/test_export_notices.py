"""S3's notices in the shapes they come in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import MalformedDelivery
from espial.exports.notices import Notice, ignored, parse, sequence

KEY = "exports/braze/demo/event_type=users.messages.email.Open/date=2026-01-15-10/a b+3+0000120015.avro"


def s3_event(*keys: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    about = [{"key": quote_plus(key), "size": 3000, "eTag": "e1", "sequencer": "0065A6"} for key in keys]
    return {"Records": [{"eventName": name, "s3": {"bucket": {"name": "b"}, "object": one}} for one in about]}


def bridge_event(key: str) -> dict[str, Any]:
    about = {"key": key, "size": 3000, "etag": "e1", "sequencer": "0065A6", "version-id": "v1"}
    return {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": about}}


@given(keys=st.lists(st.text(min_size=1).filter(lambda key: key.isprintable()), min_size=1, max_size=4))
def test_keys_of_s3_events_are_decoded_exactly_once(keys):
    """Any key, percent signs and plus signs included, comes out as it lies in the bucket; so do several records."""
    assert keys == [notice.key for notice in parse(json.dumps(s3_event(*keys)))]


@given(key=st.text(min_size=1))
def test_keys_of_eventbridge_events_are_not_decoded(key):
    """EventBridge does not encode: decoding would turn the plus signs of Braze's keys into spaces."""
    assert [Notice("b", key, 3000, "e1", "v1", "0065A6")] == parse(bridge_event(key))


def test_an_s3_event_inside_sns_is_found():
    """A topic in between puts the event in a string."""
    assert [Notice("b", KEY, 3000, "e1", "", "0065A6")] == parse(json.dumps({"Message": json.dumps(s3_event(KEY))}))


@pytest.mark.parametrize(
    "event", [{"Event": "s3:TestEvent", "Bucket": "b"}, s3_event(KEY, name="ObjectRemoved:Delete"), {"Records": []}]
)
def test_what_tells_of_no_new_object_gives_no_notice(event):
    """The test message S3 sends when a notification is configured, and deletions, are acknowledged."""
    assert [] == parse(event)


@pytest.mark.parametrize("message", ["", "x", "[]", "1", '{"a": 1}', '{"Records": [{"s3": 1}]}', '{"Records": 3}'])
def test_anything_else_is_malformed(message):
    """What is no notice is said to be none, so that it ends in quarantine and not in a loop."""
    with pytest.raises(MalformedDelivery, match="bad_notice"):
        parse(message)


@pytest.mark.parametrize(
    ("key", "size", "reason"),
    [
        ("exports/braze/demo/", 0, "folder_mark"),
        ("exports/braze/demo/a.avro", 0, "empty"),
        ("exports/braze/demo/_SUCCESS", 10, "marker"),
        ("exports/braze/demo/a.avro.tmp", 10, "temporary"),
        ("exports/braze/demo/a.avro.filepart", 10, "temporary"),
        ("exports/braze/demo/_temporary/0/a.avro", 10, "temporary"),
        ("exports/braze/demo/a.avro", 10, None),
        ("exports/braze/demo/a.avro", -1, None),
    ],
)
def test_what_is_no_file_is_ignored_with_a_reason(key, size, reason):
    """Folder marks and files still being written; an unknown size is no reason."""
    assert reason == ignored(key, size)


def test_sequencers_compare_right_padded():
    """S3's rule: the shorter one is padded with zeros on the right, whatever its case."""
    assert sequence("0065A6B2C3") == sequence("0065a6b2c300")
    assert sequence("0065A6B2C3") < sequence("0065A6B2C3D4") < sequence("0065A7")
