"""SendGrid: what its fields mean."""

from __future__ import annotations

from typing import Any

import pytest

from espial import sources
from espial.events import Event
from espial.normalise import normalise
from tests import samples

SENDGRID = sources.load("sendgrid")
ARRIVAL = samples.case("sendgrid", "all-types").arrival
BASE = {
    "email": "ada@example.com",
    "timestamp": 1768471200,
    "event": "open",
    "sg_event_id": "id-1",
    "sg_message_id": "m-1.recvd-0.0",
}


def read(**changes: Any) -> Event:
    return normalise(SENDGRID, {**BASE, **changes}, ARRIVAL).event


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Bounced Address", "dropped"),
        ("Unsubscribed Address", "dropped"),
        ("Spam Reporting Address", "dropped"),
        ("Invalid", "rejected"),
        ("Invalid SMTPAPI header", "rejected"),
        ("Spam Content", "rejected"),
        ("spam content", "rejected"),
        ("Recipient List over Package Quota", "rejected"),
        ("Something new", "dropped"),
        (None, "dropped"),
    ],
)
def test_a_drop_is_a_suppression_or_a_refusal(reason: str | None, expected: str) -> None:
    """Who said no decides: SendGrid's suppression list, or SendGrid about the message."""
    assert expected == read(event="dropped", reason=reason).type


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("bounce", "bounced"), ("blocked", "blocked"), ("expired", "failed"), ("new", "bounced"), (None, "bounced")],
)
def test_a_bounce_is_told_by_its_type(kind: str | None, expected: str) -> None:
    """A block does not condemn the address; an expiry is neither."""
    assert expected == read(event="bounce", type=kind).type


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (True, (True, "sg_machine_open")),
        (False, (False, "sg_machine_open")),
        (None, (None, None)),
        ("yes", (None, None)),
    ],
)
def test_the_machine_flag_is_true_false_or_unknown(flag: Any, expected: tuple[bool | None, str | None]) -> None:
    """Absent means unknown, never no."""
    client = read(sg_machine_open=flag, ip="203.0.113.8").client
    assert client is not None
    assert expected == (client.machine, client.machine_reason)


def test_the_ip_of_a_delivery_is_a_server_and_not_the_reader() -> None:
    """Only opens, clicks and unsubscribes come from a person's client."""
    assert read(event="delivered", ip="192.0.2.25").client is None


def test_custom_arguments_are_what_is_not_sendgrids_own() -> None:
    """They are merged flat into the event; what has a place of its own is not repeated."""
    event = read(event="delivered", response="250 OK", category="a", order_id=7, nested={"a": [1]}, asm_group_id="4")
    assert {"order_id": 7, "nested": {"a": [1]}, "asm_group_id": "4"} == event.properties


def test_identity_is_the_event_id_else_everything_that_tells_events_apart() -> None:
    """Test events lack the id; two clicks on different links are two events even then."""
    assert ("open", "id-1") == SENDGRID.identity(BASE)
    bare = {name: value for name, value in BASE.items() if name != "sg_event_id"}
    one, other = ({**bare, "event": "click", "url": f"https://shop.example.com/{page}"} for page in "ab")
    assert SENDGRID.identity(one) == SENDGRID.identity({**one, "timestamp": "1768471200", "category": "x"})
    assert SENDGRID.identity(one) != SENDGRID.identity(other)


def test_every_report_of_a_message_to_a_person_has_its_send_key() -> None:
    """The suffix of sg_message_id differs from event to event, the send does not."""
    later = {**BASE, "event": "click", "sg_message_id": "m-1.recvd-9.7", "email": " ADA@example.com "}
    assert "m-1/ada@example.com" == SENDGRID.send_key(BASE) == SENDGRID.send_key(later)
    assert SENDGRID.send_key({**BASE, "sg_message_id": None}) is None
