"""DynamoDB failing for a while costs time and nothing else (guarantee 1; the fault matrix)."""

from __future__ import annotations

import time
from collections import Counter
from random import Random

from tests.local.faults import Call, Fault, FaultProxy
from tests.local.test_channels import as_file, key, opens
from tests.local.world import LAMP, UNCAPPED, World, sendgrid_events


def introduce(world: World, name: str) -> None:
    """Three shoppers named after `name`, known before anything fails: who comes to be known too late gets no mail."""
    for number in range(3):
        world.shopper(f"{name}-{number}")
    world.until("they are known", lambda: len(world.events_of(name)) == 3)


def work(world: World, name: str) -> None:
    """Webhooks, a file and the shoppers' carts; every receiver answers 200."""
    events = sendgrid_events(name, 60)
    assert [200] * 3 == [world.sendgrid(events[start : start + 20]) for start in range(0, 60, 20)]
    world.drop(key(name), as_file(opens(f"{name}-file", 30)))
    for number in range(3):
        assert world.cart(f"{name}-{number}", f"c-{name}-{number}", LAMP, currency=UNCAPPED) == 200


def finished(world: World, name: str) -> bool:
    found = world.events_of(name)
    mailed = all(world.mails_to(f"{name}-{number}@example.com") for number in range(3))
    return mailed and len([e for e in found if e["platform"] in ("sendgrid", "braze")]) >= 90


def check(world: World, name: str) -> None:
    """Everything of `work` is recorded, published and mailed once."""
    found = world.events_of(name)
    said = Counter((event["platform"], event["type"]) for event in found if event["platform"] != "espial")
    assert said["segment", "profile_updated"] == said["segment", "cart_updated"] == 3
    assert said["braze", "opened"] == 30
    assert sum(number for (platform, _), number in said.items() if platform == "sendgrid") == 60
    assert [1, 1, 1] == [len(world.mails_to(f"{name}-{number}@example.com")) for number in range(3)]
    conflicts = [item["sk"]["S"] for item in world.items() if item["sk"]["S"].startswith("X#")]
    assert [] == [sk for sk in conflicts if any(event["event_id"] in sk for event in found)]
    ids = {event["event_id"] for event in found}
    world.until("all on the bus", lambda: ids <= set(world.published()))


def test_outage(world: World, dynamodb: FaultProxy):
    """While every call fails the receivers answer 200 and everything waits; afterwards it happens once."""
    introduce(world, "outage")
    with dynamodb.faults(lambda _: Fault.ERROR) as calls:
        work(world, "outage")
        world.until("each kind of work was tried", lambda: len(calls) >= 12)
        assert 3 == len(world.events_of("outage"))
        assert world.waiting("RawQueue") > 0
    world.until("all is made up for", lambda: finished(world, "outage"))
    check(world, "outage")


def test_reply_lost_after_the_write(world: World, dynamodb: FaultProxy):
    """A write that happened while its answer was lost is published, and once, though its repeat finds it done."""
    introduce(world, "unheard")
    seen = Counter[str]()

    def every_other_write(call: Call) -> Fault:
        seen[call.operation] += 1
        return Fault.REPLY_CUT if call.operation == "BatchExecuteStatement" and seen[call.operation] % 2 else Fault.NONE

    with dynamodb.faults(every_other_write) as calls:
        work(world, "unheard")
        world.until("all is done", lambda: finished(world, "unheard"))
    assert [fault for _, fault in calls].count(Fault.REPLY_CUT) >= 5
    check(world, "unheard")


def test_throttling(world: World, dynamodb: FaultProxy):
    """With every third call throttled nothing is lost, doubled or mailed twice."""
    seed = time.time_ns()
    chance = Random(seed)
    introduce(world, "throttled")
    with dynamodb.faults(lambda _: Fault.THROTTLE if chance.random() < 0.3 else Fault.NONE) as calls:
        work(world, "throttled")
        world.until(f"all is done (seed {seed})", lambda: finished(world, "throttled"))
    assert [fault for _, fault in calls].count(Fault.THROTTLE) >= 5
    check(world, "throttled")
