"""record_events on the local cloud: from a queue's batch to table, archive and quarantine, by its handler."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from espial.envelope import pack, point_to
from espial.events import PersonKey
from espial.ledger import balances, hour_of
from espial.stores.archive import S3Archive
from espial.stores.ledger_table import LedgerTable
from espial.stores.quarantine import S3Quarantine
from tests.builders import CONTEXT, NOON, a_delivery, an_item
from tests.contract.test_ports import a_bucket, events_table
from tests.fakes import FakeLedger
from tests.functions.conftest import LoadApp

pytestmark = pytest.mark.cloud
CONNECTION = {"name": "main", "platform": "sendgrid", "account": "shop"}


class Function:
    """The deployed function's stand-in: its handler, and what it works on."""

    def __init__(self, cloud: Any, handler: Any) -> None:
        self.table = events_table(cloud)
        self.s3 = a_bucket(cloud)
        active = {"version": "1", "connections": {"main": CONNECTION}, "triggers": {}}
        self.s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self._handler = handler

    def __call__(self, **messages: Any) -> list[str]:
        """Handle a batch of message id -> packed delivery; returns the ids to deliver again."""
        records = [
            {
                "messageId": name,
                "body": packed.body,
                "messageAttributes": {
                    key: {"stringValue": value, "dataType": "String"} for key, value in packed.attributes.items()
                },
            }
            for name, packed in messages.items()
        ]
        answer = self._handler({"Records": records}, CONTEXT)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def events(self, person: int) -> list[Any]:
        return self.table.events_of(PersonKey("email", f"person{person}@example.com"))


@pytest.fixture
def function(cloud: Any, load_app: LoadApp) -> Function:
    app = load_app(
        "record_events",
        AWS_ENDPOINT_URL=cloud.url,
        EVENTS_TABLE="Events-table",
        STORE_BUCKET="store",
    )
    return Function(cloud, app.handler)


def test_a_batch_is_recorded_archived_and_acknowledged(function):
    """Every delivery of the batch, each event pointing to its raw bytes."""
    first = a_delivery([an_item(1), an_item(2)])
    second = a_delivery([an_item(3)], delivery_id="delivery-2")
    assert [] == function(m1=pack(first), m2=pack(second))
    (event,) = function.events(3)
    assert second == S3Archive(function.s3, "store").read(event.raw)
    assert (1, 1) == (len(function.events(1)), len(function.events(2)))


def test_a_redelivered_batch_changes_nothing(function):
    """Queues deliver at least once."""
    for _ in range(2):
        assert [] == function(m1=pack(a_delivery([an_item(1), an_item(1)])))
    assert 1 == len(function.events(1))


def test_a_delivery_too_big_for_the_queue_is_read_where_it_lies(function):
    """The message holds a pointer into the store."""
    packed, body = point_to(pack(a_delivery()), "spill/2026-11-20/delivery-1")
    function.s3.put_object(Bucket="store", Key="spill/2026-11-20/delivery-1", Body=body)
    assert [] == function(m1=packed)
    assert 1 == len(function.events(1))


def test_only_what_failed_is_delivered_again(function):
    """A pointer to nothing fails alone; what cannot be read is quarantined and done with."""
    lost, _ = point_to(pack(a_delivery(delivery_id="lost")), "spill/nowhere")
    bad = pack(a_delivery(body=b"<html>", delivery_id="bad"))
    assert ["lost"] == function(lost=lost, bad=bad, good=pack(a_delivery()))
    assert 1 == len(function.events(1))
    assert ["not_json"] == [entry.reason for entry in S3Quarantine(function.s3, "store").list()]


def test_no_address_is_logged_and_every_event_is_counted(function, capsys):
    """Metrics by platform, type and verdict; no line names a person (guarantee 5)."""
    function(m1=pack(a_delivery([an_item(1), {"email": "person9@example.com"}])))
    output = capsys.readouterr().out
    assert "example.com" not in output
    lines = [json.loads(line) for line in output.splitlines()]
    (new,) = [line for line in lines if "events.new" in line]
    assert ([1.0], "sendgrid", "delivered") == (new["events.new"], new["platform"], new["type"])
    (quarantined,) = [line for line in lines if "events.quarantined" in line]
    assert "missing_event" == quarantined["reason"]


def test_a_batch_leaves_one_sheet_in_the_ledger(function, cloud):
    """Redelivered, and with a delivery that was queued twice, it still balances."""
    hour = hour_of(NOON)
    ledger = LedgerTable(cloud.client("dynamodb"), "Events-table")
    bad = {"email": "person9@example.com"}
    first, second = pack(a_delivery([an_item(1), an_item(1), bad])), pack(a_delivery(delivery_id="delivery-2"))
    for _ in range(2):
        assert [] == function(m1=first, m2=second, m3=second)
    assert 2 == len(list(ledger.sheets(hour))), "one a batch: the second says that all was there"
    (balance,) = balances(hour, partial(ledger.sheets, hour))
    assert (4, {"missing_event": 1}) == (balance.received, dict(balance.quarantined))
    assert {"unpublished"} == set(balance.differences), "nothing reads the stream here"


def test_a_batch_that_the_ledger_cannot_take_comes_again(function, monkeypatch):
    """Or its balance would be lost."""
    ledger = FakeLedger()
    ledger.away = 1
    monkeypatch.setattr("espial.wiring.ledger", lambda _table: ledger)
    assert ["m1", "m2"] == sorted(function(m1=pack(a_delivery()), m2=pack(a_delivery(delivery_id="delivery-2"))))
    assert [] == function(m1=pack(a_delivery()), m2=pack(a_delivery(delivery_id="delivery-2")))
