"""SMTP2GO: what its fields mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from tests import samples

SMTP2GO = sources.load("smtp2go")
CASE = samples.case("smtp2go", "delivered")
BASE = {
    "event": "open",
    "time": "2026-01-15T10:00:00Z",
    "rcpt": "ada@example.com",
    "email_id": "1vAbCd-0000-XY",
    "id": "77",
    "srchost": "203.0.113.7",
    "user-agent": "Mozilla/5.0",
}
SMS = {
    "event": "sms_delivered",
    "time": "2026-01-15T10:00:00Z",
    "destination_number": "+1 555 0100",
    "source_number": "+15550199",
    "message_id": "sms-1",
}


def read(**changes: Any) -> Event:
    return normalise(SMTP2GO, {**BASE, **changes}, CASE.arrival).event


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
def test_json_and_form_report_the_same_whatever_the_header_says(content_type: str) -> None:
    """The output type is a setting; the body tells which it is."""
    bodies = (orjson.dumps(BASE), urlencode(BASE).encode())
    items = [
        SMTP2GO.split(replace(CASE.delivery, body=body, headers={"content-type": content_type})) for body in bodies
    ]
    assert [[BASE], [BASE]] == items


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event": "bounce", "bounce": "hard"}, "bounced"),
        ({"event": "bounce", "bounce": "soft"}, "soft_bounced"),
        ({"event": "bounce"}, "bounced"),
        ({"event": "reject", "message": "previously hard-bounced"}, "dropped"),
        ({"event": "reject"}, "dropped"),
        ({"event": "reject", "message": "sender domain not verified"}, "rejected"),
        ({"event": "reject", "context": "Sandbox mode"}, "rejected"),
    ],
)
def test_bounces_and_rejections_are_told_apart(changes: dict[str, Any], expected: str) -> None:
    """A soft bounce condemns no address, and an unverified sender none either."""
    assert expected == read(**changes).type


def test_the_source_host_is_the_readers_for_opens_and_clicks_only() -> None:
    """For what was processed it is who submitted the message."""
    assert read().client is not None
    assert read(event="click").client is not None
    assert read(event="processed").client is None


def test_the_webhooks_id_is_not_the_events() -> None:
    """`id` is the same for every event; reading on is not another open."""
    assert SMTP2GO.identity(BASE) == SMTP2GO.identity({**BASE, "id": "78", "read-secs": 30})
    assert SMTP2GO.identity(BASE) != SMTP2GO.identity({**BASE, "time": "2026-01-15T10:00:01Z"})


def test_an_sms_belongs_to_a_number() -> None:
    """Home and send key name the phone; of an opt-out the one that wrote."""
    recordable = normalise(SMTP2GO, SMS, CASE.arrival)
    assert ("P#phone:+15550100", "sms") == (recordable.home, recordable.event.channel)
    assert "sms-1/+15550100" == SMTP2GO.send_key(SMS)
    stop = {**SMS, "event": "opt-out", "source_number": "+15550100", "destination_number": "+15550199"}
    assert "P#phone:+15550100" == normalise(SMTP2GO, stop, CASE.arrival).home


@pytest.mark.parametrize("given", ["2026-01-15 10:00:00", "1768471200", 1768471200, 1768471200000])
def test_times_of_sms_are_read_in_every_form(given: Any) -> None:
    """Their form is not documented."""
    item = {**SMS, "time": None, "received_timestamp": given}
    found = normalise(SMTP2GO, item, CASE.arrival).event.occurred_at
    assert "2026-01-15T10:00:00+00:00" == found.isoformat()


@given(st.permutations(list(BASE)))
def test_identity_rests_on_what_a_retry_repeats(names: list[str]) -> None:
    """Order says nothing."""
    assert SMTP2GO.identity(BASE) == SMTP2GO.identity({name: BASE[name] for name in names})
