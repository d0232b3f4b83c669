"""What became of a message, whichever order its reports come in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import Event
from espial.message_state import NOTHING, RANKS, MessageState, join, message_states, of_event
from espial.vocabulary import EventType
from tests.builders import an_event

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
KEY = "m-1/ada@example.com"


def report(type_: EventType, at: int = 0) -> Event:
    return an_event(type_.value, type=type_, occurred_at=NOW + timedelta(seconds=at), send_key=KEY)


REPORTS = st.builds(report, st.sampled_from(list(EventType)), st.integers(0, 5))
STATES = st.lists(REPORTS, max_size=5).map(lambda some: reduce(join, map(of_event, some), NOTHING))


@given(STATES, STATES, STATES)
def test_states_merge_in_any_order_any_number_of_times(a: MessageState, b: MessageState, c: MessageState) -> None:
    """Associative, commutative, idempotent, with NOTHING as its least."""
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, b) == join(b, a)
    assert a == join(a, a) == join(a, NOTHING)


@given(st.lists(REPORTS, max_size=10), st.randoms(use_true_random=False))
def test_late_and_repeated_reports_change_nothing(reports: list[Event], chance: random.Random) -> None:
    """The same reports, twice and shuffled, are the same state."""
    shuffled = [*reports, *reports]
    chance.shuffle(shuffled)
    assert message_states(reports) == message_states(shuffled)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((EventType.DELIVERED, EventType.BOUNCED, EventType.COMPLAINED), EventType.COMPLAINED),
        ((EventType.BOUNCED, EventType.DELIVERED), EventType.BOUNCED),
        ((EventType.DELIVERED, EventType.DEFERRED, EventType.SENT), EventType.DELIVERED),
        ((EventType.DEFERRED, EventType.SOFT_BOUNCED), EventType.SOFT_BOUNCED),
        ((EventType.SENT, EventType.QUEUED), EventType.SENT),
    ],
)
def test_a_complaint_is_over_a_bounce_over_a_delivery(types: tuple[EventType, ...], expected: EventType) -> None:
    """Whatever the times say: a status never falls back."""
    states = message_states(report(type_, at) for at, type_ in enumerate(types))
    status = states[KEY].status
    assert status is not None
    assert expected is status.type


def test_engagement_stands_beside_the_status() -> None:
    """The first of each kind; an open says nothing of the delivery's fate."""
    states = message_states([report(EventType.OPENED, 9), report(EventType.OPENED, 3), report(EventType.BOUNCED)])
    assert NOW + timedelta(seconds=3) == states[KEY].engagement[EventType.OPENED].at
    assert {EventType.OPENED} == set(states[KEY].engagement)


def test_every_message_report_has_a_rank_or_is_engagement() -> None:
    """A new type in the vocabulary must be given its place here."""
    elsewhere = {
        EventType.OPENED,
        EventType.CLICKED,
        EventType.UNSUBSCRIBED,
        EventType.REPLIED,
        EventType.SUBSCRIBED,
        EventType.DELIVERY_STARTED,
        EventType.DELIVERY_COMPLETED,
    }
    order = list(EventType)
    message = order[: order.index(EventType.PAGE_VIEWED)]
    assert set(message) - set(RANKS) == elsewhere
