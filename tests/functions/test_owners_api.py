"""The owner's API over the stores of a local cloud: what the command line does, by its two functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from espial import wiring
from espial.api import app, changing
from espial.api.document import whole
from espial.exports.files import ExportFile
from espial.feeds.files import Batch
from espial.ports import Quarantined
from espial.stores.export_ledger import DynamoExportLedger
from espial.stores.feeds_table import FeedBookTable
from espial.stores.notifications_table import EvidenceTable, OutboxTable
from espial.stores.quarantine import S3Quarantine
from espial.stores.recipients_table import RecipientsTable
from tests.builders import CONTEXT, an_event
from tests.contract.test_notifications_table import an_attempt, notifications_table
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.test_cli_timeline import record
from tests.functions.test_serve_api import SETTINGS
from tests.http_events import http_event
from tests.notifying import a_notification
from tests.unit.test_journal import EVERYTHING

pytestmark = pytest.mark.cloud

DEFINITIONS = Path(__file__).parents[2] / "definitions"
QUEUES = ("raw", "notice", "outgoing", "onboarding")


class Api:
    """Both functions, asked as API Gateway does."""

    def __init__(self, cloud: Any, load_app: Any) -> None:
        self.cloud = cloud
        self.s3 = a_bucket(cloud)
        self.s3.create_bucket(Bucket="exports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for name in ("events", "feeds", "recipients"):
            events_table(cloud, name)
        notifications_table(cloud)
        self.sqs = cloud.client("sqs")
        queues = {f"{name.upper()}_QUEUE_URL": self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        cloud.client("events").create_event_bus(Name="event_bus")
        self.environment = SETTINGS | queues
        self.look = load_app("serve_api", **self.environment).handler
        self.change = load_app("change_stack", **self.environment).handler

    def __call__(self, method: str, path: str, body: Any = "", **query: str) -> dict[str, Any]:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        asked = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        handler = self.look if method == "GET" else self.change
        answer: dict[str, Any] = handler(http_event(path, text, method=method, query=asked), CONTEXT)
        return answer

    def told(self, method: str, path: str, body: Any = "", status: int = 200, **query: str) -> Any:
        """The answer's JSON, where its status is as it should be."""
        answer = self(method, path, body, **query)
        assert status == answer["statusCode"], answer["body"]
        return json.loads(answer["body"])

    def every(self, path: str) -> list[str]:
        """The ids of a list, two a page."""
        page = self.told("GET", path, limit="2")
        found = page["items"]
        while page["next"]:
            page = self.told("GET", path, limit="2", cursor=page["next"])
            found += page["items"]
        return [one["id"] for one in found]

    def queued(self, name: str) -> list[Any]:
        url = self.environment[f"{name.upper()}_QUEUE_URL"]
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return [message["Body"] for message in found.get("Messages", ())]


@pytest.fixture
def api(cloud: Any, load_app: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return Api(cloud, load_app)


def files() -> dict[str, str]:
    """The definitions that ship."""
    found = (path for path in DEFINITIONS.rglob("*") if path.is_file())
    return {str(path.relative_to(DEFINITIONS)): path.read_text() for path in found}


@pytest.fixture
def applied(api: Api) -> Api:
    assert api.told("PUT", "/definitions", {"files": files(), "stage": "local"})["applied"]
    return api


# -- definitions


def test_definitions_are_put_in_force_all_or_nothing(api):
    """First what would change, then the change, then nothing more to change."""
    assert 404 == api("GET", "/definitions")["statusCode"]
    asked = {"files": files(), "stage": "local"}
    tried = api.told("PUT", "/definitions", {**asked, "dry_run": True})
    assert "+ feed cdp is added" in tried["changes"]
    assert not tried["applied"]
    assert 404 == api("GET", "/definitions")["statusCode"]
    done = api.told("PUT", "/definitions", asked)
    assert done == {**tried, "applied": True}
    assert {"version": done["version"], "changes": [], "applied": False} == api.told("PUT", "/definitions", asked)
    in_force = api.told("GET", "/definitions")
    assert done["version"] == in_force["version"]
    assert ["cart-reminder"] == in_force["names"]["templates"]


def test_what_is_wrong_with_definitions_is_named_by_file_line_and_field(applied):
    """Every problem; what is in force stays."""
    wrong = {**files(), "connections/shop.yaml": "platform: segment\nsecrets: []\nmode: dead\n", "stray.txt": "x"}
    told = applied.told("PUT", "/definitions", {"files": wrong}, status=422)
    assert ("invalid_definitions", "application/problem+json") == (
        told["reason"],
        applied("PUT", "/definitions", {"files": wrong})["headers"]["content-type"],
    )
    found = {(one.get("file"), one.get("line"), one.get("field")) for one in told["errors"]}
    assert ("connections/shop.yaml", 3, "mode") in found
    assert "stray.txt" in {file for file, _, _ in found}
    assert len(told["errors"]) == int(told["detail"].split()[0])
    assert "tmp" not in json.dumps(told)


@pytest.mark.parametrize("path", ["../out.yaml", "/etc/out.yaml", "a/../../b", "a//b", ".", "feeds/a/b/c/d", "x" * 999])
def test_a_file_cannot_leave_the_folder(api, path):
    """Whatever its name says."""
    told = api.told("PUT", "/definitions", {"files": {path: "x"}}, status=422)
    assert "invalid_definitions" == told["reason"]


def test_connections_are_listed_page_by_page(applied):
    """By a cursor that nobody needs to understand; each once, and where its platform posts to."""
    first = applied.told("GET", "/connections", limit="2")
    rest = applied.told("GET", "/connections", limit="2", cursor=first["next"])
    assert ["braze-main", "sendgrid-main", "shop"] == [one["name"] for one in first["items"] + rest["items"]]
    assert rest["next"] is None
    assert "/in/braze/braze-main" == first["items"][0]["post"]
    assert "secret" not in json.dumps(first).lower()
    for bad in ("nonsense", "bm9wZQ", "Im5vdGhlcmUi"):
        assert "bad_cursor" == applied.told("GET", "/connections", status=400, cursor=bad)["reason"]


# -- destinations


@pytest.fixture
def shop(applied: Api) -> Api:
    """A destination that collects, as it ships, and one that is posted to, with something waiting."""
    http = "{url: 'https://crm.example.com/hook', secrets: ['secretsmanager:espial/x']}"
    crm = f"process: http\non: [OPEN]\nhttp: {http}\n"
    applied.told("PUT", "/definitions", {"files": {**files(), "destinations/crm.yaml": crm}, "stage": "local"})
    return applied


def test_a_destination_is_switched_off_and_on(shop):
    """As `espial destinations off` does; the worker is told when it is on again."""
    off = shop.told("PATCH", "/destinations/crm", {"enabled": False})
    assert ("off", "switched off by hand") == (off["state"], off["why"])
    assert off == shop.told("GET", "/destinations/crm")
    assert [] == shop.queued("outgoing")
    assert "open" == shop.told("PATCH", "/destinations/crm", {"enabled": True})["state"]
    assert ["crm"] == shop.queued("outgoing")
    refused = shop.told("PATCH", "/destinations/shop-events", {"enabled": False}, status=409)
    assert "collected" == refused["reason"]
    assert "unknown_destination" == shop.told("PATCH", "/destinations/no", {"enabled": True}, status=404)["reason"]
    assert ["crm", "shop-events"] == [one["destination"] for one in shop.told("GET", "/destinations")["items"]]


def test_attempts_are_told_page_by_page(shop):
    """The newest first, each once."""
    kept = EvidenceTable(shop.cloud.client("dynamodb"), "notifications")
    kept.keep([an_attempt(number, destination="crm") for number in range(5)])
    seen = shop.every("/destinations/crm/attempts")
    assert [one.id for one in kept.of("crm")] == seen
    assert 5 == len(seen)


def test_a_range_is_replayed_call_by_call(shop, monkeypatch):
    """Each notification once, however many calls it takes."""
    outbox = OutboxTable(shop.cloud.client("dynamodb"), "notifications")
    now = datetime.now(UTC) - timedelta(minutes=1)
    outbox.put([a_notification(destination="crm", event=an_event(str(n)), put_at=now, due=now) for n in range(7)])
    monkeypatch.setattr(changing, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(changing, "AT_ONCE", 3)
    asked = {"since": (now - timedelta(hours=1)).isoformat()}
    counts, cursor = [], ""
    while True:
        told = shop.told("POST", "/destinations/crm/replay", {**asked, "cursor": cursor})
        counts.append(told["waiting"])
        if told["next"] is None:
            break
        cursor = told["next"]
    assert 7 == sum(counts)
    assert len(counts) > 2
    again = [one.replayed for one in outbox.of("crm", since=now - timedelta(hours=1), until=now + timedelta(hours=1))]
    assert [1] * 7 == again
    one = a_notification(destination="crm", event=an_event("1")).id
    assert 1 == shop.told("POST", "/destinations/crm/replay", {"ids": [one]})["waiting"]
    assert "unknown_notification" == shop.told("POST", "/destinations/crm/replay", {"ids": ["x"]}, 404)["reason"]


# -- events


def test_events_and_messages_of_a_person(api, cloud):
    """Under any key; what is recorded, with its lineage."""
    record(cloud, EVERYTHING)
    told = api.told("GET", "/events", person="id:cust-1001")["events"]
    assert told == api.told("GET", "/events", person="email:ada@example.com")["events"]
    assert {"via", "conflicts", "event_id"} <= told[0].keys()
    assert told[-2:] == api.told("GET", "/events", person="id:cust-1001", limit="2")["events"]
    assert api.told("GET", "/messages", person="id:cust-1001")["messages"]
    campaign = next(one["campaign"]["id"] for one in told if one.get("campaign", {}).get("id"))
    assert api.told("GET", "/events", campaign=campaign)["events"]
    assert 400 == api("GET", "/events")["statusCode"]
    assert "bad_person" == api.told("GET", "/events", status=400, person="fax:1")["reason"]


def test_a_persons_events_are_published_again(api, cloud):
    """Those of a person, or of the whole table in stretches."""
    record(cloud, EVERYTHING)
    every = {"everything": True}
    told = api.told("POST", "/republish", {"person": "id:cust-1001", **every})
    assert told["published"] > 0
    whole_table = api.told("POST", "/republish", {"since": "2020-01-01T00:00:00Z", **every})
    assert whole_table["published"] >= told["published"]
    assert whole_table["next"] is None
    assert 400 == api("POST", "/republish", {"since": "2020-01-01T00:00:00Z", "cursor": "Im5vdGhlcmUi"})["statusCode"]


def test_the_ledger_is_told_a_day_at_a_time(api):
    """Empty hours have nothing to tell; what cannot be a range is refused."""
    first = api.told("GET", "/ledger", since="2026-01-01T00:00:00Z", until="2026-01-03T00:00:00Z")
    assert first["next"]
    assert None is api.told("GET", "/ledger", until="2026-01-03T00:00:00Z", cursor=first["next"])["next"]
    wrong = api.told("GET", "/ledger", status=400, since="2026-01-03T00:00:00Z", until="2026-01-01T00:00:00Z")
    assert "bad_range" == wrong["reason"]
    assert "invalid_request" == api.told("GET", "/ledger", status=422, since="0001-01-01T00:00:00Z")["reason"]


def test_an_answer_that_lambda_would_not_hand_over_is_refused(api, cloud, monkeypatch):
    """With what to do instead."""
    record(cloud, EVERYTHING)
    monkeypatch.setattr(app, "LARGEST", 1000)
    assert "answer_too_large" == api.told("GET", "/events", status=413, person="id:cust-1001")["reason"]
    assert 404 == api("GET", "/definitions")["statusCode"]


# -- exports


def test_exports_are_listed_page_by_page_and_read_again(api):
    """What was noticed and what not; having one read again is a notice on the queue."""
    keys = [f"exports/braze/main/{name}.avro" for name in "abc"]
    for key in keys:
        api.s3.put_object(Bucket="exports", Key=key, Body=b"rows")
    first = api.told("GET", "/exports", prefix="braze/", limit="2")
    rest = api.told("GET", "/exports", prefix="braze/", limit="2", cursor=first["next"])
    assert keys == [one["key"] for one in first["items"] + rest["items"]]
    assert {"not seen"} == {one["state"] for one in first["items"]}
    etag = api.s3.head_object(Bucket="exports", Key=keys[0])["ETag"].strip('"')
    now = datetime.now(UTC)
    file = ExportFile(bucket="exports", key=keys[0], etag=etag, size=4, modified_at=now)
    ledger = DynamoExportLedger(api.cloud.client("dynamodb"), "events")
    ledger.claim(file, [0], now)
    ledger.fail(file, "not_avro", now)
    told = api.told("GET", "/exports/file", key="braze/main/a.avro")
    assert ("failed", "not_avro") == (told["state"], told["reason"])
    assert {"key": keys[0], "chunks": 1} == api.told("POST", "/exports/resume", {"key": keys[0]}, 202)
    assert 1 == len(api.queued("notice"))
    assert "still_read" == api.told("POST", "/exports/redo", {"key": keys[0]}, 409)["reason"]
    assert "not_seen" == api.told("POST", "/exports/redo", {"key": keys[1]}, 409)["reason"]
    assert "unknown_export" == api.told("POST", "/exports/resume", {"key": "no/such"}, 404)["reason"]


# -- quarantine


def test_quarantine_is_read_replayed_and_discarded(api):
    """Page by page, the newest day first; one that has no way back says so and stays."""
    kept = S3Quarantine(api.s3, "store")
    for number in range(5):
        entry = Quarantined(
            id=f"2026-01-1{number // 2}/not_json/{number}",
            reason="not_json",
            detail="",
            path="",
            platform="sendgrid",
            connection="main",
            quarantined_at=datetime(2026, 1, 10 + number // 2, tzinfo=UTC),
            content={"kind": "notice", "message": str(number)} if number else {"kind": "item", "item": None},
        )
        kept.put(entry)
    seen = api.every("/quarantine")
    assert [one.id for one in kept.list()] == seen
    assert 5 == len(seen)
    assert "notice" == api.told("GET", "/quarantine/entry", id=seen[0])["content"]["kind"]
    assert "unknown_entry" == api.told("GET", "/quarantine/entry", status=404, id="x")["reason"]
    told = api.told("POST", "/quarantine/replay", {"ids": [seen[0], "2026-01-10/not_json/0", "nobody"]})["items"]
    assert ["done", "nothing_to_replay", "unknown_entry"] == [one["outcome"] for one in told]
    assert ["4"] == api.queued("notice")
    gone = api.told("POST", "/quarantine/discard", {"reason": "not_json", "limit": 3})["items"]
    assert ["done"] * 3 == [one["outcome"] for one in gone]
    assert 1 == len(api.told("GET", "/quarantine", reason="not_json")["items"])


# -- feeds and recipients


def test_feeds_tell_how_far_they_are(applied, monkeypatch):
    """Their batches; writing, delivering and sending again go to the functions that do it, without waiting."""
    begun: list[Any] = []
    monkeypatch.setattr(wiring, "begin", lambda function, event: begun.append((function, event)))
    (feed,) = applied.told("GET", "/feeds")["items"]
    assert ("cdp", 0) == (feed["feed"], feed["batch"])
    assert feed == applied.told("GET", "/feeds/cdp")
    now = datetime.now(UTC)
    book = FeedBookTable(applied.cloud.client("dynamodb"), "feeds")
    standing = book.take("cdp", now=now, until=now + timedelta(minutes=1))
    assert standing
    batch = Batch(feed="cdp", number=1, token="t", closed_at=now, files=(), positions={}, counts={"fed": 0})
    assert book.commit(standing, batch, {})
    (told,) = applied.told("GET", "/feeds/cdp/batches")["items"]
    assert (1, {"fed": 0}) == (told["number"], told["counts"])
    applied.told("POST", "/feeds/cdp/write", status=202)
    applied.told("POST", "/feeds/cdp/deliver", status=202)
    applied.told("POST", "/feeds/cdp/resend", {"names": ["1"]}, status=202)
    write, deliver = SETTINGS["WRITE_FEED_FUNCTION"], SETTINGS["DELIVER_FEED_FUNCTION"]
    now_ = {"feed": "cdp", "at_once": True}
    assert [(write, now_), (deliver, now_), (deliver, {"feed": "cdp", "names": ["1"]})] == begun
    assert "unknown_feed" == applied.told("POST", "/feeds/nobody/write", status=404)["reason"]
    assert "unknown_sink" == applied.told("POST", "/feeds/cdp/resend", {"names": ["1"], "sink": "no"}, 404)["reason"]


def test_files_of_recipients_are_told_and_looked_at_again(applied):
    """By key; one that has ended is not begun again."""
    now = datetime.now(UTC)
    table = RecipientsTable(applied.cloud.client("dynamodb"), "recipients")
    assert ["braze-welcome"] == applied.told("GET", "/onboardings")
    for name in "ab":
        file = ExportFile(
            bucket="exports", key=f"onboarding/braze-welcome/{name}.csv", etag=name, size=1, modified_at=now
        )
        table.refuse("braze-welcome", file, "no_rows", now)
    first = applied.told("GET", "/onboardings/braze-welcome/files", limit="1")
    rest = applied.told("GET", "/onboardings/braze-welcome/files", cursor=first["next"])
    told = first["items"] + rest["items"]
    assert ["refused"] * 2 == [one["state"] for one in told]
    assert told[0] == applied.told("GET", "/onboardings/file", key="braze-welcome/a.csv")
    assert told[0] == applied.told("POST", "/onboardings/resume", {"key": "braze-welcome/a.csv"}, 202)
    (work,) = applied.queued("onboarding")
    assert told[0]["key"] == json.loads(work)["key"]
    assert "unknown_file" == applied.told("POST", "/onboardings/resume", {"key": "x/y"}, 404)["reason"]


# -- the document


def test_the_document_is_valid_and_served(api):
    """OpenAPI 3.1, the same from the function as from the code."""
    validate(whole())
    assert whole()["openapi"].startswith("3.1")
    assert whole() == api.told("GET", "/openapi.json")


def test_the_page_loads_nothing_from_anywhere(api):
    """Scripts and styles are in it; Lambda may answer 6 MB."""
    answer = api("GET", "/docs")
    page = answer["body"]
    assert (200, True) == (answer["statusCode"], answer["headers"]["Content-Type"].startswith("text/html"))
    assert "SwaggerUIBundle(" in page
    assert not [tag for tag in ("<script src", "<link", "@import", "<iframe", "<img src") if tag in page.lower()[:400]]
    assert "<script src" not in page
    assert len(page.encode()) < 6_000_000


def examples(said: Any) -> Any:
    """A value for a schema, by its examples."""
    if "$ref" in said:
        said = whole()["components"]["schemas"][said["$ref"].rpartition("/")[2]]
    if "examples" in said:
        return said["examples"][0]
    return {name: examples(field) for name, field in said["properties"].items()}


ROUTES = [
    (method, path, operation) for path, methods in whole()["paths"].items() for method, operation in methods.items()
]


@pytest.mark.parametrize(("method", "path", "operation"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_every_route_has_an_example_that_it_understands(applied, monkeypatch, method, path, operation):
    """What a reader copies from the page is never a request that the route cannot read."""
    monkeypatch.setattr(wiring, "begin", lambda _function, _event: None)
    query = {}
    for one in operation.get("parameters", ()):
        example = one["schema"].get("examples", [None])[0]
        if "path" == one["in"]:
            path = path.replace(f"{{{one['name']}}}", example)
        elif one["required"]:
            query[one["name"]] = example
    body: Any = ""
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        (named,) = content.get("examples", {"": {}}).values()
        body = named.get("value") or examples(content["schema"])
    answer = applied(method.upper(), path, body, **query)
    said = json.loads(answer["body"])
    assert answer["statusCode"] in (200, 202, 404) or said.get("reason") == "bad_request", said


# -- hostile requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = sorted({one["name"] for *_, operation in ROUTES for one in operation.get("parameters", ())})
FIELDS = [
    "files",
    "stage",
    "dry_run",
    "enabled",
    "ids",
    "since",
    "until",
    "trigger",
    "cursor",
    "key",
    "reason",
    "limit",
]
FIELDS += ["mode", "names", "sink", "person", "everything"]
VALUES = JSON | st.sampled_from(
    ["2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "email:ada@example.com", "Ilx1MDAwMCI"]
)
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(json.dumps),
    JSON.map(json.dumps),
    st.text(max_size=50),
    st.binary(max_size=50),
    st.sampled_from(["[" * 100_000, "1" * 5000, '{"ids": NaN}', '"\\ud800"', '{"files": {"a/b": "x", "a": "y"}}']),
)
SEGMENTS = st.sampled_from(["crm", "shop-events", "cdp", "braze-welcome", "nobody", "..", "%2e", "\u0000"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
)
TEXTS = st.sampled_from(["1", "0", "-1", "9" * 5000, "Ilx1MDAwMCI", "2026-13-01", "id:x", "\u0000"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)


def test_no_request_is_an_error_of_ours(shop, monkeypatch):
    """Whatever is asked for, by whatever method, with whatever body: an answer or a problem with its reason."""
    monkeypatch.setattr(wiring, "begin", lambda _function, _event: None)

    @settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
    @given(
        route=st.sampled_from(ROUTES),
        names=st.lists(SEGMENTS, min_size=2, max_size=2),
        query=st.dictionaries(st.sampled_from([*NAMES, "x"]), TEXTS, max_size=3),
        body=BODIES,
    )
    def ask(route, names, query, body):
        method, path, _ = route
        for name in ("{name}", "{person}"):
            path = path.replace(name, names[0])
        answer = shop(method.upper(), path, body, **query)
        assert answer["statusCode"] < 500, (answer["body"], method, path, query, body)
        if answer["statusCode"] >= 400:
            said = json.loads(answer["body"])
            assert {"status", "title", "reason", "detail"} <= said.keys()

    ask()


def test_somebody_enters_a_trigger_once_a_request(api):
    """The same call again changes nothing, its id with something else is a conflict, and what cannot be is said."""
    files = {str(path.relative_to(DEFINITIONS)): path.read_text() for path in DEFINITIONS.rglob("*") if path.is_file()}
    files["triggers/called.yaml"] = (
        "status: live\nentry: {call: true}\nconsent: {topic: marketing}\n"
        "send: {provider: ses, template: cart-reminder}\n"
    )
    api.told("PUT", "/definitions", {"files": files})
    asked = {"person": "id:cust-1", "request_id": "r-1", "properties": {"code": "X"}}
    first = api.told("POST", "/triggers/called/entries", asked)
    assert first["is_new"]
    assert {**first, "is_new": False} == api.told("POST", "/triggers/called/entries", asked)
    for path, changed, status, reason in (
        ("called", {"person": "id:cust-2"}, 409, "request_id_reused"),
        ("called", {"request_id": "r 2"}, 400, "bad_request_id"),
        ("called", {"person": "fax:1"}, 400, "bad_person"),
        ("cart-abandoned", {"request_id": "r-2"}, 409, "not_by_call"),
        ("nothing", {"request_id": "r-2"}, 404, "unknown_trigger"),
    ):
        assert reason == api.told("POST", f"/triggers/{path}/entries", asked | changed, status)["reason"]
    (event,) = api.told("GET", "/events", person="id:cust-1")["events"]
    assert ("trigger_entered", "called", "X") == (
        event["type"],
        event["properties"]["trigger"],
        event["properties"]["code"],
    )
