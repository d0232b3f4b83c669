"""The ledger of export files whose readers are killed at random: it balances, and says what a clean pass says."""

from __future__ import annotations

import random
from typing import Any

import pytest

from espial.ledger import CONSUMERS, balances, plain
from espial.services.ledger import note_arrived, note_published
from tests.exporting import KINDS, NOW, World
from tests.unit.test_export_kills import (
    Trouble,
    a_world,
    seeds,
    small_steps,  # noqa: F401  for this module too
    work_off,
)


def balance(world: World) -> list[dict[str, Any]]:
    """What the ledger says once the stream and the bus have carried everything."""
    events = world.events()
    note_published(world.balance, [(event, "published") for event in events], NOW)
    for consumer in CONSUMERS:
        note_arrived(world.balance, consumer, {event.event_id: event for event in events}, NOW)
    hours = sorted(world.balance.kept)
    return [plain(one, NOW) for hour in hours for one in balances(hour, lambda hour=hour: world.balance.sheets(hour))]  # type: ignore[misc]


@pytest.mark.parametrize(("seed", "kind"), seeds())
def test_killed_anywhere_the_ledger_is_that_of_a_clean_pass(seed: int, kind: str) -> None:
    """Recorded is what is in the table, whoever died before he could say so; every row has one verdict."""
    clean, notices = a_world(random.Random(seed), KINDS[kind], cut=False)
    work_off(clean, notices, random.Random(seed))
    rng = random.Random(seed)
    world, notices = a_world(rng, KINDS[kind], cut=False)
    work_off(world, notices + rng.choices(notices, k=2), rng, Trouble(rng, world))
    found = balance(world)
    assert len(world.events()) == sum(one["record"]["recorded"] for one in found)
    assert [] == [one["differences"] for one in found if one["differences"]]
    assert balance(clean) == found
