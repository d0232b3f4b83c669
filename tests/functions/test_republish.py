"""`espial republish` on the local cloud: from the dead-letter queue, the stream and the table back to the bus."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from espial import events
from espial.cli import stores
from espial.cli.app import app
from espial.vocabulary import EventType
from tests.builders import NOON, a_record
from tests.contract.test_ports import a_bucket, events_table
from tests.fakes import FakeBus

pytestmark = pytest.mark.cloud
LOST = ("lost-1", "lost-2")


class Stack:
    """A table with its stream, a bus with one rule to a queue, the dead-letter queue, and the command."""

    def __init__(self, cloud: Any) -> None:
        self.table = events_table(cloud)
        self.sqs, bridge = cloud.client("sqs"), cloud.client("events")
        self.dead, self.routed = (self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "routed"))
        arn = self.sqs.get_queue_attributes(QueueUrl=self.routed, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        bridge.create_event_bus(Name="bus")
        bridge.put_rule(Name="all", EventBusName="bus", EventPattern=json.dumps({"source": ["espial"]}))
        bridge.put_targets(Rule="all", EventBusName="bus", Targets=[{"Id": "queue", "Arn": arn}])
        active = {"triggers": {"cart": {"on": ["cart_updated"], "exit_on": []}}}
        a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self._streams = cloud.client("dynamodbstreams")
        self._stream = cloud.client("dynamodb").describe_table(TableName="Events-table")["Table"]["LatestStreamArn"]
        self.outputs = {
            "EventsTable": "Events-table",
            "StoreBucket": "store",
            "EventBus": "bus",
            "StreamDeadLetterQueueUrl": self.dead,
            "Endpoint": cloud.url,
        }

    def record(self, identity: str, **fields: Any) -> str:
        """A recorded cart, by its event id."""
        record = a_record(identity, **{"type": EventType.CART_UPDATED, "platform": "segment", **fields})
        self.table.add([record], transport="tracking", expires_days=60)
        return record.event.event_id

    def give_up(self, first: str, last: str, *, forgotten: bool = False) -> None:
        """What Lambda tells the queue of the records from one event's to another's."""
        (shard,) = self._streams.describe_stream(StreamArn=self._stream)["StreamDescription"]["Shards"]
        iterator = self._streams.get_shard_iterator(
            StreamArn=self._stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        places = {
            record["dynamodb"]["Keys"]["sk"]["S"][2:]: record["dynamodb"]["SequenceNumber"]
            for record in self._streams.get_records(ShardIterator=iterator)["Records"]
        }
        info = {
            "shardId": shard["ShardId"],
            "startSequenceNumber": "1".zfill(21) if forgotten else places[first],
            "endSequenceNumber": places[last],
            "approximateArrivalOfFirstRecord": (NOON + timedelta(seconds=6)).isoformat(),
            "approximateArrivalOfLastRecord": (NOON + timedelta(seconds=7)).isoformat(),
            "batchSize": 2,
            "streamArn": self._stream,
        }
        context = {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 100}
        self.sqs.send_message(
            QueueUrl=self.dead, MessageBody=json.dumps({"requestContext": context, "DDBStreamBatchInfo": info})
        )

    def published(self) -> list[str]:
        """The ids of the events the rule let through."""
        found = []
        while messages := self.sqs.receive_message(QueueUrl=self.routed, MaxNumberOfMessages=10).get("Messages"):
            found += [events.decode(json.dumps(json.loads(m["Body"])["detail"])).event_id for m in messages]
        return sorted(found)

    def waiting(self) -> int:
        """Messages that can be received from the dead-letter queue at this moment."""
        return len(self.sqs.receive_message(QueueUrl=self.dead, VisibilityTimeout=0).get("Messages", ()))

    def __call__(self, *options: str) -> Result:
        return CliRunner().invoke(app, ["republish", *options])


@pytest.fixture
def stack(cloud, tmp_path, monkeypatch) -> Stack:
    made = Stack(cloud)
    (tmp_path / "stack.json").write_text(json.dumps(made.outputs))
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(tmp_path / "stack.json"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return made


def test_a_gap_is_published_from_the_stream(stack):
    """Exactly what was recorded in it and belongs on the bus; then its message is gone."""
    stack.record("before")
    lost = [stack.record("lost-1"), stack.record("lost-2")]
    opened = stack.record("opened", type=EventType.OPENED)
    stack.record("old", mode="backfill")
    last = stack.record("lost-3")
    stack.record("after")
    stack.give_up(lost[0], last)
    result = stack()
    assert 0 == result.exit_code, result.output
    assert [
        "3 events published",
        "1 more that no trigger wants (--everything publishes them too)",
        "1 more that were recorded as backfill, to trigger nothing",
    ] == result.stdout.splitlines()
    assert sorted([*lost, last]) == stack.published()
    assert 0 == stack.waiting()
    stack.give_up(opened, opened)
    assert "1 events published\n" == stack("--everything").stdout
    assert [opened] == stack.published()


def test_a_gap_that_the_stream_forgot_is_published_from_the_table(stack):
    """What was received in the hour before it, as queues take their time; nothing that came later or long before."""
    found = [
        stack.record("in", received_at=NOON + timedelta(seconds=7)),
        stack.record("queued", received_at=NOON - timedelta(minutes=50)),
    ]
    stack.record("earlier", received_at=NOON - timedelta(hours=2))
    stack.record("later", received_at=NOON + timedelta(minutes=1))
    stack.give_up(found[0], found[1], forgotten=True)
    result = stack()
    assert "2 events published\n" == result.stdout
    assert "the stream has forgotten 1 of them: going through the table\n" == result.stderr
    assert (sorted(found), 0) == (stack.published(), stack.waiting())


@pytest.mark.parametrize("forgotten", [False, True], ids=["stream", "table"])
def test_a_message_stays_until_its_events_are_published(stack, monkeypatch, forgotten):
    """The bus refuses one of two: the command fails, and the next run finds the message at once."""
    lost = [stack.record(name) for name in LOST]
    stack.give_up(*lost, forgotten=forgotten)
    with monkeypatch.context() as away:
        away.setattr(stores, "event_bus", lambda _: FakeBus(refuses=frozenset(lost[1:])))
        result = stack()
    assert (1, "1 events published\n") == (result.exit_code, result.stdout)
    assert result.stderr.endswith("espial: 1 events were refused by the bus, 1 messages stay: run it again\n")
    assert 1 == stack.waiting()
    assert "2 events published\n" == stack().stdout
    assert (sorted(lost), 0) == (stack.published(), stack.waiting())


def test_a_message_that_tells_of_no_gap_stays(stack):
    """It is told, and the others go on."""
    stack.sqs.send_message(QueueUrl=stack.dead, MessageBody="{}")
    lost = stack.record("lost")
    stack.give_up(lost, lost)
    result = stack()
    assert (1, "1 events published\n") == (result.exit_code, result.stdout)
    assert "a message stays: not_a_gap: Object missing required field `DDBStreamBatchInfo`" in result.stderr
    assert ([lost], 1) == (stack.published(), stack.waiting())


def test_by_person_and_time(stack):
    """A person's events under one key, those of a time, and both together."""
    early = stack.record("early", received_at=NOON - timedelta(days=2))
    late = stack.record("late", received_at=NOON)
    other = stack.record("other", received_at=NOON, person=events.Person(external_id="cust-2"))
    assert "2 events published\n" == stack("--person", "id:cust-1").stdout
    assert sorted([early, late]) == stack.published()
    assert "2 events published\n" == stack("--since", "2026-11-20T12:00").stdout
    assert sorted([late, other]) == stack.published()
    assert "1 events published\n" == stack("--person", "id:cust-1", "--until", "2026-11-19").stdout
    assert [early] == stack.published()


@pytest.mark.parametrize("options", [("--until", "2026-11-19"), ("--person", "mail:ada"), ("--since", "yesterday")])
def test_wrong_usage(stack, options):
    """Is told, and nothing is published."""
    assert 2 == stack(*options).exit_code
    assert [] == stack.published()
