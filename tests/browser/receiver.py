"""The tracking API on loopback: the real service, with the gateway's CORS, and what it took as canonical events."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from espial.deliveries import Arrival, Connection
from espial.events import Event
from espial.gateway import read
from espial.normalise import normalise
from espial.services.receive_tracking import receive_tracking
from espial.sources.segment import SOURCE
from tests.fakes import FakeConnections, FakeDeliveryQueue
from tests.http_events import http_event

WEB = Path(__file__).parents[2] / "web"
SHOP = Connection(name="shop", platform="segment", secrets=("ssm:espial/shop",))
KEY = "wk_shop"
CORS = {"access-control-allow-origin": "*"}
BLANK = b"""<!doctype html><title>A page</title>
<script>window.espialConfig = JSON.parse(decodeURIComponent(location.hash.slice(1)))</script>
<script src="/espial.js"></script>"""
SANDBOXED = b"""<!doctype html><title>No storage</title><iframe sandbox="allow-scripts"></iframe>
<script>document.querySelector("iframe").src = "/blank.html" + location.hash</script>"""


class Posted(NamedTuple):
    """A request as it came, and the status it was answered."""

    method: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["batch"]
        return found


class Receiver:
    """`queue.away` makes it answer 503; while `answers` is cleared it does not answer what it is `asked`."""

    def __init__(self) -> None:
        self.connections = FakeConnections(SHOP, secrets={"shop": [KEY.encode()]})
        self.queue = FakeDeliveryQueue()
        self.posted: list[Posted] = []
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def receive(self, path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> tuple[int, bytes]:
        """What the function behind the gateway answers."""
        request = read(http_event(path, body, headers, method=method))
        outcome = receive_tracking(
            request, self.connections, self.queue, public_url="https://track.example.com", now=datetime.now(UTC)
        )
        return outcome.reply.status, str(outcome.reply.body).encode()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.asked += 1
                receiver.answers.wait()
                status, said = receiver.receive(self.path, headers, body)
                receiver.posted.append(Posted(self.command, headers, body, status))
                self.answer(status, said)

            def do_OPTIONS(self) -> None:
                receiver.posted.append(Posted(self.command, {}, b"", 204))
                self.answer(204, b"")

            def answer(self, status: int, said: bytes) -> None:
                self.send_response_only(status)
                for name, value in CORS.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Nothing: the tests look at `posted`."""

        return Handler

    def events(self) -> list[Event]:
        """What recording makes of everything accepted, in the order it came, repetitions included."""
        return [
            normalise(
                SOURCE, item, Arrival(connection=SHOP, transport=delivery.transport, received_at=delivery.received_at)
            ).event
            for delivery in list(self.queue.deliveries)
            for item in SOURCE.split(delivery)
        ]

    def recorded(self) -> list[Event]:
        """Each event once, as the table keeps it."""
        return list({event.event_id: event for event in self.events()}.values())

    def types(self) -> list[str]:
        return [event.platform_type for event in self.recorded()]


class Pages(SimpleHTTPRequestHandler):
    """`web/`, and two pages that take the snippet's settings as JSON after the #; one of them may store nothing."""

    def do_GET(self) -> None:
        page = {"/blank.html": BLANK, "/sandboxed.html": SANDBOXED}.get(urlsplit(self.path).path)
        if page is None:
            super().do_GET()
            return
        self.send_response_only(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server's address, on loopback; closed at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pages() -> Callable[..., BaseHTTPRequestHandler]:
    return partial(Pages, directory=str(WEB))
