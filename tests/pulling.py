"""The pull's world in memory, and clients of it: over no network, or over loopback."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import msgspec
from defusedxml.ElementTree import fromstring

from espial import pulling
from espial.errors import TryAgain
from espial.events import Campaign, Link, Person
from espial.gateway import Request
from espial.notifications.contexts import IDLE, LOCKED, WRONG, Batch, Context
from espial.notifications.outbox import Notification
from espial.notifications.pulled import PullDestination
from espial.services.pull_notifications import Pull
from espial.soap.values import child, local, read
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.notifying import Call, FakeEvidence, FakeOutbox, a_notification

PASSWORD = "open sesame"
TOKEN = "a-long-random-token"
SECRETS = {"secretsmanager:espial/demo": PASSWORD, "secretsmanager:espial/other": "another", "ssm:/espial/rest": TOKEN}
SHOP = PullDestination(
    name="shop",
    profile="Shop",
    users=(("demo.sys", "secretsmanager:espial/demo"), ("ops.sys", "secretsmanager:espial/other")),
    tokens=("ssm:/espial/rest",),
)
OUTLET = PullDestination(name="outlet", profile="Outlet", users=(("demo.sys", "secretsmanager:espial/demo"),))


class FakeContexts:
    """`Contexts`."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.open_ones: dict[str, tuple[Context, datetime]] = {}
        self.tries: dict[str, tuple[int, datetime, datetime]] = {}
        self.batches: dict[str, Batch] = {}
        self._call = call

    def open(self, context_id: str, context: Context, *, now: datetime) -> None:
        self._call()
        self.open_ones[context_id] = context, now + IDLE
        self._call()

    def use(self, context_id: str, *, now: datetime) -> Context | None:
        self._call()
        context, until = self.open_ones.get(context_id, (None, now))
        if context is None or until <= now:
            return None
        self.open_ones[context_id] = context, now + IDLE
        self._call()
        return context

    def switch(self, context_id: str, role: str) -> None:
        self._call()
        if context_id in self.open_ones:
            context, until = self.open_ones[context_id]
            self.open_ones[context_id] = msgspec.structs.replace(context, role=role), until

    def close(self, context_id: str) -> None:
        self._call()
        self.open_ones.pop(context_id, None)

    def attempt(self, user: str, *, now: datetime) -> bool:
        self._call()
        tries, since, last = self.tries.get(user, (0, now, now))
        if tries >= WRONG and now - last < LOCKED:
            return False
        if tries >= WRONG or now - since >= LOCKED or tries == 0:
            tries, since = 0, now
        self.tries[user] = tries + 1, since, now
        return True

    def right(self, user: str) -> None:
        self._call()
        tries, since, last = self.tries.get(user, (0, NOON, NOON))
        if tries:
            self.tries[user] = tries - 1, since, last

    def keep(self, batch: Batch) -> None:
        self._call()
        self.batches[batch.lease] = batch
        self._call()

    def batch(self, lease: str) -> Batch | None:
        self._call()
        return self.batches.get(lease)


class World:
    """A pull with all that it needs, at an instant that tests move."""

    def __init__(self, call: Call = lambda: None) -> None:
        self.now = NOON + timedelta(hours=1)
        self.destinations: dict[str, PullDestination] = {"shop": SHOP, "outlet": OUTLET}
        self.outbox = FakeOutbox(call)
        self.contexts = FakeContexts(call)
        self.evidence = FakeEvidence(call)
        self.secrets = dict(SECRETS)
        self.slept: list[float] = []
        numbers = count(1)
        self.pull = Pull(
            destinations=lambda: self.destinations,
            outbox=self.outbox,
            contexts=self.contexts,
            evidence=self.evidence,
            secret=self._secret,
            clock=lambda: self.now,
            sleep=self._sleep,
            token=lambda: f"C-{next(numbers):023}",
        )

    def _secret(self, reference: str) -> bytes:
        if reference not in self.secrets:
            raise TryAgain(f"{reference} cannot be read")
        return self.secrets[reference].encode()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def wait(self, *identities: str, destination: str = "shop", trigger: str = "OPEN") -> list[Notification]:
        """Have notifications waiting, each put a little after the one before it."""
        put = []
        for number, identity in enumerate(identities):
            at = NOON + timedelta(milliseconds=number)
            put.append(a_notification(identity, destination, trigger=trigger, put_at=at, due=at))
        self.outbox.put(put)
        return put


def pure360(identity: str, trigger: str, occurred_at: int, **fields: Any) -> Notification:
    """What the sample delivery of the seed facts made Ann do."""
    event = an_event(
        identity,
        type={"OPEN": EventType.OPENED, "CLICK": EventType.CLICKED}[trigger],
        occurred_at=datetime.fromtimestamp(occurred_at, NOON.tzinfo),
        person=Person(email="ann.lee@example.test"),
        campaign=Campaign(id="4711", name="Autumn Offer"),
        link=Link(url=fields["url"]) if "url" in fields else None,
        properties={
            "delivery_date": datetime.fromtimestamp(1700515400, NOON.tzinfo).isoformat(),
            "device": {"type": "Mobile", "os": "iOS", "browser": "Safari"},
            "traits": {"First Name": "Ann", "external_id": "P-1001"},
        },
    )
    at = event.occurred_at
    return Notification(destination="shop", event=event, trigger=trigger, put_at=at, due=at)


# clients -----------------------------------------------------------------------------------------------------------

Ask = Callable[..., Any]


def map_form(class_name: str, process_name: str, context_id: str = "", **data: Mapping[str, Any]) -> str:
    """A request as the samples of PureResponse have it: `entity` and `process` are maps of whatever depth."""
    parts = "".join(
        f'<{part}Data xsi:type="m:Map">{_items(data[part])}</{part}Data>'
        if part in data
        else f'<{part}Data xsi:nil="true"/>'
        for part in ("entity", "process")
    )
    return (
        '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xmlns:m="http://xml.apache.org/xml-soap" xmlns:p="urn:localhost-paint"><SOAP-ENV:Body>'
        '<p:handleRequest SOAP-ENV:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f"<contextId>{context_id}</contextId><className>{class_name}</className>"
        f"<processName>{process_name}</processName>{parts}</p:handleRequest></SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )


def _items(data: Any) -> str:
    pairs = data.items() if isinstance(data, Mapping) else enumerate(data)
    return "".join(f"<item><key>{key}</key>{_value(value)}</item>" for key, value in pairs)


def _value(value: Any) -> str:
    if value is None:
        return '<value xsi:nil="true"/>'
    if isinstance(value, Mapping | list):
        return f'<value xsi:type="m:Map">{_items(value)}</value>'
    return f"<value>{value}</value>"


def a_request(method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Request:
    """As the gateway hands it over."""
    known = {name.lower(): value for name, value in (headers or {}).items()}
    return Request(id="1", method=method, path={}, query=urlsplit(url).query, headers=known, body=body)


def plain_body(response: Mapping[str, Any]) -> bytes:
    """What the caller reads, unpacked."""
    body = response["body"]
    if not response.get("isBase64Encoded"):
        return str(body).encode()
    from isal import igzip

    return bytes(igzip.decompress(base64.b64decode(body)))


class SoapClient:
    """Asks in the map form and reads the answer's result and data."""

    def __init__(self, pull: Pull, **headers: str) -> None:
        self._pull = pull
        self._headers = headers
        self.context_id = ""

    def send(self, body: bytes | str) -> dict[str, Any]:
        data = body.encode() if isinstance(body, str) else body
        return pulling.respond(
            a_request("POST", "", data, self._headers), pulling.SOAP, self._pull, "https://pull.example"
        )

    def ask(self, class_name: str, process_name: str, **data: Mapping[str, Any]) -> tuple[str, Any]:
        response = self.send(map_form(class_name, process_name, self.context_id, **data))
        assert 200 == response["statusCode"], response
        return result_of(plain_body(response))

    def login(self, user: str = "demo.sys", password: str = PASSWORD) -> tuple[str, Any]:
        result, data = self.ask("bus_facade_context", "login", entity={"userName": user, "password": password})
        if result == "success":
            self.context_id = data["bus_entity_context"]["beanId"]
        return result, data

    def batch(self, **process: Any) -> Any:
        result, data = self.ask("bus_facade_eventNotification", "getBatch", process=process)
        assert "success" == result, data
        return data["bus_entity_eventNotificationBatch"]

    def report(self, batch_id: str, failed: int = 0) -> tuple[str, Any]:
        report = {"batchId": batch_id, "summary": {"processed": 1, "failed": failed}, "details": []}
        return self.ask("bus_facade_eventNotification", "processBatchReport", process={"batchReport": report})


def result_of(body: bytes) -> tuple[str, Any]:
    """`result` and `resultData` of an answer in either form."""
    root = fromstring(body)
    found = read(descend(root, "Body", "handleRequestResponse", "Result"))
    assert isinstance(found, Mapping)
    return str(found["result"]), found["resultData"]


def descend(element: Element, *names: str) -> Element:
    for name in names:
        inner = child(element, name)
        assert inner is not None, f"no {name} in {local(element)}"
        element = inner
    return element


def csv_of(batch: Mapping[str, Any]) -> str:
    """The text of `eventData`."""
    return base64.b64decode(batch["eventData"] or "").decode()


@contextmanager
def serving(pull: Pull) -> Iterator[str]:
    """The pull on loopback, at the URL given: what the gateway does, done by a small server."""
    url = ""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = a_request(self.command, self.path, body, dict(self.headers.items()))
            response = pulling.respond(request, urlsplit(self.path).path, pull, url)
            content = response["body"].encode()
            if response.get("isBase64Encoded"):
                content = base64.b64decode(content)
            self.send_response_only(response["statusCode"])
            for name, value in response["headers"].items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
