"""Mailjet: what its fields mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MAILJET = sources.load("mailjet")
CASE = samples.case("mailjet", "all-types")
BASE = {"event": "bounce", "time": 1768471200, "MessageID": 98765432109876543, "email": "ada@example.com"}


def read(**changes: Any) -> Event:
    return normalise(MAILJET, {**BASE, **changes}, CASE.arrival).event


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hard_bounce": True}, "bounced"),
        ({"hard_bounce": 1}, "bounced"),
        ({"hard_bounce": False}, "soft_bounced"),
        ({}, "soft_bounced"),
        ({"hard_bounce": False, "error": "greylisted"}, "deferred"),
    ],
)
def test_a_bounce_is_hard_only_if_mailjet_says_so(given: dict[str, Any], expected: str) -> None:
    """A soft one must not condemn the address; a greylisted message is still on its way."""
    assert expected == read(**given).type


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("preblocked", "dropped"),
        ("Spam Reporter", "dropped"),
        ("content blocked", "blocked"),
        ("typofix", "rejected"),
        ("error in template language", "rejected"),
        ("something new", "dropped"),
        (None, "dropped"),
    ],
)
def test_a_block_is_told_by_its_error(error: str | None, expected: str) -> None:
    """Mailjet calls three things blocked: suppression, refusal by policy, a message that cannot be sent."""
    assert expected == read(event="blocked", error=error).type


def test_a_template_that_fails_is_a_rendering_failure() -> None:
    """The message is to blame, not the address."""
    failure = read(event="blocked", error="bad or empty template", error_related_to="content").failure
    assert failure is not None
    assert failure.class_ == "rendering"


@given(st.integers(2**53, 2**64 - 1))
def test_message_ids_stay_exact(number: int) -> None:
    """They are longer than a double holds; a neighbour's id must not be hit."""
    body = orjson.dumps({**BASE, "MessageID": number})
    item = MAILJET.split(replace(CASE.delivery, body=body))[0]
    assert str(number) == normalise(MAILJET, item, CASE.arrival).event.message_id
    assert f"{number}/ada@example.com" == MAILJET.send_key(item)


def test_zero_is_no_id() -> None:
    """Mailjet writes 0 where there is no message, contact or campaign."""
    event = read(event="unsub", MessageID=0, mj_contact_id=0, mj_campaign_id=0)
    assert (None, None, None) == (event.message_id, event.person.source_contact_id, event.campaign)
    assert MAILJET.send_key({**BASE, "MessageID": 0}) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [('{"order":"A-100"}', {"order": "A-100"}), ("", {}), ("words", {"payload": "words"}), ("{", {"payload": "{"})],
)
def test_the_payload_may_be_no_json(payload: str, expected: dict[str, Any]) -> None:
    """It is whatever the sender put there."""
    assert expected == read(Payload=payload).properties


@pytest.mark.parametrize(("named", "topic"), [(20, "list/20"), ("20", "list/20"), (0, None), ("", None)])
def test_leaving_a_list_is_leaving_that_list(named: Any, topic: str | None) -> None:
    """Where none is named, or by number 0, it is leaving everything; metadata says nothing about it."""
    assert topic == read(event="unsub", mj_list_id=named).properties.get("topic")
    assert "topic" not in read(event="open", mj_list_id=20).properties


@given(st.permutations([*BASE, "url", "CustomID"]))
def test_identity_rests_on_what_a_retry_repeats(names: list[str]) -> None:
    """Order says nothing; another link is another click."""
    item = {**BASE, "url": "https://shop.example.com/a", "CustomID": "A-100"}
    assert MAILJET.identity(item) == MAILJET.identity({name: item[name] for name in names})
    assert MAILJET.identity(item) != MAILJET.identity({**item, "url": "https://shop.example.com/b"})
