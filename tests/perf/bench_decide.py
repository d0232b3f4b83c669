"""Benchmark: one decision, five conditions and a limit, over a person with 200 events.

    python -m tests.perf.bench_decide

Each decision is on a view of its own, as in the functions: nothing is kept from one to the next. Medians of CPU time,
and the ratio to the reference, measured in turn with it: the same five conditions, bare, over a context made once by
the evaluator. The ratio says what everything around the expressions costs, whatever the machine is doing.
Exit status 1 if a target is missed.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import datetime, timedelta
from typing import Any

from espial import people
from espial.events import PersonKey
from espial.people import PersonView
from espial.triggers import cel
from espial.triggers.decision import begin, decide
from espial.triggers.run import Run
from espial.vocabulary import EventType
from tests.simulation import a_trigger, agrees, at, behaviour, cart

TARGET_US = 100
TARGET_RATIO = 9.0
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
    bare = cel.Scope(CONDITIONS, variables(run, view(), now), cel.timeline(view().times, view().of_type, now))
    assert all(bare.evaluate(source).value for source in CONDITIONS)
    whole, reference = [], []
    for _ in range(ROUNDS):
        views = [view() for _ in range(DECISIONS)]
        before = time.process_time()
        for one in views:
            decide(trigger, run, one, now)
        between = time.process_time()
        for _ in range(DECISIONS):
            for source in CONDITIONS:
                bare.evaluate(source)
        whole.append((between - before) / DECISIONS * 1e6)
        reference.append((time.process_time() - between) / DECISIONS * 1e6)
    found = statistics.median(whole)
    ratio = statistics.median(one / other for one, other in zip(whole, reference, strict=True))
    print(f"decision over {len(timeline)} events, {len(CONDITIONS)} conditions; median of {ROUNDS} rounds of CPU time")
    print(f"  {found:.1f} us a decision  (target <= {TARGET_US})")
    print(f"  {ratio:.1f} times the bare conditions  (target <= {TARGET_RATIO})")
    return 0 if found <= TARGET_US and ratio <= TARGET_RATIO else 1


def variables(run: Run, person: PersonView, now: datetime) -> dict[str, Any]:
    """What the conditions read."""
    known = {"attributes": person.attributes, "consent": person.consent}
    return {"event": cel.plain(run.event), "person": known, "now": now}


if __name__ == "__main__":
    sys.exit(main())
