"""Airship: lines that stand for themselves, reports told twice, devices of every kind."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import MalformedDelivery, MalformedItem
from espial.events import Event
from espial.normalise import normalise
from espial.vocabulary import EventType
from tests import samples

AIRSHIP = sources.load("airship")
CASE = samples.case("airship", "bounce-told-twice")
CUSTOM, COMPLIANCE = CASE.items
ALL = [item for name in ("app-and-push", "email", "sms") for item in samples.case("airship", name).items]


def event(item: dict[str, Any], **settings: Any) -> Event:
    connection = replace(CASE.connection, settings=settings)
    return normalise(AIRSHIP, item, replace(CASE.arrival, connection=connection)).event


def mail(name: str, **properties: Any) -> dict[str, Any]:
    return {**CUSTOM, "body": {**CUSTOM["body"], "name": name, "properties": properties}}


def split(body: bytes) -> list[Any]:
    return AIRSHIP.split(replace(CASE.delivery, body=body))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["bounced", "unknown"]),
        ({"mail_reports": "custom"}, ["bounced", "unknown"]),
        ({"mail_reports": "compliance"}, ["unknown", "bounced"]),
        ({"mail_reports": "both"}, ["bounced", "unknown"]),
    ],
)
def test_a_bounce_told_twice_counts_once(settings: dict[str, Any], expected: list[str]) -> None:
    """Their ids differ and one names no message: which of the two counts is fixed, and the other is kept."""
    found = [event(item, **settings) for item in (CUSTOM, COMPLIANCE)]
    assert expected == [one.type.value for one in found]
    assert 2 == len({one.event_id for one in found})


@pytest.mark.parametrize("name", ["bounce", "spam_complaint", "unsubscribe", "list_unsubscribe", "link_unsubscribe"])
@pytest.mark.parametrize("settings", [{}, {"mail_reports": "compliance"}])
def test_one_of_each_pair_counts(name: str, settings: dict[str, Any]) -> None:
    """Complaints and unsubscribes likewise: neither none of them nor both."""
    twin = {**COMPLIANCE, "body": {**COMPLIANCE["body"], "event_type": name}}
    types = [event(item, **settings).type.value for item in (mail(name, bounce_class="10"), twin)]
    assert 1 == types.count("unknown")


@pytest.mark.parametrize("opens", ["open", "initial_open"])
def test_one_view_is_one_open(opens: str) -> None:
    """Two pixels of one message tell the same view: one of them counts."""
    for pair in (("open", "initial_open"), ("amp_open", "amp_initial_open")):
        assert 1 == [event(mail(name), opens=opens).type for name in pair].count(EventType.OPENED)


@pytest.mark.parametrize(
    ("class_", "expected"),
    [
        ("10", "bounced"),
        (30, "bounced"),
        ("22", "soft_bounced"),
        ("25", "dropped"),
        ("51", "blocked"),
        (None, "bounced"),
    ],
)
def test_a_bounce_is_what_its_class_says(class_: Any, expected: str) -> None:
    """SparkPost's classes, a number or its text."""
    assert expected == event(mail("bounce", bounce_class=class_)).type
    assert expected == event(mail("out_of_band", bounce_class=class_)).type


@pytest.mark.parametrize("device", ["IOS", "ANDROID", "WEB", "SMS"])
def test_an_apps_own_event_is_no_report_of_mail(device: str) -> None:
    """Whatever the app calls it: only the device tells them apart."""
    item = {**mail("bounce", bounce_class="10"), "device": {**CUSTOM["device"], "device_type": device}}
    assert ("custom", "CUSTOM.bounce") == (event(item).type, event(item).platform_type)


def test_keep_alives_and_offsets_hold_no_event() -> None:
    """Blank lines, with or without a carriage return, and how far the stream was read."""
    line = orjson.dumps(CUSTOM)
    update = orjson.dumps({"type": "OFFSET_UPDATE", "offset": "1"})
    assert [CUSTOM] == split(b"\n\r\n" + update + b"\r\n" + line + b"\r\n\n")
    assert [] == split(b"") == split(b"\n\n") == split(update)


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=6), st.data())
def test_a_line_cut_off_harms_no_other(items: list[dict[str, Any]], data: st.DataObject) -> None:
    """It is refused by itself, with the line it stood on."""
    lines = [orjson.dumps(item) for item in items]
    at = data.draw(st.integers(0, len(lines)))
    lines.insert(at, orjson.dumps(CUSTOM)[: data.draw(st.integers(1, 60))])
    found = split(b"\n".join(lines))
    assert items == [one for place, one in enumerate(found) if place != at]
    with pytest.raises(MalformedItem, match=f"line {at + 1}:") as refused:
        event(found[at])
    assert "not_json" == refused.value.reason


@given(st.binary(min_size=1, max_size=60))
def test_what_holds_no_line_that_can_be_read_is_malformed(body: bytes) -> None:
    """As a whole: an error page, say."""
    with pytest.raises(MalformedDelivery):
        split(b"<" + body.replace(b"\n", b" "))


@given(st.randoms(use_true_random=False))
def test_reading_again_from_an_older_offset_gives_the_same_events(chance: random.Random) -> None:
    """In whatever order and however often: offset and time of processing are no part of an event."""
    again = [{**item, "offset": "9", "processed": "2026-01-15T10:04:59Z"} for item in ALL]
    chance.shuffle(again)
    assert {event(one).event_id for one in ALL} == {event(one).event_id for one in again}
    assert len(ALL) == len({event(one).event_id for one in ALL})


def test_a_number_says_its_country() -> None:
    """An MSISDN has no plus sign."""
    sms = next(item for item in ALL if item.get("device", {}).get("device_type") == "SMS")
    assert "+15550100003" == event(sms).person.phone


def test_a_send_and_its_responses_have_one_key() -> None:
    """The push and the channel, of e-mail, texts and apps."""
    channels = {"email": "cccc0001-0000-4000-8000-000000000001", "sms": "cccc0002-0000-4000-8000-000000000002"}
    for name, channel in channels.items():
        keys = {found.send_key for found in map(event, samples.case("airship", name).items) if found.message_id}
        assert {f"7a1f0000-0000-4000-8000-00000000aaaa/{channel}"} == keys


def test_an_app_opened_by_a_push_is_an_open_of_the_push() -> None:
    """And one opened by itself is the app's."""
    direct, plain = [event(item) for item in ALL if item["type"] == "OPEN"]
    assert [("opened", "push"), ("custom", "app")] == [(one.type, one.channel) for one in (direct, plain)]
