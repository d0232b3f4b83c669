"""Benchmark: a client collects 10,000 records in one call, over REST and over SOAP, from the table on the local cloud.

    python -m tests.perf.bench_pull                  10,000 records
    python -m tests.perf.bench_pull --records 2000   … of another number

Wall time of the whole call, and beside it how long taking them from the table alone takes, which is the local cloud's
share; what the answer weighs, plain and packed; the most memory that is held on top (watching it costs time, too). Exit
status 1 if not all come in one call, if an answer is larger than Lambda lets through, if a call takes longer than the
gateway waits, or if what is ours costs more processor time than the table's own part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from espial import pulling
from espial.events import Campaign, Client, Link, Person
from espial.gateway import Request
from espial.notifications.outbox import Notification
from espial.services.pull_notifications import Pull
from espial.stores.aws_http import AwsClient
from espial.stores.light_sdk import LightClient
from espial.stores.notifications_table import EvidenceTable, OutboxTable
from espial.stores.pull_contexts import PullContexts
from espial.vocabulary import EventType
from local.cloud import CREDENTIALS, REGION, Cloud, running
from tests.builders import an_event
from tests.contract.test_notifications_table import notifications_table
from tests.pulling import PASSWORD, SECRETS, SHOP, TOKEN, a_request, map_form, plain_body, result_of

GATEWAY = 30.0
"""Seconds that API Gateway waits for an answer."""


def records(count: int, named: str) -> list[Notification]:
    """Opens and clicks as they are, each of somebody else."""
    start = datetime.now(UTC) - timedelta(hours=1)
    found = []
    for number in range(count):
        clicked = number % 3 == 0
        event = an_event(
            f"{named}-{number}",
            type=EventType.CLICKED if clicked else EventType.OPENED,
            occurred_at=start,
            person=Person(email=f"reader.{number}@example.com", external_id=f"cust-{number}"),
            campaign=Campaign(id="4711", name="Autumn offer", journey_id="j-1", send_id=f"s-{number % 40}"),
            link=Link(url=f"https://www.example.com/offers/{number}?utm_source=mail") if clicked else None,
            client=Client(ip="192.0.2.7", user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"),
            properties={
                "device": {"type": "Mobile", "os": "iOS", "browser": "Safari"},
                "traits": {"First Name": "Ann"},
            },
        )
        trigger = "CLICK" if clicked else "OPEN"
        found.append(Notification(destination=named, event=event, trigger=trigger, put_at=start, due=start))
    return found


class Measured(NamedTuple):
    """Seconds of wall and of this process's time, bytes held on top, and what came back."""

    wall: float
    cpu: float
    held: int
    answer: Any


def measured(call: Callable[[], Any]) -> Measured:
    tracemalloc.start()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Measured(wall, cpu, held, answer)


def a_pull(outbox: OutboxTable, table: Any) -> Pull:
    numbers = iter(range(10_000_000))
    return Pull(
        destinations=lambda: {name: SHOP._replace(name=name) for name in ("rest", "soap")},
        outbox=outbox,
        contexts=PullContexts(table, "notifications"),
        evidence=EvidenceTable(table, "notifications"),
        secret=lambda reference: SECRETS[reference].encode(),
        clock=lambda: datetime.now(UTC),
        sleep=time.sleep,
        token=lambda: f"C-{next(numbers):023}",
    )


def soap(pull: Pull, count: int) -> tuple[Request, str]:
    """The request of a batch, with a login behind it."""

    def send(body: str) -> Mapping[str, Any]:
        response = pulling.respond(a_request("POST", "", body.encode()), pulling.SOAP, pull, "")
        _, data = result_of(plain_body(response))
        context: Mapping[str, Any] = data["bus_entity_context"]
        return context

    login = {"userName": "demo.sys", "password": PASSWORD}
    context_id = send(map_form("bus_facade_context", "login", entity=login))["beanId"]
    send(map_form("bus_facade_context", "switchRole", context_id, entity={"currentRoleKey": "soap"}))
    body = map_form("bus_facade_eventNotification", "getBatch", context_id, process={"maxNotifications": count})
    return a_request("POST", "", body.encode(), {"accept-encoding": "gzip"}), pulling.SOAP


def rest(count: int) -> tuple[Request, str]:
    headers = {"authorization": f"Bearer {TOKEN}", "accept-encoding": "gzip"}
    return a_request("GET", f"/?limit={count}", headers=headers), "/pull/rest"


def came(name: str, response: Mapping[str, Any]) -> int:
    """How many records an answer holds."""
    if name == "rest":
        return len(json.loads(plain_body(response))["events"])
    _, data = result_of(plain_body(response))
    return int(data["bus_entity_eventNotificationBatch"]["eventCount"])


def tried(cloud: Cloud, count: int) -> bool:
    notifications_table(cloud)
    table = LightClient(AwsClient("dynamodb", REGION, cloud.url), lambda: cloud.client("dynamodb"))
    outbox = OutboxTable(table, "notifications")
    for name in ("bare", "rest", "soap"):
        outbox.put(records(count, name))
    now = datetime.now(UTC)
    bare = measured(lambda: outbox.take("bare", count, now=now, until=now + timedelta(minutes=15)))
    assert count == len(bare.answer.notifications)
    print(f"taking alone {bare.wall:>6.1f} s, of which {bare.cpu:.1f} s processor, {bare.held / 1e6:>5.0f} MB held")
    pull = a_pull(outbox, table)
    met = True
    for name, (request, path) in (("rest", rest(count)), ("soap", soap(pull, count))):
        call = measured(lambda request=request, path=path: pulling.respond(request, path, pull, ""))  # type: ignore[misc]
        got, size = came(name, call.answer), pulling.fit(call.answer)
        plain = len(plain_body(call.answer))
        print(
            f"{name:<12} {call.wall:>6.1f} s, of which {call.cpu:.1f} s processor, {call.held / 1e6:>5.0f} MB held; "
            f"{got:,} records, {plain / 1e6:.1f} MB, packed {size * pulling.LARGEST / 1e6:.2f} MB"
        )
        met &= got == count and size <= 1 and call.wall < GATEWAY and call.cpu - bare.cpu < bare.cpu
    return met


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    count = parser.parse_args(arguments).records
    print(f"{count:,} records in one call")
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as cloud:
        met = tried(cloud, count)
    print(f"all in one answer, in time, at less than the table's own processor time: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
