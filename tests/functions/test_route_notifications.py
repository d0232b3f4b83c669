"""route_notifications on the local cloud: events as the bus delivers them, to what waits for a destination."""

from __future__ import annotations

import json
from typing import Any

import pytest

from espial import events
from espial.events import Event
from espial.ledger import hour_of
from espial.stores.ledger_table import LedgerTable
from espial.stores.notifications_table import OutboxTable
from espial.vocabulary import EventType
from tests.builders import CONTEXT, NOON, an_event
from tests.contract.test_notifications_table import notifications_table
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.conftest import LoadApp

pytestmark = pytest.mark.cloud


def messages(*happened: Event) -> dict[str, Any]:
    bodies = [{"detail": json.loads(events.encode(event))} for event in happened]
    return {"Records": [{"messageId": f"m-{n}", "body": json.dumps(body)} for n, body in enumerate(bodies)]}


def test_events_wait_for_their_destination_and_are_accounted_for(cloud, load_app: LoadApp):
    events_table(cloud)
    notifications_table(cloud)
    crm = {"name": "crm", "process": "pull", "on": ["OPEN", "bounced"], "pull": {"tokens": ["secretsmanager:espial/c"]}}
    active = {"version": "1", "triggers": {}, "destinations": {"crm": crm, "broken": {"process": "fax", "on": []}}}
    a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
    queue = cloud.client("sqs").create_queue(QueueName="outgoing")["QueueUrl"]
    app = load_app(
        "route_notifications",
        AWS_ENDPOINT_URL=cloud.url,
        EVENTS_TABLE="Events-table",
        NOTIFICATIONS_TABLE="notifications",
        STORE_BUCKET="store",
        OUTGOING_QUEUE_URL=queue,
    )
    happened = [an_event("o"), an_event("b", type=EventType.BOUNCED), an_event("q", type=EventType.QUEUED)]
    bad = {"messageId": "bad", "body": "{}"}
    for _ in range(2):
        batch = messages(*happened)
        answer = app.handler({"Records": [*batch["Records"], bad]}, CONTEXT)
        assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    outbox = OutboxTable(cloud.client("dynamodb"), "notifications")
    found = outbox.of("crm", since=NOON.replace(year=2020), until=NOON.replace(year=2100))
    waiting = {(one.event.event_id, one.trigger) for one in found}
    assert waiting == {(happened[0].event_id, "OPEN"), (happened[1].event_id, "bounced")}
    sheets = LedgerTable(cloud.client("dynamodb"), "Events-table").sheets(hour_of(NOON))
    routed = {
        known for sheet in sheets for entry in sheet.entries for known in entry.ids.get("route_notifications", ())
    }
    assert routed == {event.event_id for event in happened}
