"""What the benchmarks of all platforms measure is what they say: many events, all different, nothing skipped."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

import orjson
import pytest

from espial import sources
from tests import samples
from tests.perf import payloads

WITH_SAMPLES = [name for name in sources.NAMES if payloads.good_cases(name)]


@pytest.mark.parametrize("platform", WITH_SAMPLES)
def test_a_platforms_deliveries_report_many_events(platform):
    """Each delivery is read whole, and together they report as many events as were asked for."""
    posted = payloads.posted(platform, 120)
    found = [payloads.recordables(one.source, one.delivery, one.arrival) for one in posted]
    assert [one.events for one in posted] == [len(events) for events in found]
    assert 120 <= sum(map(len, found))


@pytest.mark.parametrize("platform", ["sendgrid", "braze", "segment"])
def test_copies_of_a_sample_are_about_different_events(platform):
    """Caches must not make a benchmark of one event out of many."""
    events = [
        record.event
        for one in payloads.posted(platform, 300)
        for record in payloads.recordables(one.source, one.delivery, one.arrival)
    ]
    assert 0.9 * len(events) < len({event.event_id for event in events})
    assert 100 < len({event.person for event in events})


def test_reports_come_as_many_to_a_delivery_where_the_platform_posts_arrays():
    """A lone event has another price than one of a hundred."""
    assert [100, 100] == [one.events for one in payloads.posted("sendgrid", 200)]


def test_only_what_is_fit_is_posted():
    """A peer is measured on what it can read, and on as much of it."""
    posted = payloads.posted("sendgrid", 100, fit=lambda delivery: b'"open"' in delivery.body)
    assert {"open"} == {item["event"] for one in posted for item in orjson.loads(one.delivery.body)}
    assert [] == payloads.posted("sendgrid", 100, fit=lambda _delivery: False)


def test_the_floor_of_json_is_its_parser_alone():
    """One call for each body, of the bytes themselves."""
    delivery = samples.case("sendgrid", "all-types").delivery
    assert ("json", [(orjson.loads, delivery.body)]) == payloads.floor([delivery])


def test_the_floor_of_a_form_counts_the_json_in_its_fields():
    """Mandrill posts JSON as a field of a form: no reader gets by without both parsers."""
    delivery = replace(samples.case("sendgrid", "all-types").delivery, body=b"a=%7B%22b%22%3A1%7D&c=d")
    found = payloads.floor([delivery])
    assert "form+json" == found.name
    assert [parse_qsl("a=%7B%22b%22%3A1%7D&c=d"), {"b": 1}] == [parse(text) for parse, text in found.calls]
