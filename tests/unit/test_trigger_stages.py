"""Stages: a series of messages about one thing, each decided by itself, on the use-cases of production."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.events import Person
from espial.triggers.decision import advance, next_stage
from espial.vocabulary import EventType
from tests.simulation import a_trigger, at, behaviour, cart, order
from tests.travel import ADA_KEY, CART_STAGES, a_world, mails, skips


def test_three_stages_are_counted_from_the_last_change():
    """An hour, a day and three days after the cart was last touched, each from its template, once."""
    world = a_world()
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:30:00"), "shoe", "hat"))
    world.until(at("10:00:00", day=29))
    assert [
        (at("11:30:00"), "first"),
        (at("10:30:00", day=21), "second"),
        (at("10:30:00", day=23), "cart-reminder"),
    ] == mails(world)
    assert [None, 1, 2] == [event.properties.get("stage") for event in world.people.own]
    assert 3 == len({event.send_key for event in world.people.own})


def test_a_change_after_a_stage_restarts_the_stages():
    """Seed 8.7 with stages: a new version, from the first stage again."""
    world = a_world()
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("12:00:00"), "shoe", "hat"))
    world.until(at("10:00:00", day=29))
    assert [at("11:00:00"), at("13:00:00"), at("12:00:00", day=21), at("12:00:00", day=23)] == [
        when for when, _ in mails(world)
    ]


def test_a_change_made_before_a_stage_but_told_after_it_restarts_nothing():
    """The stage spoke for it."""
    world = a_world()
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("11:00:01"))
    world.happens(cart(at("10:59:00"), "shoe", "hat"))
    world.until(at("10:00:00", day=29))
    assert [at("11:00:00"), at("10:00:00", day=21), at("10:00:00", day=23)] == [when for when, _ in mails(world)]


def test_an_exit_stops_the_stages_to_come():
    """Recovered after the first stage: said once, of the second."""
    world = a_world()
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(order(at("20:00:00")))
    world.until(at("10:00:00", day=29))
    assert ([(at("11:00:00"), "first")], ["bought"]) == (mails(world), skips(world))
    assert 1 == world.people.own[-1].properties["stage"]


def test_a_stage_that_is_skipped_leaves_the_next_its_chance():
    """A condition of one stage says nothing of the others."""
    stages = [
        {"after": "1h", "conditions": [{"name": "never", "when": "false"}]},
        {"after": "2h", "template": "second"},
    ]
    world = a_world(stages=stages)
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("10:00:00", day=29))
    assert ([(at("12:00:00"), "second")], ["condition:never"]) == (mails(world), skips(world))


def test_guests_get_the_template_for_guests():
    """Who left an address and has no account; the stage without one of its own takes its template."""
    world = a_world(consent=None)
    guest = Person(email="guest@example.com")
    world.happens(cart(at("10:00:00"), "shoe", person=guest))
    world.until(at("10:00:00", day=29))
    assert ["first-guest", "second", "cart-reminder"] == [name for _, name in mails(world)]


def test_a_guest_who_signs_in_between_two_stages_goes_on_as_a_customer():
    """The run stays under the key that began it; the person is looked at anew for each stage."""
    stages = [{"after": "1h", "guest_template": "a"}, {"after": "2h", "guest_template": "a", "template": "b"}]
    world = a_world(consent=None, stages=stages)
    guest = Person(email="guest@example.com")
    world.happens(cart(at("10:00:00"), "shoe", person=guest))
    known = Person(external_id="P-7", email="guest@example.com")
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("11:30:00"), person=known))
    world.until(at("10:00:00", day=29))
    assert ["a", "b"] == [name for _, name in mails(world)]


def test_every_copy_of_a_timer_of_every_stage_sends_once():
    """Timers replayed after the stage was sent, and after the last one."""
    world = a_world()
    event = cart(at("10:00:00"), "shoe")
    world.happens(event)
    copies = [
        {"person": "id:P-1001", "trigger": "cart", "key": "77", "version": event.event_id, "stage": stage}
        for stage in range(3)
    ]
    for day in range(20, 27):
        world.until(at("12:00:00", day=day))
        for copy in copies:
            world.fires(copy)
            world.fires(copy)
    assert ["first", "second", "cart-reminder"] == [name for _, name in mails(world)]
    assert 3 == len(world.people.own)


@given(st.lists(st.tuples(st.integers(0, 96 * 60), st.sampled_from(["edit", "buy"])), max_size=8))
def test_every_stage_begun_ends_in_a_send_or_a_skip_once(steps):
    """Goal 51 with stages: whatever the shopper does, no stage of a version is said twice, and nothing is left."""
    world = a_world()
    for minute, step in sorted(steps):
        when = at("10:00:00") + timedelta(minutes=minute)
        world.happens(cart(when, f"item-{minute}") if step == "edit" else order(when))
    world.until(at("10:00:00", day=29) + timedelta(days=5))
    told = [(own.properties["version"], own.properties.get("stage", 0)) for own in world.people.own]
    assert len(told) == len(set(told))
    assert all(run.state != "waiting" for run in world.people.load(ADA_KEY).runs)
    for version in {version for version, _ in told}:
        stages = sorted(stage for known, stage in told if known == version)
        assert list(range(len(stages))) == stages
    assert len(world.outbox.taken) == sum(own.type is EventType.MESSAGE_REQUESTED for own in world.people.own)


def test_stages_keep_their_distance():
    """Pure: the next stage's time comes from the one before, not from when somebody got round to it."""
    trigger = a_trigger(wait="0s", stages=CART_STAGES)
    world = a_world(trigger)
    world.happens(cart(at("10:00:00"), "shoe"))
    [run] = world.people.load(ADA_KEY).runs
    second = next_stage(trigger, run, at("11:07:00"))
    assert second is not None
    assert (1, at("10:00:00", day=21), at("11:07:00")) == (second.stage, second.due_at, second.closed_at)
    assert second is advance(trigger, second, run)
    third = next_stage(trigger, second, at("10:00:00", day=21))
    assert third is not None
    assert None is next_stage(trigger, third, at("10:00:00", day=23))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"wait": "1h", "stages": [{"after": "1h"}]}, "wait: contradicts"),
        ({"stages": [{"after": "2h"}, {"after": "1h"}]}, "each must come after the one before"),
        ({"stages": [{"after": "1h"}, {"after": "1h"}]}, "each must come after the one before"),
        ({"stages": [{"after": f"{n}h"} for n in range(1, 5)]}, "at most 3"),
        (
            {
                "conditions": [{"name": "a", "when": "true"}],
                "stages": [{"after": "1h", "conditions": [{"name": "a", "when": "true"}]}],
            },
            "stages.0.conditions: every name",
        ),
    ],
)
def test_stages_that_make_no_sense_are_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        a_trigger(**{"wait": "0s", **fields})
