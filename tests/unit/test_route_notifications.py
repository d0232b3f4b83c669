"""From events to what waits for each destination: triggers, definitions, and every crash in between."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial import events
from espial.definitions.load import load
from espial.errors import InvalidDefinition, TryAgain
from espial.events import Campaign, Person
from espial.notifications.definition import DestinationDefinition, readable
from espial.notifications.triggers import ASKABLE, TRIGGERS, fired, trigger_of, types_of
from espial.services.publish_events import wanted_by
from espial.services.route_notifications import Router
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.feeding import Killed, Trouble
from tests.notifying import FakeFirsts, FakeOutbox

CLICKED = EventType.CLICKED
MAIL = Campaign(id="c1", dispatch_id="d1")


def a_destination(name: str = "crm", *on: str, **fields: Any) -> DestinationDefinition:
    given = {"name": name, "process": "pull", "on": on or ("OPEN", "CLICK")}
    return DestinationDefinition.model_validate(given | {"pull": {"tokens": ["secretsmanager:espial/crm"]}} | fields)


class World:
    """The stores of the router, each of which may fail."""

    def __init__(self) -> None:
        self.trouble: Any = lambda: None

        def call() -> None:
            self.trouble()

        self.outbox, self.firsts = FakeOutbox(call), FakeFirsts(call)
        self.router = Router(outbox=self.outbox, firsts=self.firsts)

    def put(self, name: str = "crm") -> list[tuple[str, str]]:
        """(event id, trigger) of what waits."""
        return sorted(
            (one.notification.event.event_id, one.notification.trigger)
            for (of, _), one in self.outbox.held.items()
            if of == name
        )


@pytest.mark.parametrize(
    ("trigger", "kind", "channel"),
    [
        ("DELIVERYSTART", "delivery_started", "email"),
        ("DELIVERY", "delivery_completed", "email"),
        ("OPEN", "opened", "email"),
        ("CLICK", "clicked", "sms"),
        ("BOUNCE", "bounced", "email"),
        ("BLOCKED", "blocked", "email"),
        ("OPTIN", "subscribed", "email"),
        ("OPTOUT", "unsubscribed", "email"),
        ("SOFTBOUNCE", "soft_bounced", "email"),
        ("SMSOPTOUT", "unsubscribed", "sms"),
        *(("SMSFAILED", kind, "sms") for kind in ("failed", "bounced", "rejected", "blocked")),
    ],
)
def test_what_fires_each_trigger(trigger, kind, channel):
    event = an_event(type=EventType(kind), channel=channel)
    assert fired(event, ASKABLE) == [trigger, kind]
    assert kind in types_of([trigger])


@given(st.sampled_from(EventType), st.sampled_from(["email", "sms", "push", "none"]))
def test_an_event_fires_one_trigger_at_most_and_only_of_a_type_that_is_wanted(kind, channel):
    event = an_event(type=kind, channel=channel)
    assert trigger_of(event) in ("", *TRIGGERS)
    for name in fired(event, ASKABLE):
        assert kind.value in types_of([name])


def test_each_event_waits_for_whom_it_concerns():
    world = World()
    bounce = an_event("b", type=EventType.BOUNCED, connection="other")
    opened = an_event("o")
    destinations = [
        a_destination("all", "OPEN", "BOUNCE", "opened"),
        a_destination("other", "BOUNCE", "OPEN", connections=["other"]),
        a_destination("ada", "OPEN", when="event.person.email == 'ada@example.org'"),
        a_destination("off", "OPEN", enabled=False),
    ]
    tally = world.router.route([bounce, opened, an_event("old", mode="backfill")], destinations, NOON)
    assert world.put("all") == sorted(
        [(bounce.event_id, "BOUNCE"), (opened.event_id, "OPEN"), (opened.event_id, "opened")]
    )
    assert world.put("other") == [(bounce.event_id, "BOUNCE")]
    assert world.put("ada") == world.put("off") == []
    assert tally == {("all", "BOUNCE"): 1, ("all", "OPEN"): 1, ("all", "opened"): 1, ("other", "BOUNCE"): 1}
    again = dict(world.outbox.held)
    world.router.route([opened, bounce], destinations, NOON)
    assert world.outbox.held == again


def test_a_click_implies_an_open_where_none_is_known():
    world, destination = World(), a_destination("crm", "OPEN")
    first, second = (an_event(name, type=CLICKED, campaign=MAIL) for name in ("c1", "c2"))
    world.router.route([first, second], [destination], NOON)
    world.router.route([first, second, an_event("c3", type=CLICKED, campaign=MAIL)], [destination], NOON)
    [(_, found)] = world.outbox.held.items()
    event = found.notification.event
    assert (event.type, event.properties["derived"], event.event_id[:10]) == ("opened", True, first.event_id[:10])
    assert event.event_id not in (first.event_id, second.event_id)


def test_an_implied_open_is_no_event_of_its_own():
    """It fires the trigger, for nobody reported an `opened`."""
    world = World()
    clicked = an_event("c", type=CLICKED, campaign=MAIL)
    world.router.route([clicked], [a_destination("crm", "OPEN", "opened"), a_destination("types", "opened")], NOON)
    assert [trigger for _, trigger in world.put("crm")] == ["OPEN"]
    assert world.put("types") == []


@pytest.mark.parametrize("together", [True, False])
def test_an_open_that_is_known_is_enough(together):
    world, destination = World(), a_destination("crm", "OPEN")
    opened, clicked = an_event("o", campaign=MAIL), an_event("c", type=CLICKED, campaign=MAIL)
    for some in [[clicked, opened]] if together else [[opened], [clicked]]:
        world.router.route(some, [destination], NOON)
    assert world.put() == [(opened.event_id, "OPEN")]
    other = an_event("c2", type=CLICKED, campaign=MAIL, person=Person(email="bob@example.com"))
    world.router.route([other], [destination], NOON)
    assert len(world.put()) == 2


@given(st.integers(0, 10_000))
def test_killed_at_any_call_each_waits_once(seed):
    rng = random.Random(seed)
    world, clean = World(), World()
    happened = [
        an_event(
            str(n), type=rng.choice([CLICKED, EventType.OPENED, EventType.BOUNCED]), campaign=Campaign(id=str(n % 4))
        )
        for n in range(12)
    ]
    destinations = [a_destination("crm"), a_destination("bounces", "BOUNCE", "bounced", "OPEN", several=True)]
    batches = [happened[at : at + 4] for at in range(0, 12, 4)]
    for batch in batches:
        clean.router.route(batch, destinations, NOON)
    world.trouble = Trouble(rng)
    for batch in batches:
        while True:
            try:
                world.router.route(batch, destinations, NOON)
                if rng.random() < 0.8:
                    break
            except (Killed, TryAgain):
                continue
    assert {name: world.put(name) for name in ("crm", "bounces")} == {
        name: clean.put(name) for name in ("crm", "bounces")
    }


def test_a_message_that_cannot_be_read_holds_up_nobody():
    world = World()
    event = '{"detail": ' + events.encode(an_event()).decode() + "}"
    routed = world.router.route_messages(
        {"a": event, "b": "{}", "c": '{"detail": {"type": 1}}'}, [a_destination()], NOON
    )
    assert (list(routed.happened), sorted(routed.failures), routed.tally.total()) == (["a"], ["b", "c"], 1)


def test_what_cannot_be_put_comes_again():
    world = World()

    def away() -> None:
        raise TryAgain("away")

    world.trouble = away
    body = '{"detail": ' + events.encode(an_event()).decode() + "}"
    routed = world.router.route_messages({"a": body, "b": "{}"}, [a_destination()], NOON)
    assert (routed.happened, sorted(routed.failures), routed.tally.total()) == ({}, ["a", "b"], 0)


def test_what_destinations_want_goes_on_the_bus():
    active = {"destinations": {"a": a_destination("a", "OPEN", "SMSFAILED", "order_completed").published()}}
    assert {"opened", "clicked", "failed", "bounced", "order_completed"} <= wanted_by(active)
    active["destinations"]["a"]["enabled"] = False
    assert "opened" not in wanted_by(active)


def test_a_destination_of_another_version_takes_no_other_away():
    good = a_destination()
    assert readable({"a": {"process": "fax"}, "crm": good.published()}) == ([good], ["a"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"on": ["OPENED"]}, "no trigger or event type named 'OPENED'"),
        ({"on": ["message_requested"]}, "no trigger or event type"),
        ({"on": []}, "on: at least one trigger is needed"),
        ({"pull": None}, "pull: is missing"),
        ({"process": "fax"}, "should be"),
        ({"when": "event.foo == 1"}, "unknown field"),
        ({"pull": {"tokens": ["s3cret"]}}, "never the secret itself"),
    ],
)
def test_wrong_destinations_are_refused(change, problem):
    with pytest.raises(ValidationError) as refused:
        a_destination(**change)
    assert problem in str(refused.value).replace("Input ", "")


def test_a_second_destination_for_a_profile_and_trigger_must_say_so(tmp_path):
    """Naming both files (B5)."""
    folder = tmp_path / "destinations"
    folder.mkdir()
    text = "process: pull\non: [OPEN]\npull: {tokens: [secretsmanager:espial/x]}\n"
    (folder / "a.yaml").write_text(text)
    (folder / "b.yaml").write_text(f"{text}profile: Shop\n")
    with pytest.raises(InvalidDefinition) as refused:
        load(tmp_path)
    [problem] = refused.value.problems
    assert problem.startswith(f"{folder / 'b.yaml'}:2: on: ")
    assert "a.yaml tells of OPEN for the same profile already" in problem
    (folder / "b.yaml").write_text(f"{text}several: true\n")
    (folder / "c.yaml").write_text(text.replace("OPEN", "CLICK"))
    assert sorted(load(tmp_path).destinations) == ["a", "b", "c"]


def test_a_connection_that_there_is_not_is_refused(tmp_path):
    (tmp_path / "destinations").mkdir()
    file = tmp_path / "destinations" / "a.yaml"
    file.write_text("process: pull\non: [OPEN]\nconnections: [shop]\npull: {tokens: [secretsmanager:espial/x]}\n")
    with pytest.raises(InvalidDefinition) as refused:
        load(tmp_path)
    assert f"{file}:3: connections: no connection or onboarding named 'shop'" in refused.value.problems[0]
