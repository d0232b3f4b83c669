"""People in flight stay under the definitions with which their run began (goal 47)."""

from __future__ import annotations

from collections import Counter

import pytest

from espial.events import Person
from espial.vocabulary import EventType
from tests.simulation import a_trigger, at, cart, order
from tests.travel import PROVIDER, a_template, a_world, mails, skips

OLD = a_trigger(consent=None, wait="0s", stages=[{"after": "1h", "template": "a"}, {"after": "24h", "template": "b"}])
NEW = a_trigger(consent=None, wait="2h", conditions=[{"name": "never", "when": "false"}], exit_on=[])


def shopper(number):
    return Person(external_id=f"c-{number}", email=f"c{number}@example.com")


def applies(world, *triggers, **templates):
    """`espial apply`."""
    known = {name: a_template(name) for name in ("cart-reminder", "a", "b")} | templates
    world.published.apply(triggers, {"ses": PROVIDER}, known)


def test_an_edit_while_a_thousand_are_in_flight_changes_none_of_them():
    """They get both stages of the old trigger from the old templates; who comes later is under the new one."""
    world = a_world(OLD)
    for number in range(1_000):
        world.happens(cart(at("10:00:00"), "shoe", person=shopper(number)))
    world.until(at("10:30:00"))
    applies(world, NEW, a={**a_template("a"), "subject": "mended"})
    world.happens(cart(at("10:31:00"), "shoe", person=shopper("new")))
    world.until(at("20:00:00", day=22))
    assert {(at("11:00:00"), "a"): 1_000, (at("10:00:00", day=21), "b"): 1_000} == Counter(mails(world))
    assert ["condition:never"] == skips(world)


def test_an_exit_that_was_removed_still_ends_those_who_began_with_it():
    """And one that was added does not end those who began without."""
    world = a_world(OLD)
    world.happens(cart(at("10:00:00"), "shoe", person=shopper(1)))
    applies(world, a_trigger(consent=None, exit_on=[]))
    world.happens(cart(at("10:10:00"), "shoe", person=shopper(2)))
    applies(world, OLD)
    for number in (1, 2):
        world.happens(order(at("10:30:00"), person=shopper(number)))
    world.until(at("20:00:00", day=22))
    assert (["bought"], ["c2@example.com"]) == (skips(world), [mail.to for _, mail in world.outbox.taken])


def test_a_restart_begins_under_the_newest():
    """An edit of the cart is a new version of the run."""
    world = a_world(a_trigger(consent=None))
    world.happens(cart(at("10:00:00"), "shoe"))
    applies(world, a_trigger(consent=None, wait="3h"))
    world.happens(cart(at("10:30:00"), "shoe", "hat"))
    world.until(at("20:00:00"))
    assert [at("13:30:00")] == [when for when, _ in mails(world)]


PAUSED = NEW.model_copy(update={"status": "paused"})


@pytest.mark.parametrize(("triggers", "reason"), [([], "trigger_removed"), ([PAUSED], "not_live")])
def test_pausing_or_removing_stops_those_in_flight(triggers, reason):
    """The way to stop a trigger at once is the same as ever."""
    world = a_world(OLD)
    world.happens(cart(at("10:00:00"), "shoe"))
    applies(world, *triggers)
    world.until(at("20:00:00", day=22))
    assert [] == mails(world)
    assert {reason} == {own.properties["reason"] for own in world.people.own if own.type is EventType.MESSAGE_SKIPPED}
