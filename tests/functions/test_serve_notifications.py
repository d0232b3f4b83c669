"""serve_notifications on the local cloud: from a login to the last record, by its handler and over the real table."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.logs import logger
from espial.stores.notifications_table import EvidenceTable, OutboxTable
from tests.builders import CONTEXT
from tests.contract.test_notifications_table import notifications_table
from tests.contract.test_ports import a_bucket
from tests.http_events import http_event
from tests.notifying import a_notification
from tests.pulling import csv_of, map_form, plain_body, result_of

pytestmark = pytest.mark.cloud
DESTINATIONS = {
    "shop": {
        "name": "shop",
        "process": "pull",
        "on": ["OPEN"],
        "profile": "Shop",
        "pull": {
            "users": [{"name": "demo.sys", "secret": "secretsmanager:espial/pull/demo"}],
            "tokens": ["secretsmanager:espial/pull/rest"],
        },
    },
    "crm": {"name": "crm", "process": "of another version"},
    "old": {
        "name": "old",
        "process": "pull",
        "on": ["OPEN"],
        "enabled": False,
        "pull": {"tokens": ["secretsmanager:espial/pull/rest"]},
    },
}


class Pulled:
    """The function, with its table, definitions and secrets."""

    def __init__(self, cloud: Any, load_app: Any) -> None:
        notifications_table(cloud)
        active = {"version": "1", "connections": {}, "triggers": {}, "destinations": DESTINATIONS}
        a_bucket(cloud).put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        secrets = cloud.client("secretsmanager")
        secrets.create_secret(Name="espial/pull/demo", SecretString="open sesame")
        secrets.create_secret(Name="espial/pull/rest", SecretString="a-token")
        self.outbox = OutboxTable(cloud.client("dynamodb"), "notifications")
        self.evidence = EvidenceTable(cloud.client("dynamodb"), "notifications")
        variables = {
            "NOTIFICATIONS_TABLE": "notifications",
            "STORE_BUCKET": "store",
            "PUBLIC_URL": "https://pull.example",
        }
        self._handler = load_app("serve_notifications", AWS_ENDPOINT_URL=cloud.url, **variables).handler
        self.context_id = ""

    def put(self, count: int) -> list[str]:
        before = datetime.now(UTC) - timedelta(minutes=1)
        waiting = [a_notification(str(number), "shop", put_at=before, due=before) for number in range(count)]
        self.outbox.put(waiting)
        return [one.id for one in waiting]

    def call(self, method: str, path: str, body: bytes | str = "", **more: Any) -> Any:
        query = more.pop("query", "")
        return self._handler(http_event(path, body, more, method=method, query=query), CONTEXT)

    def soap(self, class_name: str, process_name: str, **data: Any) -> tuple[str, Any]:
        answer = self.call("POST", "/_bus/request.soap", map_form(class_name, process_name, self.context_id, **data))
        return result_of(plain_body(answer))

    def rest(self, method: str, path: str, body: Any = None, query: str = "") -> tuple[int, Any]:
        text = "" if body is None else json.dumps(body)
        answer = self.call(method, f"/pull/{path}", text, query=query, authorization="Bearer a-token")
        return answer["statusCode"], json.loads(plain_body(answer))


@pytest.fixture
def pulled(cloud, load_app) -> Pulled:
    return Pulled(cloud, load_app)


def test_from_a_login_to_the_last_record(pulled):
    """Over SOAP: each batch is read once, and evident."""
    put = pulled.put(300)
    login = {"userName": "demo.sys", "password": "open sesame"}
    result, data = pulled.soap("bus_facade_context", "login", entity=login)
    assert "success" == result
    pulled.context_id = data["bus_entity_context"]["beanId"]
    lines: list[str] = []
    counts: list[int] = []
    while not counts or counts[-1]:
        _, data = pulled.soap("bus_facade_eventNotification", "getBatch", process={"maxNotifications": "200"})
        batch = data["bus_entity_eventNotificationBatch"]
        counts.append(int(batch["eventCount"]))
        lines += csv_of(batch).splitlines()
    assert [200, 100, 0] == counts
    assert 300 == len(lines)
    assert sorted(put) == sorted(one for attempt in pulled.evidence.of("shop") for one in attempt.notifications)
    assert ("success", "") == pulled.soap("bus_facade_context", "logout")
    assert "bean_exception_security" == pulled.soap("bus_facade_eventNotification", "getBatch")[0]


def test_a_batch_that_is_reported(pulled):
    """Hidden until then; given back, it comes again, and confirmed, never."""
    put = pulled.put(3)
    _, data = pulled.soap("bus_facade_context", "login", entity={"userName": "demo.sys", "password": "open sesame"})
    pulled.context_id = data["bus_entity_context"]["beanId"]
    for failed, left in ((1, 3), (0, 0)):
        asked = {"markAsProcessingInd": "Y"}
        batch = pulled.soap("bus_facade_eventNotification", "getBatch", process=asked)[1]
        batch = batch["bus_entity_eventNotificationBatch"]
        assert len(put) == int(batch["eventCount"])
        assert 0 == len(pulled.outbox.look("shop", 10, now=datetime.now(UTC)).notifications)
        report = {"batchReport": {"batchId": batch["batchId"], "summary": {"processed": 3, "failed": failed}}}
        assert ("success", "") == pulled.soap("bus_facade_eventNotification", "processBatchReport", process=report)
        assert left == len(pulled.outbox.look("shop", 10, now=datetime.now(UTC)).notifications)


def test_events_by_rest(pulled):
    """Taken, acknowledged, replayed; other destinations are closed."""
    put = pulled.put(3)
    status, found = pulled.rest("GET", "shop", query="limit=2")
    assert (200, 2, True) == (status, len(found["events"]), found["more"])
    assert (200, {"acknowledged": 2}) == pulled.rest("POST", "shop/ack", {"lease": found["lease"]})
    status, rest = pulled.rest("GET", "shop", query="wait=1")
    assert sorted(put) == sorted(one["id"] for one in found["events"] + rest["events"])
    assert (200, {"released": 1}) == pulled.rest("POST", "shop/release", {"lease": rest["lease"]})
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (200, {"replayed": 2, "more_since": None}) == pulled.rest("POST", "shop/replay", {"since": since})
    assert 3 == len(pulled.rest("GET", "shop")[1]["events"])
    for name in ("crm", "old", "nowhere"):
        assert 401 == pulled.rest("GET", name)[0]


def test_five_wrong_passwords_lock(pulled):
    """The table counts them."""
    for _ in range(5):
        pulled.soap("bus_facade_context", "login", entity={"userName": "demo.sys", "password": "guess"})
    right = {"userName": "demo.sys", "password": "open sesame"}
    assert ("bean_exception_security", "login refused") == pulled.soap("bus_facade_context", "login", entity=right)


def test_descriptions_and_faults(pulled):
    """The WSDL names the stack's address; what is no XML is a fault; bytes arrive as the gateway encodes them."""
    answer = pulled.call("GET", "/ctrlPaintLiteral.wsdl", **{"accept-encoding": "gzip"})
    assert "gzip" == answer["headers"]["content-encoding"]
    assert b"https://pull.example/_bus/request.soap" in plain_body(answer)
    answer = pulled.call("POST", "/_bus/request.soap", "<Envelope")
    assert (500, True) == (answer["statusCode"], b"SOAP-ENV:Client" in plain_body(answer))
    answer = pulled.call("POST", "/_bus/request.soap", b"\xff\xfe")
    assert (500, True) == (answer["statusCode"], b"SOAP-ENV:Client" in plain_body(answer))


def test_no_log_line_names_a_person_or_a_secret(pulled, capsys, monkeypatch):
    """Right, wrong or broken: the log has the route and the status."""
    log = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", log)
    pulled.put(1)
    pulled.soap("bus_facade_context", "login", entity={"userName": "demo.sys", "password": "open sesame"})
    pulled.soap("bus_facade_context", "login", entity={"userName": "ada@example.com", "password": "my secret"})
    pulled.rest("GET", "shop")
    pulled.rest("POST", "shop/ack", {"lease": "ada@example.com"})
    written = log.getvalue() + capsys.readouterr().out
    assert 4 == written.count("pull.answered")
    for reason in ("bean_exception_security", "unknown_lease"):
        assert reason in written
    for word in ("ada@example.com", "sesame", "a-token", "my secret", "demo.sys"):
        assert word not in written
