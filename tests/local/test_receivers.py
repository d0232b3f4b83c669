"""What only the deployed receivers show: bodies too big for a queue, a vendor's SDK, a browser's preflight."""

from __future__ import annotations

import gzip
import json
import random
from base64 import b64encode
from datetime import UTC, datetime

import pytest
import segment.analytics.client

from tests.local.world import World, sendgrid_events


def test_body_too_big_for_the_queue(world: World):
    """A body over 1 MiB even when compressed travels as a pointer into the store and is recorded whole."""
    noise = random.Random(1)
    events = [{**event, "note": b64encode(noise.randbytes(180_000)).decode()} for event in sendgrid_events("huge", 6)]
    assert 200 == world.sendgrid(events)
    world.until("recorded", lambda: len(world.events_of("huge@")) == len(events))
    s3, bucket = world.stack.cloud.client("s3"), world.stack.outputs["StoreBucket"]
    spilled = s3.list_objects_v2(Bucket=bucket, Prefix="spill/")["Contents"]
    assert 1 == len(spilled)
    assert spilled[0]["Size"] > 1_048_576 * 3 / 4
    assert {event["note"] for event in events} == {e["properties"]["note"] for e in world.events_of("huge@")}


def test_gzip_batch(world: World):
    """A compressed batch that calls itself JSON, as every SDK's does, is recorded call by call."""
    calls = [{"type": "track", "userId": "gzip-user", "event": f"Thing {n} Happened"} for n in range(3)]
    answer = world.http.post(
        f"{world.stack.outputs['TrackingUrl']}/v1/batch",
        content=gzip.compress(json.dumps({"batch": calls}).encode()),
        headers={"content-type": "application/json", "content-encoding": "gzip"},
        auth=(world.secrets["shop"]["signing"], ""),
    )
    assert (200, {"success": True}) == (answer.status_code, answer.json())
    world.becomes(
        ["Thing 0 Happened", "Thing 1 Happened", "Thing 2 Happened"],
        lambda: sorted(event["platform_type"] for event in world.events_of("gzip-user")),
    )


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_official_sdk(world: World, compressed: bool):
    """Calls that Segment's own Python library queues and sends in batches are recorded once each."""
    failures: list[object] = []
    user = f"sdk-{compressed}".lower()
    client = segment.analytics.client.Client(
        world.secrets["shop"]["signing"],
        host=world.stack.outputs["TrackingUrl"],
        gzip=compressed,
        on_error=lambda error, _: failures.append(error),
    )
    client.identify(user, {"email": f"{user}@example.com"}, timestamp=datetime.now(UTC))
    for number in range(3):
        client.track(user, f"Thing {number} Happened", {"number": number}, timestamp=datetime.now(UTC))
    client.page(user, name="Basket", timestamp=datetime.now(UTC))
    client.flush()
    client.join()
    assert [] == failures
    world.until("recorded", lambda: len(world.events_of(user)) == 5)
    kinds = sorted(event["type"] for event in world.events_of(user))
    assert ["custom", "custom", "custom", "page_viewed", "profile_updated"] == kinds


def test_preflight(world: World):
    """A page of the shop may call the tracking API with its write key: the preflight says so."""
    asked = {
        "origin": "https://shop.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = world.http.options(f"{world.stack.outputs['TrackingUrl']}/v1/track", headers=asked)
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] in ("*", asked["origin"])
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed
