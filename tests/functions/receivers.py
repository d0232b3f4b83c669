"""The receiving functions as Lambda would run them, against the local cloud."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from espial import wiring
from espial.deliveries import RawDelivery
from espial.envelope import unpack
from espial.logs import logger
from local.cloud import Cloud

FUNCTIONS = Path(__file__).parents[2] / "functions"
BUCKET = "espial-store"


class Context:
    """What Powertools reads of Lambda's context."""

    function_name = "receive"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:receive"
    aws_request_id = "00000000-0000-4000-8000-000000000000"


class Receiver(NamedTuple):
    """A loaded function: call `post`, look at the queue and at what it logged and counted."""

    app: ModuleType
    cloud: Cloud
    queue_url: str
    log: io.StringIO
    capture: pytest.CaptureFixture[str]

    def post(self, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.app.handler(event, Context())
        return answer

    def queued(self) -> list[RawDelivery]:
        """Everything on RawQueue, unpacked."""
        sqs, s3 = self.cloud.client("sqs"), self.cloud.client("s3")

        def fetch(key: str) -> bytes:
            body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            return body

        found = []
        while messages := sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
                found.append(unpack(message["Body"], attributes, fetch))
                sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def lines(self) -> list[dict[str, Any]]:
        """The log, parsed."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def counted(self) -> list[dict[str, Any]]:
        """The metrics published since the last look."""
        lines = [json.loads(line) for line in self.capture.readouterr().out.splitlines() if line.startswith("{")]
        return [line for line in lines if "_aws" in line]


def publish(cloud: Cloud, connections: Mapping[str, Mapping[str, Any]]) -> None:
    """What `espial apply` leaves in the bucket."""
    document = {"version": "1", "connections": {name: {"name": name, **c} for name, c in connections.items()}}
    cloud.client("s3").put_object(Bucket=BUCKET, Key="definitions/active.json", Body=json.dumps(document).encode())


@pytest.fixture
def receiver(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Loads a function by name, with a queue and a bucket of its own."""
    cloud.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.client("s3").meta.region_name}
    )
    queue_url = cloud.client("sqs").create_queue(QueueName="raw")["QueueUrl"]
    environment = {
        "AWS_ENDPOINT_URL": cloud.url,
        "RAW_QUEUE_URL": queue_url,
        "STORE_BUCKET": BUCKET,
        "PUBLIC_URL": "https://hooks.example.com",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    log = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", log)
    forget()

    def load(name: str) -> Receiver:
        spec = importlib.util.spec_from_file_location(f"{name}_app", FUNCTIONS / name / "app.py")
        assert spec
        assert spec.loader
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
        return Receiver(app, cloud, queue_url, log, capsys)

    yield load
    for service in ("s3", "sqs", "secretsmanager", "ssm"):
        wiring.aws(service).close()
    forget()


def forget() -> None:
    """A new process has nothing cached."""
    for made in vars(wiring).values():
        clear: Callable[[], None] | None = getattr(made, "cache_clear", None)
        if clear:
            clear()
