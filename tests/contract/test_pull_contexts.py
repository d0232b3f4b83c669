"""Logins and batches of the pull: the table and its fake keep the same rules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from espial.notifications.contexts import IDLE, LOCKED, WRONG, Batch, Context
from espial.stores.pull_contexts import PullContexts
from tests.builders import NOON
from tests.contract.test_notifications_table import client_of
from tests.pulling import FakeContexts

ANN = Context(user="demo.sys", roles=("outlet", "shop"), role="outlet", form="literal")
TICK = timedelta(seconds=1)


@pytest.fixture(
    params=["fake", *(pytest.param(name, marks=pytest.mark.cloud) for name in ("ministack", "light", "moto"))]
)
def contexts(request) -> Any:
    if request.param == "fake":
        return FakeContexts()
    return PullContexts(client_of(request.param, request), "notifications")


def test_a_context_lives_as_long_as_it_is_used(contexts):
    """Each use lets it live on; idle for half an hour it is over, and whoever did not log in has none."""
    contexts.open("A-1", ANN, now=NOON)
    later = NOON + IDLE - TICK
    assert ANN == contexts.use("A-1", now=later)
    assert ANN == contexts.use("A-1", now=later + IDLE - TICK)
    assert contexts.use("A-1", now=later + 2 * IDLE) is None
    assert contexts.use("A-2", now=NOON) is None
    assert contexts.use("", now=NOON) is None


def test_a_context_can_read_another_destination(contexts):
    """And keeps to it."""
    contexts.open("A-1", ANN, now=NOON)
    contexts.switch("A-1", "shop")
    assert msgspec.structs.replace(ANN, role="shop") == contexts.use("A-1", now=NOON)
    contexts.switch("A-2", "shop")
    assert contexts.use("A-2", now=NOON) is None


def test_logging_out_ends_it(contexts):
    """Twice is harmless."""
    contexts.open("A-1", ANN, now=NOON)
    contexts.close("A-1")
    contexts.close("A-1")
    assert contexts.use("A-1", now=NOON) is None


def test_five_wrong_passwords_lock_a_user(contexts):
    """For a quarter of an hour from the fifth on; nobody else is locked."""
    tries = [contexts.attempt("ann", now=NOON + number * TICK) for number in range(WRONG + 1)]
    assert [True] * WRONG + [False] == tries
    fifth = NOON + (WRONG - 1) * TICK
    assert contexts.attempt("ben", now=fifth)
    assert not contexts.attempt("ann", now=fifth + LOCKED - TICK)
    assert [True] * WRONG + [False] == [contexts.attempt("ann", now=fifth + LOCKED) for _ in range(WRONG + 1)]


def test_wrong_passwords_are_forgotten_in_time(contexts):
    """Four in a quarter of an hour and four in the next are not eight."""
    for start in (NOON, NOON + LOCKED):
        assert [True] * 4 == [contexts.attempt("ann", now=start + number * TICK) for number in range(4)]


def test_right_passwords_do_not_count(contexts):
    """However many."""
    for number in range(3 * WRONG):
        assert contexts.attempt("ann", now=NOON + number * TICK)
        contexts.right("ann")
    assert [True] * WRONG + [False] == [contexts.attempt("ann", now=NOON + TICK) for _ in range(WRONG + 1)]


def test_many_at_once_are_no_way_around(contexts):
    """Each is counted before its password is looked at."""
    with ThreadPoolExecutor(8) as pool:
        tries = list(pool.map(lambda _: contexts.attempt("ann", now=NOON), range(24)))
    assert WRONG >= sum(tries)


def test_a_batch_is_remembered(contexts):
    """With all of its ids, ten thousand or none."""
    for number in (0, 1, 10_000):
        ids = tuple(f"01KAHB8M00{one:016X}-SOFTBOUNCE" for one in range(number))
        batch = Batch(destination="shop", lease=f"lease-{number}", until=NOON + LOCKED, notifications=ids)
        contexts.keep(batch)
        contexts.keep(batch)
        assert batch == contexts.batch(f"lease-{number}")
    assert contexts.batch("lease-7") is None
    assert contexts.batch("") is None
