"""Mails a second on one core, from a compiled template to the SES request; ratios to the bare Liquid rendering.

    python tests/perf/bench_render.py [--rounds N]

Two ratios are shown. `whole / bare` is everything per mail (context, fallbacks, all four parts under the fence,
addresses, headers, request) over python-liquid's own rendering of the same parts, autoescaped, without limits.
The second shows the same against the HTML part alone. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from liquid import Environment

from espial.events import Event, PersonKey
from espial.messages import address
from espial.people import NOTHING, PersonView, merge_profile
from espial.senders.ses import SesSender
from espial.services.compose import compose, context
from espial.templates.compile import compile_template
from espial.templates.filters import FILTERS
from espial.triggers.run import Run

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "definitions/templates/cart-reminder"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TARGET_PER_SECOND = 4_500
TARGET_RATIO = 1.5


def cpu(call: Callable[[], object], rounds: int) -> float:
    """Median CPU microseconds a call, of seven runs."""
    call()
    runs = []
    for _ in range(7):
        started = time.process_time_ns()
        for _ in range(rounds):
            call()
        runs.append((time.process_time_ns() - started) / rounds / 1000)
    return statistics.median(runs)


def shopper() -> tuple[Run, PersonView]:
    """A run and its person, from the template's own sample."""
    sample = json.loads((TEMPLATE / "sample.json").read_text())
    event = msgspec.convert(
        {
            "event_id": "01KJMGW6W0ZXD1J7HC065RM351", "type": "cart_updated", "platform_type": "Cart Updated",
            "channel": "web", "platform": "segment", "connection": "shop", "occurred_at": NOW - timedelta(hours=1),
            "received_at": NOW - timedelta(hours=1), "person": {"external_id": "cust-1", "email": "ada@example.com"},
            "commerce": {"cart": sample["cart"]}, "properties": {"traits": {"firstName": "Ada"}},
        },
        Event,
    )  # fmt: skip
    key = PersonKey("id", "cust-1")
    person = PersonView(key=key, keys=(key,), profile=merge_profile(NOTHING, event), events=(event,))
    run = Run(
        trigger="cart-abandoned", person="id:cust-1", key="cart-77", version=event.event_id,
        started_at=event.occurred_at, due_at=NOW, event=event,
    )  # fmt: skip
    return run, person


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    compiled = compile_template(TEMPLATE)
    run, person = shopper()
    settings = {"from": "Shop <shop@example.com>", "unsubscribe_url": "https://shop.example.com/u?m={message}"}
    ses = SesSender(None)

    def whole() -> Any:
        mail = compose(
            run, person, address("ada@example.com"), key="s-1", provider=settings, template=compiled, now=NOW
        )
        return ses.request(mail)

    bare = {}
    for name, autoescape in (("html", True), ("text", False), ("subject", False), ("from_name", False)):
        environment = Environment(autoescape=autoescape)
        environment.filters.update(FILTERS)
        bare[name] = environment.from_string(compiled[name])
    values = context(run, person, unsubscribe_url="https://shop.example.com/u", now=NOW)
    times = {
        "bare Liquid, HTML part": cpu(lambda: bare["html"].render(**values), rounds),
        "bare Liquid, all parts": cpu(lambda: [part.render(**values) for part in bare.values()], rounds),
        "template to SES request": cpu(whole, rounds),
    }
    for name, micros in times.items():
        print(f"{name:28} {micros:8.1f} µs {1e6 / micros:9,.0f} /s/core")
    html, parts, full = times.values()
    print(f"whole / bare all parts       {full / parts:8.2f} x   target ≤ {TARGET_RATIO}")
    print(f"whole / bare HTML part       {full / html:8.2f} x")
    print(f"mails                        {1e6 / full:8,.0f} /s  target ≥ {TARGET_PER_SECOND:,}")
    missed = full / parts > TARGET_RATIO or 1e6 / full < TARGET_PER_SECOND
    print("targets", "missed" if missed else "met")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
