"""Postmark: what its record types and bounce types mean."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

POSTMARK = sources.load("postmark")
ARRIVAL = samples.case("postmark", "bounce").arrival
BASE: dict[str, Any] = samples.case("postmark", "bounce").items[0]
OPEN: dict[str, Any] = samples.case("postmark", "open").items[0]
CHANGE: dict[str, Any] = samples.case("postmark", "unsubscribed").items[0]


def read(item: dict[str, Any], **changes: Any) -> Event:
    return normalise(POSTMARK, {**item, **changes}, ARRIVAL).event


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("HardBounce", "bounced"),
        ("SoftBounce", "soft_bounced"),
        ("Transient", "deferred"),
        ("DnsError", "deferred"),
        ("Blocked", "blocked"),
        ("SpamNotification", "blocked"),
        ("DMARCPolicy", "blocked"),
        ("VirusNotification", "bounced"),
        ("Unsubscribe", "unsubscribed"),
        ("Subscribe", "subscribed"),
        ("AutoResponder", "autoresponded"),
        ("AddressChange", "autoresponded"),
        ("ChallengeVerification", "autoresponded"),
        ("BadEmailAddress", "rejected"),
        ("TemplateRenderingFailed", "rejected"),
        ("ManuallyDeactivated", "dropped"),
        ("Unconfirmed", "dropped"),
        ("SMTPApiError", "failed"),
        ("InboundError", "failed"),
        ("SpamComplaint", "complained"),
        ("OpenRelayTest", "unknown"),
        ("Unknown", "unknown"),
        ("SomethingNew", "bounced"),
    ],
)
def test_a_bounce_is_told_by_its_type_and_not_by_its_code(kind: str, expected: str) -> None:
    """Half of what Postmark calls a bounce condemns no address; the code beside it is not to be trusted."""
    assert expected == read(BASE, Type=kind, TypeCode=1).type


@pytest.mark.parametrize(
    ("stops", "reason", "expected"),
    [
        (True, "ManualSuppression", "unsubscribed"),
        (True, "HardBounce", "bounced"),
        (True, "SpamComplaint", "complained"),
        (True, None, "unsubscribed"),
        (True, "SomethingNew", "unsubscribed"),
        (False, None, "subscribed"),
    ],
)
def test_a_subscription_change_is_told_by_its_reason(stops: bool, reason: str | None, expected: str) -> None:
    """One record type says that sending stops, why, or that it may go on."""
    assert expected == read(CHANGE, SuppressSending=stops, SuppressionReason=reason).type


@given(st.integers(0, 9_999_999), st.integers(-12, 14))
def test_seven_digits_of_a_second_and_any_offset_are_read(fraction: int, hours: int) -> None:
    """Postmark writes tenths of microseconds; six digits are kept."""
    second = datetime(2026, 1, 15, 10, tzinfo=UTC)
    local = (second + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S")
    sign = "+" if hours >= 0 else "-"
    found = read(OPEN, ReceivedAt=f"{local}.{fraction:07d}{sign}{abs(hours):02d}:00").occurred_at
    assert second + timedelta(microseconds=fraction // 10) == found


def test_a_change_of_no_message_has_neither_message_nor_send() -> None:
    """A reactivation by hand names none; its identity does without."""
    event = read(CHANGE, MessageID=None)
    assert event.message_id is None
    assert event.send_key is None
    later = read(CHANGE, MessageID=None, ChangedAt="2026-01-15T10:04:01Z")
    assert event.event_id != later.event_id


def test_a_bounce_without_address_and_time_is_kept() -> None:
    """Unsubscriptions by mail may come so: dated by their receipt, and marked."""
    bare = {name: value for name, value in BASE.items() if name not in ("Email", "BouncedAt")}
    event = read(bare, Type="Unsubscribe")
    assert (ARRIVAL.received_at, True) == (event.occurred_at, event.time_uncertain)
    assert event.person.email is None


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Thu, 15 Jan 2026 05:03:00 -05:00", datetime(2026, 1, 15, 10, 3, tzinfo=UTC)),
        ("Thu, 15 Jan 2026 05:03:00 -0500", datetime(2026, 1, 15, 10, 3, tzinfo=UTC)),
        ("Thu, 15 Jan 1970 05:03:00 -0500", None),
        ("yesterday", None),
        (7, None),
        (None, None),
    ],
)
def test_an_inbound_message_is_dated_as_its_sender_did(date: Any, expected: datetime | None) -> None:
    """If that can be read and believed; a retry then is the same event."""
    event = read(samples.case("postmark", "inbound").items[0], Date=date)
    assert "replied" == event.type
    assert "ada@example.net" == event.person.email
    assert (expected or ARRIVAL.received_at, expected is None) == (event.occurred_at, event.time_uncertain)


def test_identity_is_the_number_of_a_bounce_else_what_tells_events_apart() -> None:
    """One message id is shared by all its recipients, and a reader clicks twice."""
    assert ("Bounce", "692560173001") == POSTMARK.identity(BASE)
    assert POSTMARK.identity(OPEN) == POSTMARK.identity({**OPEN, "Metadata": {}, "ReadSeconds": 9})
    variants = [
        OPEN,
        {**OPEN, "Recipient": "bo@example.net"},
        {**OPEN, "RecordType": "Click", "OriginalLink": "https://shop.example.net/a"},
        {**OPEN, "RecordType": "Click", "OriginalLink": "https://shop.example.net/b"},
        {**OPEN, "ReceivedAt": "2026-01-15T10:02:00.3000001Z"},
    ]
    assert len(variants) == len({tuple(POSTMARK.identity(one)) for one in variants})


@given(st.sampled_from(["bounce", "open", "click", "delivery", "unsubscribed"]), st.randoms(use_true_random=False))
def test_a_retry_in_another_order_is_the_same_event(name: str, chance: random.Random) -> None:
    """Postmark tries ten times; fields may stand anywhere."""
    item = samples.case("postmark", name).items[0]
    names = list(item)
    chance.shuffle(names)
    later = replace(ARRIVAL, received_at=ARRIVAL.received_at + timedelta(hours=chance.randrange(10)))
    before = normalise(POSTMARK, item, ARRIVAL)
    after = normalise(POSTMARK, {one: item[one] for one in names}, later)
    assert before.event.event_id == after.event.event_id
    assert before.home == after.home


def test_metadata_wins_over_postmarks_facts() -> None:
    """A template speaks of what the sender set."""
    event = read(OPEN, Metadata={"device": "till", "order": "A-1"})
    assert {"device": "till", "order": "A-1"} == {name: event.properties[name] for name in ("device", "order")}


def test_a_vendors_sample_header_is_no_proof() -> None:
    """`x-postmark-signature` exists on one page of the manual and nowhere else."""
    case = samples.case("postmark", "no-secret")
    delivery = replace(case.delivery, headers={**case.headers, "x-postmark-signature": "anything"})
    with pytest.raises(SignatureError):
        POSTMARK.verify(delivery, case.secrets, case.now)


def test_a_wrong_secret_is_answered_with_a_status_that_keeps_the_retries() -> None:
    """403 would end them for good."""
    assert 401 == POSTMARK.unproven
