"""Whatever is repeated, scattered or out of order is recorded once and has its effect once (guarantees 2 and 3)."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

from tests.local.world import LAMP, World, sendgrid_events

EVENTS = 120


def test_scattered_repeated_batch(world: World):
    """A batch split at random, shuffled, each part posted one to three times at once: recorded and published once."""
    seed = time.time_ns()
    chance = random.Random(seed)
    events = sendgrid_events("scattered", EVENTS)
    chance.shuffle(events)
    cuts = sorted({0, EVENTS, *(chance.randrange(EVENTS) for _ in range(12))})
    parts = [events[start:end] for start, end in pairwise(cuts)]
    posts = [part for part in parts for _ in range(chance.randint(1, 3))]
    chance.shuffle(posts)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(world.sendgrid, posts)) == {200}
    world.until("all recorded", lambda: len(world.events_of("scattered@")) >= EVENTS)
    world.until("the queue is empty", lambda: world.waiting("RawQueue") == 0)
    recorded = world.events_of("scattered@")
    once = Counter(event["sg_message_id"].partition(".")[0] for event in events)
    assert once == Counter(event["message_id"] for event in recorded), f"seed {seed}"
    ids = {event["event_id"] for event in recorded}
    world.until("all on the bus", lambda: ids <= set(world.published()))


def test_repeated_cart_is_one_mail(world: World):
    """One tracking call sent four times at once, and again after its mail went out, is one mail."""
    address = world.shopper("repeated")
    now = datetime.now(UTC).isoformat()

    def send(_: int) -> int:
        return world.cart("repeated", "c-repeated", LAMP, messageId="repeated-1", timestamp=now)

    with ThreadPoolExecutor(4) as pool:
        assert [200] * 4 == list(pool.map(send, range(4)))
    world.until("the mail", lambda: world.mails_to(address))
    assert send(0) == 200
    world.until("the queue is empty", lambda: world.waiting("RawQueue") == 0)
    assert len(world.mails_to(address)) == 1
