"""split_export on the local cloud: from S3's notices to chunks on the queue, by its handler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from espial.exports.files import Chunk
from espial.stores.quarantine import S3Quarantine
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.conftest import LoadApp

pytestmark = pytest.mark.cloud
SAMPLES = Path(__file__).parents[2] / "events/exports/braze"
EXPORTS = "acme-exports"


class Cloud:
    """Exports bucket, store, table and queue, with one Braze connection applied."""

    def __init__(self, cloud: Any) -> None:
        self.url = cloud.url
        self.table = events_table(cloud)
        self.s3 = a_bucket(cloud)
        self.s3.create_bucket(Bucket=EXPORTS, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        connection = {"name": "main", "platform": "braze", "account": "shop"}
        active = {"version": "1", "connections": {"main": connection}, "triggers": {}}
        self.s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self._sqs = cloud.client("sqs")
        self.queue = self._sqs.create_queue(QueueName="chunks")["QueueUrl"]
        self._dynamodb = cloud.client("dynamodb")

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "EVENTS_TABLE": "Events-table",
            "STORE_BUCKET": "store",
            "EXPORTS_BUCKET": EXPORTS,
            "CHUNK_QUEUE_URL": self.queue,
        }

    def drop(self, path: Path, connection: str = "main", folder: str = "") -> dict[str, Any]:
        """Put a sample into the bucket under its own name; returns the S3 event record."""
        key = f"exports/braze/{connection}/{folder}{path.relative_to(SAMPLES)}"
        content = path.read_bytes()
        etag = self.s3.put_object(Bucket=EXPORTS, Key=key, Body=content)["ETag"].strip('"')
        about = {"key": quote_plus(key), "size": len(content), "eTag": etag, "sequencer": "0065A6B2C3"}
        where = {"bucket": {"name": EXPORTS}, "object": about}
        return {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": where}

    def chunks(self) -> list[str]:
        """Every message on the queue, taken off it."""
        found = []
        while messages := self._sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                found.append(message["Body"])
        return found

    def events(self) -> list[dict[str, Any]]:
        items = self._dynamodb.scan(TableName="Events-table")["Items"]
        return [json.loads(item["body"]["S"]) for item in items if item["sk"]["S"].startswith("E#")]

    def quarantined(self) -> list[str]:
        return [entry.reason for entry in S3Quarantine(self.s3, "store").list()]


def queued(**bodies: str) -> dict[str, Any]:
    """An SQS batch of message id -> body."""
    return {"Records": [{"eventSource": "aws:sqs", "messageId": name, "body": body} for name, body in bodies.items()]}


@pytest.fixture
def world(cloud: Any) -> Cloud:
    return Cloud(cloud)


@pytest.fixture
def split(world: Cloud, load_app: LoadApp) -> Any:
    return load_app("split_export", **world.environment()).handler


def a_sample() -> Path:
    return next(path for path in sorted(SAMPLES.rglob("*.avro")) if "email.Open" in str(path))


@pytest.mark.parametrize("shape", range(3), ids=["queue's batch", "bare S3 event", "EventBridge event"])
def test_notices_of_every_shape_are_planned(world, split, shape):
    """They lead to the same chunk; a repeat of another shape sends none again."""
    record = world.drop(a_sample())
    about = record["s3"]["object"]
    key = f"exports/braze/main/{a_sample().relative_to(SAMPLES)}"
    bridge = {
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": EXPORTS}, "object": {"key": key, "size": about["size"], "etag": about["eTag"]}},
    }
    events = [queued(m1=json.dumps({"Records": [record]})), {"Records": [record]}, bridge]
    for event in (events[shape], events[shape - 1]):
        assert {"batchItemFailures": []} == split(event, CONTEXT)
    (chunk,) = world.chunks()
    assert key == Chunk.from_json(chunk).file.key


def test_what_is_no_file_costs_nothing(world, split):
    """The test message and a folder mark are acknowledged; nonsense is quarantined, not retried."""
    folder = {"s3": {"bucket": {"name": EXPORTS}, "object": {"key": "exports/braze/main/", "size": 0}}}
    test = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})
    batch = queued(m1=json.dumps({"Records": [folder]}), m2=test, m3="nonsense")
    assert {"batchItemFailures": []} == split(batch, CONTEXT)
    assert [] == world.chunks()
    assert ["bad_notice"] == world.quarantined()


def test_an_unknown_connection_is_quarantined(world, split):
    """Nobody's file is kept with its reason."""
    record = world.drop(a_sample(), connection="nobody")
    assert {"batchItemFailures": []} == split(queued(m1=json.dumps({"Records": [record]})), CONTEXT)
    assert ["unknown_connection"] == world.quarantined()


def test_a_message_that_cannot_be_dealt_with_now_fails_alone(world, split, load_app, cloud):
    """Its neighbours are acknowledged; the queue delivers it again."""
    record = world.drop(a_sample())
    environment = {**world.environment(), "CHUNK_QUEUE_URL": f"{cloud.url}/000000000000/nowhere"}
    app = load_app("split_export", **environment)
    test = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})
    answer = app.handler(queued(m1=json.dumps({"Records": [record]}), m2=test), CONTEXT)
    assert {"batchItemFailures": [{"itemIdentifier": "m1"}]} == answer
