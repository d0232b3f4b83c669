"""Variants and holdout: the same person the same arm, the shares as told (goal 45)."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.events import Person
from espial.triggers.arms import HELD_OUT, assign
from espial.vocabulary import EventType
from tests.simulation import a_trigger, at, behaviour, cart
from tests.travel import a_world, mails, skips

VARIANTS = [
    {"name": "plain", "weight": 2, "template": "a"},
    {"name": "bold", "weight": 1, "template": "b"},
    {"name": "same", "weight": 1},
]
PEOPLE = 200_000


def test_the_shares_are_as_told():
    """Within 0.4 points for 200,000 people: four standard deviations. Of a million that is less than 0.2."""
    trigger = a_trigger(variants=VARIANTS, holdout="10%")
    found = Counter(assign(trigger, f"id:{number}") for number in range(PEOPLE))
    for name, share in {HELD_OUT: 10, "plain": 45, "bold": 22.5, "same": 22.5}.items():
        assert abs(100 * found[name] / PEOPLE - share) < 0.4, name


@given(st.text(min_size=1), st.sampled_from(["5%", "10%", "50%"]))
def test_the_same_person_gets_the_same_arm(person, holdout):
    """In another version of the trigger too, whatever else changed in it; a salt draws anew."""
    trigger = a_trigger(variants=VARIANTS, holdout=holdout)
    later = a_trigger(variants=VARIANTS, holdout=holdout, wait="3h", description="another", priority=4)
    assert assign(trigger, person) == assign(later, person)


def test_a_larger_holdout_takes_people_and_moves_nobody_else():
    """Those held out stay so, and the others keep their variant."""
    shares = [a_trigger(variants=VARIANTS, holdout=holdout) for holdout in ("0%", "5%", "20%", "50%")]
    for number in range(2_000):
        for before, after in pairwise([assign(trigger, f"id:{number}") for trigger in shares]):
            assert after in (before, HELD_OUT)


def test_triggers_draw_without_relation():
    """Who is held out of one is no likelier to be held out of another; the same salt draws the same."""
    one, other = a_trigger(name="one", holdout="50%"), a_trigger(name="other", holdout="50%")
    both = sum(assign(one, f"id:{n}") == assign(other, f"id:{n}") == HELD_OUT for n in range(20_000))
    assert 4_700 < both < 5_300
    shared = [a_trigger(name=name, holdout="50%", salt="autumn") for name in ("one", "other")]
    assert all(assign(shared[0], f"id:{n}") == assign(shared[1], f"id:{n}") for n in range(200))


def of_arm(trigger, arm):
    """A customer who was drawn into the arm."""
    number = next(n for n in range(1_000) if assign(trigger, f"id:c-{n}") == arm)
    return Person(external_id=f"c-{number}", email=f"c{number}@example.com")


@pytest.mark.parametrize(("arm", "template"), [("plain", "a"), ("bold", "b"), ("same", "cart-reminder")])
def test_a_variant_is_in_the_mail_its_tags_the_decision_and_the_event(arm, template):
    """Template and tag of the mail, a rule of the decision, a property of our event."""
    trigger = a_trigger(variants=VARIANTS, holdout="10%", consent=None)
    world = a_world(trigger)
    person = of_arm(trigger, arm)
    world.happens(cart(at("10:00:00"), "shoe", person=person))
    world.until(at("20:00:00"))
    assert [(at("11:00:00"), template)] == mails(world)
    assert arm == world.outbox.taken[0][1].tags["variant"]
    assert arm == world.people.own[0].properties["variant"]
    [decided] = world.decisions.of_person(f"id:{person.external_id}")
    assert [(arm, True)] == [(rule.value, rule.verdict) for rule in decided.decision.rules if rule.name == "variant"]


def test_who_is_held_out_is_skipped_where_others_are_sent():
    """Only once everything else holds, so that those held out compare with those who were sent."""
    trigger = a_trigger(
        holdout="50%", consent=None, conditions=[{"name": "big", "when": "size(event.commerce.cart.items) > 1"}]
    )
    world = a_world(trigger)
    person = of_arm(trigger, HELD_OUT)
    world.happens(cart(at("10:00:00"), "shoe", person=person))
    world.happens(cart(at("12:00:00"), "shoe", "hat", person=person))
    world.until(at("20:00:00"))
    assert ([], ["condition:big", "held_out"]) == (mails(world), skips(world))


def test_a_guest_who_becomes_known_keeps_the_arm_of_the_run():
    """Drawn when the run began, by the strongest key known then."""
    trigger = a_trigger(
        variants=[{"name": "x", "template": ["a", "a"]}, {"name": "y", "template": ["b", "b"]}],
        wait="0s", stages=[{"after": "1h"}, {"after": "3h"}], consent=None,
    )  # fmt: skip
    number = next(n for n in range(99) if assign(trigger, f"email:g{n}@example.com") != assign(trigger, f"id:g-{n}"))
    world = a_world(trigger)
    email = f"g{number}@example.com"
    world.happens(cart(at("10:00:00"), "shoe", person=Person(email=email)))
    known = Person(external_id=f"g-{number}", email=email)
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("12:00:00"), person=known))
    world.until(at("20:00:00"))
    assert 1 == len({name for _, name in mails(world)})
    assert 2 == len(mails(world))


def test_a_session_of_somebody_known_has_their_arm():
    """Not that of the session: the strongest key decides."""
    trigger = a_trigger(holdout="50%", consent=None)
    person = of_arm(trigger, HELD_OUT)
    session = next(f"s-{n}" for n in range(99) if assign(trigger, f"session:s-{n}") != HELD_OUT)
    world = a_world(trigger)
    both = Person(external_id=person.external_id, email=person.email, session_id=session)
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("09:00:00"), person=both))
    world.happens(cart(at("10:00:00"), "shoe", person=Person(session_id=session)))
    world.until(at("20:00:00"))
    assert ([], ["held_out"]) == (mails(world), skips(world))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"holdout": "100%"}, "a share such as 10%"),
        ({"holdout": "ten"}, "a share such as 10%"),
        ({"holdout": 0.1}, "a share such as 10%"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: every name"),
        ({"variants": [{"name": "held_out"}]}, "who get nothing"),
        ({"variants": [{"name": "a", "weight": 0}]}, "greater than or equal to 1"),
        ({"variants": [{"name": "a", "template": ["x", "y"]}]}, "one for each stage"),
    ],
)
def test_arms_that_make_no_sense_are_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        a_trigger(**fields)


def test_a_share_survives_publishing():
    """Through the JSON that the functions read."""
    trigger = a_trigger(holdout="12.5%", variants=VARIANTS)
    assert "12.5%" == trigger.model_dump(mode="json")["holdout"]
    assert trigger == type(trigger).model_validate(trigger.model_dump(mode="json"))
