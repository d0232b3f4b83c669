"""Recipients on the whole stack: from the file in the bucket to the platform, whatever happens on the way."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local.by_hand import ByHand
from tests.local.faults import Fault, FaultProxy, Rule
from tests.local.world import World, write
from tests.onboarding import DEFINITION, a_file, a_row
from tests.simulated import Simulator, simulator

ONCE_LEASED = 400
"""Seconds after which the right to an execution is over."""

SERIES: dict[str, int] = {}
"""Onboarding -> its number: no two of a system may have the same."""


@pytest.fixture(scope="module")
def braze(world: World) -> Iterator[Simulator]:
    """The platform, with the key that the stack has for it."""
    world.stack.cloud.client("secretsmanager").create_secret(Name="espial/braze-key", SecretString="k-1")
    with simulator("--key", "k-1") as running:
        yield running
    for path in (world.folder / "onboardings").glob("point*.yaml"):
        path.unlink()
    world.apply()


def onboardings(world: World, braze: Simulator, *names: str) -> None:
    """Put onboardings of these names in force."""
    (world.folder / "onboardings").mkdir(exist_ok=True)
    for name in names:
        mine = {"name": name, "endpoint": braze.url, "series": SERIES.setdefault(name, len(SERIES) + 1)}
        write(world.folder / f"onboardings/{name}.yaml", {**DEFINITION, **mine})
    world.apply()


def rows(prefix: str, count: int, **fields: str) -> list[dict[str, str]]:
    return [a_row(number, PID=f"{prefix}-{number}", **fields) for number in range(count)]


def state(world: World, *name: str, limit: int = 50) -> list[dict[str, Any]]:
    """What `espial onboarding list` says."""
    said = world.stack.espial("onboarding", "list", *name, "--limit", str(limit), "--json").stdout
    return [json.loads(line) for line in said.splitlines()]


def test_files_become_users_and_events_whatever_the_platform_does(world: World, braze: Simulator):
    """A request that is taken without an answer; the second file brings one changed city."""
    onboardings(world, braze, "spring")
    braze.order("faults", drop=1)
    people = rows("spring", 120)
    world.drop("onboarding/spring/monday.csv", a_file([*people, {**people[0], "City": "Lugo"}]))
    world.until("monday's file is done", lambda: [one["state"] for one in state(world, "spring")] == ["done"], 120)
    people[7]["City"] = "Cadiz"
    world.drop("onboarding/spring/tuesday.csv", a_file(people))
    world.until("tuesday's file is done", lambda: [one["state"] for one in state(world, "spring")] == ["done"] * 2, 120)
    tuesday, monday = state(world, "spring")
    assert (120, 0, 1) == tuple(monday[name] for name in ("sent", "unchanged", "refused"))
    assert (1, 119, 0) == tuple(tuesday[name] for name in ("sent", "unchanged", "refused"))
    users = braze.get("users")["users"]
    assert {1} == {len(users[one["PID"]]["rpi_contact_ids"]) for one in people if one is not people[7]}
    assert ("Cadiz", 2) == (users["spring-7"]["home_city"], len(users["spring-7"]["rpi_contact_ids"]))
    found = told(world.events(), "spring")
    assert 2 == found["onboarding_completed "]
    assert {1} == {found[f"recipient_onboarded -{number}"] for number in range(120) if number != 7}
    assert (2, 2) == (found["recipient_selected -7"], found["recipient_onboarded -7"])
    ids = {event["event_id"] for event in world.events() if event["connection"] == "spring"}
    world.until("all of them were on the bus", lambda: ids <= set(world.published()))


@pytest.mark.skipif(sys.platform != "linux", reason="finds a caller's process in /proc")
def test_killed_at_every_call_it_ends_as_if_it_had_not_been(world: World, braze: Simulator):
    """The built function, killed after each of its calls of AWS: each recipient once, each event once."""
    proxy = FaultProxy(world.stack.cloud.url)
    try:
        with (
            world.paused("OnboardRecipientsFunction"),
            ByHand(world, "OnboardRecipients", proxy.url) as worker,
        ):
            onboardings(world, braze, "undisturbed")
            with proxy.faults(lambda _: Fault.NONE) as calls:
                assert {"batchItemFailures": []} == worker.run(dropped(world, "undisturbed"))
            names = [f"point{number}" for number in range(len(calls))]
            onboardings(world, braze, *names)
            for number, name in enumerate(names):
                event = dropped(world, name)
                with proxy.faults(killing_after(number)):
                    assert worker.run(event) is None, f"{name} was not killed"
                assert {"batchItemFailures": []} == worker.run(event, ONCE_LEASED)
    finally:
        proxy.close()
    users = braze.get("users")["users"]
    events = world.events()
    expected = told(events, "undisturbed")
    assert 7 == len(expected)
    for name in names:
        assert expected == told(events, name), name
        assert [f"{SERIES[name]}000001"] * 3 == [
            ",".join(users[f"{name}-{n}"]["rpi_channel_exec_ids"]) for n in range(3)
        ], name
    states = {one["key"].split("/")[1]: one["state"] for one in state(world, limit=1000)}
    assert {"done"} == {states[name] for name in names}


def killing_after(number: int) -> Rule:
    """AWS does what the call asks for, and its caller never hears of it: as if it died before the next one."""
    return lambda call: Fault.KILL_AFTER if call.number == number else Fault.NONE


def dropped(world: World, name: str) -> dict[str, Any]:
    """A file of five rows, one of them twice and one unreadable; the queue's message that tells of it."""
    people = rows(name, 3)
    world.drop(f"onboarding/{name}/x.csv", a_file([*people, people[0], a_row(9, PID="")]))
    sqs, queue = world.stack.cloud.client("sqs"), world.resources["OnboardingQueue"]
    found: list[str] = []

    def told_of() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ()):
            if f"onboarding/{name}/" in message["Body"]:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                found.append(message["Body"])
        return bool(found)

    world.until(f"{name}'s file is told of", told_of)
    return {"Records": [{"messageId": name, "body": found[0]}]}


def told(events: list[dict[str, Any]], name: str) -> Counter[str]:
    """`<type> <number of the recipient>` -> how many events of the onboarding say so."""
    mine = (event for event in events if event["connection"] == name)
    return Counter(f"{one['type']} {one.get('person', {}).get('external_id', '').removeprefix(name)}" for one in mine)
