"""From a platform's webhook to another system's: the whole stack, with a receiver that fails before it is well."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from tests.local.world import World, sendgrid_events
from tests.simulated import sink

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENTS = 30


def prepared(world: World, destination: str) -> int:
    """The secret is there; the port on which the destination's receiver is expected."""
    world.stack.cloud.client("ssm").put_parameter(
        Name="/espial/posted", Value=SECRET, Type="SecureString", Overwrite=True
    )
    definition = json.loads((world.folder / f"destinations/{destination}.yaml").read_text())
    port = urlsplit(str(definition["http"]["url"])).port
    assert port
    return port


def test_events_are_posted_and_proven(world: World) -> None:
    """Posted to us twice, each arrives; what was refused comes again under its own id, and can be replayed."""
    port = prepared(world, "posted")
    opened = [{**one, "event": "open"} for one in sendgrid_events("posted", EVENTS)]
    with sink("--secret", SECRET, "--script", "500,reset,200", port=port) as receiver:
        for _ in range(2):
            assert 200 == world.sendgrid(opened, "posted")

        def arrived() -> set[str]:
            requests = receiver.get("requests")["requests"]
            return {one["webhook-id"] for one in requests if one["status"] == 200}

        world.until("all have arrived", lambda: len(arrived()) == EVENTS)
        requests = receiver.get("requests")["requests"]
        assert len(requests) == EVENTS + 2
        assert [500, 0] == [one["status"] for one in requests][:2]
        first = min(arrived())
        said = world.stack.espial("replay", "posted", "--id", first).stdout
        assert "1 notifications wait for posted again" in said
        world.until("it has come again", lambda: len(receiver.get("requests")["requests"]) == EVENTS + 3)
        again = receiver.get("requests")["requests"][-1]
        assert (first, "1") == (again["webhook-id"], again["espial-replay"])
    listed = world.stack.espial("destinations", "list", "--json").stdout
    [posted] = [one for line in listed.splitlines() if (one := json.loads(line))["destination"] == "posted"]
    assert (0, "open") == (posted["waiting"], posted["state"])


def test_a_receiver_that_hangs_holds_up_no_other(world: World) -> None:
    """While it keeps us waiting, the other one is told of everything."""
    first, *others = sendgrid_events("hung", EVENTS)
    with (
        sink("--script", "hang", port=prepared(world, "hung")) as hanging,
        sink("--secret", SECRET, port=prepared(world, "posted")) as receiver,
    ):
        assert 200 == world.sendgrid([{**first, "event": "click", "url": "https://www.example.com/"}], "posted")
        world.until("somebody waits for the one", lambda: hanging.get("requests")["requests"])
        assert 200 == world.sendgrid([{**one, "event": "open"} for one in others], "posted")

        def arrived() -> set[str]:
            return {one["webhook-id"] for one in receiver.get("requests")["requests"]}

        world.until("the other has them all", lambda: len(arrived()) >= len(others))
        world.stack.espial("destinations", "off", "hung")
