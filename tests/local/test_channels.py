"""One event over two channels, and notices that are repeated, late, wrong or lost (goals 9 and 18)."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import fastavro

from local.demo.world import SAMPLES
from tests.local.by_hand import ByHand
from tests.local.world import World

OPENS = next((SAMPLES / "exports/braze/currents").rglob("event_type=users.messages.email.Open/**/*.avro"))
KIND = "users.messages.email.Open"


def opens(name: str, count: int) -> list[dict[str, Any]]:
    """Opens of `<n>.<name>@example.com`, as rows of a Currents file."""
    with OPENS.open("rb") as file:
        sample = next(iter(fastavro.reader(file)))
    return [
        {
            **sample,  # type: ignore[dict-item]
            "id": str(UUID(int=random.Random(f"{name}{number}").getrandbits(128))),
            "external_user_id": f"{name}-{number}",
            "email_address": f"{number}.{name}@example.com",
        }
        for number in range(count)
    ]


def as_posted(row: dict[str, Any]) -> dict[str, Any]:
    """The same event as the HTTP connector nests it."""
    present = {field: value for field, value in row.items() if value is not None}
    top = {field: present.pop(field) for field in ("id", "time")}
    user = {field: present.pop(field) for field in ("user_id", "external_user_id", "timezone") if field in present}
    return {"event_type": KIND, **top, "user": user, "properties": present}


def as_file(rows: list[dict[str, Any]]) -> bytes:
    """The rows as a Currents file, several blocks of it."""
    with OPENS.open("rb") as file:
        schema = fastavro.reader(file).writer_schema
    out = io.BytesIO()
    fastavro.writer(out, schema, rows, codec="deflate", sync_interval=2000)
    return out.getvalue()


def key(name: str) -> str:
    return f"exports/braze/braze-main/currents/event_type={KIND}/date=2026-01-15-09/{name}.avro"


def test_webhook_and_export(world: World):
    """The same events by HTTP and in a file, in any interleaving, are recorded once each with both as lineage."""
    seed = time.time_ns()
    chance = random.Random(seed)
    rows = opens("both", 40)
    cuts = sorted({0, 40, *(chance.randrange(40) for _ in range(5))})

    def post(part: list[dict[str, Any]]) -> int:
        body = json.dumps({"events": [as_posted(row) for row in part]}).encode()
        return world.post("braze-main", "braze", body, now=datetime.now(UTC))

    jobs: list[Callable[[], Any]] = [partial(post, rows[start:end]) for start, end in pairwise(cuts)]
    jobs += [lambda: world.drop(key("both"), as_file(rows))] * 2
    chance.shuffle(jobs)
    with ThreadPoolExecutor(3) as pool:
        assert {200, None} == set(pool.map(lambda job: job(), jobs))

    def with_both() -> int:
        return [event["via"] for event in world.events_of("both@")].count(["export", "webhook"])

    world.until(f"both channels in the lineage of each (seed {seed})", lambda: with_both() == len(rows))
    assert sorted(row["email_address"] for row in rows) == sorted(
        e["person"]["email"] for e in world.events_of("both@")
    )


def test_notices_repeated_out_of_order_and_of_folders(world: World):
    """Notices that come again, in the wrong order, of a folder's mark or of nothing change nothing."""
    rows = opens("notices", 10)
    world.drop(key("notices").rpartition("/")[0] + "/", b"")
    world.drop(key("notices"), as_file(rows))
    world.until("recorded", lambda: len(world.events_of("notices@")) == len(rows))
    bucket = world.stack.outputs["ExportsBucket"]
    found = world.stack.cloud.client("s3").head_object(Bucket=bucket, Key=key("notices"))
    about = {"key": key("notices"), "size": found["ContentLength"], "eTag": found["ETag"].strip('"')}
    objects = [
        {**about, "sequencer": "00FF"},
        {**about, "sequencer": "0001"},
        {**about, "key": key("never-there"), "sequencer": "0002"},
        {"key": "exports/braze/braze-main/currents/", "size": 0, "sequencer": "0003"},
    ]
    for one in objects:
        record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": one}}
        world.stack.cloud.client("sqs").send_message(
            QueueUrl=world.resources["NoticeQueue"], MessageBody=json.dumps({"Records": [record]})
        )
    world.until("all notices are dealt with", lambda: world.waiting("NoticeQueue") + world.waiting("ChunkQueue") == 0)
    assert len(rows) == len(world.events_of("notices@"))
    assert ["export"] == sorted({via for event in world.events_of("notices@") for via in event["via"]})
    assert [] == [entry for entry in world.quarantined() if "notices" in json.dumps(entry)]


def test_lost_notice(world: World):
    """A file whose notice never came is found by the sweep, once it is old enough to be looked after."""
    s3, bucket = world.stack.cloud.client("s3"), world.stack.outputs["ExportsBucket"]
    configured = s3.get_bucket_notification_configuration(Bucket=bucket)
    configured.pop("ResponseMetadata")
    rows = opens("lost", 10)
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        world.drop(key("lost"), as_file(rows))
    finally:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configured)
    answer = world.stack.cloud.client("lambda").invoke(
        FunctionName=world.resources["SweepExportsFunction"], Payload=b"{}"
    )
    swept = json.load(answer["Payload"])
    assert (True, {}) == (swept["complete"], swept["outcomes"]), "a fresh file's notice may still come"
    assert [] == world.events_of("lost@")
    with ByHand(world, "SweepExports") as sweep:
        later = sweep.run({}, ahead=3600)
    assert 1 == later["outcomes"]["queued"]
    world.until("recorded", lambda: len(world.events_of("lost@")) == len(rows))
