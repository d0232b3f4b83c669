"""One deployed stack for every test of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from local import cloud as local_cloud
from local import stack as local_stack
from tests.local import world as worlds
from tests.local.faults import FaultProxy
from tests.local.world import World

REDELIVERED_AFTER = {"RawQueue": 3, "ChunkQueue": 3, "NoticeQueue": 3, "TriggerQueue": 3, "SendQueue": 5}
"""Seconds instead of the template's minutes."""

ON_DYNAMODB = ("RecordEvents", "SplitExport", "RecordExport", "RunTriggers", "SendMessage")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(local_cloud.ROOT / "tests/local"):
            item.add_marker("cloud")


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The built template, deployed, with definitions applied that do not wait long."""
    missing = [path for path in (local_cloud.PYTHON, local_stack.SAM, local_stack.BUILD) if not path.exists()]
    if missing:
        message = (
            f"nothing to deploy, `make setup build` makes it: {missing[0].relative_to(local_cloud.ROOT)} is missing"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("stack")
    with local_cloud.running(folder) as cloud:
        # A wait of up to two seconds is a queue's delay, a longer one a schedule, as on AWS a minute decides.
        stack = local_stack.deploy(cloud, folder / "stack.json", ShortWaitSeconds="2", PublishEverything="true")
        definitions = worlds.definitions(folder)
        local_stack.prepare(stack, definitions, worlds.STAGE)
        with httpx.Client(timeout=30, limits=httpx.Limits(max_connections=20)) as http:
            world = World.of(stack, definitions, http)
            _hurry(world)
            yield world


def _hurry(world: World) -> None:
    """What fails comes again within seconds; it goes to the dead-letter queue as late as the minutes would make it."""
    sqs = world.stack.cloud.client("sqs")
    for queue, seconds in REDELIVERED_AFTER.items():
        dead = sqs.get_queue_attributes(
            QueueUrl=world.resources[queue.replace("Queue", "DeadLetterQueue")], AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        redrive = f'{{"deadLetterTargetArn": "{dead}", "maxReceiveCount": 1000}}'
        attributes = {"VisibilityTimeout": str(seconds), "RedrivePolicy": redrive}
        sqs.set_queue_attributes(QueueUrl=world.resources[queue], Attributes=attributes)


@pytest.fixture(scope="package")
def dynamodb(world: World) -> Iterator[FaultProxy]:
    """Every function reaches DynamoDB through this proxy from now on."""
    proxy = FaultProxy(world.stack.cloud.url)
    for function in ON_DYNAMODB:
        world.configure(f"{function}Function", AWS_ENDPOINT_URL_DYNAMODB=proxy.url)
    yield proxy
    proxy.close()
