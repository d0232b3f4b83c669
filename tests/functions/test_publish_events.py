"""publish_events on the local cloud: from the table's stream to a rule's queue, by its handler."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from espial import events
from espial.ledger import balances, hour_of
from espial.stores.ledger_table import LedgerTable
from espial.vocabulary import EventType
from tests.builders import CONTEXT, an_event
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.contract.test_ports import a_bucket, events_table
from tests.fakes import FakeBus, FakeLedger, stream_record
from tests.functions.conftest import LoadApp

pytestmark = pytest.mark.cloud
ORDER = an_event("1", type=EventType.ORDER_COMPLETED, platform="segment")
OPENED = an_event("2")
LATER = an_event("3")


class Routed:
    """A bus with one rule to one queue, and the function's handler."""

    def __init__(self, cloud: Any, load_app: LoadApp, everything: str) -> None:
        bridge, self._sqs = cloud.client("events"), cloud.client("sqs")
        bridge.create_event_bus(Name="bus")
        self._queue = self._sqs.create_queue(QueueName="routed")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        bridge.put_rule(Name="all", EventBusName="bus", EventPattern=json.dumps({"source": ["espial"]}))
        bridge.put_targets(Rule="all", EventBusName="bus", Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])
        active = {"version": "1", "connections": {}, "triggers": {}}
        a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self.ledger = LedgerTable(cloud.client("dynamodb"), "Events-table")
        events_table(cloud)
        environment = {"EVENTS_TABLE": "Events-table", "EVENT_BUS": "bus", "STORE_BUCKET": "store"}
        environment |= {"PUBLISH_EVERYTHING": everything}
        self.app = load_app("publish_events", AWS_ENDPOINT_URL=cloud.url, **environment)

    def __call__(self, *records: Any) -> Any:
        return self.app.handler({"Records": list(records)}, CONTEXT)["batchItemFailures"]

    def routed(self) -> list[dict[str, Any]]:
        """What the rule let through, as its target sees it."""
        messages = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


@pytest.mark.parametrize(("everything", "expected"), [("false", [ORDER]), ("true", [ORDER, OPENED])])
def test_what_is_wanted_reaches_the_rules_target(cloud, load_app, everything, expected):
    """Or everything, by setting; the detail is the canonical event."""
    function = Routed(cloud, load_app, everything)
    assert [] == function(stream_record(ORDER, "1"), stream_record(OPENED, "2"))
    found = function.routed()
    assert [event.type.value for event in expected] == [message["detail-type"] for message in found]
    assert expected == [events.decode(json.dumps(message["detail"])) for message in found]


def test_the_stream_goes_on_from_the_first_event_that_was_refused(cloud, load_app, monkeypatch):
    """Lambda asks again from there; the local cloud's bus refuses nothing, so a fake does."""
    function = Routed(cloud, load_app, "true")
    bus = FakeBus(refuses=frozenset({OPENED.event_id, LATER.event_id}))
    monkeypatch.setattr(function.app.wiring, "event_bus", lambda _name: bus)
    failures = function(*(stream_record(event, f"s-{n}") for n, event in enumerate((ORDER, OPENED, LATER))))
    assert [{"itemIdentifier": "s-1"}] == failures


def test_what_became_of_each_event_is_noted(cloud, load_app):
    """Published or kept off the bus, once however often the stream gives it; in one write a batch."""
    function = Routed(cloud, load_app, "false")
    records = [stream_record(ORDER, "1"), stream_record(OPENED, "2")]
    for piece in (records, records, records[:1]):
        assert [] == function(*piece)
    hour = hour_of(ORDER.received_at)
    assert 2 == len(list(function.ledger.sheets(hour)))
    found = {balance.source: balance for balance in balances(hour, partial(function.ledger.sheets, hour))}
    assert (1, 0) == (found["segment/main"].published, found["segment/main"].off.total())
    assert (0, {"unwanted": 1}) == (found["sendgrid/main"].published, dict(+found["sendgrid/main"].off))


def test_a_batch_that_the_ledger_cannot_take_comes_again(cloud, load_app, monkeypatch):
    """From its first record on, whatever the bus took of it."""
    function = Routed(cloud, load_app, "true")
    ledger = FakeLedger()
    ledger.away = 1
    monkeypatch.setattr(function.app.wiring, "ledger", lambda _table: ledger)
    records = [stream_record(ORDER, "s-1"), stream_record(OPENED, "s-2")]
    assert [{"itemIdentifier": "s-1"}] == function(*records)
    assert [] == function(*records)
