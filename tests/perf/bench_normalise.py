"""Benchmark: a SendGrid batch, bytes to checked canonical JSON with identity, against its peers in the same run.

    python -m tests.perf.bench_normalise

Peers: bare `orjson.loads` of the same bytes (the floor), and django-anymail's SendGrid view with its fields
serialised by `json`, when it is installed. Interleaved rounds of CPU time, medians; exit status 1 if a target is
missed.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from espial import events, sources
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.normalise import normalise

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
FLOOR_TARGET = 3.6
PEER_TARGET = 2.5
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


def ours(body: bytes) -> int:
    """Bytes of canonical JSON, one document an event."""
    source = sources.load("sendgrid")
    connection = Connection(name="bench", platform="sendgrid", account="bench")
    delivery = RawDelivery(
        delivery_id="d-1", platform="sendgrid", connection="bench", transport="webhook", body=body, received_at=NOW
    )
    arrival = Arrival(connection=connection, transport="webhook", received_at=NOW)
    return sum(len(normalise(source, item, arrival, "raw/1#0").body) for item in source.split(delivery))


def floor(body: bytes) -> int:
    """Parsing alone."""
    return len(orjson.loads(body))


def unmapped(body: bytes) -> Callable[[], int]:
    """What is left without any mapping, from fields made beforehand: parsing, id, contract check and JSON."""
    source = sources.load("sendgrid")
    connection = Connection(name="bench", platform="sendgrid", account="bench")
    arrival = Arrival(connection=connection, transport="webhook", received_at=NOW)
    made = []
    for item in orjson.loads(body):
        record = normalise(source, item, arrival, "raw/1#0")
        given = {name: value for name, value in source.normalise(item, arrival).items() if value is not None}
        common = {"platform": "sendgrid", "connection": "bench", "received_at": NOW, "raw": "raw/1#0"}
        fields = {"event_id": record.event.event_id, **given, **common, "send_key": record.event.send_key}
        made.append((record.event.occurred_at, item["sg_event_id"], fields))

    def run() -> int:
        orjson.loads(body)
        return sum(
            len(events.event_id(instant, identity)) + len(events.encode(msgspec.convert(fields, events.Event)))
            for instant, identity, fields in made
        )

    return run


def anymail_peer() -> Callable[[bytes], int] | None:
    """Anymail's tracking events, serialised field by field; None where it is not installed."""
    try:
        import django
        from django.conf import settings
    except ImportError:
        return None
    settings.configure(ANYMAIL={"WEBHOOK_SECRET": "u:p"}, DEFAULT_CHARSET="utf-8")
    django.setup()
    try:
        from anymail.webhooks.sendgrid import SendGridTrackingWebhookView
    except ImportError:
        return None
    view = SendGridTrackingWebhookView()
    names = ("event_type", "event_id", "message_id", "recipient", "reject_reason", "description", "mta_response")
    more = ("tags", "metadata", "click_url", "user_agent")

    def run(body: bytes) -> int:
        total = 0
        for item in json.loads(body):
            event = view.esp_to_anymail_event(item)
            fields = {name: getattr(event, name) for name in names + more}
            fields["timestamp"] = event.timestamp.isoformat()
            total += len(json.dumps(fields))
        return total

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


def main() -> int:
    """Print what was measured against the targets."""
    size = 1000
    body = batch(size)
    contestants: dict[str, Callable[[], object]] = {
        "orjson.loads": lambda: floor(body),
        "espial without mapping": unmapped(body),
        "espial": lambda: ours(body),
    }
    peer = anymail_peer()
    if peer:
        contestants["django-anymail + json"] = lambda: peer(body)
    medians(contestants, 3)
    found = medians(contestants, ROUNDS)
    print(f"{size} SendGrid events, {len(body) / size:.0f} bytes each; median of {ROUNDS} rounds of CPU time")
    for name, seconds in found.items():
        print(f"  {name:24s} {seconds / size * 1e6:6.2f} us/event  {size / seconds:10,.0f} events/s")
    to_floor = found["espial"] / found["orjson.loads"]
    print(f"  espial / orjson.loads = {to_floor:.2f}  (target <= {FLOOR_TARGET})")
    held = to_floor <= FLOOR_TARGET
    if peer:
        to_peer = found["django-anymail + json"] / found["espial"]
        print(f"  django-anymail / espial = {to_peer:.2f}  (target >= {PEER_TARGET})")
        held &= to_peer >= PEER_TARGET
    else:
        print("  django-anymail: not installed, skipped")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
