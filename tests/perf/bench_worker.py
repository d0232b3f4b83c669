"""Benchmark: client CPU from a parsed event to its written item, against a loop of `put_item` in the same run.

    python -m tests.perf.bench_worker

A server in another process answers every call from memory, so that what is measured (CPU time of this process) is the
client's own work: normalising, identity, contract check, serialising, signing, HTTP. Interleaved rounds, medians;
exit status 1 if a target is missed.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore.config import Config

from espial import sources
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.normalise import normalise
from espial.ports import EventStore
from espial.services.recorder import Recorder, Report
from espial.stores.aws_http import AwsClient
from espial.stores.events_table import STATEMENTS_A_CALL, EventsTable
from espial.stores.light_sdk import LightClient
from espial.stores.sigv4 import Credentials
from tests.fakes import FakeQuarantine
from tests.perf.bench_normalise import NOW, batch

EVENTS = 500
ROUNDS = 9
MICROSECONDS_TARGET = 80.0
STRETCH_TARGET = 45.0
PEER_TARGET = 10.0


class Answers(BaseHTTPRequestHandler):
    """Every put succeeds, every statement is new."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["x-amz-target"].endswith("BatchExecuteStatement"):
            answer = {"Responses": [{"TableName": "events"}] * len(json.loads(asked)["Statements"])}
        else:
            answer = {}
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)


def serve(port: Any) -> None:
    """Answer until ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    port.send(server.server_port)
    server.serve_forever()


class Keys:
    """Sample credentials."""

    def current(self) -> Credentials:
        return Credentials("test", "test")

    def renew(self) -> None:
        """They do not expire."""


def sdk(url: str) -> Any:
    """The SDK's client as `espial.wiring` makes it."""
    config = Config(
        connect_timeout=2, read_timeout=10, retries={"mode": "standard", "max_attempts": 4}, parameter_validation=False
    )
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=config,
    )


def ours(store: EventStore, items: list[Any], arrival: Arrival) -> None:
    """The recording path of every function."""
    source = sources.load("sendgrid")
    reports = (Report(source, arrival, item, "raw/1#0", "d-1", n) for n, item in enumerate(items))
    tally = Recorder(store, FakeQuarantine(), NOW).record(reports)
    assert {"new": len(items)} == tally.totals(), tally


def put_items(client: Any, items: list[Any], arrival: Arrival) -> None:
    """The same items written the usual way: one conditional put each."""
    source = sources.load("sendgrid")
    for item in items:
        record = normalise(source, item, arrival, "raw/1#0")
        client.put_item(
            TableName="events",
            Item={
                "pk": {"S": record.home},
                "sk": {"S": f"E#{record.event.event_id}"},
                "body": {"S": record.body.decode()},
                "via": {"SS": [arrival.transport]},
                "ttl": {"N": str(int(record.event.received_at.timestamp()) + 60 * 86_400)},
            },
            ConditionExpression="attribute_not_exists(pk)",
        )


def cpu(work: Callable[[], None], items: int) -> float:
    """Microseconds of this process's CPU for each item."""
    gc.collect()
    started = time.process_time()
    work()
    return (time.process_time() - started) / items * 1e6


def measured() -> dict[str, list[float]]:
    """Microseconds an event, round by round, of each way of writing."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}"
    client = sdk(url)
    http = AwsClient("dynamodb", "eu-west-1", url, Keys())
    arrival = Arrival(
        connection=Connection(name="bench", platform="sendgrid", account="bench"), transport="webhook", received_at=NOW
    )
    delivery = RawDelivery(
        delivery_id="d-1",
        platform="sendgrid",
        connection="bench",
        transport="webhook",
        body=batch(EVENTS),
        received_at=NOW,
    )
    items = sources.load("sendgrid").split(delivery)
    few = items[: EVENTS // 5]
    light = EventsTable(LightClient(http, lambda: client), "events")
    heavy = EventsTable(client, "events")
    subjects: dict[str, Callable[[], float]] = {
        "espial": lambda: cpu(lambda: ours(light, items, arrival), len(items)),
        "with the SDK's client": lambda: cpu(lambda: ours(heavy, items, arrival), len(items)),
        "put_item": lambda: cpu(lambda: put_items(client, few, arrival), len(few)),
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(ROUNDS + 1):
        for name, measure in subjects.items():
            spent = measure()
            if turn:  # the first warms up
                times[name].append(spent)
    http.close()
    client.close()
    server.terminate()
    server.join()
    return times


def main() -> int:
    """Prints medians and ratios."""
    times = measured()
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        print(f"worker {name:<22} {medians[name]:8.1f} µs/event   min {min(found):.1f}  max {max(found):.1f}")
    ratio = medians["put_item"] / medians["espial"]
    ok = medians["espial"] <= MICROSECONDS_TARGET and ratio >= PEER_TARGET
    print(
        f"worker {STATEMENTS_A_CALL} events a call: {ratio:.1f}x a put_item loop (target >= {PEER_TARGET:.0f}x), "
        f"target <= {MICROSECONDS_TARGET:.0f} µs, stretch {STRETCH_TARGET:.0f} µs: {'ok' if ok else 'MISSED'}"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
