"""Benchmark: one decision, five conditions and a limit, over a person with 200 events.

    python -m tests.perf.bench_decide

Each decision is on a view of its own, as in the functions: nothing is kept from one to the next. Medians of CPU time;
exit status 1 if the target is missed.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta

from espial import people
from espial.events import PersonKey
from espial.people import PersonView
from espial.triggers.decision import begin, decide
from espial.vocabulary import EventType
from tests.simulation import a_trigger, agrees, at, behaviour, cart

TARGET_US = 100
ROUNDS = 30
DECISIONS = 200

CONDITIONS = (
    'since("order_completed") > days(7)',
    'count("page_viewed", "30d") >= 3',
    'has(person.attributes.tier) && person.attributes.tier == "gold"',
    "event.commerce.cart.items.exists(item, item.price > 5.0)",
    'within("product_viewed", "48h") || event.commerce.cart.id.startsWith("vip")',
)
KINDS = (EventType.PAGE_VIEWED, EventType.PRODUCT_VIEWED, EventType.CUSTOM, EventType.CART_UPDATED)


def main() -> int:
    """Print what was measured against the target."""
    trigger = a_trigger(
        conditions=[{"name": f"c{number}", "when": when} for number, when in enumerate(CONDITIONS)],
        limits=[{"name": "cap", "count": 3, "within": "7d", "scope": "channel"}],
    )
    start = at("10:00:00") - timedelta(hours=200)
    history = [
        cart(start + timedelta(hours=n), "hat", id=f"c-{n}")
        if n % 4 == 3
        else behaviour(KINDS[n % 4], start + timedelta(hours=n), str(n))
        for n in range(198)
    ]
    newest = cart(at("10:00:00"), "shoe", "hat", "socks")
    profile_update = behaviour(EventType.PROFILE_UPDATED, start, properties={"tier": "gold"})
    history += [newest, agrees(), profile_update]
    profile = people.NOTHING
    for event in history:
        profile = people.merge_profile(profile, event)
    run = begin(trigger, newest, "id:P-1001")
    assert run is not None
    timeline = people.timeline(history)
    now = at("11:00:00")

    def view() -> PersonView:
        return PersonView(key=PersonKey("id", "P-1001"), profile=profile, events=timeline)

    assert "send" == decide(trigger, run, view(), now).outcome
    rounds = []
    for _ in range(ROUNDS):
        views = [view() for _ in range(DECISIONS)]
        before = time.process_time()
        for one in views:
            decide(trigger, run, one, now)
        rounds.append((time.process_time() - before) / DECISIONS * 1e6)
    found = statistics.median(rounds)
    print(f"decision over {len(timeline)} events, {len(CONDITIONS)} conditions; median of {ROUNDS} rounds of CPU time")
    print(f"  {found:.1f} us a decision  (target <= {TARGET_US})")
    return 0 if found <= TARGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
