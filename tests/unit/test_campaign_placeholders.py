"""Placeholders: types, defaults, what is missing, and that nothing in a value is read as one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.campaigns.placeholders import Facts, found, guids, problem, resolved
from espial.errors import Refused
from tests.campaigning import PAYLOAD

GOLDEN = PAYLOAD["body"]
ANN = {"user": {"email": "ann.lee@example.test"}, "points": {"amount": 25}}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def facts(known: dict[str, Any], static: dict[str, Any] | None = None, missing: str = "fail") -> Facts:
    return Facts(known, static, guid=guids("seed"), missing=missing)


def test_the_golden_payload():
    """A whole value keeps its type, a part of a text is text, a default stands in."""
    assert {
        "personalizations": [
            {"to": [{"email": "ann.lee@example.test"}], "dynamic_template_data": {"pts": 25, "line": "Hi there, +25"}}
        ],
        "template_id": "d-1",
    } == facts(ANN).rendered(GOLDEN)


def test_the_golden_provider():
    """`{{$guid}}` is a UUID of version 4, `{{tenant}}` the tenant; an unknown variable is named."""
    name = resolved("SendGrid simulator - {{$guid}}", {}, guids("provider"))
    assert 4 == UUID(name.removeprefix("SendGrid simulator - ")).version
    host = "https://messaging-testsinkd.{{tenant}}.local/sendgrid"
    assert "https://messaging-testsinkd.acme.local/sendgrid" == resolved(host, {"tenant": "acme"}, guids("x"))
    with pytest.raises(ValueError, match=r"unknown variable region, tenant; known: stage"):
        resolved("{{tenant}}.{{region}}", {"stage": "dev"}, guids("x"))


def test_data_wins_over_static_values_and_these_over_defaults():
    """In that order."""
    assert "data" == facts({"offer": {"name": "data"}}, {"offer.name": "static"}).rendered("{{offer.name|default}}")
    assert "static" == facts({}, {"offer.name": "static"}).rendered("{{offer.name|default}}")
    assert "default" == facts({}).rendered("{{offer.name|default}}")


def test_what_is_missing_is_named_or_empty():
    """A null is missing too."""
    with pytest.raises(Refused) as refused:
        facts({"user": {"city": None}}).rendered({"a": ["{{user.city}}"]})
    assert ("missing_attribute", "user.city") == (refused.value.reason, refused.value.detail)
    assert {"a": "", "b": "in "} == facts({}, missing="empty").rendered({"a": "{{user.city}}", "b": "in {{user.city}}"})


def test_lists_are_reached_by_number():
    """As in `transaction.items.0.id`."""
    known = {"transaction": {"items": ({"id": "a"},)}}
    assert "a" == facts(known).rendered("{{transaction.items.0.id}}")
    assert "none" == facts(known).rendered("{{transaction.items.1.id|none}}")


def test_a_repeat_has_the_same_guids():
    """Each of them another, and the same again for the same seed."""
    template = ["{{$guid}}", "{{system.guid}}", "id {{$guid}}"]
    first, again, other = facts({}).rendered(template), facts({}).rendered(template), Facts({}, guid=guids("b"))
    assert first == again != other.rendered(template)
    assert 3 == len({*first})


@given(values.filter(lambda value: value is not None))
def test_a_whole_value_is_kept_as_it_is(value):
    """Whatever its type, also where it looks like a placeholder itself."""
    assert value == facts({"user": {"x": value}}).rendered({"v": "{{ user.x }}"})["v"]


@given(st.text())
def test_what_a_value_says_is_never_a_placeholder(said):
    """Filled in once: nobody reads another's facts through their own name."""
    known = {"user": {"first_name": said, "secret": "s3cret"}}
    assert f"Hi {said}!" == facts(known).rendered("Hi {{user.first_name}}!")
    assert "Hi {{user.secret}}!" == facts({"user": {"x": "{{user.secret}}"}}).rendered("Hi {{user.x}}!")


@given(values)
def test_any_json_can_be_looked_at(value):
    """Neither finding placeholders nor judging them raises; without any the value is rendered as it is."""
    if not problem(value) and not list(found(value)):
        assert value == facts({}).rendered(value)


def test_a_broken_placeholder_is_told():
    """When it is applied, not with the first customer."""
    assert "not closed" in problem({"a": "Hi {{user.name"})
    assert "not opened" in problem("Hi user.name}}")
    assert "is no placeholder" in problem(["{{user..name}}"])
    assert "" == problem(GOLDEN)
