"""Definitions and secrets change while traffic flows, and nothing is refused that should not be (goal 5, A-secrets)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from local.demo.world import SAMPLES
from tests.local.world import World, sendgrid_events, write


def deliver(world: World, token: str) -> int:
    """A Braze request with a token."""
    url = f"{world.stack.outputs['ApiUrl']}/in/braze/rotating"
    return world.http.post(url, content=b'{"events": []}', headers={"authorization": f"Bearer {token}"}).status_code


@contextmanager
def traffic(world: World, events: list[dict[str, Any]]) -> Iterator[list[int]]:
    """Meanwhile posts one event after the other, each once; gives the list of answers."""
    answers: list[int] = []
    over = threading.Event()

    def post() -> None:
        for event in events:
            answers.append(world.sendgrid([event]))
            if over.wait(0.2):
                return

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def test_rotation_while_traffic_flows(world: World):
    """Two references: both tokens pass, and the old one no longer once it is taken out; no other request notices."""
    secrets = world.stack.cloud.client("secretsmanager")
    old, new = world.secrets["rotating"]["signing"], "another-token-0123456789abcdef"
    assert (200, 401) == (deliver(world, old), deliver(world, new))
    secrets.create_secret(Name="espial/rotating-b", SecretString=new)
    both = ["secretsmanager:espial/rotating-a", "secretsmanager:espial/rotating-b"]
    with traffic(world, sendgrid_events("rotation", 1000)) as answers:
        write(world.folder / "connections/rotating.yaml", {"platform": "braze", "secrets": both})
        world.apply()
        world.until("the new token passes", lambda: deliver(world, new) == 200)
        assert 200 == deliver(world, old)
        write(world.folder / "connections/rotating.yaml", {"platform": "braze", "secrets": both[1:]})
        world.apply()
        world.until("the old token no longer passes", lambda: deliver(world, old) == 401)
        assert 200 == deliver(world, new)
    assert {200} == set(answers)
    world.until("all recorded", lambda: len(world.events_of("rotation@")) == len(answers))


def test_quarantined_for_an_unknown_connection(world: World):
    """What was accepted for a connection that is gone waits in quarantine, and is recorded once it is back."""
    name = "newcomer"
    path = world.folder / f"connections/{name}.yaml"
    definition = json.loads(path.read_text())
    sample = json.loads((SAMPLES / "sources/braze/email.body").read_text())["events"][0]
    event = {**sample, "id": "0b1c2d3e-0000-4000-8000-00000000e001"}
    with world.paused("RecordEventsFunction"):
        body = json.dumps({"events": [event]}).encode()
        assert 200 == world.post(name, "braze", body, now=datetime.now(UTC))
        path.unlink()
        world.apply()
        world.configure("RecordEventsFunction", STARTED="without")
    entries = lambda: [entry for entry in world.quarantined() if entry["connection"] == name]
    world.until("it is in quarantine", entries)
    assert ["unknown_connection"] == [entry["reason"] for entry in entries()]
    entry_id = entries()[0]["id"]
    assert json.loads(world.stack.espial("quarantine", "show", entry_id).stdout)["platform"] == "braze"
    write(path, definition)
    world.apply()
    world.configure("RecordEventsFunction", STARTED="with")
    world.stack.espial("quarantine", "replay", entry_id)
    world.until("it is recorded", lambda: [e for e in world.events() if e["connection"] == name])
    assert [] == entries()
