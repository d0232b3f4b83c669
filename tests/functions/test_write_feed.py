"""write_feed on the local cloud: from the table's stream to files in the archive, by its handler."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from espial import events
from espial.definitions.load import Definitions
from espial.definitions.models import ConnectionDefinition
from espial.definitions.publish import bundle
from espial.feeds.definition import FeedDefinition
from espial.ledger import balances, hour_of
from espial.normalise import Recordable
from espial.stores.feed_archive import S3FeedArchive
from espial.stores.feeds_table import FeedBookTable
from espial.stores.ledger_table import LedgerTable
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.feeding import braze_events
from tests.unit.test_write_feed import opened, send

pytestmark = pytest.mark.cloud


class Written:
    """The tables and buckets, an applied feed, and the function's handler."""

    def __init__(self, cloud: Any, load_app: Any, **feed: Any) -> None:
        self.store = events_table(cloud)
        dynamodb, s3 = cloud.client("dynamodb"), a_bucket(cloud)
        dynamodb.create_table(
            TableName="feeds",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        definition = FeedDefinition.model_validate({"name": "cdp", "late_after": "366d", **feed})
        connection = ConnectionDefinition(name="braze-main", platform="braze", secrets=())
        made = bundle(Definitions(feeds={"cdp": definition}, connections={"braze-main": connection}))
        s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(made.active))
        self.book, self.archive = FeedBookTable(dynamodb, "feeds"), S3FeedArchive(s3, "store")
        self.ledger = LedgerTable(dynamodb, "Events-table")
        self.app = load_app(
            "write_feed",
            AWS_ENDPOINT_URL=cloud.url,
            EVENTS_TABLE="Events-table",
            EVENTS_STREAM=dynamodb.describe_table(TableName="Events-table")["Table"]["LatestStreamArn"],
            FEEDS_TABLE="feeds",
            FEEDS_BUCKET="store",
            STORE_BUCKET="store",
        )

    def insert(self, *said: Any) -> list[events.Event]:
        found = braze_events(*said, received_at=datetime.now(UTC).replace(microsecond=0))
        records = [Recordable(event, events.encode(event), "P#email:ann.lee@example.com") for event in found]
        self.store.add(records, transport="webhook", expires_days=60)
        return found

    def run(self) -> Any:
        return self.app.handler({}, CONTEXT)

    @property
    def files(self) -> dict[str, bytes]:
        return {
            file.name: self.archive.get("cdp", batch.token, file.name)
            for batch in self.book.batches("cdp")
            for file in batch.files
        }


def test_from_the_stream_to_files_with_manifests(cloud, load_app):
    world = Written(cloud, load_app, systems={"braze-main": "Braze"}, rotate={"rows": 15_000, "after": "0s"})
    world.insert(opened(), send())
    assert world.run() == {"cdp": "committed"}
    (batch,) = world.book.batches("cdp")
    assert [file.series for file in batch.files] == ["campaign_event_nonrpi/braze", "response_event/braze"]
    assert batch.counts["fed"] == 2
    (parent, child) = (content.decode().splitlines()[1].split(",") for content in world.files.values())
    assert parent[1] == child[3]
    assert world.run() == {"cdp": "nothing"}


def test_a_response_that_waits_is_fed_with_its_send_by_a_later_run(cloud, load_app):
    world = Written(cloud, load_app, rotate={"rows": 15_000, "after": "0s"})
    world.insert(opened())
    assert world.run() == {"cdp": "committed"}
    assert world.files == {}
    world.insert(send())
    assert world.run() == {"cdp": "committed"}
    assert [name.partition("_braze_")[0] for name in world.files] == ["campaign_event_nonrpi", "response_event"]
    hour = hour_of(datetime.now(UTC))
    (balance,) = balances(hour, lambda: world.ledger.sheets(hour))
    assert balance.feeds == {"cdp": {"fed": 2}}


def test_a_run_by_hand_waits_for_nothing_and_is_of_one_feed(cloud, load_app):
    world = Written(cloud, load_app)
    world.insert(send())
    assert world.run() == {"cdp": "committed"}
    world.insert(opened())
    assert world.run() == {"cdp": "early"}
    assert world.app.handler({"feed": "other", "at_once": True}, CONTEXT) == {}
    assert world.app.handler({"feed": "cdp", "at_once": True}, CONTEXT) == {"cdp": "committed"}


def test_a_feed_that_cannot_be_written_stops_no_other(cloud, load_app, monkeypatch):
    world = Written(cloud, load_app)
    world.insert(send())
    monkeypatch.setattr(world.app.wiring, "feed_writers", lambda *_, **__: iter([Broken(), Quiet()]))
    assert world.run() == {"quiet": "nothing"}


class Broken:
    feed = FeedDefinition(name="broken")

    def run(self, **_: Any) -> Any:
        raise RuntimeError("ada@example.com")


class Quiet:
    feed = FeedDefinition(name="quiet")

    def run(self, **_: Any) -> Any:
        from espial.services.write_feed import Written

        return Written("nothing")
