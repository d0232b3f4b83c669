"""onboard_recipients on the local cloud: from S3's notice over real HTTP to the simulator, by its handler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from espial.onboarding.state import Counts
from espial.stores.quarantine import S3Quarantine
from espial.stores.recipients_table import RecipientsTable
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.conftest import LoadApp
from tests.functions.test_split_export import queued
from tests.onboarding import DEFINITION, NAME, a_file, a_row
from tests.simulated import Simulator, simulator

pytestmark = pytest.mark.cloud
EXPORTS = "acme-exports"
KEY = f"onboarding/{NAME}/monday.csv"


@pytest.fixture(scope="module")
def braze_process() -> Iterator[Simulator]:
    with simulator("--key", "k-1") as running:
        yield running


@pytest.fixture
def braze(braze_process: Simulator) -> Simulator:
    braze_process.order("faults", throttle=0, error=0, timeout=0, drop=0, refuse=[])
    return braze_process


class World:
    """Buckets, tables and queue, with one onboarding applied; users of each test have ids of their own."""

    number = 0

    def __init__(self, cloud: Any, braze: Simulator, load_app: LoadApp) -> None:
        World.number += 1
        self.people = World.number * 1000
        events_table(cloud)
        events_table(cloud, "Recipients-table")
        self.s3 = a_bucket(cloud)
        self.s3.create_bucket(Bucket=EXPORTS, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        cloud.client("secretsmanager").create_secret(Name="espial/braze-key", SecretString="k-1")
        onboarding = {**DEFINITION, "endpoint": braze.url}
        active = {"version": "1", "connections": {}, "triggers": {}, "onboardings": {NAME: onboarding}}
        self.s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self.cloud = cloud
        self.sqs = cloud.client("sqs")
        self.queue = self.sqs.create_queue(QueueName="onboarding")["QueueUrl"]
        self.handler = load_app("onboard_recipients", **self.environment()).handler
        self.recipients = RecipientsTable(cloud.client("dynamodb"), "Recipients-table")

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.cloud.url,
            "EVENTS_TABLE": "Events-table",
            "RECIPIENTS_TABLE": "Recipients-table",
            "STORE_BUCKET": "store",
            "ONBOARDING_QUEUE_URL": self.queue,
            "OUTGOING_NETWORK": "loopback",
        }

    def rows(self, count: int, **fields: str) -> list[dict[str, str]]:
        return [a_row(self.people + number, **fields) for number in range(1, count + 1)]

    def drop(self, content: bytes, key: str = KEY) -> str:
        """Put a file into the bucket; returns S3's notice."""
        etag = self.s3.put_object(Bucket=EXPORTS, Key=key, Body=content)["ETag"].strip('"')
        about = {"bucket": {"name": EXPORTS}, "object": {"key": key, "size": len(content), "eTag": etag}}
        return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": about}]})

    def onboard(self, message: str) -> list[Any]:
        failures: list[Any] = self.handler(queued(m1=message), CONTEXT)["batchItemFailures"]
        return failures

    def drain(self) -> None:
        """Work off what was handed back, each after its delay."""
        while self.recipients.of(NAME)[0].state != "done":
            found = self.sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=2).get("Messages", [])
            for message in found:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                assert [] == self.onboard(message["Body"])

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        items = self.cloud.client("dynamodb").scan(TableName="Events-table")["Items"]
        found = [json.loads(item["body"]["S"]) for item in items if item["sk"]["S"].startswith("E#")]
        return [event for event in found if kind in ("", event["type"])]

    def counts(self) -> Counts:
        return self.recipients.of(NAME)[0].counts


@pytest.fixture
def world(cloud: Any, braze: Simulator, load_app: LoadApp, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("espial.services.onboard_recipients.BACK_OFF_SECONDS", (0,))
    return World(cloud, braze, load_app)


def test_a_file_is_onboarded_and_a_changed_city_is_one_update(world, braze, caplog):
    """Over real HTTP: the users are there, the events tell it, and nobody's address is logged."""
    rows = world.rows(120)
    assert [] == world.onboard(world.drop(a_file([*rows, {**rows[0], "Email": "nobody"}])))
    assert Counts(sent=120, refused=1) == world.counts()
    users = braze.get("users")["users"]
    assert {row["PID"] for row in rows} <= set(users)
    assert 120 == len(world.events("recipient_onboarded")) == len(world.events("recipient_selected"))
    rows[7]["City"] = "Cadiz"
    assert [] == world.onboard(world.drop(a_file(rows), KEY + ".2"))
    assert Counts(sent=1, unchanged=119) == world.counts()
    changed = braze.get("users")["users"][rows[7]["PID"]]
    assert ("Cadiz", ["10000008", "20000008"]) == (changed["home_city"], changed["rpi_contact_ids"])
    assert "@example" not in str([vars(line) for line in caplog.records])
    assert ["bad_email"] == [entry.reason for entry in S3Quarantine(world.s3, "store").list()]


def test_the_same_notice_again_sends_nothing(world, braze):
    """Nor does the same content under another name."""
    notice = world.drop(a_file(world.rows(3)))
    assert [] == world.onboard(notice) == world.onboard(notice)
    before = len(braze.get("requests")["requests"])
    assert [] == world.onboard(world.drop(a_file(world.rows(3)), KEY + ".again"))
    assert (before, Counts(unchanged=3)) == (len(braze.get("requests")["requests"]), world.counts())


@pytest.mark.parametrize("fault", ["throttle", "error", "drop"])
def test_trouble_on_the_wire_passes(world, braze, fault):
    """Handed back with a delay, and then done as if nothing had been."""
    braze.order("faults", **{fault: 1})
    assert [] == world.onboard(world.drop(a_file(world.rows(60))))
    world.drain()
    assert Counts(sent=60) == world.counts()
    users = braze.get("users")["users"]
    assert {1} == {len(users[row["PID"]]["rpi_contact_ids"]) for row in world.rows(60)}
    assert 121 == len(world.events())


def test_a_platform_that_says_nothing_is_given_up_for_the_time_being(world, braze, monkeypatch):
    """The worker does not wait for ever."""
    monkeypatch.setattr("espial.services.onboard_recipients.CALL_SECONDS", 0.3)
    braze.order("faults", timeout=1)
    assert [] == world.onboard(world.drop(a_file(world.rows(2))))
    assert "127.0.0.1: TimeoutError" == world.recipients.of(NAME)[0].reason
    world.drain()
    assert Counts(sent=2) == world.counts()


def test_whom_the_platform_refuses_is_told_by_an_event(world, braze):
    """The others of the batch are onboarded."""
    rows = world.rows(5)
    braze.order("faults", refuse=[rows[2]["PID"]])
    assert [] == world.onboard(world.drop(a_file(rows)))
    (rejected,) = world.events("recipient_rejected")
    assert (rows[2]["PID"], "refused_by_platform") == (
        rejected["person"]["external_id"],
        rejected["properties"]["reason"],
    )
    assert Counts(sent=4, failed=1) == world.counts()


def test_a_wrong_key_fails_the_message_and_loses_nothing(world, braze, caplog):
    """It comes again; once the key is right it goes on. The key is not logged."""
    secrets = world.cloud.client("secretsmanager")
    secrets.put_secret_value(SecretId="espial/braze-key", SecretString="wr0ng-k3y")
    notice = world.drop(a_file(world.rows(2)))
    assert [{"itemIdentifier": "m1"}] == world.onboard(notice)
    assert "unauthorised" == world.recipients.of(NAME)[0].reason
    (line,) = (vars(line) for line in caplog.records if line.message == "onboarding.stopped")
    assert "unauthorised" == line["reason"]
    assert "wr0ng-k3y" not in str([vars(line) for line in caplog.records])


def test_a_stack_on_aws_does_not_call_this_machine(world, load_app):
    """The same file, the same endpoint, the public network."""
    app = load_app("onboard_recipients", **{**world.environment(), "OUTGOING_NETWORK": "public"})
    answer = app.handler(queued(m1=world.drop(a_file(world.rows(1)))), CONTEXT)
    assert [{"itemIdentifier": "m1"}] == answer["batchItemFailures"]
    assert "bad_address" == world.recipients.of(NAME)[0].reason
    assert [] == world.events("recipient_onboarded")


def test_nonsense_is_quarantined_not_retried(world):
    """As it is for every queue."""
    assert [] == world.onboard("nonsense")
    assert ["bad_notice"] == [entry.reason for entry in S3Quarantine(world.s3, "store").list()]
