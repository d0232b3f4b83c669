"""A function that is killed at any moment loses nothing, doubles nothing and mutes nobody (goals 20, 21, 39, 40)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.local.by_hand import ByHand
from tests.local.faults import Call, Fault, FaultProxy, Rule
from tests.local.test_channels import as_file, key, opens
from tests.local.world import LAMP, MUG, UNCAPPED, World, sendgrid_events

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds a caller's process in /proc")

KILLS = 3
ONCE_LEASED = 200
"""Seconds after which a claim's lease of two minutes is over."""
ONCE_SETTLED = 1300
"""Seconds after which an unknown outcome is settled without evidence."""


def killing_writers(chance: Random) -> Rule:
    """Kill whoever writes events, three times, some calls apart, each time just before or just after a write."""
    victims = {number: chance.choice((Fault.KILL_BEFORE, Fault.KILL_AFTER)) for number in (1, 4, 6)}
    writes = -1

    def rule(call: Call) -> Fault:
        nonlocal writes
        if call.operation != "BatchExecuteStatement":
            return Fault.NONE
        writes += 1
        return victims.get(writes, Fault.NONE)

    return rule


def kills(calls: list[tuple[str, Fault]]) -> int:
    return sum(fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER) for _, fault in calls)


def killed_amid(world: World, dynamodb: FaultProxy, queue: str, give: Callable[[], Any], name: str) -> list[str]:
    """Addresses of the events recorded of `name`, their writer killed three times amid what `give` gives it."""
    seed = time.time_ns()
    print(f"seed {seed}")  # shown when the test fails
    with dynamodb.faults(killing_writers(Random(seed))) as calls:
        give()
        world.until("killed three times", lambda: kills(calls) == KILLS)
        world.until("all worked off", lambda: world.waiting(queue) == 0)
    recorded = world.events_of(f"{name}@")
    ids = {event["event_id"] for event in recorded}
    world.until("all on the bus", lambda: ids <= set(world.published()))
    return sorted(event["person"]["email"] for event in recorded)


def test_recording_function_killed(world: World, dynamodb: FaultProxy):
    """The deployed function, killed three times amid webhooks, still records and publishes each event once."""
    events = sendgrid_events("killed", 240)

    def post() -> None:
        for start in range(0, len(events), 80):
            assert world.sendgrid(events[start : start + 80]) == 200

    assert sorted(e["email"] for e in events) == killed_amid(world, dynamodb, "RawQueue", post, "killed")


def test_export_function_killed(world: World, dynamodb: FaultProxy):
    """The deployed function, killed three times amid a file, still records and publishes each row once."""
    rows = opens("cut", 240)
    found = killed_amid(world, dynamodb, "ChunkQueue", lambda: world.drop(key("cut"), as_file(rows)), "cut")
    assert sorted(r["email_address"] for r in rows) == found


def due(world: World, persons: list[str]) -> dict[str, dict[str, Any]]:
    """Person -> the message that asks for their mail, taken off the SendQueue."""
    sqs, found = world.stack.cloud.client("sqs"), {}

    def all_there() -> bool:
        got = sqs.receive_message(QueueUrl=world.resources["SendQueue"], MaxNumberOfMessages=10)
        for message in got.get("Messages", ()):
            person = json.loads(message["Body"])["person"].removeprefix("id:")
            if person in persons:
                found[person] = {"messageId": person, "body": message["Body"]}
                sqs.delete_message(QueueUrl=world.resources["SendQueue"], ReceiptHandle=message["ReceiptHandle"])
        return len(found) == len(persons)

    world.until("every mail is due", all_there)
    return found


def shop(world: World, persons: list[str], cart: str, product: dict[str, Any]) -> None:
    for person in persons:
        assert world.cart(person, f"{cart}-{person}", product, currency=UNCAPPED) == 200


def test_sending_function_killed_at_every_call(world: World):
    """Killed around any call, the sender mails once or, if nobody can know, never; it mails for later carts."""
    proxy = FaultProxy(world.stack.cloud.url)
    try:
        with world.paused("SendMessageFunction"), ByHand(world, "SendMessage", proxy.url) as sender:
            steps = calls_of_one_mail(world, proxy, sender)
            points = [(n, fault) for n in range(len(steps)) for fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER)]
            persons = [f"point{n}-{fault.name.lower()}" for n, fault in points]
            for person in persons:
                world.shopper(person)
            shop(world, persons, "c", LAMP)
            messages = due(world, persons)
            for person, (n, fault) in zip(persons, points, strict=True):
                with proxy.faults(lambda call, n=n, fault=fault: fault if call.number == n else Fault.NONE):  # type: ignore[misc]
                    assert sender.run({"Records": [messages[person]]}) is None, f"{person} was not killed"
            again = {"Records": list(messages.values())}
            for ahead in (0, ONCE_LEASED, ONCE_SETTLED):
                assert {"batchItemFailures": []} == sender.run(again, ahead)
        expected = {person: mails_of(point, steps) for person, point in zip(persons, points, strict=True)}
        assert expected == {person: len(world.mails_to(f"{person}@example.com")) for person in persons}
        shop(world, persons, "later", MUG)
        world.until(
            "a mail for everybody's later cart",
            lambda: expected == {p: len(world.mails_to(f"{p}@example.com")) - 1 for p in persons},
        )
    finally:
        proxy.close()


def calls_of_one_mail(world: World, proxy: FaultProxy, sender: ByHand) -> list[str]:
    """The calls that one undisturbed mail takes, in order."""
    world.shopper("undisturbed")
    shop(world, ["undisturbed"], "c", LAMP)
    message = due(world, ["undisturbed"])["undisturbed"]
    with proxy.faults(lambda _: Fault.NONE) as calls:
        assert {"batchItemFailures": []} == sender.run({"Records": [message]})
    assert len(world.mails_to("undisturbed@example.com")) == 1
    return [operation for operation, _ in calls]


def mails_of(point: tuple[int, Fault], steps: list[str]) -> int:
    """Mails expected: none if it was killed after it said that it would call SES and before SES heard of it."""
    number, fault = point
    sends = steps.index("POST /v2/email/outbound-emails")
    says = [n for n, step in enumerate(steps[:sends]) if step == "UpdateItem"][-1]
    happened = number + (fault is Fault.KILL_AFTER)
    return 0 if says < happened <= sends else 1
