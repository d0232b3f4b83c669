"""Two clients share a destination while the process dies at any step: each event once, none lost (goal 74).

Wherever it ends, what was not settled waits again when its lease is over.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest

from espial.errors import TryAgain
from espial.services.pull_notifications import HELD, READING
from tests.feeding import Killed
from tests.pulling import SoapClient, World, csv_of
from tests.unit.test_pull_rest import RestClient, ids

EVENTS = 120


class Trouble:
    """Ends the process, or takes the store away, at some of its calls."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.happened = 0

    def __call__(self) -> None:
        if self.random.random() < self.share:
            self.happened += 1
            raise self.random.choice([Killed, TryAgain])("now")


def a_world(seed: int) -> tuple[World, Trouble]:
    trouble = Trouble(seed, share=0)
    world = World(trouble)
    world.wait(*map(str, range(EVENTS)))
    world.destinations.pop("outlet")
    trouble.share = 0.04
    return world, trouble


@pytest.mark.parametrize("seed", range(40))
def test_two_readers_acknowledge_each_event_once(seed):
    """Over REST, with acknowledgements that are repeated until their outcome is known."""
    world, trouble = a_world(seed)
    readers = [RestClient(world), RestClient(world)]
    acknowledged: Counter[str] = Counter()
    for _ in range(1_000):
        reader = trouble.random.choice(readers)
        try:
            status, found = reader.ask("GET", "/pull/shop", limit=trouble.random.randint(1, 30))
        except Killed:
            continue
        world.now += timedelta(seconds=trouble.random.choice([1, 1, 60, HELD.total_seconds() + 1]))
        if status != 200 or not found["events"]:
            world.now += HELD
            if status == 200 and "waiting" not in world.outbox.states("shop").values():
                break
            continue
        some = None if trouble.random.random() < 0.7 else ids(found)[::2]
        status = settled(reader, "ack", found["lease"], some)
        if status == 200:
            acknowledged.update(ids(found) if some is None else some)
        else:
            assert status == 410
    assert trouble.happened
    assert Counter(world.outbox.states("shop").keys()) == acknowledged
    assert {"delivered"} == {*world.outbox.states("shop").values()}


def settled(reader: RestClient, action: str, lease: str, some: list[str] | None) -> int:
    """Asked again until somebody answers what became of it."""
    content = {"lease": lease} | ({} if some is None else {"ids": some})
    while True:
        try:
            status, _ = reader.post(action, **content)
        except Killed:
            continue
        if status != 503:
            return status


@pytest.mark.parametrize("seed", range(40))
def test_what_is_marked_as_read_comes_once(seed):
    """Over SOAP: no event is answered twice, and one that is answered nowhere was in an answer that was lost."""
    world, trouble = a_world(seed)
    answered: list[str] = []
    lost = 0
    client = SoapClient(world.pull)
    for _ in range(1_000):
        before = world.outbox.states("shop")
        try:
            if client.login()[0] != "success":
                continue
            result, data = client.ask(
                "bus_facade_eventNotification", "getBatch", process={"maxNotifications": trouble.random.randint(1, 30)}
            )
        except Killed:
            result, data = "killed", None
        if result == "success":
            batch = data["bus_entity_eventNotificationBatch"]
            answered += csv_of(batch).splitlines()
            if not batch["eventData"]:
                world.now += READING
        else:
            after = world.outbox.states("shop")
            lost += sum(1 for known in after if before[known] != after[known])
            world.now += READING
        if "waiting" not in world.outbox.states("shop").values():
            break
    assert trouble.happened
    assert EVENTS == len(answered) + lost
    assert {"delivered"} == {*world.outbox.states("shop").values()}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_reported_is_kept_once(seed):
    """Over SOAP with reports: what a client confirmed never comes again, and all of it is confirmed in the end."""
    world, trouble = a_world(seed)
    confirmed: Counter[str] = Counter()
    client = SoapClient(world.pull)
    for _ in range(1_000):
        try:
            if client.login()[0] != "success":
                continue
            asked = {"markAsProcessingInd": "Y", "maxNotifications": trouble.random.randint(1, 30)}
            result, data = client.ask("bus_facade_eventNotification", "getBatch", process=asked)
        except Killed:
            continue
        if result != "success":
            continue
        batch = data["bus_entity_eventNotificationBatch"]
        if not batch["eventData"]:
            world.now += HELD
            if "waiting" not in world.outbox.states("shop").values():
                break
            continue
        lease = batch["batchId"]
        held = [known for (_, known), one in world.outbox.held.items() if one.lease == lease]
        failed = trouble.random.random() < 0.2
        result = reported(client, lease, failed=failed)
        if result == "success" and not failed:
            confirmed.update(held)
    assert trouble.happened
    assert Counter(world.outbox.states("shop").keys()) == confirmed


def reported(client: SoapClient, lease: str, *, failed: bool) -> str:
    while True:
        try:
            result, _ = client.report(lease, failed=int(failed))
        except Killed:
            continue
        if result != "bean_exception_system":
            return result


@pytest.mark.parametrize("form", ["soap", "rest"])
def test_a_death_at_every_single_step(form):
    """One after the other: what was not settled comes again, and nothing comes twice."""
    for step in range(1, 60):
        calls = [0]

        def at_step(calls: list[int] = calls, step: int = step) -> None:
            calls[0] += 1
            if calls[0] == step:
                raise Killed

        world = World(at_step)
        world.destinations.pop("outlet")
        calls[0] = -1_000_000
        world.wait("one", "two", "three")
        calls[0] = 0
        seen = []
        for _ in range(3):
            try:
                seen += once(world, form)
            except Killed:
                delivered = [known for known, state in world.outbox.states("shop").items() if state == "delivered"]
                assert delivered in ([], [*world.outbox.states("shop")])
                seen += delivered if not seen else []
                world.now += HELD
        assert 3 == len(seen)
        assert {"delivered"} == {*world.outbox.states("shop").values()}


def once(world: World, form: str) -> list[str]:
    """All that waits, read and settled."""
    if form == "soap":
        soap = SoapClient(world.pull)
        soap.login()
        return csv_of(soap.batch()).splitlines()
    rest = RestClient(world)
    found = rest.take()
    if not found["events"]:
        return []
    status, _ = rest.post("ack", lease=found["lease"])
    return ids(found) if status == 200 else []
