"""Recipients on the whole stack: from the file in the bucket to the platform, whatever happens on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local.by_hand import ByHand
from tests.local.faults import Fault, FaultProxy
from tests.local.world import World, write
from tests.onboarding import DEFINITION, a_file, a_row
from tests.simulated import Simulator, simulator

ONCE_LEASED = 400
"""Seconds after which the right to an execution is over."""


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
        write(world.folder / f"onboardings/{name}.yaml", {**DEFINITION, "name": name, "endpoint": braze.url})
    world.apply()


def rows(prefix: str, count: int, **fields: str) -> list[dict[str, str]]:
    return [a_row(number, PID=f"{prefix}-{number}", **fields) for number in range(count)]


def outcomes(world: World, name: str) -> dict[tuple[str, str], int]:
    """(type, external id) -> how many events of the onboarding say so."""
    found: dict[tuple[str, str], int] = {}
    for event in world.events():
        if event["connection"] == name:
            key = event["type"], event["person"].get("external_id", "") if "person" in event else ""
            found[key] = found.get(key, 0) + 1
    return found


def state(world: World, name: str) -> list[dict[str, Any]]:
    said = world.stack.espial("onboarding", "list", name, "--json").stdout
    return [json.loads(line) for line in said.splitlines()]


def test_files_become_users_and_events_whatever_the_platform_does(world: World, braze: Simulator):
    """Throttled, and left without an answer; the second file brings one changed city."""
    onboardings(world, braze, "spring")
    braze.order("faults", throttle=1, drop=1)
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
    found = outcomes(world, "spring")
    assert 2 == found["onboarding_completed", ""]
    assert {1} == {found["recipient_onboarded", one["PID"]] for one in people if one is not people[7]}
    assert (2, 2) == (found["recipient_selected", "spring-7"], found["recipient_onboarded", "spring-7"])
    ids = {event["event_id"] for event in world.events() if event["connection"] == "spring"}
    world.until("all of them were on the bus", lambda: ids <= set(world.published()))


@pytest.mark.skipif(sys.platform != "linux", reason="finds a caller's process in /proc")
def test_killed_at_every_call_it_ends_as_if_it_had_not_been(world: World, braze: Simulator):
    """The built function, killed before and after each of its calls of AWS: each recipient once, each event once."""
    proxy = FaultProxy(world.stack.cloud.url)
    try:
        with (
            world.paused("OnboardRecipientsFunction"),
            ByHand(world, "OnboardRecipients", proxy.url) as worker,
        ):
            onboardings(world, braze, "undisturbed")
            with proxy.faults(lambda _: Fault.NONE) as calls:
                assert {"batchItemFailures": []} == worker.run(dropped(world, "undisturbed"))
            points = [(n, fault) for n in range(len(calls)) for fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER)]
            names = {f"point{n}-{fault.name.lower().replace('_', '-')}": (n, fault) for n, fault in points}
            onboardings(world, braze, *names)
            for name, (n, fault) in names.items():
                event = dropped(world, name)
                with proxy.faults(lambda call, n=n, fault=fault: fault if call.number == n else Fault.NONE):  # type: ignore[misc]
                    assert worker.run(event) is None, f"{name} was not killed"
                assert {"batchItemFailures": []} == worker.run(event, ONCE_LEASED)
    finally:
        proxy.close()
    users = braze.get("users")["users"]
    expected = {name.replace("undisturbed", ""): count for name, count in told(world, "undisturbed").items()}
    assert 7 == len(expected)
    for name in names:
        assert expected == {one.replace(name, ""): count for one, count in told(world, name).items()}, name
        assert ["1"] * 3 == [",".join(users[f"{name}-{n}"]["rpi_channel_exec_ids"]) for n in range(3)], name
        assert ["done"] == [one["state"] for one in state(world, name)]


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


def told(world: World, name: str) -> dict[str, int]:
    """`<type> <external id>` -> events."""
    return {f"{kind} {person}": count for (kind, person), count in outcomes(world, name).items()}
