"""send_notifications on the local cloud: what waits, to a receiver on loopback; and the commands that tell of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner

from espial.cli.app import app
from espial.stores.notifications_table import ConditionsTable, EvidenceTable, OutboxTable
from tests.builders import CONTEXT, an_event
from tests.contract.test_notifications_table import notifications_table
from tests.contract.test_ports import a_bucket
from tests.functions.conftest import LoadApp
from tests.functions.test_send_message import mails
from tests.loopback import Canned, Loopback, loopback
from tests.notifying import a_notification

pytestmark = pytest.mark.cloud
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Sending:
    """The deployed function's stand-in, what it works on, and the receiver."""

    def __init__(self, cloud: Any, load_app: LoadApp, http: Loopback) -> None:
        self.http = http
        self.sqs = cloud.client("sqs")
        notifications_table(cloud)
        self.queue = self.sqs.create_queue(QueueName="outgoing")["QueueUrl"]
        cloud.client("secretsmanager").create_secret(Name="espial/crm", SecretString=SECRET)
        block = {"url": f"{http.url}/hook", "secrets": ["secretsmanager:espial/crm"], "concurrency": 2}
        crm = {"name": "crm", "process": "http", "on": ["OPEN"], "http": block}
        pull = {"name": "shop", "process": "pull", "on": ["CLICK"], "pull": {"tokens": ["secretsmanager:espial/crm"]}}
        mail = {"to": ["ops@example.com", "reports@example.com"], "provider": "ses"}
        ops = {"name": "ops", "process": "email", "on": ["OPEN"], "several": True, "email": mail}
        ses = {"name": "ses", "sender": "ses", "from": "Shop <hello@shop.example.com>"}
        cloud.client("sesv2").create_email_identity(EmailIdentity="shop.example.com")
        active = {
            "version": "1",
            "destinations": {"crm": crm, "shop": pull, "ops": ops},
            "providers": {"ses": ses},
        }
        a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        table = cloud.client("dynamodb"), "notifications"
        self.outbox, self.evidence, self.conditions = (
            OutboxTable(*table),
            EvidenceTable(*table),
            ConditionsTable(*table),
        )
        self.app = load_app(
            "send_notifications",
            AWS_ENDPOINT_URL=cloud.url,
            NOTIFICATIONS_TABLE="notifications",
            OUTGOING_QUEUE_URL=self.queue,
            STORE_BUCKET="store",
            OUTGOING_NETWORK="loopback",
        )

    def put(self, *names: str, to: str = "crm") -> list[str]:
        now = datetime.now(UTC) - timedelta(seconds=5)
        put = [a_notification(destination=to, event=an_event(name), put_at=now, due=now) for name in names]
        self.outbox.put(put)
        return [one.id for one in put]

    def run(self, name: str = "crm") -> Any:
        return self.app.handler({"Records": [{"messageId": "m-1", "body": name}]}, CONTEXT)

    def poked(self) -> list[str]:
        answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", ())]

    @property
    def ids(self) -> list[str]:
        return [seen.headers["webhook-id"] for seen in self.http.seen]


@pytest.fixture
def world(cloud, load_app, tmp_path, monkeypatch) -> Iterator[Sending]:
    outputs = {"StoreBucket": "store", "NotificationsTable": "notifications", "Endpoint": cloud.url}
    with loopback(Canned(200)) as http:
        made = Sending(cloud, load_app, http)
        (tmp_path / "stack.json").write_text(json.dumps({**outputs, "OutgoingQueueUrl": made.queue}))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ESPIAL_STACK_FILE", str(tmp_path / "stack.json"))
        monkeypatch.setenv("COLUMNS", "100")
        yield made


def espial(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_what_waits_arrives_once_and_is_proven(world):
    ids = world.put("one", "two", "three")
    assert world.run() == world.run() == {"batchItemFailures": []}
    assert sorted(world.ids) == sorted(ids)
    for seen in world.http.seen:
        content = Webhook(SECRET).verify(seen.body.decode(), dict(seen.headers))
        assert (seen.path, content["id"], content["type"]) == ("/hook", seen.headers["webhook-id"], "OPEN")
    assert world.outbox.waiting("crm") == 0
    assert {(one.outcome, one.status) for one in world.evidence.of("crm")} == {("delivered", 200)}


def test_the_clock_has_every_destination_looked_at(world):
    assert world.app.handler({"version": "0"}, CONTEXT) == {"batchItemFailures": []}
    assert sorted(world.poked()) == ["crm", "ops"]
    assert world.run("shop") == world.run("unknown") == {"batchItemFailures": []}
    assert world.http.seen == []


def test_a_receiver_that_is_gone_is_shown_switched_on_and_replayed_to(world):
    world.http.answers = [Canned(410, b'{"for": "ada@example.com"}')]
    ids = world.put("one")
    world.run()
    assert world.conditions.health("crm").state == "off"
    listed = espial("destinations", "list")
    assert (listed.exit_code, "410" in listed.output, "ada@" in listed.output) == (0, True, False)
    shown = espial("attempts", "crm")
    assert ids[0] in "".join(shown.output.split())
    assert "ada@" not in shown.output
    world.http.answers = [Canned(204)]
    world.run()
    assert len(world.http.seen) == 1
    assert espial("destinations", "on", "crm").exit_code == 0
    assert world.poked() == ["crm"]
    world.run()
    for _ in range(2):
        again = espial("replay", "crm", "--id", ids[0])
        assert again.output == "1 notifications wait for crm again\n"
        world.run()
    assert world.ids == ids * 4
    assert [seen.headers.get("espial-replay") for seen in world.http.seen] == [None, None, "1", "2"]
    tried = [json.loads(line) for line in espial("attempts", "crm", "--json").output.splitlines()]
    assert [one["outcome"] for one in tried] == ["delivered", "delivered", "delivered", "gone"]
    assert len({one["id"] for one in tried}) == 4


def test_a_time_and_a_trigger_are_replayed(world):
    ids = world.put("one", "two")
    world.run()
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    assert espial("replay", "crm", "--since", day, "--trigger", "CLICK").output.startswith("0 notifications")
    assert espial("replay", "crm", "--since", day, "--trigger", "OPEN", "--rate", "1000").output.startswith("2 ")
    world.run()
    assert Counter(world.ids) == {ids[0]: 2, ids[1]: 2}


def test_by_hand_off_and_wrong_words(world):
    world.put("one")
    assert espial("destinations", "off", "crm").exit_code == 0
    world.run()
    assert world.http.seen == []
    shown = espial("destinations", "show", "crm")
    assert "crm: http, off, 1 waiting" in shown.output
    assert "switched off by hand" in shown.output
    for words in (
        ("destinations", "off", "shop"),
        ("destinations", "show", "nobody"),
        ("replay", "crm", "--id", "unknown"),
        ("attempts", "nobody"),
    ):
        assert espial(*words).exit_code == 1, words
    for wrong in (("replay", "crm"), ("replay", "crm", "--since", "2026-01-01", "--trigger", "OPENED")):
        assert espial(*wrong).exit_code == 2, wrong


def test_a_store_that_is_away_has_the_name_come_again(world, cloud):
    cloud.client("dynamodb").delete_table(TableName="notifications")
    assert world.run() == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_what_waits_for_a_mailbox_is_mailed_once_and_replayed(world, cloud):
    ids = world.put("one", "two", to="ops")
    assert world.run("ops") == world.run("ops") == {"batchItemFailures": []}
    sent = mails(cloud)
    assert [(mail["To"], mail["Subject"]) for mail in sent] == [
        (["ops@example.com", "reports@example.com"], "Event notification: OPEN - main")
    ] * 2
    assert "email: ada@example.com" in sent[0]["BodyText"]
    assert not sent[0].get("BodyHtml")
    assert world.outbox.waiting("ops") == 0
    assert world.conditions.mails("ops").count == 2
    assert sorted(one.notifications[0] for one in world.evidence.of("ops")) == sorted(ids)
    assert "@" not in repr(list(world.evidence.of("ops")))
    assert espial("replay", "ops", "--id", ids[0]).exit_code == 0
    assert world.poked() == ["ops"]
    world.run("ops")
    assert len(mails(cloud)) == 3
    assert "ops: email, open, 0 waiting" in espial("destinations", "show", "ops").output


def test_a_mailbox_that_is_switched_off_gets_nothing(world, cloud):
    world.put("one", to="ops")
    assert espial("destinations", "off", "ops").exit_code == 0
    world.run("ops")
    assert mails(cloud) == []
    assert espial("destinations", "on", "ops").exit_code == 0
    world.run("ops")
    assert len(mails(cloud)) == 1
