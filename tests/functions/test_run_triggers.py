"""run_triggers on the local cloud: events as the bus delivers them, to runs, timers and skipped events."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from espial import events
from espial.events import Event, PersonKey
from espial.ledger import hour_of
from espial.stores.people_table import DecisionsTable, PeopleTable, RunsTable
from espial.vocabulary import EventType
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.fakes import FakeLedger
from tests.functions.conftest import LoadApp
from tests.simulation import a_trigger, agrees, behaviour, cart, order

pytestmark = pytest.mark.cloud
TABLE = "Events-table"


class Function:
    """The deployed function's stand-in: its handler, and what it works on."""

    def __init__(self, cloud: Any, load_app: LoadApp, *triggers: dict[str, Any], short: int = 900) -> None:
        self.table = events_table(cloud)
        self.sqs, self.scheduler = cloud.client("sqs"), cloud.client("scheduler")
        self.queue = self.sqs.create_queue(QueueName="send")["QueueUrl"]
        self.scheduler.create_schedule_group(Name="waits")
        active = {
            "version": "1",
            "connections": {},
            "providers": {},
            "templates": {},
            "triggers": {one["name"]: one for one in triggers},
        }
        a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        dynamodb = cloud.client("dynamodb")
        self.runs: Any = RunsTable(dynamodb, TABLE)
        self.decisions = DecisionsTable(dynamodb, TABLE)
        self.people = PeopleTable(dynamodb, TABLE)
        app = load_app(
            "run_triggers",
            AWS_ENDPOINT_URL=cloud.url,
            EVENTS_TABLE=TABLE,
            STORE_BUCKET="store",
            SEND_QUEUE_URL=self.queue,
            SEND_QUEUE_ARN="arn:aws:sqs:eu-west-1:000000000000:send",
            SCHEDULE_GROUP="waits",
            SCHEDULE_ROLE_ARN="arn:aws:iam::000000000000:role/schedules",
            SEND_DEAD_LETTER_ARN="arn:aws:sqs:eu-west-1:000000000000:send-dead",
            SHORT_WAIT_SECONDS=str(short),
        )
        self._handler = app.handler

    def __call__(self, *bodies: Event | str) -> list[str]:
        """Handle a batch; returns the ids of the messages to deliver again, numbered from 0."""
        records = [
            {"messageId": str(number), "body": body if isinstance(body, str) else from_bus(body)}
            for number, body in enumerate(bodies)
        ]
        answer = self._handler({"Records": records}, CONTEXT)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def messages(self) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=2, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", ())]

    def ours(self) -> list[Event]:
        found = self.table.events_of(PersonKey("id", "P-1001"))
        return [event for event in found if event.platform == "espial"]


def from_bus(event: Event) -> str:
    """An EventBridge event as SQS carries it."""
    detail = json.loads(events.encode(event))
    return json.dumps({"source": "espial", "detail-type": event.type.value, "detail": detail})


def published(**fields: Any) -> dict[str, Any]:
    return a_trigger(**fields).model_dump(mode="json")


def test_a_cart_starts_a_run_and_its_timer(cloud, load_app):
    """A short wait is an SQS message, whose body is the contract with send_message."""
    function = Function(cloud, load_app, published(wait="0s"))
    event = cart(datetime.now(UTC), "shoe")
    assert [] == function(agrees(), event)
    assert [
        {
            "person": "id:P-1001",
            "trigger": "cart",
            "key": "77",
            "version": event.event_id,
            "stage": 0,
            "variant": "",
            "due_at": event.occurred_at.isoformat(),
        }
    ] == function.messages()
    run = function.runs.get("id:P-1001", "cart", "77")
    assert ("waiting", run.due_at) == (run.state, run.timer_at)
    assert {"email/marketing": True} == function.people.load(PersonKey("id", "P-1001")).consent


def test_a_long_wait_is_a_schedule_and_a_redelivery_makes_no_other(cloud, load_app):
    """The same batch twice: one run, one schedule."""
    function = Function(cloud, load_app, published(wait="1h"))
    event = cart(datetime.now(UTC), "shoe")
    assert ([], []) == (function(event), function(event))
    assert 1 == len(function.scheduler.list_schedules(GroupName="waits")["Schedules"])
    assert [] == function.messages()


def test_a_purchase_ends_the_run_with_a_reason(cloud, load_app):
    """message_skipped is recorded under the person, the decision explains it, and a redelivery adds neither."""
    function = Function(cloud, load_app, published())
    now = datetime.now(UTC)
    function(cart(now, "shoe"))
    bought = order(now + timedelta(minutes=1))
    assert ([], []) == (function(bought), function(bought))
    [skipped] = function.ours()
    assert (EventType.MESSAGE_SKIPPED, "bought", "77") == (
        skipped.type,
        skipped.properties["reason"],
        skipped.properties["key"],
    )
    [told] = function.decisions.of_person("id:P-1001")
    assert ("skip", "bought") == (told.decision.outcome, told.decision.reason)
    assert "exited" == function.runs.get("id:P-1001", "cart", "77").state


def test_one_unreadable_message_never_sinks_its_neighbours(cloud, load_app):
    """Only the bad one comes again."""
    function = Function(cloud, load_app, published())
    broken = json.dumps({"detail": {"type": "cart_updated"}})
    assert ["0", "2"] == function(broken, cart(datetime.now(UTC), "shoe"), "not json")
    assert function.runs.get("id:P-1001", "cart", "77")


def test_the_log_names_no_address(cloud, load_app, capsys, caplog):
    """Guarantee 5."""
    caplog.set_level(logging.INFO)
    function = Function(cloud, load_app, published())
    function(agrees(), cart(datetime.now(UTC), "shoe"), behaviour(EventType.PAGE_VIEWED, datetime.now(UTC)), "{")
    printed = capsys.readouterr()
    said = printed.out + printed.err + caplog.text
    assert "event.handled" in said
    assert "ada@example.com" not in said


def test_what_arrived_is_noted_and_comes_again_if_it_cannot_be(cloud, load_app, monkeypatch):
    """The ledger's last line: one note a batch, of what was dealt with."""
    function = Function(cloud, load_app, published())
    ledger = FakeLedger()
    ledger.away = 1
    monkeypatch.setattr("espial.wiring.ledger", lambda _table: ledger)
    event = cart(datetime.now(UTC), "shoe")
    assert [["0", "1"], ["1"]] == [sorted(function(event, "{")) for _ in range(2)]
    hour = hour_of(event.received_at)
    ((entry,),) = [sheet.entries for sheet in ledger.sheets(hour)]
    assert {"run_triggers": [event.event_id]} == entry.ids


def test_the_lag_of_each_source_is_told(cloud, load_app, capsys):
    """Of a batch the worst; our own events were received by nobody."""
    function = Function(cloud, load_app)
    now = datetime.now(UTC)
    late = cart(now, "shoe")
    function(msgspec.structs.replace(late, received_at=now - timedelta(seconds=90), connection="slow"))
    function(msgspec.structs.replace(late, received_at=now - timedelta(days=9), platform="espial"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"event.lag"' in line]
    lags = {line.get("source", ""): line["event.lag"][0] for line in lines}
    assert set(lags) == {"segment/slow", ""}
    assert all(90 <= lag < 150 for lag in lags.values())
