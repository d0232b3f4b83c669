"""Carts left, bought, emptied, edited: one mail or a reason, never both (guarantee 6; goals 33 to 35 and 51)."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from tests.local.world import LAMP, MUG, UNCAPPED, World


def test_carts(world: World):
    """Each shopper's story ends in the mails, decisions and message_skipped events that it should."""
    addresses = {name: world.shopper(name) for name in ("leaves", "empties", "edits", "capped", "complains")}
    addresses["unasked"] = world.shopper("unasked", consent={"email": False})
    complaint = {
        "email": addresses["complains"],
        "timestamp": int(datetime.now(UTC).timestamp()),
        "event": "spamreport",
    }
    assert world.sendgrid([{**complaint, "sg_event_id": "complaint", "sg_message_id": "complaint.1"}]) == 200
    world.until(
        "the complaint is recorded", lambda: [e for e in world.events_of("complains") if e["type"] == "complained"]
    )
    for name in ("leaves", "empties", "edits", "complains", "unasked"):
        assert world.cart(name, f"c-{name}", MUG) == 200
    world.until("the cart to be emptied has begun a run", lambda: world.runs("id:empties"))
    assert world.cart("empties", "c-empties") == 200
    for products in ([MUG, LAMP], [MUG], [MUG, LAMP], [LAMP]):
        assert world.cart("edits", "c-edits", *products) == 200
    assert world.cart("capped", "first", MUG) == 200
    world.until("the capped one's first mail", lambda: world.mails_to(addresses["capped"]))
    assert world.cart("capped", "second", LAMP) == 200

    skipped = {
        "leaves": [],
        "empties": ["cart_emptied"],
        "edits": [],
        "capped": ["limit:one_reminder_a_day"],
        "complains": ["suppressed"],
        "unasked": ["no_consent"],
    }
    world.becomes(skipped, lambda: {name: world.skips(f"id:{name}") for name in skipped})
    world.until("the mails", lambda: all(world.mails_to(addresses[name]) for name in ("leaves", "edits")))
    mails = {name: len(world.mails_to(address)) for name, address in addresses.items()}
    expected = dict.fromkeys(addresses, 0) | {"leaves": 1, "edits": 1, "capped": 1}
    assert expected == mails
    last = world.mails_to(addresses["edits"])[0]["BodyText"]
    assert (True, False) == ("Reading lamp" in last, "Stoneware mug" in last)
    assert ("send", "all_rules_hold") == world.decisions("id:edits")[-1]
    assert [("skip", "cart_emptied")] == world.decisions("id:empties")
    assert [("skip", "suppressed")] == world.decisions("id:complains")


def test_two_carts_are_independent(world: World):
    """Buying one cart ends its own run only: the other one's mail goes out."""
    address = world.shopper("undecided")
    with world.paused("SendMessageFunction"):
        assert world.cart("undecided", "c-kept", LAMP, currency=UNCAPPED) == 200
        assert world.cart("undecided", "c-bought", MUG, currency=UNCAPPED) == 200
        world.becomes({"c-kept", "c-bought"}, lambda: world.runs("id:undecided"))
        assert world.order("undecided", "c-bought", MUG) == 200
        world.until("the purchase is recorded", lambda: "order_completed" in json.dumps(world.events_of("undecided")))
    world.until("the mail", lambda: world.mails_to(address))
    world.becomes(["bought"], lambda: world.skips("id:undecided"))
    assert {("skip", "bought"), ("send", "all_rules_hold")} == set(world.decisions("id:undecided", "cart-uncapped"))
    mails = json.dumps(world.mails_to(address))
    assert (True, False) == ("Reading lamp" in mails, "Stoneware mug" in mails)


def test_purchase_recorded_in_the_last_instant(world: World):
    """A purchase that is recorded, though no trigger has seen it yet, stops the mail that is being sent."""
    address = world.shopper("just-in-time")
    with world.paused("SendMessageFunction") as resume:
        assert world.cart("just-in-time", "c-jit", LAMP, currency=UNCAPPED) == 200
        world.until("the mail is due", lambda: world.waiting("SendQueue") > 0)
        with world.paused("RunTriggersFunction"):
            assert world.order("just-in-time", "c-jit", LAMP) == 200
            world.until("the purchase is recorded", lambda: "order_completed" in json.dumps(world.events_of("c-jit")))
            resume()
            world.until("the skip", lambda: world.skips("id:just-in-time"))
    assert ["bought"] == world.skips("id:just-in-time")
    assert [] == world.mails_to(address)


def test_purchases_around_the_due_instant(world: World):
    """Bought a little before, after or while the mail is due: each cart ends in one mail or one skip, not both."""
    names = [f"race-{number}" for number in range(12)]
    addresses = [world.shopper(name) for name in names]
    known = {f"P#id:{name}" for name in names}
    world.until("all are known, and their addresses", lambda: known <= world.profiles())

    def buy(name: str) -> int:
        world.until("its run has begun", lambda: world.runs(f"id:{name}"))  # or there is nothing to end
        time.sleep(random.uniform(0, 1.2))  # the instant is the point
        return world.order(name, f"c-{name}", MUG)

    for name in names:
        assert world.cart(name, f"c-{name}", MUG, currency=UNCAPPED) == 200
    with ThreadPoolExecutor(len(names)) as pool:
        assert {200} == set(pool.map(buy, names))

    def ends() -> list[Any]:
        return [(len(world.mails_to(a)), world.skips(f"id:{n}")) for n, a in zip(names, addresses, strict=True)]

    world.until("each has its end", lambda: all(mails or skips for mails, skips in ends()))
    world.until("the queues are empty", lambda: world.waiting("TriggerQueue") + world.waiting("SendQueue") == 0)
    assert set(map(str, ends())) <= {"(1, [])", "(0, ['bought'])"}
