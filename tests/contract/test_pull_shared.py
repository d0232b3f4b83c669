"""Two clients at once over the real table: each event is acknowledged once, and none is skipped (goal 74)."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from espial.services.pull_notifications import HELD
from espial.stores.notifications_table import EvidenceTable, OutboxTable
from espial.stores.pull_contexts import PullContexts
from tests.contract.test_notifications_table import client_of
from tests.pulling import World
from tests.unit.test_pull_rest import RestClient, ids

EVENTS = 600


class Reader:
    """Takes, and then acknowledges all, some or nothing, or gives it back."""

    def __init__(self, world: World, seed: int) -> None:
        self._client = RestClient(world)
        self._random = random.Random(seed)
        self.acknowledged: Counter[str] = Counter()

    def read(self) -> None:
        while (found := self._client.take(limit=self._random.randint(1, 80)))["events"]:
            chosen = ids(found)
            match self._random.choice(["all", "some", "nothing", "back"]):
                case "all":
                    assert 200 == self._client.post("ack", lease=found["lease"])[0]
                    self.acknowledged.update(chosen)
                case "some":
                    assert 200 == self._client.post("ack", lease=found["lease"], ids=chosen[::2])[0]
                    self.acknowledged.update(chosen[::2])
                case "back":
                    self._client.post("release", lease=found["lease"])


@pytest.mark.cloud
@pytest.mark.parametrize("seed", [1, 2])
def test_two_readers_share_a_destination(seed, request):
    """Whatever one of them drops comes to either, once the lease is over."""
    table = client_of("light", request)
    world = World()
    outbox = OutboxTable(table, "notifications")
    stores: dict[str, Any] = {"outbox": outbox, "contexts": PullContexts(table, "notifications")}
    world.pull = replace(world.pull, **stores, evidence=EvidenceTable(table, "notifications"))
    world.outbox = outbox  # type: ignore[assignment]
    put = {one.id for one in world.wait(*map(str, range(EVENTS)))}
    readers = [Reader(world, seed), Reader(world, seed + 100)]
    for _ in range(30):
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(reader.read) for reader in readers]:
                done.result()
        if not world.outbox.waiting("shop"):
            break
        world.now += HELD
    acknowledged = readers[0].acknowledged + readers[1].acknowledged
    assert Counter(put) == acknowledged
    assert all(reader.acknowledged for reader in readers)
