"""Who may begin again, and which of two messages goes (goals 42, 52)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.simulation.memory import MemoryPublished
from espial.triggers.decision import begin, decide
from tests.simulation import a_trigger, at, cart, order
from tests.travel import ADA_KEY, a_world, mails, skips

# beginning again ----------------------------------------------------------------------------------------------------

ONE, OTHER = "77", "78"
HISTORY = [
    ("10:00:00", 2, ONE),  # begins; sent at 11:00
    ("10:30:00", 2, OTHER),  # another cart while the first waits
    ("10:00:00", 3, OTHER),  # after the first was sent
    ("10:00:00", 6, ONE),  # the first cart again, later
    ("10:00:00", 10, OTHER),
]


@pytest.mark.parametrize(
    ("reentry", "restart", "mailed"),
    [
        ("per_key", False, [(2, ONE), (2, OTHER)]),
        ("per_key", True, [(2, ONE), (2, OTHER), (3, OTHER), (6, ONE), (10, OTHER)]),
        ("never", False, [(2, ONE)]),
        ("never", True, [(2, ONE)]),
        ("after_exit", False, [(2, ONE), (3, OTHER), (6, ONE), (10, OTHER)]),
        ("after_exit", True, [(2, ONE), (3, OTHER), (6, ONE), (10, OTHER)]),
        ({"every": "4d"}, False, [(2, ONE), (6, ONE), (10, OTHER)]),
        ({"every": "5d"}, True, [(2, ONE), (10, OTHER)]),
    ],
)
def test_who_may_begin_again(reentry, restart, mailed):
    """Goal 52: one row, one rule, one history of two carts."""
    world = a_world(a_trigger(reentry=reentry, restart=restart))
    for clock, day, key in HISTORY:
        world.happens(cart(at(clock, day=day), "shoe", id=key))
    world.until(at("10:00:00", day=20))
    sent = [(own.occurred_at.day, own.properties["key"]) for own in world.people.own]
    assert mailed == sent
    assert [] == skips(world)


def test_an_edit_of_the_waiting_run_is_no_new_beginning():
    """`never` and `restart` together: the hour starts again, the mail shows the last contents."""
    world = a_world(a_trigger(reentry="never"))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:30:00"), "shoe", "hat"))
    world.until(at("23:00:00"))
    assert [at("11:30:00")] == [when for when, _ in mails(world)]


def test_a_run_that_was_exited_counts_as_having_been_in():
    """Entering is what `never` counts, not being sent something."""
    world = a_world(a_trigger(reentry="never"))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(order(at("10:30:00")))
    world.happens(cart(at("10:00:00", day=25), "shoe", id="78"))
    world.until(at("23:00:00", day=29))
    assert ([], ["bought"]) == (mails(world), skips(world))
    assert 1 == world.tally["cart", "not_again"]


@given(st.permutations([0, 1, 2]))
def test_two_workers_who_did_not_see_each_other_begin_once(order_of_work):
    """Each put its own run: the one that began first sends, whichever is looked at first."""
    world = a_world(a_trigger(reentry="never"))
    trigger = world.published.triggers()[0]
    runs = []
    for number in range(3):
        event = cart(at("10:00:00") + timedelta(minutes=number), "x", id=f"c-{number}")
        world.people.record(event)
        run = begin(trigger, event, str(ADA_KEY))
        assert run is not None
        assert run.lasting
        world.people.put(run, None)
        runs.append(run)
    world.now = at("11:10:00")
    view = world.people.load(ADA_KEY)
    reasons = {number: decide(trigger, runs[number], view, world.now).reason for number in order_of_work}
    assert {0: "all_rules_hold", 1: "not_again", 2: "not_again"} == reasons


def test_a_run_that_must_be_remembered_is_kept_for_ever():
    """The stored item of one that bars every other has no end."""
    from espial.stores.people_table import _run_item

    for reentry, ends in (("never", False), ("per_key", True), ({"every": "90d"}, True)):
        run = begin(a_trigger(reentry=reentry), cart(at("10:00:00"), "shoe"), str(ADA_KEY))
        assert run is not None
        assert ends == ("ttl" in _run_item(replace(run, state="sent", closed_at=at("11:00:00"))))


# which of two goes --------------------------------------------------------------------------------------------------

CAP = [{"name": "one_a_day", "count": 1, "within": "24h", "scope": "person"}]


def two(high=None, low=None):
    """The lower is held for 10 minutes; the higher is not, unless it is said."""
    return (
        a_trigger(name="high", priority=5, **{"limits": CAP, **(high or {})}),
        a_trigger(name="low", hold="10m", **{"limits": CAP, "on": ["product_viewed", "cart_updated"], **(low or {})}),
    )


@pytest.mark.parametrize("high_hold", ["0s", "10m", "3m"])
@pytest.mark.parametrize("minutes", range(-14, 15, 2))
def test_the_higher_goes_whichever_is_due_first(minutes, high_hold):
    """Goal 42: to what is due or was sent inside its hold the lower yields, in either order; else the cap counts."""
    world = a_world(
        *two({"where": 'event.commerce.cart.id == "h"', "hold": high_hold}, {"where": 'event.commerce.cart.id == "l"'})
    )
    low, high = at("10:00:00"), at("10:00:00") + timedelta(minutes=minutes)
    for event in sorted([cart(low, "x", id="l"), cart(high, "y", id="h")], key=lambda event: event.occurred_at):
        world.happens(event)
    world.until(at("20:00:00"))
    came = [own.properties["trigger"] for own in world.people.own if own.type == "message_requested"]
    assert 1 == len(came)
    assert 2 == len(world.people.own)
    if minutes <= 10 and minutes + int(high_hold[:-1]) * (high_hold != "0s") >= -10:
        assert (["high"], ["yielded"]) == (came, skips(world))
    else:
        assert ["limit:one_a_day"] == skips(world)


def test_the_lower_goes_if_the_higher_cannot():
    """The higher is due at the same time and skipped: nothing is lost."""
    world = a_world(*two({"hold": "10m", "conditions": [{"name": "no", "when": "false"}]}))
    world.happens(cart(at("10:00:00"), "x"))
    world.until(at("20:00:00"))
    assert (["condition:no"], 1) == (skips(world), len(mails(world)))


def test_the_lower_does_not_wait_for_ever():
    """The higher one's timer was lost: the hold and `stale_after` end the wait."""
    high, low = two()
    world = a_world(high, low)
    event = cart(at("10:00:00"), "x")
    world.people.record(event)
    run = begin(high, event, str(ADA_KEY))
    assert run is not None
    world.people.put(run, None)
    world.runner.on_event(event, MemoryPublished([low], {}, {}), at("10:00:00"))
    world.until(at("20:00:00"))
    assert ["low"] == [own.properties["trigger"] for own in world.people.own]


@pytest.mark.parametrize(
    ("scope", "channel", "category", "yields"),
    [
        ("person", "sms", "service", True),
        ("channel", "email", "service", True),
        ("channel", "sms", "promotion", False),
        ("category", "sms", "promotion", True),
        ("category", "email", "service", False),
    ],
)
def test_only_what_a_limit_counts_competes(scope, channel, category, yields):
    """`same person and cap`: by person, channel or category."""
    cap = [{"name": "cap", "count": 5, "within": "24h", "scope": scope}]
    sms = {"provider": "ses", "template": "a", "to": "person.email"}
    high, low = two(
        {"category": category, "consent": {"channel": channel, "opt_in": False}, "send": sms},
        {"category": "promotion", "limits": cap},
    )
    world = a_world(high, low)
    world.happens(cart(at("10:00:00"), "x"))
    world.until(at("20:00:00"))
    assert (["yielded"] if yields else []) == skips(world)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"hold": "10m"}, "hold: needs a limit"),
        ({"hold": "10m", "limits": [{"name": "a", "count": 1, "within": "1d"}]}, "hold: needs a limit"),
        ({"reentry": {"every": "91d"}}, "at most 90d"),
        ({"reentry": {"every": "0s"}}, "longer than nothing"),
        ({"reentry": "sometimes"}, "reentry"),
    ],
)
def test_rules_that_make_no_sense_are_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        a_trigger(**fields)
