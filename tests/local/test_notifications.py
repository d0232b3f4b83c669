"""From a platform's webhook to another system's: the whole stack, with a receiver that fails before it is well."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from tests.local.world import World, sendgrid_events
from tests.simulated import sink

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENTS = 30


def test_events_are_posted_and_proven(world: World) -> None:
    """Posted to us twice, each arrives; what was refused comes again under its own id, and can be replayed."""
    world.stack.cloud.client("ssm").put_parameter(Name="/espial/posted", Value=SECRET, Type="SecureString")
    definition = json.loads((world.folder / "destinations/posted.yaml").read_text())
    port = urlsplit(definition["http"]["url"]).port
    assert port
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
