"""serve_api on the local cloud: a person's timeline for the owner's people and programs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields

import msgspec
import pytest

from espial.definitions import publish
from espial.definitions.load import load
from espial.logs import logger
from espial.settings import ChangeStackSettings
from local.cloud import ROOT
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket, events_table
from tests.functions.test_cli_timeline import record
from tests.http_events import http_event
from tests.onboarding import DEFINITION
from tests.unit.test_journal import EVERYTHING, KEYS, SEED

pytestmark = pytest.mark.cloud


SETTINGS = {one.name.upper(): re.sub("_(table|bucket)$", "", one.name) for one in fields(ChangeStackSettings)}


@pytest.fixture
def api(cloud, load_app, monkeypatch):
    """Asks the function what API Gateway would: path, query, headers -> its answer."""
    a_bucket(cloud).create_bucket(Bucket="exports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    events_table(cloud, "events")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    look, change = (load_app(name, **SETTINGS).handler for name in ("serve_api", "change_stack"))

    def ask(path, query="", body="", method="GET", **headers):
        handler = look if method == "GET" else change
        return handler(http_event(path, body, headers, method=method, query=query), CONTEXT)

    return ask


def test_a_timeline_is_told_under_any_key(api, cloud):
    """As JSON: every row, and every key that is the person's."""
    record(cloud, EVERYTHING)
    answer = api("/timeline/email:ada@example.com")
    assert (200, "application/json") == (answer["statusCode"], answer["headers"]["content-type"])
    told = json.loads(answer["body"])
    assert "email:ada@example.com" == told["person"]
    assert {*map(str, KEYS), "contact:braze/b-1"} <= {*told["keys"]}
    assert 0 == told["earlier"]
    for key in ("ada@example.com", "id:cust-1001", "contact:braze/b-1"):
        assert told["rows"] == json.loads(api(f"/timeline/{key}")["body"])["rows"]
    fewer = json.loads(api("/timeline/id:cust-1001", "limit=2&messages_only=true")["body"])
    assert 2 == len(fewer["rows"])
    assert fewer["rows"][-1]["sequence"] == fewer["earlier"] + 2
    assert "activity" not in {row["kind"] for row in fewer["rows"]}


def test_the_account_of_a_connection_is_the_published_one(api, cloud):
    """Two connections of one workspace share their sends."""
    other = [SEED[1], SEED[2]._replace(event=msgspec.structs.replace(SEED[2].event, connection="braze-bucket"))]
    record(cloud, other)
    assert "no send is known yet" == json.loads(api("/timeline/id:cust-1001")["body"])["rows"][1]["correlation"]
    connections = {name: {"platform": "braze", "account": "w"} for name in ("braze-main", "braze-bucket")}
    bundle = json.dumps({"version": "1", "connections": connections})
    cloud.client("s3").put_object(Bucket="store", Key="definitions/active.json", Body=bundle)
    assert 1 == json.loads(api("/timeline/id:cust-1001")["body"])["rows"][1]["send"]


@pytest.mark.parametrize(
    ("query", "headers"), [("format=html", {}), ("", {"Accept": "text/html,application/xhtml+xml;q=0.9"})]
)
def test_a_browser_gets_a_page_that_can_do_nothing(api, cloud, query, headers):
    """Nobody keeps it on the way, and its browser runs and loads nothing for it."""
    record(cloud, SEED)
    answer = api("/timeline/id:cust-1001", query, **headers)
    assert (200, "text/html; charset=utf-8") == (answer["statusCode"], answer["headers"]["content-type"])
    assert answer["body"].startswith("<!doctype html>")
    assert "Welcome campaign opened" in answer["body"]
    assert "no-store" == answer["headers"]["cache-control"]
    assert "default-src 'none'" in answer["headers"]["content-security-policy"]
    told = api("/timeline/id:cust-1001", "format=json", Accept="text/html")
    assert "application/json" == told["headers"]["content-type"]


@pytest.mark.parametrize(
    ("path", "query", "status", "reason"),
    [
        ("/timeline/id:nobody", "", 404, "nothing_recorded"),
        ("/timeline/fax:1", "", 400, "bad_person"),
        ("/timeline/email:", "", 400, "bad_person"),
        ("/timeline/ ", "", 400, "bad_person"),
        (f"/timeline/id:{'x' * 1025}", "", 400, "bad_person"),
        ("/timeline/id:a", "limit=0", 400, "bad_limit"),
        ("/timeline/id:a", "limit=1001", 400, "bad_limit"),
        ("/timeline/id:a", "limit=٣", 400, "bad_limit"),
        ("/timeline/id:a", "limit=", 400, "bad_limit"),
        ("/timeline/id:a", f"limit={'9' * 5000}", 400, "bad_limit"),
        ("/timeline/id:a", "format=xml", 400, "bad_format"),
        ("/timeline/id:a", "messages_only=yes", 400, "bad_messages_only"),
        ("/timeline/id:a", "since=yesterday", 400, "unknown_parameter"),
        ("/v1/track", "", 404, "unknown_route"),
    ],
)
def test_what_cannot_be_answered_has_its_reason(api, path, query, status, reason):
    """A code for programs and a sentence for people."""
    answer = api(path, query)
    told = json.loads(answer["body"])
    assert (status, reason) == (answer["statusCode"], told["reason"])
    assert told["detail"]


def test_what_is_our_fault_is_not_explained_to_the_caller(api, cloud):
    """What broke is in the log."""
    cloud.client("dynamodb").delete_table(TableName="events")
    answer = api("/timeline/id:a")
    assert (500, "internal_error") == (answer["statusCode"], json.loads(answer["body"])["reason"])


def test_no_log_line_names_the_person(api, cloud, capsys, monkeypatch):
    """Found, not found, refused or broken: the log has the route and the status."""
    log = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", log)
    record(cloud, SEED)
    for path in ("/timeline/email:ada@example.com", "/timeline/email:bo@example.com", "/timeline/fax:ada@example.com"):
        api(path)
    cloud.client("dynamodb").delete_table(TableName="events")
    api("/timeline/email:ada@example.com")
    said = capsys.readouterr()
    assert "@example.com" not in log.getvalue() + said.out + said.err
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [(line["route"], line["status"]) for line in lines if "api.answered" == line["message"]]
    assert [("GET /timeline/{person+}", status) for status in (200, 404, 400, 500)] == told
    assert 1 == len([line for line in lines if "api.failed" == line["message"]])


@pytest.fixture
def onboardings(cloud, api):
    """One in force, and one that is switched off."""
    found = {name: {**DEFINITION, "name": name, "enabled": name == "welcome"} for name in ("welcome", "paused")}
    bundle = {"version": "1", "connections": {}, "triggers": {}, "providers": {}, "templates": {}, "onboardings": found}
    cloud.client("s3").put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(bundle))


def test_recipients_of_a_call_are_a_file_that_is_picked_up(api, cloud, onboardings):
    """Durable before the answer; the same call again is the same file."""
    people = [{"PID": "P-1", "Email": "ada@example.com"}, {"PID": "P-2", "Email": "bo@example.com"}]
    first, again = (api("/onboarding/welcome", body=json.dumps(people), method="POST") for _ in range(2))
    assert (202, first["body"]) == (first["statusCode"], again["body"])
    told = json.loads(first["body"])
    assert 2 == told["recipients"]
    (kept,) = cloud.client("s3").list_objects_v2(Bucket="exports")["Contents"]
    assert told["key"] == kept["Key"]
    assert kept["Key"].startswith("onboarding/welcome/api/")
    lines = cloud.client("s3").get_object(Bucket="exports", Key=kept["Key"])["Body"].read().splitlines()
    assert people == [json.loads(line) for line in lines]


@pytest.mark.usefixtures("onboardings")
@pytest.mark.parametrize(
    ("name", "body", "verdict"),
    [
        ("nobody", "[{}]", (404, "unknown_onboarding")),
        ("paused", "[{}]", (409, "disabled")),
        ("welcome", "{nonsense", (400, "not_json")),
        ("welcome", "[]", (400, "not_recipients")),
        ("welcome", "[1]", (400, "not_recipients")),
        ("welcome", f'[{{"PID": "{"x" * 6_000_000}"}}]', (413, "too_large")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_recipients_that_cannot_be_taken_are_refused_whole(api, cloud, name, body, verdict):
    """Nothing of the call is kept."""
    answer = api(f"/onboarding/{name}", body=body, method="POST")
    assert verdict == (answer["statusCode"], json.loads(answer["body"])["reason"])
    assert 0 == cloud.client("s3").list_objects_v2(Bucket="exports")["KeyCount"]


def test_nothing_applied_yet_is_asked_again_later(api):
    """503, and when."""
    answer = api("/onboarding/welcome", body="[{}]", method="POST")
    assert (503, "30") == (answer["statusCode"], answer["headers"]["retry-after"])


def test_why_a_trigger_sent_or_did_not(api, cloud):
    """Of a trigger in force: what the last events began, by every rule; of one that is not, 404."""
    record(cloud, EVERYTHING)
    bundle = publish.bundle(load(ROOT / "definitions"))
    content = json.dumps({**bundle.active, "applied_at": "2026-01-01T00:00:00Z"})
    cloud.client("s3").put_object(Bucket="store", Key="definitions/active.json", Body=content)
    answer = api("/explain/cart-abandoned/id:cust-1001", "limit=5")
    told = json.loads(answer["body"])
    assert (200, "id:cust-1001", "cart-abandoned", True) == (
        answer["statusCode"], told["person"], told["trigger"], told["in_force"],
    )  # fmt: skip
    assert all({"name", "value", "verdict", "detail"} == rule.keys() for one in told["found"] for rule in one["rules"])
    assert 404 == api("/explain/gone/id:cust-1001")["statusCode"]
    assert "bad_limit" == json.loads(api("/explain/cart-abandoned/id:a", "limit=x")["body"])["reason"]
    assert "unknown_parameter" == json.loads(api("/explain/cart-abandoned/id:a", "since=x")["body"])["reason"]
