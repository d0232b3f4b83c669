"""Every source against hostile input: total, and steady under order and repetition."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Arrival, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.events import decode
from espial.normalise import Recordable, normalise
from espial.sources import Source
from tests import samples
from tests.samples import Case, cases

PLATFORMS = pytest.mark.parametrize("platform", sources.NAMES)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
VALUES = JSON | st.sampled_from(["1768471200", 1768471200, "", "true", "track", "users.messages.email.Open", "bounce"])
VALID = [(case, item) for case in cases() for item in case.items if isinstance(item, dict)]


def delivery(platform: str, body: bytes) -> RawDelivery:
    case = cases(platform)[0]
    return replace(case.delivery, body=body)


def outcome(platform: str, item: Any, source: Source | None = None) -> Recordable | MalformedItem:
    arrival = Arrival(
        connection=samples.connection(platform), transport="webhook", received_at=cases(platform)[0].received_at
    )
    try:
        return normalise(source or sources.load(platform), item, arrival)
    except MalformedItem as exc:
        return exc


@PLATFORMS
@given(body=st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_any_body_splits_or_is_malformed(platform: str, body: bytes) -> None:
    """Nothing else comes out, and whatever items do can be judged one by one."""
    try:
        items = sources.load(platform).split(delivery(platform, body))
    except MalformedDelivery:
        return
    for item in items:
        assert isinstance(outcome(platform, item), Recordable | MalformedItem)


@PLATFORMS
@given(item=JSON)
def test_any_item_is_recordable_or_malformed(platform: str, item: Any) -> None:
    """A bug in a parser would be retried for ever; bad input must be quarantined."""
    assert isinstance(outcome(platform, item), Recordable | MalformedItem)


@given(st.sampled_from(VALID), st.data())
def test_a_valid_item_with_odd_values_is_recordable_or_malformed(sample: tuple[Case, Any], data: st.DataObject) -> None:
    """One or two fields, at the top or one level down, hold anything at all or are missing."""
    case, item = sample
    odd = orjson.loads(orjson.dumps(item))
    for _ in range(data.draw(st.integers(1, 2))):
        places = [odd, *(value for value in odd.values() if isinstance(value, dict) and value)]
        place = data.draw(st.sampled_from(places))
        if not place:
            continue
        name = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans()):
            place[name] = data.draw(VALUES)
        else:
            del place[name]
    found = outcome(case.platform, odd, case.source)
    assert isinstance(found, Recordable | MalformedItem)
    if isinstance(found, Recordable):
        assert found.event == decode(found.body)


@given(st.sampled_from(VALID), st.randoms(use_true_random=False))
def test_the_order_of_fields_says_nothing(sample: tuple[Case, Any], chance: random.Random) -> None:
    """The same fields in any order are the same event, to the byte."""

    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = list(value)
        chance.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    case, item = sample
    before, after = (outcome(case.platform, one, case.source) for one in (item, shuffled(item)))
    if isinstance(before, Recordable):
        assert isinstance(after, Recordable)
        assert before.event == after.event
        assert before.home == after.home
    else:
        assert type(before) is type(after)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@PLATFORMS
@pytest.mark.parametrize("odd", [nested(900), nested(5000), 10**400, -(10**30), float("nan"), float("inf"), 10**25])
def test_depth_and_size_of_values_never_break_the_batch(platform: str, odd: Any) -> None:
    """What cannot be written as canonical JSON is malformed, in custom fields and in known ones."""
    for item in (item for case, item in VALID if case.platform == platform):
        for name in [*item, "custom"]:
            found = outcome(platform, {**item, name: odd})
            assert isinstance(found, Recordable | MalformedItem)


@PLATFORMS
def test_the_reason_of_a_malformed_item_names_its_field(platform: str) -> None:
    """Bad items spare the good ones beside them; the quarantine can be searched by reason and repaired by path."""
    batches = [[outcome(platform, item, case.source) for item in case.items] for case in cases(platform)]
    if any(len(found) > 1 for found in batches):
        mixed = [found for found in batches if {MalformedItem, Recordable} == set(map(type, found))]
        assert mixed, (
            f"events/sources/{platform}/ has no delivery with both bad and good items: add one, such as "
            "bad-items-in-good-batch.body, where items that cannot be read stand among some that can"
        )
    else:
        assert {MalformedItem, Recordable} == {type(one) for found in batches for one in found}, (
            f"events/sources/{platform}/ has no delivery whose item cannot be read: add one"
        )
    for error in (one for found in batches for one in found if isinstance(one, MalformedItem)):
        assert error.reason == error.reason.lower().replace(" ", "_")
        assert error.detail
        assert error.path or "object" in error.detail
