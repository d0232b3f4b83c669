"""Trigger files: what they may say, what is refused, and that reading them back changes nothing."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.definitions import reading
from espial.triggers import durations
from espial.triggers.definition import Trigger, json_schema
from tests.simulation import a_trigger

SHIPPED = Path(__file__).parents[2] / "definitions/triggers/cart-abandoned.yaml"


@pytest.mark.parametrize(
    ("fields", "location", "complaint"),
    [
        ({"onn": ["opened"]}, ("onn",), "Extra inputs are not permitted"),
        ({"on": []}, ("on",), "at least one event type is needed"),
        ({"on": ["cart_abandonned"]}, ("on", 0), "Input should be"),
        ({"on": ["message_requested"]}, ("on",), "are our own events and start nothing"),
        ({"wait": "1 hour"}, ("wait",), "a duration such as 30m, 1h, 7d or PT1H is expected"),
        ({"wait": "367d"}, ("wait",), "longer than 366 days"),
        ({"wait": "P1M"}, ("wait",), "a duration such as"),
        ({"key": "event.commerce.cart.idd"}, ("key",), "unknown field event.commerce.cart.idd"),
        ({"key": "run.key"}, ("key",), "unknown variable run"),
        (
            {"exit_on": [{"event": "order_completed", "when": "person.email == ''"}]},
            ("exit_on", 0, "when"),
            "unknown variable",
        ),
        ({"conditions": [{"name": "a", "when": "nope > 1"}]}, ("conditions", 0, "when"), "unknown variable nope"),
        ({"conditions": [{"name": "a", "when": "true"}, {"name": "a", "when": "true"}]}, (), "conditions: every name"),
        ({"limits": [{"name": "a", "count": 0, "within": "1d"}]}, ("limits", 0, "count"), "greater than or equal to 1"),
        (
            {"limits": [{"name": "a", "count": 1, "within": "1d", "scope": "all"}]},
            ("limits", 0, "scope"),
            "Input should be",
        ),
        ({"valid_from": "2026-11-20T10:00:00"}, ("valid_from",), "timezone"),
        (
            {"valid_from": "2026-11-20T10:00:00Z", "valid_to": "2026-11-20T10:00:00Z"},
            (),
            "valid_from must be earlier than valid_to",
        ),
        ({"name": "Cart Mail"}, ("name",), "match pattern"),
        (
            {"send": {"provider": "ses", "template": "t", "to": "event.emial"}},
            ("send", "to"),
            "unknown field event.emial",
        ),
    ],
)
def test_a_mistake_is_named_with_its_field(fields, location, complaint):
    """What `espial apply` shows beside file and line."""
    with pytest.raises(ValidationError) as caught:
        a_trigger(**fields)
    [error] = caught.value.errors()
    assert location == error["loc"]
    assert complaint in error["msg"]


def test_the_shipped_trigger_is_valid_and_survives_publishing():
    """definitions/triggers/cart-abandoned.yaml, through the JSON that the functions read."""
    data = reading.read(SHIPPED.read_bytes(), SHIPPED.name).data
    trigger = Trigger.model_validate(data)
    assert (timedelta(hours=1), "live", True) == (trigger.wait, trigger.status, trigger.restart)
    published = json.loads(json.dumps(trigger.model_dump(mode="json")))
    assert trigger == Trigger.model_validate(published)


def test_it_watches_what_starts_and_what_ends():
    """The event types it has to see."""
    assert {"cart_updated", "order_completed"} == a_trigger().watches


def test_the_schema_describes_durations_and_refuses_unknown_fields():
    """Published for editors: JSON Schema says what the model says."""
    schema = json_schema()
    assert False is schema["additionalProperties"]
    pattern = schema["properties"]["wait"]["pattern"]
    for text in ("1h", "30m", "3s", "P1D", "PT36H", "1h30m", "0s", "P2W"):
        assert re.match(pattern, text)
        durations.parse(text)
    for text in ("", "P", "PT", "1 h", "h", "1y", "P1Y", "-1h", "1.5h"):
        assert not re.match(pattern, text)
        with pytest.raises(ValueError, match="a duration such as"):
            durations.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("P1D", 86_400), ("PT1H30M", 5400), ("1h30m", 5400), ("2w", 1_209_600), ("P1DT1S", 86_401)],
)
def test_a_duration_is_its_seconds(text, seconds):
    """Both notations."""
    assert timedelta(seconds=seconds) == durations.parse(text)


@given(st.integers(0, 366 * 86_400))
def test_a_duration_written_is_read_again(seconds):
    """What is published says the same."""
    assert timedelta(seconds=seconds) == durations.parse(durations.text(timedelta(seconds=seconds)))
