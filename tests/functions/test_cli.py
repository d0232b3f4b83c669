"""The `espial` command against the stores of a local cloud: what people see of events, quarantine and secrets."""

from __future__ import annotations

import json
import stat
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from espial.cli.secrets import DESTINATION, PROVIDER, other_secret
from espial.cli.stack import Failed
from espial.events import Campaign, Link
from espial.exports.files import ExportFile
from espial.exports.notices import parse
from espial.ledger import CONSUMERS
from espial.notifications.signatures import signed
from espial.ports import Quarantined
from espial.services.ledger import note_arrived, note_deliveries, note_published
from espial.services.recorder import Outcome, Tally
from espial.services.split_export import refusal
from espial.stores.events_table import EventsTable
from espial.stores.export_ledger import DynamoExportLedger
from espial.stores.ledger_table import LedgerTable
from espial.stores.people_table import DecisionsTable
from espial.stores.quarantine import S3Quarantine
from espial.triggers.decision import Decision, Rule
from espial.triggers.run import Run
from espial.vocabulary import EventType
from tests.builders import NOON, a_delivery, a_record, an_event
from tests.contract.test_ports import a_bucket, events_table
from tests.unit.test_definitions_load import write

pytestmark = pytest.mark.cloud


@pytest.fixture
def espial(cloud, tmp_path, monkeypatch):
    """Runs the command in a folder with good definitions and a local stack with empty stores."""
    a_bucket(cloud)
    events_table(cloud, "events")
    queue, notices = (cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in ("raw", "notices"))
    write(tmp_path / "definitions", {})
    state = tmp_path / ".local/stack.json"
    state.parent.mkdir()
    outputs = {"StoreBucket": "store", "EventsTable": "events", "RawQueueUrl": queue}
    outputs |= {"NoticeQueueUrl": notices, "Endpoint": cloud.url}
    state.write_text(json.dumps(outputs))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(state))
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def recorded(cloud, espial):
    """A click reported over both channels, and an open that two reports describe differently."""
    table = EventsTable(cloud.client("dynamodb"), "events")
    click = {"type": EventType.CLICKED, "link": Link(url="https://shop.example.com/a"), "campaign": Campaign(id="c-7")}
    for transport in ("webhook", "export"):
        table.add([a_record("click", **click)], transport=transport, expires_days=60)
    opened = {"occurred_at": NOON - timedelta(minutes=1), "campaign": Campaign(id="c-7")}
    for message in ("m-1", "m-2"):
        table.add([a_record("open", message_id=message, **opened)], transport="webhook", expires_days=60)


def test_events_of_a_person_are_a_table_at_80_columns(espial, recorded):
    """Oldest first, with lineage, and a mark where reports contradict each other."""
    result = espial("events", "--person", "id:cust-1")
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert all(len(line) <= 80 for line in lines)
    (opened,) = [line for line in lines if "opened !" in line]
    (clicked,) = [line for line in lines if "clicked" in line]
    assert lines.index(opened) < lines.index(clicked)
    assert "2026-11-20" in clicked
    assert "export" in clicked
    assert "2 events" in lines
    assert "! another report of the same event says something else; --json shows it" in lines


def test_events_for_programs_carry_lineage_and_conflicts(espial, recorded):
    """One canonical event a line, with what else was said of it."""
    opened, clicked = map(json.loads, espial("events", "--person", "id:cust-1", "--json").stdout.splitlines())
    assert (["export", "webhook"], []) == (clicked["via"], clicked["conflicts"])
    assert ("m-1", ["m-2"]) == (opened["message_id"], [said["message_id"] for said in opened["conflicts"]])


def test_a_report_that_says_more_is_marked_and_shown(espial, cloud, recorded):
    """With everything that agreeing reports say together; it contradicts nothing."""
    table = EventsTable(cloud.client("dynamodb"), "events")
    richer = {"type": EventType.CLICKED, "link": Link(url="https://shop.example.com/a", alias="Lamp")}
    table.add([a_record("click", **richer)], transport="webhook", expires_days=60)
    lines = espial("events", "--person", "id:cust-1").output.splitlines()
    assert 1 == sum("clicked +" in line for line in lines)
    assert "+ another report of the same event says more; --json shows it" in lines
    _, clicked = map(json.loads, espial("events", "--person", "id:cust-1", "--json").stdout.splitlines())
    together = clicked["together"]
    assert ([], "Lamp", "c-7") == (clicked["conflicts"], together["link"]["alias"], together["campaign"]["id"])
    assert "alias" not in clicked["link"]


def test_events_of_a_campaign(espial, recorded):
    """Whoever they are about."""
    found = espial("events", "--campaign", "c-7", "--json").stdout.splitlines()
    assert ["opened", "clicked"] == [json.loads(line)["type"] for line in found]
    assert [["m-2"], []] == [[said["message_id"] for said in json.loads(line)["conflicts"]] for line in found]
    assert "nothing is recorded of c-8\n" == espial("events", "--campaign", "c-8").output


def test_a_person_that_is_not_one_is_wrong_usage(espial):
    """The kinds of key are named."""
    result = espial("events", "--person", "mail:ada")
    assert 2 == result.exit_code
    assert "person must be one of id, email, phone, contact, session" in " ".join(result.stderr.split())


def test_explain_without_a_decision_says_so(espial):
    """No answer is an answer."""
    assert "hello has decided nothing about id:cust-1\n" == espial("explain", "id:cust-1", "hello").output


def test_explain_tells_every_rule_of_every_decision(espial, cloud):
    """What each rule found and its verdict, oldest decision first, for people and for programs (goal 50)."""
    run = Run(
        trigger="hello",
        person="id:cust-1",
        key="c-1",
        version=a_record("cart").event.event_id,
        started_at=NOON,
        due_at=NOON,
        event=a_record("cart").event,
    )
    store = DecisionsTable(cloud.client("dynamodb"), "events")
    rules = (Rule("status", "live", verdict=True), Rule("consent", None, verdict=False, detail="nobody asked"))
    store.record("id:cust-1", Decision("skip", "no_consent", None, rules), run, now=NOON + timedelta(hours=1))
    store.record("id:cust-1", Decision("wait", "not_due", NOON + timedelta(hours=1)), run, now=NOON)
    lines = espial("explain", "id:cust-1", "hello").output.splitlines()
    assert "2026-11-20 12:00:00  wait until 2026-11-20 13:00:00: not_due" == lines[0]
    assert "2026-11-20 13:00:00  skip: no_consent" in lines
    (refused,) = [line.split() for line in lines if line.startswith("NO")]
    assert ["NO", "consent", "nothing", "(nobody", "asked)"] == refused
    told = [json.loads(line) for line in espial("explain", "id:cust-1", "hello", "--json").stdout.splitlines()]
    assert ["not_due", "no_consent"] == [decision["reason"] for decision in told]
    assert {"name": "consent", "value": None, "verdict": False, "detail": "nobody asked"} == told[1]["rules"][1]
    assert "other has decided nothing about id:cust-1\n" == espial("explain", "id:cust-1", "other").output


@pytest.fixture
def quarantined(cloud, espial):
    """One unreadable item and one that cannot go back."""
    store = S3Quarantine(cloud.client("s3"), "store")
    content = {"kind": "item", "transport": "webhook", "received_at": NOON.isoformat(), "mode": "live"}
    for digest, item in (("aa", {"event": "open"}), ("bb", None)):
        entry = Quarantined(
            f"2026-11-20/missing_field/{digest}",
            "missing_field",
            "no timestamp",
            "timestamp",
            "sendgrid",
            "esp",
            NOON,
            {**content, "item": item},
        )
        store.put(entry)
    return store


def test_quarantine_is_listed_and_shown(espial, quarantined):
    """Where, why, and everything that is known."""
    listed = espial("quarantine", "list").output
    assert "2026-11-20/missing_field/aa\n    sendgrid/esp at timestamp: no timestamp\n" in listed
    assert "nothing is in quarantine for other\n" == espial("quarantine", "list", "--reason", "other").output
    shown = json.loads(espial("quarantine", "show", "2026-11-20/missing_field/aa").stdout)
    assert {"event": "open"} == shown["content"]["item"]
    missing = espial("quarantine", "show", "2026-11-20/missing_field/zz")
    assert (1, "espial: no entry '2026-11-20/missing_field/zz' in quarantine\n") == (missing.exit_code, missing.stderr)


def test_replay_puts_what_can_go_back_on_the_queue(espial, quarantined, cloud):
    """What cannot is told and stays; its neighbours go."""
    result = espial("quarantine", "replay", "--reason", "missing_field")
    assert 1 == result.exit_code
    assert "2026-11-20/missing_field/aa: back on the queue\n" == result.stdout
    assert "2026-11-20/missing_field/bb: nothing_to_replay" in result.stderr
    assert result.stderr.endswith("espial: 1 of 2 could not be replayed\n")
    assert ["bb"] == [entry.id[-2:] for entry in quarantined.list()]
    sqs = cloud.client("sqs")
    queue = sqs.get_queue_url(QueueName="raw")["QueueUrl"]
    assert 1 == len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"])


def test_a_file_in_quarantine_is_noticed_again(espial, quarantined, cloud):
    """By the queue that new files are noticed on; one that was read to its end is refused, with what to do instead."""
    sqs = cloud.client("sqs")
    ledger = DynamoExportLedger(cloud.client("dynamodb"), "events")
    for digest in ("failed", "done"):
        file = ExportFile(bucket="drops", key=f"exports/shop/main/{digest}.avro", etag="e", size=9, modified_at=NOON)
        ledger.claim(file, [], NOON)
        ledger.settle(file, NOON) if digest == "done" else ledger.fail(file, "bad_header", NOON)
        quarantined.put(refusal(file, "bad_header", "", NOON))
    result = espial("quarantine", "replay", "--reason", "bad_header")
    assert 1 == result.exit_code
    assert "nothing_to_replay: the rest of the file was recorded" in result.stderr
    assert result.stderr.endswith("espial: 1 of 2 could not be replayed\n")
    (message,) = sqs.receive_message(QueueUrl=sqs.get_queue_url(QueueName="notices")["QueueUrl"])["Messages"]
    assert ["exports/shop/main/failed.avro"] == [notice.key for notice in parse(message["Body"])]
    assert ["exports/shop/main/done.avro"] == [e.content["key"] for e in quarantined.list(reason="bad_header")]


def test_discard_asks_first(espial, quarantined):
    """Removing for good takes a yes."""
    assert 1 == espial("quarantine", "discard", "--reason", "missing_field").exit_code
    assert 2 == len(list(quarantined.list()))
    assert 0 == espial("quarantine", "discard", "--reason", "missing_field", "--yes").exit_code
    assert [] == list(quarantined.list())


def test_local_secrets_fit_what_signs_and_what_is_accepted(espial, cloud):
    """Made once, kept where only the owner may read, and made the same again in a fresh cloud."""
    assert "esp: secretsmanager:espial/esp is set\n" == espial("local-secrets").output
    kept = json.loads(Path(".local/secrets.json").read_text())
    assert 0o600 == stat.S_IMODE(Path(".local/secrets.json").stat().st_mode)
    manager = cloud.client("secretsmanager")
    assert kept["esp"]["secret"] == manager.get_secret_value(SecretId="espial/esp")["SecretString"]
    assert kept["esp"]["secret"] != kept["esp"]["signing"]
    assert "esp: secretsmanager:espial/esp is set already\n" == espial("local-secrets").output
    manager.delete_secret(SecretId="espial/esp", ForceDeleteWithoutRecovery=True)
    espial("local-secrets")
    assert kept == json.loads(Path(".local/secrets.json").read_text())
    assert kept["esp"]["secret"] == manager.get_secret_value(SecretId="espial/esp")["SecretString"]


def test_local_secrets_of_a_destination_sign_or_are_shown(espial, cloud):
    """Each of its references gets one of the form that it is for."""
    http = {"url": "https://crm.example.com/", "secrets": ["ssm:/espial/crm"], "token": "secretsmanager:espial/bearer"}
    crm = {"process": "http", "on": ["OPEN"], "http": http}
    Path("definitions/destinations").mkdir()
    Path("definitions/destinations/crm.yaml").write_text(json.dumps(crm))
    said = espial("local-secrets").output
    assert "crm: ssm:/espial/crm is set\n" in said
    assert "crm: secretsmanager:espial/bearer is set\n" in said
    signs = cloud.client("ssm").get_parameter(Name="/espial/crm", WithDecryption=True)["Parameter"]["Value"]
    assert signed("id", 0, b"body", [signs])
    assert signs == other_secret(DESTINATION, "crm")
    with pytest.raises(Failed, match="no secret of destination/nobody"):
        other_secret(DESTINATION, "nobody")


def test_local_secrets_of_a_provider_are_those_its_simulator_accepts(espial, cloud):
    """One for each name; a simulator finds them by the provider's."""
    keys = {"api_key": "ssm:/espial/mj/key", "secret_key": "secretsmanager:espial/mj"}
    Path("definitions/providers/mj.yaml").write_text(
        json.dumps({"sender": "mailjet", "from": "a@example.com", "secrets": keys})
    )
    assert "mj: ssm:/espial/mj/key is set\n" in espial("local-secrets").output
    kept = cloud.client("ssm").get_parameter(Name="/espial/mj/key", WithDecryption=True)["Parameter"]["Value"]
    assert kept == other_secret(PROVIDER, "mj/api_key") != other_secret(PROVIDER, "mj/secret_key")


@pytest.fixture
def balanced(cloud, espial):
    """Yesterday: three items at SendGrid, one of them refused; both events on the bus, one of them lost behind it."""
    ledger = LedgerTable(cloud.client("dynamodb"), "events")
    received_at = datetime.now(UTC) - timedelta(hours=20)
    first, second = (an_event(name, received_at=received_at) for name in ("1", "2"))
    tally = Tally(received=Counter({"delivery-1": 3}))
    for event in (first, second):
        tally.count("delivery-1", Outcome("sendgrid", "main", "new", "opened"), event.event_id)
    tally.count("delivery-1", Outcome("sendgrid", "main", "quarantined", "missing_event"))
    note_deliveries(ledger, [a_delivery(received_at=received_at)], tally, received_at)
    note_published(ledger, [(first, "published"), (second, "published")], received_at)
    for consumer in CONSUMERS:
        note_arrived(ledger, consumer, {"m-1": first}, received_at)
    return received_at, second.event_id


def test_the_ledger_is_a_table_at_80_columns_and_names_what_is_lost(espial, balanced):
    """An hour of a source a line, differences with their ids below it, and a line that sums up."""
    received_at, lost = balanced
    result = espial("ledger")
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert all(len(line) <= 80 for line in lines[:2])
    assert f"{received_at:%m-%d %Hh} sendgrid/main 3 2 0 1 2 0 1".split() == lines[1].split()
    about = f"{received_at:%Y-%m-%dT%H} sendgrid/main"
    assert [f"unbalanced: {about}: 1 published and not arrived at a consumer", f"  {lost}"] == lines[2:4]
    assert "1 unbalanced" == lines[-1]


def test_the_ledger_for_programs_is_a_line_for_an_hour_of_a_source(espial, balanced):
    """Every stage, reasons by name; filtered by platform and time."""
    received_at, lost = balanced
    (found,) = map(json.loads, espial("ledger", "--platform", "sendgrid", "--json").stdout.splitlines())
    assert (f"{received_at:%Y-%m-%dT%H}Z", "sendgrid/main", "unbalanced") == tuple(list(found.values())[:3])
    assert (3, 2, {"missing_event": 1}) == tuple(found["record"][n] for n in ("received", "recorded", "quarantined"))
    assert [{"kind": "unrouted", "count": 1, "ids": [lost]}] == found["differences"]
    assert "nothing was received\n" == espial("ledger", "--platform", "braze").output
    assert "nothing was received\n" == espial("ledger", "--until", f"{received_at:%Y-%m-%dT%H}").output
    refused = espial("ledger", "--since", "2026-01-01", "--until", "2026-06-01")
    assert 1 == refused.exit_code
    assert refused.stderr.startswith("espial: since must lie before until")
