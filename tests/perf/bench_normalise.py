"""Benchmark: from a delivery's bytes to checked canonical JSON with identity, against peers in the same run.

    python -m tests.perf.bench_normalise            a large SendGrid batch
    python -m tests.perf.bench_normalise --all      every platform, on deliveries made of its samples

Peers: parsing alone of the same bytes (the floor: `orjson.loads`, or what a body that is not JSON needs), and
django-anymail's view with its fields serialised by `json`, where it is installed and knows the platform. Interleaved
rounds of CPU time, medians; exit status 1 if a target is missed.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from msgspec import convert, to_builtins

from espial import events, sources
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.normalise import normalise
from tests.perf import anymail_peer, payloads
from tests.perf.payloads import Posted

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
TARGETS = (3.6, 2.5)
ALL_TARGETS = (4.5, 2.0)
"""Times the floor at most; how many times as long django-anymail takes at least."""
ROUNDS = 25

KINDS = {
    "processed": 25,
    "delivered": 24,
    "open": 30,
    "click": 8,
    "bounce": 6,
    "dropped": 4,
    "unsubscribe": 3,
}
AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
EXTRA: Mapping[str, dict[str, Any]] = {
    "processed": {"pool": {"name": "main", "id": 1}, "send_at": 1768470000},
    "delivered": {"response": "250 2.0.0 OK 1768471237 d9443c01a7336-2a gsmtp", "tls": 1, "cert_err": 0},
    "open": {"useragent": AGENT, "ip": "203.0.113.8", "sg_machine_open": False, "sg_content_type": "html"},
    "click": {
        "useragent": AGENT,
        "ip": "203.0.113.7",
        "url": "https://shop.example.com/p?id=7&utm_source=mail&utm_campaign=winter",
        "url_offset": {"index": 3, "type": "html"},
    },
    "bounce": {
        "type": "bounce",
        "reason": "550 5.1.1 The email account that you tried to reach does not exist",
        "status": "5.1.1",
        "bounce_classification": "Invalid Address",
    },
    "dropped": {"reason": "Bounced Address", "status": "5.0.0"},
    "unsubscribe": {"useragent": AGENT, "ip": "203.0.113.9"},
}


def batch(size: int, seed: int = 7) -> bytes:
    """A body of `size` events in a realistic mix, about 545 bytes each, custom arguments included."""
    chance = random.Random(seed)
    reports = []
    for number, kind in enumerate(chance.choices(list(KINDS), list(KINDS.values()), k=size)):
        message = f"{chance.getrandbits(88):022x}"
        reports.append(
            {
                "email": f"Reader.{chance.randrange(100_000):05d}@Example.com",
                "timestamp": 1768471200 + number // 20,
                "smtp-id": f"<{message}@geopod-ismtpd-{number % 16}>",
                "event": kind,
                "category": ["digest", "winter-2026"] if number % 2 else "receipt",
                "sg_event_id": f"{chance.getrandbits(200):050x}",
                "sg_message_id": f"{message}.recvd-5b7c9d-1-65A5B1C3-{number:X}.0",
                "customer_id": f"cust-{chance.randrange(100_000)}",
                "order_ref": f"A-{number}",
                "journey": "winter-reactivation/step-2",
                "template": "order-shipped-v7",
                "tenant": "eu",
                **EXTRA[kind],
            }
        )
    return orjson.dumps(reports)


def large(size: int = 1000) -> Posted:
    """The batch as it comes in."""
    connection = Connection(name="bench", platform="sendgrid", account="bench")
    arrival = Arrival(connection=connection, transport="webhook", received_at=NOW)
    delivery = RawDelivery(
        delivery_id="d-1",
        platform="sendgrid",
        connection="bench",
        transport="webhook",
        body=batch(size),
        received_at=NOW,
    )
    return Posted(sources.load("sendgrid"), delivery, arrival, size)


def ours(deliveries: Sequence[Posted]) -> int:
    """Bytes of canonical JSON, one document an event."""
    total = 0
    for source, delivery, arrival, _ in deliveries:
        for item in source.split(delivery):
            total += len(normalise(source, item, arrival, "raw/1#0").body)
    return total


def unmapped(deliveries: Sequence[Posted], parse: Callable[[], object]) -> Callable[[], int]:
    """What is left without any mapping, from fields made beforehand: parsing, id, contract check and JSON."""
    made = [
        (record.event.occurred_at, record.event.event_id, to_builtins(record.event, builtin_types=(datetime,)))
        for one in deliveries
        for record in payloads.recordables(one.source, one.delivery, one.arrival)
    ]

    def run() -> int:
        parse()
        return sum(
            len(events.event_id(instant, identity)) + len(events.encode(convert(fields, events.Event)))
            for instant, identity, fields in made
        )

    return run


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, in turn in every round, so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            gc.collect()
            started = time.process_time()
            run()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


COLUMNS = "{:22s} {:>6s} {:>6s}  {:20s} {:>6s} {:>10s} {:>7s} {:>8s} {:>8s} {:>9s} {:>9s}  {}"
HEADINGS = (
    "platform",
    "events",
    "bytes",
    "floor",
    "us",
    "no mapping",
    "/ floor",
    "espial",
    "/ floor",
    "anymail",
    "/ espial",
    "",
)


def held(name: str, deliveries: Sequence[Posted], read: Sequence[Posted], targets: tuple[float, float]) -> bool:
    """Print a line, microseconds of CPU an event and ratios; anymail gets what it can `read`. True if it met both."""
    parse = payloads.floor([one.delivery for one in deliveries])
    contestants: dict[str, Callable[[], object]] = {
        "floor": parse.run,
        "no mapping": unmapped(deliveries, parse.run),
        "espial": lambda: ours(deliveries),
    }
    if read:
        view = anymail_peer.view(read[0].delivery.platform)
        contestants["anymail"] = anymail_peer.peer(view, [one.delivery for one in read])
        contestants["espial of these"] = lambda: ours(read)
    medians(contestants, 2)
    found = medians(contestants, ROUNDS)
    count, compared = (sum(one.events for one in some) for some in (deliveries, read))
    micro = {name: f"{seconds / count * 1e6:.2f}" for name, seconds in found.items()}
    bare, ratio = (found[name] / found["floor"] for name in ("no mapping", "espial"))
    size = sum(len(one.delivery.body) for one in deliveries) / count
    row = [name, f"{count}", f"{size:.0f}", parse.name, micro["floor"], micro["no mapping"], f"{bare:.2f}"]
    row += [micro["espial"], f"{ratio:.2f}"]
    met = ratio <= targets[0]
    if read:
        to_peer = found["anymail"] / found["espial of these"]
        row += [f"{found['anymail'] / compared * 1e6:.2f}", f"{to_peer:.2f}"]
        met &= to_peer >= targets[1]
    else:
        row += ["", ""]
    print(COLUMNS.format(*row, "" if met else "missed"), flush=True)
    return met


def sendgrid() -> bool:
    """One large batch with custom arguments."""
    one = [large()]
    return held("sendgrid, 1,000 a body", one, one if anymail_peer.view("sendgrid") else (), TARGETS)


def all_platforms() -> bool:
    """A line for every platform that has samples."""
    met = [
        held(name, deliveries, read_by_anymail(name), ALL_TARGETS)
        for name in sources.NAMES
        if (deliveries := payloads.posted(name))
    ]
    print(f"{sum(met)} of {len(met)} platforms met their targets")
    return all(met)


def read_by_anymail(platform: str) -> list[Posted]:
    """Deliveries of what it can read, of single events where it does not take many; none if it reads nothing."""
    view = anymail_peer.view(platform)
    if view is None:
        return []
    reads = partial(anymail_peer.reads, view)
    together = payloads.posted(platform, fit=reads)
    return together if all(reads(one.delivery) for one in together) else payloads.posted(platform, fit=reads, batch=1)


def main(arguments: list[str]) -> int:
    """Print what was measured against the targets."""
    if arguments not in ([], ["--all"]):
        sys.exit("usage: python -m tests.perf.bench_normalise [--all]")
    floor_target, peer_target = ALL_TARGETS if arguments else TARGETS
    print(f"targets: at most {floor_target} times the floor; django-anymail takes at least {peer_target} times as long")
    if arguments:
        print("bytes: of an event, as posted, the fullest sample of each type; all types as often as one another")
    print(COLUMNS.format(*HEADINGS))
    return 0 if (all_platforms() if arguments else sendgrid()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
