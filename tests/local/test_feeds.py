"""A feed's writer that is killed at any call: each event is in one file, and no child before its parent (goal 80)."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from espial.stores.feed_archive import S3FeedArchive
from espial.stores.feeds_table import FeedBookTable
from tests.local.by_hand import ByHand
from tests.local.faults import Call, Fault, FaultProxy, Rule
from tests.local.world import World
from tests.unit.test_write_feed import opened, send

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds a caller's process in /proc")

FEED, CONNECTION = "killed", "feeding"
LEASED = 1000
"""Seconds after which the right of a killed writer is over."""


def report(world: World, name: str) -> None:
    """A send and its open, the open first."""
    now = int(datetime.now(UTC).timestamp())
    about = {
        "dispatch_id": f"d-{name}",
        "email_address": f"{name}@example.com",
        "person": sum(name.encode()),
        "time": now,
    }
    for item in (opened(id=f"open-{name}", **about), send(id=f"send-{name}", **about)):
        body = json.dumps({"events": [item]}).encode()
        assert world.post(CONNECTION, "braze", body, now=datetime.now(UTC)) == 200
    world.until("both recorded", lambda: len(world.events_of(f"{name}@example.com")) == 2)


def nth(number: int, fault: Fault, said: list[str]) -> Rule:
    """The fault at the run's nth call, all of its reading of the stream but the first left out."""

    def rule(call: Call) -> Fault:
        if call.operation == "GetRecords" and "GetRecords" in said:
            return Fault.NONE
        said.append(call.operation)
        return fault if len(said) - 1 == number else Fault.NONE

    return rule


def rows(world: World) -> list[tuple[str, str, str]]:
    """Layout, the row's own id and its campaign event's, of every committed row in order."""
    dynamodb, s3 = world.stack.cloud.client("dynamodb"), world.stack.cloud.client("s3")
    book = FeedBookTable(dynamodb, world.stack.outputs["FeedsTable"])
    archive = S3FeedArchive(s3, world.stack.outputs["FeedsBucket"])
    found = []
    for batch in book.batches(FEED):
        for file in batch.files:
            content = archive.get(FEED, batch.token, file.name).decode()
            for row in csv.DictReader(io.StringIO(content, newline="")):
                own = row.get("client_response_event_id") or row["email_address"]
                found.append((file.layout, own, row["client_campaign_event_id"]))
    return found


def test_killed_at_every_call(world: World):
    """What the killed run had read is read again, and counts once; ids and files do not depend on it."""
    proxy = FaultProxy(world.stack.cloud.url)
    ahead = 0.0
    try:
        with ByHand(world, "WriteFeed", proxy.url) as writer:

            def run(rule: Callable[[Call], Fault]) -> dict[str, str] | None:
                nonlocal ahead
                ahead += LEASED
                with proxy.faults(rule):
                    answer: dict[str, str] | None = writer.run({"feed": FEED}, ahead)
                return answer

            report(world, "undisturbed")
            calls: list[str] = []
            assert run(nth(-1, Fault.NONE, calls)) == {FEED: "committed"}
            names = ["undisturbed"]
            for number in range(len(calls)):
                for fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER):
                    names.append(f"point{number}-{fault.name.lower().replace('_', '-')}")
                    report(world, names[-1])
                    assert run(nth(number, fault, [])) is None, f"{names[-1]} was not killed"
            while run(lambda _: Fault.NONE) != {FEED: "nothing"}:
                pass
    finally:
        proxy.close()
    found = rows(world)
    sends = [(own, parent) for layout, own, parent in found if layout == "campaign_event_nonrpi"]
    assert sorted(own for own, _ in sends) == sorted(f"{name}@example.com" for name in names)
    responses = [(own, parent) for layout, own, parent in found if layout == "response_event"]
    assert len({own for own, _ in responses}) == len(responses) == len(names)
    known: set[str] = set()
    for layout, _, parent in found:
        if layout == "campaign_event_nonrpi":
            known.add(parent)
        else:
            assert parent in known, "a child before its parent"
