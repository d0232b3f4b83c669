"""pull_events on the local cloud: a stream over real HTTP into the queue, its offset in the table, by its handler."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from espial.envelope import unpack
from espial.errors import EspialError
from espial.services import pull_events
from espial.stores import airship_stream
from espial.stores.stream_positions import StreamPositions
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.conftest import LoadApp
from tests.streaming import Script, Server, Wire, streaming

pytestmark = pytest.mark.cloud
SECONDS = 2.0


def event(number: int) -> bytes:
    return json.dumps({"id": f"e-{number}", "type": "CLOSE", "offset": str(number)}).encode() + b"\n"


class Cloud:
    """Store, table, queue and secret, with one Airship connection applied."""

    def __init__(self, cloud: Any) -> None:
        self.url = cloud.url
        events_table(cloud)
        self.dynamodb = cloud.client("dynamodb")
        s3 = a_bucket(cloud)
        settings = {"pull": True, "app_key": "app-1", "region": "us"}
        connection = {
            "name": "shop",
            "platform": "airship",
            "secrets": ["secretsmanager:espial/shop"],
            "settings": settings,
        }
        active = {"version": "1", "connections": {"shop": connection}, "triggers": {}}
        s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        cloud.client("secretsmanager").create_secret(Name="espial/shop", SecretString="token-1")
        self.sqs = cloud.client("sqs")
        self.queue = self.sqs.create_queue(QueueName="raw")["QueueUrl"]

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "EVENTS_TABLE": "Events-table",
            "STORE_BUCKET": "store",
            "RAW_QUEUE_URL": self.queue,
        }

    def read(self) -> list[str]:
        """The ids of the events on the queue, taken off it."""
        found = []
        while messages := self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
                body = unpack(message["Body"], attributes, lambda _key: b"").body
                found += [json.loads(line)["id"] for line in body.splitlines()]
        return sorted(found)

    def position(self) -> dict[str, Any]:
        key = {"pk": {"S": "S#airship/shop"}, "sk": {"S": "POSITION"}}
        item: dict[str, Any] = self.dynamodb.get_item(TableName="Events-table", Key=key, ConsistentRead=True)["Item"]
        return item


@pytest.fixture
def world(cloud: Any) -> Cloud:
    return Cloud(cloud)


@pytest.fixture
def invoke(world: Cloud, load_app: LoadApp, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(server) -> what the handler answers, given two seconds more than it keeps back."""

    def invoked(server: Server) -> Any:
        app = load_app("pull_events", **world.environment())
        monkeypatch.setattr(airship_stream.AirshipStream.__init__, "__defaults__", (server.connect,))
        end = time.monotonic() * 1000 + SECONDS * 1000 + pull_events.MARGIN_MS
        left = {"get_remaining_time_in_millis": lambda: end - time.monotonic() * 1000}
        return app.handler({}, SimpleNamespace(**{**vars(CONTEXT), **left}))

    return invoked


def telling(*numbers: int) -> Script:
    return lambda wire: wire.head().chunk(b"".join(map(event, numbers)), b"\n").wait(SECONDS)


def test_a_stream_is_read_into_the_queue_and_read_on_where_it_was_left(world: Cloud, invoke: Any) -> None:
    """Over two invocations, each with the token from the secret."""
    with streaming(telling(1, 2, 3)) as server:
        assert {"shop": "read"} == invoke(server)
        assert {"S": "3"} == world.position()["read_to"]
        assert ["e-1", "e-2", "e-3"] == world.read()
        server.scripts = [telling(4)]
        assert {"shop": "read"} == invoke(server)
    assert ["e-4"] == world.read()
    assert {"start": "EARLIEST", "enable_offset_updates": True} == server.asked[0].body
    assert "3" == server.asked[-1].body["resume_offset"]
    assert {"Bearer token-1"} == {asked.headers["authorization"] for asked in server.asked}


def test_cut_in_the_middle_of_a_line_and_redirected_nothing_is_missing(world: Cloud, invoke: Any) -> None:
    """The rest comes over the next connection, from the offset of the last whole line."""

    def cut(wire: Wire) -> None:
        wire.head().chunk(event(1) + event(2) + event(3)[:10])

    with streaming(lambda wire: wire.head(307, Set_Cookie="route=1"), cut, telling(3, 4)) as server:
        assert {"shop": "read"} == invoke(server)
    assert ["e-1", "e-2", "e-3", "e-4"] == world.read()
    assert ["EARLIEST", "EARLIEST", None] == [asked.body.get("start") for asked in server.asked[:3]]
    assert "2" == server.asked[2].body["resume_offset"]


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_killed_between_queue_and_table_it_is_read_again(
    world: Cloud, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No offset is kept for what the process did not live to keep; the right to read is given back or runs out."""

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> bool:
        raise Killed

    with streaming(telling(1, 2)) as server:
        with monkeypatch.context() as patched:
            patched.setattr(StreamPositions, "keep", killed)
            with pytest.raises(Killed):
                invoke(server)
        assert "read_to" not in world.position()
        assert {"shop": "read"} == invoke(server)
    assert ["e-1", "e-1", "e-2", "e-2"] == world.read()


def test_two_invocations_at_once_read_once(world: Cloud, invoke: Any) -> None:
    """The second finds the stream taken, and is done."""
    held = {"pk": {"S": "S#airship/shop"}, "sk": {"S": "POSITION"}, "holder": {"S": "x"}, "held_until": {"N": "9" * 13}}
    world.dynamodb.put_item(TableName="Events-table", Item=held)
    with streaming(telling(1)) as server:
        assert {"shop": "busy"} == invoke(server)
        assert [] == server.asked
    assert [] == world.read()


def test_a_token_that_is_refused_fails_the_invocation(world: Cloud, invoke: Any) -> None:
    """So that the alarm says it; the stream is free again."""
    with streaming(lambda wire: wire.head(401)) as server, pytest.raises(EspialError, match="shop"):
        invoke(server)
    assert {"N": "0"} == world.position()["held_until"]


def test_a_throttled_stream_is_left_for_the_next_invocation(world: Cloud, invoke: Any) -> None:
    """No failure, and no waiting for a time-out."""
    with streaming(lambda wire: wire.head(429, Retry_After="60")) as server:
        began = time.monotonic()
        assert {"shop": "try_again"} == invoke(server)
        assert time.monotonic() - began < SECONDS
    assert {"N": "0"} == world.position()["held_until"]
