"""Profiles: the same state whatever the order, duplicates included; consent and suppression by their rules."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import people
from espial.events import Event, Person, PersonKey
from espial.people import NOTHING, PersonView, Profile
from espial.vocabulary import EventType
from tests.builders import NOON, an_event

TYPES = (
    EventType.BOUNCED,
    EventType.COMPLAINED,
    EventType.UNSUBSCRIBED,
    EventType.SUBSCRIBED,
    EventType.PROFILE_UPDATED,
    EventType.DELIVERED,
    EventType.PAGE_VIEWED,
)


def told(type_: EventType, minute: int = 0, identity: str = "", **fields) -> Event:
    """What was reported at that minute."""
    return an_event(f"{type_}{minute}{identity}", type=type_, occurred_at=NOON + timedelta(minutes=minute), **fields)


def merged(*events: Event) -> Profile:
    profile = NOTHING
    for event in events:
        profile = people.merge_profile(profile, event)
    return profile


def seen(*events: Event) -> PersonView:
    return PersonView(key=PersonKey("id", "cust-1"), profile=merged(*events))


events = st.builds(
    told,
    st.sampled_from(TYPES),
    st.integers(0, 4),
    st.sampled_from(["", "x"]),
    properties=st.fixed_dictionaries(
        {},
        optional={
            "tier": st.sampled_from(["gold", "silver"]),
            "topic": st.sampled_from(["news", "offers"]),
            "consent": st.dictionaries(st.sampled_from(["email", "email/news"]), st.booleans()),
            "known_consent": st.dictionaries(st.sampled_from(["email", "email/news"]), st.booleans()),
        },
    ),
    person=st.sampled_from(
        [Person(email="ada@example.com"), Person(external_id="c", email="new@example.com"), Person()]
    ),
)


@given(st.lists(events, max_size=7), st.data())
def test_any_order_and_any_duplicates_give_the_same_profile(history, data):
    """Goal 22, also where two reports under one event id say different things."""
    shuffled = data.draw(
        st.permutations(history + data.draw(st.lists(st.sampled_from(history), max_size=3)) if history else history)
    )
    assert merged(*history) == merged(*shuffled)


@given(st.lists(events, max_size=4), st.lists(events, max_size=4), st.lists(events, max_size=4))
def test_join_is_a_least_upper_bound(one, two, three):
    """Associative, commutative, idempotent: so the profiles of linked keys may be joined when they are read."""
    a, b, c = merged(*one), merged(*two), merged(*three)
    assert people.join(a, people.join(b, c)) == people.join(people.join(a, b), c)
    assert people.join(a, b) == people.join(b, a)
    assert a == people.join(a, a)


@given(st.lists(events, max_size=5))
def test_a_stored_profile_reads_back(history):
    """As JSON, the same bytes for the same state."""
    profile = merged(*history)
    again = people.decode(people.encode(profile))
    assert profile == again
    assert people.encode(profile) == people.encode(again)


def test_the_newest_attribute_wins():
    """By time, not by arrival."""
    silver = told(EventType.PROFILE_UPDATED, 1, properties={"tier": "silver"})
    gold = told(EventType.PROFILE_UPDATED, 2, properties={"tier": "gold"})
    assert "gold" == seen(gold, silver).attributes["tier"]


def test_only_what_people_say_of_themselves_moves_their_address():
    """A mail delivered to an old address later than the change does not bring it back."""
    new = told(EventType.PROFILE_UPDATED, 1, person=Person(external_id="cust-1", email="new@example.com"))
    old = told(EventType.DELIVERED, 2, person=Person(external_id="cust-1", email="old@example.com"))
    assert "new@example.com" == seen(new, old).attributes["email"]


def test_a_trait_that_is_no_address_is_not_one():
    """Only the normalised address of the canonical event counts."""
    view = seen(told(EventType.PROFILE_UPDATED, person=Person(external_id="c"), properties={"email": "not an address"}))
    assert "email" not in view.attributes


def test_a_key_is_an_address_where_none_is_known_better():
    """A person known by address alone."""
    view = PersonView(key=PersonKey("email", "ada@example.com"))
    assert "ada@example.com" == view.attributes["email"]


def test_what_a_group_call_says_is_about_the_group():
    """The company's name is not the person's."""
    assert {"email"} == set(
        seen(told(EventType.PROFILE_UPDATED, properties={"group_id": "g", "name": "Acme"})).attributes
    )


SUBSCRIBED, UNSUBSCRIBED = EventType.SUBSCRIBED, EventType.UNSUBSCRIBED


@pytest.mark.parametrize(
    ("said", "topic", "granted"),
    [
        ([], "news", None),
        ([(SUBSCRIBED, 1, "news")], "news", True),
        ([(SUBSCRIBED, 1, "news")], "offers", None),
        ([(SUBSCRIBED, 1, "")], "news", True),
        ([(SUBSCRIBED, 1, "news"), (UNSUBSCRIBED, 2, "news")], "news", False),
        ([(SUBSCRIBED, 2, "news"), (UNSUBSCRIBED, 1, "news")], "news", True),
        ([(SUBSCRIBED, 1, "news"), (UNSUBSCRIBED, 2, "")], "news", False),
        ([(SUBSCRIBED, 2, "news"), (UNSUBSCRIBED, 1, "")], "news", True),
        ([(UNSUBSCRIBED, 1, "news"), (SUBSCRIBED, 2, "")], "news", False),
        ([(UNSUBSCRIBED, 1, "news"), (SUBSCRIBED, 2, "")], "offers", True),
    ],
)
def test_the_word_that_covers_a_topic(said, topic, granted):
    """A topic's refusal stands until the topic is agreed to; its agreement yields to a newer refusal of everything."""
    view = seen(*(told(type_, minute, name, properties={"topic": name}) for type_, minute, name in said))
    choice = view.choice("email", topic)
    assert granted == (choice.granted if choice else None)


def test_a_platform_group_is_a_topic():
    """Leaving one group is not leaving all mail; a global unsubscribe that names a group is global."""
    left = told(UNSUBSCRIBED, platform_type="group_unsubscribe", properties={"asm_group_id": 42})
    everything = told(UNSUBSCRIBED, platform_type="unsubscribe", properties={"asm_group_id": 42})
    assert ({"email/42": False}, {"email/": False}) == (seen(left).consent, seen(everything).consent)


@pytest.mark.parametrize("arrival", [1, -1])
def test_a_complaint_outranks_a_bounce_and_nothing_lifts_either(arrival):
    """Whatever arrives last: an opt-in lifts an opt-out, never what the address or its provider said."""
    history = [
        told(EventType.BOUNCED, 1),
        told(EventType.COMPLAINED, 2),
        told(SUBSCRIBED, 3),
        told(EventType.DELIVERED, 4),
    ]
    view = seen(*history[::arrival])
    assert ["complained", "bounced"] == [block.reason for block in view.blocks("email", "ada@example.com")]
    assert ["complained"] == [block.reason for block in view.blocks("email", "new@example.com")]
    assert [] == view.blocks("sms", "+15550100")


def test_consent_can_be_a_trait():
    """`identify` with a consent map; anything but true and false is no answer."""
    view = seen(
        told(EventType.PROFILE_UPDATED, properties={"consent": {"email": True, "sms/offers": False, "push": "yes"}})
    )
    assert {"email/": True, "sms/offers": False} == view.consent
    assert "consent" not in view.attributes


def known(minute: int, granted: bool, kind: EventType = EventType.CART_UPDATED) -> Event:
    """A call that carries the consent its sender has on file."""
    return told(kind, minute, properties={"known_consent": {"email": granted}})


@pytest.mark.parametrize("arrival", [1, -1], ids=["in order", "the last first"])
@pytest.mark.parametrize(
    ("history", "granted"),
    [
        ([known(1, True)], True),
        ([known(1, False)], False),
        ([known(1, False), known(2, True)], False),
        ([known(1, True), known(2, False)], False),
        ([known(1, True), known(2, True, EventType.PAGE_VIEWED)], True),
        ([told(UNSUBSCRIBED, 1), known(2, True)], False),
        ([told(EventType.PROFILE_UPDATED, 1, properties={"consent": {"email": False}}), known(2, True)], False),
        ([told(EventType.PROFILE_UPDATED, 1, properties={"consent": {"email": True}}), known(2, False)], False),
        ([known(1, False), told(EventType.PROFILE_UPDATED, 2, properties={"consent": {"email": True}})], True),
        ([known(1, False), told(SUBSCRIBED, 2)], True),
    ],
)
def test_consent_on_file_never_undoes_an_opt_out(history, granted, arrival):
    """A refusal that comes with any call counts by its time; an agreement only where nothing else was ever said."""
    choice = seen(*history[::arrival]).choice("email", "")
    assert choice
    assert granted == choice.granted


def test_consent_on_file_is_no_attribute():
    """Nor does a message event carry any: it only says where it went."""
    both = told(EventType.PROFILE_UPDATED, properties={"known_consent": {"email": True, "sms": "yes"}, "tier": "gold"})
    assert {"tier", "email"} == seen(both).attributes.keys()
    assert {"email/": True} == seen(both).consent
    assert {} == seen(known(1, True, EventType.OPENED)).consent


def test_a_timeline_holds_each_event_once_in_order():
    """By time, then id."""
    first, second = told(EventType.OPENED, 1), told(EventType.OPENED, 2)
    assert (first, second) == people.timeline([second, first, second])
    view = PersonView(key=PersonKey("id", "c"), events=(second,))
    assert (first, second) == view.with_event(first).events
    assert view is view.with_event(second)


def test_what_is_about_an_address_is_filed_under_it():
    """So that an address which two customers share still carries its complaint."""
    who = Person(external_id="cust-1", email="ada@example.com")
    assert PersonKey("email", "ada@example.com") == people.filed_under(told(EventType.COMPLAINED, person=who))
    assert PersonKey("id", "cust-1") == people.filed_under(told(EventType.PROFILE_UPDATED, person=who))
    assert None is people.filed_under(told(EventType.PROFILE_UPDATED, person=Person()))


def test_an_alias_names_the_earlier_session():
    """The id that a visitor had before signing in."""
    alias = told(EventType.PROFILE_UPDATED, person=Person(external_id="c"), properties={"previous_id": "anon-1"})
    assert [PersonKey("id", "c"), PersonKey("session", "anon-1")] == people.keys_of(alias)
