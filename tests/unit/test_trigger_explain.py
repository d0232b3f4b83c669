"""Why something was sent or not: what was decided, what would be now, and what began nothing (goal 50)."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from espial import admin
from espial.cli import stores
from espial.cli.app import app
from espial.events import PersonKey
from espial.gateway import Refusal, read
from espial.services.explain import Explanation, explain
from espial.triggers.decision import barred_by, begin, beginning, reason_of
from espial.vocabulary import EventType
from tests.http_events import http_event
from tests.simulation import a_trigger, at, behaviour, cart, order
from tests.travel import ADA_KEY, a_world


def why(world, name="cart", **narrowed) -> Explanation:
    ports = {"people": world.people, "decisions": world.decisions, "published": world.published}
    return explain(name, ADA_KEY, now=world.now, **ports, **narrowed)


def failed(rules) -> list[str]:
    return [rule.name for rule in rules if not rule.verdict]


def test_what_was_decided_and_what_would_be_decided_now():
    """A cart that was bought, and one that waits."""
    world = a_world(a_trigger())
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(order(at("10:30:00")))
    world.happens(cart(at("10:40:00"), "hat", id="78"))
    found = why(world)
    assert [("77", "skip", "bought")] == [(one.key, one.decision.outcome, one.decision.reason) for one in found.decided]
    assert [("77", "already_exited"), ("78", "not_due")] == [(one.run.key, one.decision.reason) for one in found.runs]
    assert [True, True] == [start.begins for start in found.beginnings][-2:]
    assert ["78"] == [one.run.key for one in why(world, key="78").runs]
    assert () == why(world, key="78").decided
    told = [json.loads(json.dumps(one)) for one in found.plain()]
    assert ["decided", "now", "now", "beginning", "beginning"] == [one["about"] for one in told]


def test_of_a_run_that_waits_every_rule_is_told_as_it_stands():
    """Through the wait, the quiet hours and the hold: what would come of it in the morning, if nothing happens."""
    limits = [{"name": "cap", "count": 1, "within": "24h", "scope": "person"}]
    trigger = a_trigger(quiet_hours={"from": "21:00", "to": "08:00"}, hold="10m", limits=limits, consent=None)
    world = a_world(trigger)
    world.happens(cart(at("20:30:00"), "hat"))
    for clock in ("20:45:00", "22:00:00"):
        world.until(at(clock))
        [judged] = why(world).runs
        assert judged.foreseen is not None
        assert ("wait", at("08:10:00", day=21), "send") == (
            judged.decision.outcome, judged.foreseen_at, judged.foreseen.outcome,
        )  # fmt: skip
        assert {"freshness", "quiet_hours", "priority", "limit:cap"} <= {rule.name for rule in judged.foreseen.rules}
    world.until(at("20:00:00", day=21))
    assert [judged.foreseen_at] == [own.occurred_at for own in world.people.own]
    assert why(world).runs[0].foreseen is None


WHY_NOT = [
    ({"where": "size(event.commerce.cart.items) > 3"}, cart(at("10:00:00"), "shoe"), ["where"]),
    ({"where": 'event.properties.colour == "red"'}, cart(at("10:00:00"), "shoe"), ["where"]),
    ({"key": "event.properties.number"}, cart(at("10:00:00"), "shoe"), ["key"]),
    ({"key": "true"}, cart(at("10:00:00"), "shoe"), ["key"]),
    ({"valid_from": "2026-11-21T00:00:00Z"}, cart(at("10:00:00"), "shoe"), ["validity"]),
    ({"status": "paused"}, cart(at("10:00:00"), "shoe"), ["status"]),
    ({}, msgspec.structs.replace(cart(at("10:00:00"), "shoe"), mode="backfill"), ["mode"]),
    ({}, cart(at("10:00:00")), ["exit"]),
]


@pytest.mark.parametrize(("fields", "event", "rules"), WHY_NOT)
def test_why_no_run_began(fields, event, rules):
    """Which expression was false, and what it said."""
    world = a_world(a_trigger(**fields))
    world.happens(event)
    found = why(world)
    [start] = found.beginnings
    assert (rules, False, ()) == (failed(start.rules), start.begins, found.runs)


def test_an_expression_that_could_not_be_evaluated_says_why():
    """The reason in words, not only `false`."""
    world = a_world(a_trigger(where='event.properties.colour == "red"'))
    world.happens(cart(at("10:00:00"), "shoe"))
    [start] = why(world).beginnings
    assert "no such field: colour" == next(rule.detail for rule in start.rules if rule.name == "where")


def test_why_a_second_one_did_not_begin():
    """Re-entry names the run that bars it; an older event of a run names the newer."""
    world = a_world(a_trigger(reentry="never"))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(cart(at("10:10:00"), "shoe", "hat"))
    world.happens(cart(at("10:20:00"), "sock", id="78"))
    first, second, other = why(world).beginnings
    assert (["newest"], [], ["reentry"]) == (failed(first.rules), failed(second.rules), failed(other.rules))
    assert "77" == next(rule.value for rule in other.rules if rule.name == "reentry")


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(
        [fields for fields, _, _ in WHY_NOT] + [{"reentry": "never"}, {"reentry": "after_exit"}, {"restart": False}]
    ),
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["77", "78"]), st.integers(0, 4)), max_size=4),
    st.integers(0, 300),
    st.integers(0, 4),
)
def test_an_explanation_agrees_with_what_happens(fields, before, minute, items):
    """500 random beginnings and decisions: what is explained is what the engine does."""
    trigger = a_trigger(**fields)
    world = a_world(trigger)
    for when, key, number in sorted(before):
        world.happens(cart(at("10:00:00") + timedelta(minutes=when), *"abcd"[:number], id=key))
    event = cart(at("10:00:00") + timedelta(minutes=minute), *"abcd"[:items])
    view = world.people.load(ADA_KEY)
    run = begin(trigger, event, str(ADA_KEY))
    starts = run is not None and barred_by(trigger, run, view.runs) is None and trigger.status == "live"
    rules = [rule for rule in beginning(trigger, event, view) if rule.name != "newest"]
    assert starts == all(rule.verdict for rule in rules)
    for judged in why(world).runs:
        if judged.decision.outcome in ("send", "skip"):
            assert reason_of(judged.decision.rules) == (
                "" if judged.decision.outcome == "send" else judged.decision.reason
            )


def test_no_address_is_in_an_explanation():
    """As in decisions."""
    world = a_world(a_trigger())
    world.happens(behaviour(EventType.PROFILE_UPDATED, at("09:00:00"), properties={"tier": "gold"}))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("20:00:00"))
    assert "ada@example.com" not in json.dumps(list(why(world).plain()))


def test_a_trigger_that_was_removed_still_tells_what_it_decided():
    """And one that never was tells nothing."""
    world = a_world(a_trigger())
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("20:00:00"))
    world.published.apply([], {}, {})
    found = why(world)
    assert (False, 1, (), ()) == (found.in_force, len(found.decided), found.runs, found.beginnings)
    assert not why(world, "other").decided


# the API ------------------------------------------------------------------------------------------------------------


def test_what_the_route_asks_for():
    """GET /explain/{trigger}/{person+}."""
    asked = _asked("/explain/cart/email:a/b@example.com", "key=77&limit=3")
    assert admin.Reasons("cart", PersonKey("email", "a/b@example.com"), "77", 3) == asked
    assert admin.Reasons("cart", ADA_KEY, None, 20) == _asked("/explain/cart/id:P-1001")


def _asked(path: str, query: str = "") -> admin.Reasons:
    _, _, trigger, person = path.split("/", 3)
    return admin.asked_why(read(http_event(path, method="GET", query=query)), trigger, person)


@pytest.mark.parametrize(
    ("path", "query", "reason"),
    [
        ("/explain/cart/fax:1", "", "bad_person"),
        ("/explain/cart/id:1", "limit=0", "bad_limit"),
        ("/explain/cart/id:1", "since=1", "unknown_parameter"),
    ],
)
def test_what_the_route_refuses(path, query, reason):
    """With a reason."""
    with pytest.raises(Refusal) as caught:
        _asked(path, query)
    assert reason == caught.value.reason


def test_what_the_route_answers():
    """The whole explanation; 404 for a trigger that is not there and decided nothing."""
    world = a_world(a_trigger())
    world.happens(cart(at("10:00:00"), "shoe"))
    told = json.loads(admin.explained(why(world), ADA_KEY).body)
    assert ("id:P-1001", "cart", True, ["now", "beginning"]) == (
        told["person"], told["trigger"], told["in_force"], [one["about"] for one in told["found"]],
    )  # fmt: skip
    with pytest.raises(Refusal, match="no trigger 'other' is in force"):
        admin.explained(why(world, "other"), ADA_KEY)


# the commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def espial(monkeypatch):
    """Runs a command on a world instead of a stack."""

    def run(world, *words):
        store = world.people
        for name, port in (
            ("people", store),
            ("events", store),
            ("decisions", world.decisions),
            ("published", world.published),
        ):
            monkeypatch.setattr(stores, name, lambda _stack, port=port: port)
        return CliRunner().invoke(app, list(words))

    return run


def test_the_command_tells_people_what_was_decided_and_what_would_be(espial):
    """In words: the skip on record, the run that waits, and which events began one."""
    world = a_world(a_trigger(where="size(event.commerce.cart.items) < 3"))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(order(at("10:30:00")))
    world.happens(cart(at("10:40:00"), "hat", id="78"))
    world.happens(cart(at("10:50:00"), "hat", "shoe", "sock", id="79"))
    lines = espial(world, "explain", "id:P-1001", "cart").output.splitlines()
    assert "2026-11-20 10:30:00  skip: bought" in lines
    assert any(line.startswith("  key 78, stage 1, due 2026-11-20 11:40:00") for line in lines)
    assert ["begins a run", "begins a run", "begins no run"] == [
        line.partition("cart_updated ")[2] for line in lines if "cart_updated begins" in line
    ]
    assert ["NO", "where", "False"] == next(line.split()[:3] for line in lines if line.startswith("NO     where"))
    told = [
        json.loads(line)
        for line in espial(world, "explain", "id:P-1001", "cart", "--json", "--key", "78").stdout.splitlines()
    ]
    assert {"78"} == {one["key"] for one in told if "key" in one}


def test_the_command_tells_what_a_trigger_did(espial):
    """By stage and variant, with the goal; a trigger that is not there is said so."""
    world = a_world(a_trigger(goal={"event": "order_completed", "value": "10.0"}))
    world.happens(cart(at("10:00:00"), "shoe"))
    world.happens(order(at("12:00:00")))
    lines = espial(world, "triggers", "report", "cart").output.splitlines()
    assert ["cart", "1", "entered", "1"] == lines[1].split()
    assert ["sent", "1", "100.0%"] == lines[2].split()
    assert ["cart", "all", "1", "1", "(100.0%)", "10.00"] == lines[-1].split()
    result = espial(world, "triggers", "report", "other")
    assert (1, "espial: no trigger 'other' is in force\n") == (result.exit_code, result.stderr)
