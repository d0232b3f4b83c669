"""Decisions: every rule, its reason, and the explanation."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import own_events, people
from espial.events import Event, Person, PersonKey
from espial.people import PersonView
from espial.triggers.decision import Decision, Rule, advance, begin, decide, exit_of, reason_of, recipient
from espial.triggers.definition import Trigger
from espial.triggers.run import Run, decode, encode, message
from espial.vocabulary import EventType
from tests.builders import an_event
from tests.simulation import a_trigger, agrees, at, behaviour, cart, order

DUE = at("11:00:00")


def a_view(*events: Event, runs: tuple[Run, ...] = (), key: str = "id:P-1001") -> PersonView:
    """A person with that history and nothing else."""
    profile = people.NOTHING
    for event in events:
        profile = people.merge_profile(profile, event)
    return PersonView(
        key=PersonKey.parse(key),
        keys=(PersonKey.parse(key),),
        profile=profile,
        events=people.timeline(events),
        runs=runs,
    )


CART = cart(at("10:00:00"), "shoe")


def a_run(trigger: Trigger, event: Event = CART) -> Run:
    run = begin(trigger, event, "id:P-1001")
    assert run is not None
    return run


def judged(*events: Event, now: datetime = DUE, **fields) -> Decision:
    """The decision on Ada's cart of ten o'clock, given what else she did."""
    trigger = a_trigger(**fields)
    return decide(trigger, a_run(trigger), a_view(agrees(), CART, *events), now)


def a_message(when: datetime, *, trigger: str = "cart", key: str = "1", channel: str = "email") -> Event:
    """We sent Ada something."""
    properties = {"trigger": trigger, "key": key, "version": "v"}
    return (
        behaviour(EventType.MESSAGE_REQUESTED, when, f"{trigger}/{key}", properties=properties, platform_type="x")
        if channel == "web"
        else msgspec.structs.replace(
            behaviour(EventType.MESSAGE_REQUESTED, when, f"{trigger}/{key}", properties=properties), channel=channel
        )
    )


def reported(type_: EventType, when: datetime, **fields) -> Event:
    """What the platform says of a mail to Ada."""
    return an_event(f"{type_}/{when}", type=type_, occurred_at=when, person=Person(email="ada@example.com"), **fields)


LIMIT = {"name": "cap", "count": 1, "within": "24h"}

CASES = [
    ("send", "all_rules_hold", {}, [], DUE),
    ("wait", "not_due", {}, [], DUE - timedelta(seconds=1)),
    ("skip", "bought", {}, [order(at("10:30:00"))], DUE),
    ("skip", "bought", {}, [order(at("10:30:00"))], at("10:31:00")),
    ("skip", "bought", {}, [order(at("10:00:00"))], DUE),
    ("send", "all_rules_hold", {}, [order(at("09:59:59"))], DUE),
    ("send", "all_rules_hold", {}, [order(at("10:30:00"), cart_id="other")], DUE),
    ("skip", "bought", {}, [order(at("10:30:00"), cart_id=None)], DUE),
    ("skip", "cart_emptied", {}, [cart(at("10:30:00"))], DUE),
    ("send", "all_rules_hold", {}, [cart(at("10:30:00"), id="other")], DUE),
    ("wait", "superseded", {}, [cart(at("10:30:00"), "hat")], DUE),
    ("send", "all_rules_hold", {"restart": False}, [cart(at("10:30:00"), "hat")], DUE),
    ("skip", "not_live", {"status": "paused"}, [], DUE),
    ("skip", "not_live", {"status": "draft"}, [], DUE),
    ("skip", "staging", {"status": "staging"}, [], DUE),
    ("skip", "outside_validity", {"valid_to": "2026-11-20T11:00:00Z"}, [], DUE),
    ("send", "all_rules_hold", {"valid_to": "2026-11-20T11:00:01Z"}, [], DUE),
    ("send", "all_rules_hold", {"stale_after": "15m"}, [], at("11:15:00")),
    ("skip", "stale", {"stale_after": "15m"}, [], at("11:15:01")),
    (
        "skip",
        "condition:big",
        {"conditions": [{"name": "big", "when": "size(event.commerce.cart.items) > 5"}]},
        [],
        DUE,
    ),
    ("skip", "condition:gold", {"conditions": [{"name": "gold", "when": 'person.attributes.tier == "gold"'}]}, [], DUE),
    (
        "send",
        "all_rules_hold",
        {"conditions": [{"name": "gold", "when": 'person.attributes.tier == "gold"'}]},
        [behaviour(EventType.PROFILE_UPDATED, at("09:00:00"), properties={"tier": "gold"})],
        DUE,
    ),
    ("send", "all_rules_hold", {"conditions": [{"name": "r", "when": 'since("order_completed") > days(30)'}]}, [], DUE),
    (
        "skip",
        "condition:r",
        {"conditions": [{"name": "r", "when": 'since("order_completed") > days(1)'}]},
        [order(at("09:00:00"))],
        DUE,
    ),
    (
        "skip",
        "condition:f",
        {"conditions": [{"name": "f", "when": 'count("page_viewed", "1h") >= 2'}]},
        [behaviour(EventType.PAGE_VIEWED, at("10:30:00")), behaviour(EventType.PAGE_VIEWED, at("09:59:00"))],
        DUE,
    ),
    ("skip", "limit:cap", {"limits": [LIMIT]}, [a_message(at("10:30:00"))], DUE),
    ("skip", "limit:cap", {"limits": [LIMIT]}, [a_message(at("11:00:01", day=19))], DUE),
    ("send", "all_rules_hold", {"limits": [LIMIT]}, [a_message(at("11:00:00", day=19))], DUE),
    ("send", "all_rules_hold", {"limits": [LIMIT]}, [a_message(at("10:30:00"), trigger="other")], DUE),
    (
        "skip",
        "limit:cap",
        {"limits": [{**LIMIT, "scope": "person"}]},
        [a_message(at("10:30:00"), trigger="other")],
        DUE,
    ),
    ("skip", "limit:cap", {"limits": [{**LIMIT, "scope": "channel"}]}, [a_message(at("10:30:00"), trigger="o")], DUE),
    (
        "send",
        "all_rules_hold",
        {"limits": [{**LIMIT, "scope": "channel"}]},
        [a_message(at("10:30:00"), trigger="o", channel="sms")],
        DUE,
    ),
    ("skip", "no_address", {"send": {"provider": "ses", "template": "t", "to": "person.phone"}}, [], DUE),
    ("skip", "suppressed", {}, [reported(EventType.COMPLAINED, at("08:00:00"))], DUE),
    ("skip", "suppressed", {}, [reported(EventType.BOUNCED, at("08:00:00"))], DUE),
    ("send", "all_rules_hold", {}, [reported(EventType.SOFT_BOUNCED, at("08:00:00"))], DUE),
    (
        "send",
        "all_rules_hold",
        {},
        [msgspec.structs.replace(reported(EventType.BOUNCED, at("08:00:00")), person=Person(email="old@example.com"))],
        DUE,
    ),
    ("skip", "suppressed", {}, [reported(EventType.UNSUBSCRIBED, at("08:00:00"))], DUE),
    (
        "skip",
        "suppressed",
        {},
        [reported(EventType.UNSUBSCRIBED, at("08:00:00"), properties={"topic": "marketing"})],
        DUE,
    ),
    (
        "send",
        "all_rules_hold",
        {},
        [reported(EventType.UNSUBSCRIBED, at("08:00:00"), properties={"topic": "news"})],
        DUE,
    ),
    ("send", "all_rules_hold", {}, [reported(EventType.UNSUBSCRIBED, at("08:00:00")), agrees(at("08:30:00"))], DUE),
    ("skip", "no_consent", {"consent": {"channel": "email", "topic": "offers"}}, [], DUE),
    ("send", "all_rules_hold", {"consent": {"channel": "email", "topic": "offers", "opt_in": False}}, [], DUE),
    (
        "skip",
        "no_consent",
        {"consent": {"channel": "email", "topic": "offers", "opt_in": False}},
        [behaviour(EventType.PROFILE_UPDATED, at("09:00:00"), properties={"consent": {"email/offers": False}})],
        DUE,
    ),
    ("send", "all_rules_hold", {"consent": None}, [reported(EventType.COMPLAINED, at("08:00:00"))], DUE),
    ("send", "all_rules_hold", {"consent": None}, [reported(EventType.UNSUBSCRIBED, at("08:00:00"))], DUE),
    ("skip", "suppressed", {"consent": None}, [reported(EventType.BOUNCED, at("08:00:00"))], DUE),
]


@pytest.mark.parametrize(("outcome", "reason", "fields", "history", "now"), CASES)
def test_each_rule_gives_its_reason(outcome, reason, fields, history, now):
    """One row, one rule: the trigger's difference, what else the person did, and what comes of it."""
    decision = judged(*history, now=now, **fields)
    assert (outcome, reason) == (decision.outcome, decision.reason)


def test_every_rule_is_explained_also_after_one_said_no():
    """Goal 50: names, values and verdicts of all rules, in order."""
    decision = judged(
        reported(EventType.COMPLAINED, at("08:00:00")),
        conditions=[{"name": "no_such", "when": 'event.properties.colour == "red"'}],
        limits=[LIMIT],
        now=at("12:00:00"),
    )
    assert [
        ("exit:bought", None, True),
        ("exit:cart_emptied", None, True),
        ("twin", None, True),
        ("status", "live", True),
        ("validity", "2026-11-20T12:00:00+00:00", True),
        ("freshness", 3600.0, False),
        ("condition:no_such", False, False),
        ("limit:cap", 0, True),
        ("address", True, True),
        ("suppression", "complained", False),
        ("consent", True, True),
    ] == [(rule.name, rule.value, rule.verdict) for rule in decision.rules]
    assert ("skip", "stale") == (decision.outcome, decision.reason)
    assert "no such field: colour" == next(r.detail for r in decision.rules if r.name == "condition:no_such")


def test_no_address_stands_in_an_explanation():
    """Explanations are stored and printed: they say that there is an address, not which."""
    assert "ada@example.com" not in repr(judged().rules)


@given(
    st.lists(
        st.builds(
            Rule,
            st.sampled_from(["status", "freshness", "condition:x", "limit:y", "address", "exit:bought"]),
            st.none(),
            st.booleans(),
        )
    )
)
def test_an_explanation_evaluates_to_its_verdict_again(rules):
    """Goal 50: the reason is the first rule that said no, and nothing else decides."""
    reason = reason_of(tuple(rules))
    assert (not any(not rule.verdict for rule in rules)) == (reason == "")


@given(st.sampled_from(CASES))
def test_the_stored_explanation_gives_the_decision_again(case):
    """Goal 50: rules, encoded and read again, amount to the same reason."""
    _, _, fields, history, now = case
    decision = judged(*history, now=now, **fields)
    again = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert decision == again
    if decision.outcome in ("send", "skip"):
        assert ("" if decision.outcome == "send" else decision.reason) == reason_of(again.rules)


@pytest.mark.parametrize("state", ["sent", "skipped", "exited"])
def test_an_ended_run_leaves_nothing_to_decide(state):
    """A timer replayed after the end."""
    trigger = a_trigger()
    run = decode(encode(a_run(trigger)).replace(b'"waiting"', f'"{state}"'.encode()))
    assert Decision("none", f"already_{state}") == decide(trigger, run, a_view(agrees(), CART), DUE)


def test_its_own_message_does_not_count_against_a_limit():
    """A crash after the event and before the mark: the repeat is the same message."""
    trigger = a_trigger(limits=[LIMIT])
    run = a_run(trigger)
    own = a_message(at("11:00:00"), key="77")
    own = msgspec.structs.replace(own, properties={**own.properties, "version": run.version})
    assert "send" == decide(trigger, run, a_view(agrees(), CART, own), DUE).outcome


def test_a_newer_version_nobody_takes_over_ends_as_stale():
    """Its event is recorded but was never handled: the run does not wait for ever."""
    decision = judged(cart(at("10:30:00"), "hat"), now=at("11:45:01"))
    assert ("skip", "stale") == (decision.outcome, decision.reason)


def test_a_wait_says_until_when():
    """Both kinds of waiting name the instant to look again."""
    assert DUE == judged(now=at("10:30:00")).until
    assert at("11:30:00") == judged(cart(at("10:30:00"), "hat")).until
    assert at("11:31:05") == judged(cart(at("10:30:00"), "hat"), now=at("11:31:00")).until


def test_the_recipient_is_what_the_trigger_says():
    """`to` is an expression; the default is the newest address known of the person."""
    trigger = a_trigger()
    moved = behaviour(
        EventType.PROFILE_UPDATED, at("10:30:00"), person=Person(external_id="P-1001", email="new@example.com")
    )
    assert "new@example.com" == recipient(trigger, a_run(trigger), a_view(CART, moved), DUE)
    named = a_trigger(send={"provider": "ses", "template": "t", "to": '"Shop@Example.com"'})
    assert "shop@example.com" == recipient(named, a_run(named), a_view(CART), DUE)
    nobody = a_trigger(send={"provider": "ses", "template": "t", "to": "person.attributes.other"})
    assert None is recipient(nobody, a_run(nobody), a_view(CART), DUE)


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({}, order(at("10:00:00"))),
        ({"where": "size(event.commerce.cart.items) > 3"}, CART),
        ({"key": "event.properties.missing"}, CART),
        ({"key": "event.commerce.cart.total"}, cart(at("10:00:00"), "x", id="")),
        ({"key": '""'}, CART),
        ({"key": "true"}, CART),
        ({"key": '"x".matches("x") ? "' + "k" * 201 + '" : ""'}, CART),
        ({"valid_from": "2026-11-20T10:00:01Z"}, CART),
    ],
)
def test_what_starts_no_run(fields, event):
    """Another type, a `where` that does not hold, no usable key, or outside the trigger's validity."""
    assert None is begin(a_trigger(**fields), event, "id:P-1001")


def test_a_number_is_a_key_too():
    """Shops number their carts."""
    run = begin(a_trigger(key="event.commerce.cart.items[0].quantity"), CART, "id:P-1001")
    assert run is not None
    assert "1" == run.key


def test_advance_takes_the_latest_whichever_comes_first():
    """(occurred_at, event_id) decides, and the run stays under the key that began it."""
    trigger = a_trigger()
    older, newer = a_run(trigger), a_run(trigger, cart(at("10:30:00"), "hat"))
    assert older is advance(trigger, None, older)
    assert newer == advance(trigger, older, newer)
    assert newer is advance(trigger, newer, older)
    assert newer is advance(trigger, newer, newer)


def test_exit_of_takes_the_last_one():
    """What happened after the last exit begins anew; what happened between two does not."""
    trigger = a_trigger()
    first, last = order(at("10:10:00")), order(at("10:20:00"))
    ended = exit_of(trigger, a_run(trigger), a_view(CART, last, first))
    assert ended is not None
    assert last == ended.event


def test_the_send_queue_message_is_what_the_sender_reads():
    """Its shape is a contract between two functions."""
    run = a_run(a_trigger())
    assert {
        "person": "id:P-1001",
        "trigger": "cart",
        "key": "77",
        "version": CART.event_id,
        "stage": 0,
        "variant": "",
        "due_at": "2026-11-20T11:00:00+00:00",
    } == message(run)


def test_our_events_are_the_same_each_time_they_are_made():
    """A repeat after a crash, a second later, is the same event; another reason or version is another."""
    trigger = a_trigger()
    run, other = a_run(trigger), a_run(trigger, cart(at("10:30:00"), "hat"))
    skip = Decision("skip", "stale")
    first = own_events.message_skipped(run, skip, at=DUE)
    assert first.event.event_id == own_events.message_skipped(run, skip, at=DUE + timedelta(seconds=9)).event.event_id
    assert first.event.event_id != own_events.message_skipped(other, skip, at=DUE).event.event_id
    assert first.event.event_id != own_events.message_skipped(run, Decision("skip", "bought"), at=DUE).event.event_id
    assert ("P#id:P-1001", "espial", {"trigger": "cart", "key": "77", "version": run.version, "reason": "stale"}) == (
        first.home,
        first.event.platform,
        first.event.properties,
    )
