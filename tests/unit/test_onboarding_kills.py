"""Onboarding, killed and failed at random: what the platform holds and what is recorded is what one clean pass leaves.

Workers die before or after any call of a port, find table, store, queue, bucket or quarantine away, run out of time,
and are overtaken by another whose clock says that their lease is over. The platform throttles, breaks, says nothing, or
takes a request and drops its answer. Notices come more than once and in any order.
"""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from espial.errors import TryAgain
from espial.onboarding.state import ENDED, Counts, Work
from tests.exporting import Killed
from tests.onboarding import KEY, NAME, World, a_row
from tests.unit.test_export_kills import TornStore

SEEDS = 200
TUESDAY = "onboarding/welcome/tuesday.csv"


class Trouble:
    """What happens at calls of ports: the process dies, the service is away, another worker gets in between."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self.message: Work | str | None = None
        self._rng = rng
        self._world = world
        self._left = 25
        self._between = False

    def __call__(self) -> None:
        if self._left <= 0:
            return
        chance = self._rng.random()
        if chance < 0.03:
            self._left -= 1
            raise Killed
        if chance < 0.05:
            self._left -= 1
            raise TryAgain("away")
        if chance < 0.06:
            self._left -= 1
            self._world.braze.trouble({self._rng.choice(["throttle", "error", "timeout", "drop"]): 1})
        if chance < 0.08 and not self._between and self.message:
            self._left -= 1
            self._between = True
            self._world.now += timedelta(minutes=10)
            try:
                work(self._world, self.message, self._rng)
            except (Killed, TryAgain):
                pass  # the other one dies of it, and its message is a copy
            finally:
                self._between = False


def work(world: World, message: Work | str, rng: random.Random) -> None:
    """What the function does with a message."""
    left = iter(rng.choices([0.0, 300_000.0], weights=[1, 6], k=1000))
    world.time_left = lambda: next(left, 300_000.0)
    body = message.to_json() if isinstance(message, Work) else message
    list(world.onboarder().onboard_message(body, "m"))


def work_off(world: World, notices: list[Work], rng: random.Random, trouble: Trouble | None = None) -> None:
    """Until nothing is left: a message whose worker fails comes again, one in ten comes twice anyway."""
    waiting: list[Work | str] = [*notices]
    world.step = trouble or (lambda: None)
    while waiting or world.queue.messages:
        waiting += world.queue.messages
        world.queue.messages.clear()
        world.queue.delays.clear()
        message = waiting.pop(rng.randrange(len(waiting)))
        world.now += timedelta(minutes=rng.choice([1, 10]))
        if trouble:
            trouble.message = message
            if rng.random() < 0.1:
                waiting.append(message)
        try:
            work(world, message, rng)
        except (Killed, TryAgain):
            waiting.append(message)
    world.step = lambda: None


def some_rows(rng: random.Random, count: int) -> list[dict[str, str]]:
    """Recipients of all kinds: fit ones, twins, unreadable ones, and some that the platform refuses."""
    found = []
    for number in range(count):
        kind = rng.choice(["fit"] * 8 + ["twin", "bad_email", "bad_date", "keyless", "unwanted"])
        row = a_row(number, City=rng.choice(["Madrid", "Cadiz", "Vigo"]), Cell=rng.choice("AB"))
        row |= {
            "twin": {"PID": f"P-{1000 + max(number - 1, 0)}"},
            "bad_email": {"Email": "nobody"},
            "bad_date": {"DOB": "yesterday"},
            "keyless": {"PID": ""},
            "unwanted": {"PID": f"no-{number}"},
        }.get(kind, {})
        found.append(row)
    return found


def a_world(rng: random.Random) -> tuple[World, list[list[Work]]]:
    """Monday's file, and Tuesday's, in which some of it is different."""
    world = World(batch_size=rng.choice([2, 5, 50]))
    world.stretch_rows = rng.choice([4, 9, 50])
    world.braze.trouble({"refuse": [f"no-{number}" for number in range(60)]})
    monday = some_rows(rng, rng.randint(0, 40))
    tuesday = [{**row, "City": rng.choice(["Madrid", "Lugo"])} if rng.random() < 0.3 else row for row in monday]
    tuesday += some_rows(rng, rng.randint(0, 5))
    return world, [[world.drop(monday)], [world.drop(tuesday, TUESDAY, "e2")]]


def outcome(world: World) -> dict[str, object]:
    """What must not depend on luck."""
    return {
        "users": world.braze.users,
        "events": {
            event.event_id: (event.type, event.person, event.campaign, event.properties, event.occurred_at)
            for event in world.events()
        },
        "conflicts": {key: found for key, found in world.store.conflicts.items() if found},
        "quarantine": set(world.quarantine.entries),
        "told": world.table.recipients,
        "files": {key: (one.number, one.state, one.rows, one.counts) for key, one in world.table.files.items()},
    }


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_anywhere_and_delivered_again_the_outcome_is_that_of_a_clean_pass(seed: int):
    """The same users, events, quarantine, numbers and counts."""
    clean, days = a_world(random.Random(seed))
    for notices in days:
        work_off(clean, notices, random.Random(seed))
    rng = random.Random(seed)
    world, days = a_world(rng)
    world.store = TornStore(rng)
    for notices in days:
        work_off(world, notices * rng.choice([1, 2, 3]), rng, Trouble(rng, world))
    assert {"done"} == {execution.state for execution in world.table.files.values()}
    assert outcome(clean) == outcome(world)
    for key, etag in ((KEY, "e1"), (TUESDAY, "e2")):
        assert world.execution(key, etag).rows == world.counts(key, etag).rows


@pytest.mark.parametrize("seed", range(60))
def test_of_two_files_at_once_the_later_number_has_the_last_word(seed: int):
    """In whatever order their notices come, and whatever happens in between."""
    rng = random.Random(seed)
    world, (first, second) = a_world(rng)
    work_off(world, first + second + first, rng, Trouble(rng, world))
    files = sorted(world.table.files.values(), key=lambda one: one.number)
    assert [1, 2] == [one.number for one in files]
    assert {True} == {one.state in ENDED for one in files}
    clean, _ = a_world(random.Random(seed))
    for one in files:
        notice = next(work for work in first + second if work.key == one.file.key)
        work_off(clean, [notice], random.Random(seed))
    assert outcome(clean) == outcome(world)


def test_nothing_is_told_twice_in_vain():
    """Without trouble each recipient is sent once, whatever the size of stretches and batches."""
    for batch_size in (1, 3, 50):
        world = World(batch_size=batch_size)
        rows = [a_row(number) for number in range(40)]
        world.onboard(world.drop(rows))
        sent = [one["external_id"] for request in world.braze.requests for one in request["body"]["attributes"]]
        assert [row["PID"] for row in rows] == sent
        assert Counts(sent=40) == world.counts()
        assert {NAME} == {name for name, _ in world.table.recipients}
