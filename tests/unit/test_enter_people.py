"""Ways into a trigger besides an event: each person once an occasion, whatever is cut off, repeated or lost."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from espial.errors import Refused, TryAgain
from espial.events import Event, Person, PersonKey
from espial.ports import Walk
from espial.services.enter_people import PARTS, Entrance, Segments, Tally, enter_by_call
from espial.services.run_triggers import TriggerRunner
from espial.triggers.definition import Trigger
from espial.triggers.entries import DateField, Schedule
from espial.vocabulary import EventType
from tests.simulation import World, a_trigger, at, behaviour, cart

HOUR = timedelta(hours=1)
MORNING = at("09:00:00")


class FakeWalks:
    """`Walks`."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[Walk, datetime]] = {}
        self.asked: dict[tuple[str, str], tuple[datetime, str]] = {}
        self.trouble = lambda: None

    def go_on(self, trigger: str, occasion: str, *, now: datetime, until: datetime) -> Walk | None:
        walk, held = self.known.get((trigger, occasion), (Walk(), now))
        if walk.done or held > now:
            return None
        self.known[trigger, occasion] = walk, until
        return walk

    def reach(self, trigger: str, occasion: str, walk: Walk, *, until: datetime) -> None:
        self.trouble()
        self.known[trigger, occasion] = walk, until

    def is_done(self, trigger: str, occasion: str) -> bool:
        return self.known.get((trigger, occasion), (Walk(), None))[0].done

    def remember(self, trigger: str, request: str, content: str, *, now: datetime) -> tuple[datetime, str]:
        return self.asked.setdefault((trigger, request), (now, content))


class People(World):
    """A world with walks; `trouble` is called before each event of ours is recorded, and with each note of a walk."""

    def __init__(self, *triggers: Trigger, now: datetime = MORNING) -> None:
        super().__init__(*triggers, now=now)
        self.walks = FakeWalks()
        self.left = 600.0
        self.segments = Segments(people=self.people, members=self.people, walks=self.walks, events=self.events)
        self.runner = TriggerRunner(
            people=self.people,
            runs=self.runs,
            decisions=self.decisions,
            timers=self,
            events=self.events,
            segments=self.segments,
        )

    def join(self, *names: str, **traits: Any) -> None:
        """People who agree to mails."""
        self.now += timedelta(seconds=1)
        for name in names:
            who = Person(external_id=name, email=f"{name}@example.com")
            self.happens(
                behaviour(
                    EventType.PROFILE_UPDATED,
                    self.now,
                    f"{name}{self.now}",
                    person=who,
                    properties={"traits": {"consent": {"email": True}, **traits}},
                )
            )

    def enter(self) -> Tally:
        """A minute's look, and then what it recorded comes by the bus."""
        tally = Entrance(
            segments=self.segments, runner=self.runner, clock=lambda: self.now, time_left=lambda: self.left
        ).enter(self.triggers, "")
        self.deliver()
        return tally

    def deliver(self) -> None:
        for event in self.entered():
            self.handles(event)

    def entered(self) -> list[Event]:
        return [event for event in self.events.added if event.type is EventType.TRIGGER_ENTERED]

    def mailed(self) -> list[str]:
        """To whom, in the order of sending."""
        return [event.person.external_id or "" for _, event in self.sent]


def by(**entry: Any) -> Trigger:
    return Trigger.model_validate(
        {
            "name": "cart",
            "status": "live",
            "entry": entry,
            "consent": {"topic": "marketing"},
            "send": {"provider": "ses", "template": "t"},
        }
    )


def test_a_schedule_is_for_everybody_it_is_about_once():
    world = People(by(schedule={"cron": "0 10 * * *", "audience": 'person.attributes.city == "Leeds"'}))
    world.join(*(f"l{number}" for number in range(30)), city="Leeds")
    world.join("y", city="York")
    assert not world.mailed()
    world.enter()
    world.now = at("10:00:30")
    world.enter()
    world.until(at("10:01:00"))
    assert sorted(world.mailed()) == sorted(f"l{number}" for number in range(30))
    world.enter()
    world.until(at("11:00:00"))
    world.join("late", city="Leeds")
    world.enter()
    assert len(world.mailed()) == 30
    world.now = at("10:00:00", day=21)
    world.enter()
    world.until(at("10:01:00", day=21))
    assert Counter(world.mailed()) == {f"l{number}": 2 for number in range(30)} | {"late": 1}


@pytest.mark.parametrize("seed", range(50))
def test_a_walk_that_is_cut_off_goes_on(seed):
    """Whoever crashes where: everybody enters once, by the same event."""
    chance = random.Random(seed)
    world = People(by(schedule={"at": "2026-11-20T10:00:00Z", "audience": "true"}))
    names = [f"p{number}" for number in range(40)]
    world.join(*names)
    world.now = at("10:00:10")
    add = world.events.add

    def trouble(*_: Any, **__: Any) -> None:
        if chance.random() < 0.1:
            raise TryAgain("away")

    def troubled(records: Any, **how: Any) -> Any:
        trouble()
        return add(records, **how)

    world.events.add, world.walks.trouble = troubled, trouble
    for _ in range(400):
        try:
            world.enter()
        except TryAgain:
            world.now += timedelta(minutes=3)
            continue
        break
    world.events.add = add
    world.deliver()
    world.until(world.now + HOUR)
    assert sorted(world.mailed()) == sorted(names)
    assert len({event.event_id for event in world.entered()}) == 40


def test_when_time_is_over_the_next_goes_on_from_there():
    world = People(by(schedule={"at": "2026-11-20T10:00:00Z", "audience": "true"}))
    world.join(*(f"p{number}" for number in range(10)))
    world.now = at("10:00:00")
    world.left = 1.0
    assert not world.enter()[("cart", "looked_at")]
    world.left = 600.0
    assert world.enter()[("cart", "entered")] == 10
    assert not world.enter()


def test_a_birthday_and_the_29th_of_february():
    field = {"attribute": "birthday", "at": "08:00", "zone": "Europe/London"}
    world = People(by(date=field), now=datetime(2027, 2, 27, 12, 0, tzinfo=UTC))
    world.join("leap", birthday="2000-02-29")
    world.join("feb28", birthday="1990-02-28T05:00:00Z")
    world.join("march", birthday="1990-03-01")
    world.join("none", birthday="soon")
    for day in (27, 28, 29):
        world.now = datetime(2027, 2, 27, 9, 0, tzinfo=UTC) + timedelta(days=day - 27)
        world.enter()
        world.until(world.now + HOUR)
        if day == 28:
            assert sorted(world.mailed()) == ["feb28", "leap"]
    assert sorted(world.mailed()) == ["feb28", "leap", "march"]


def test_days_before_and_only_once():
    date = DateField(attribute="ends", every="once", days_before=30)
    occasion = date.latest(datetime(2026, 12, 2, 10, 0, tzinfo=UTC))
    assert occasion is not None
    world = People()
    world.join("a", ends="2027-01-01")
    world.join("b", ends="2028-01-01")
    views = {key.value: world.people.load(key) for key in (PersonKey("id", "a"), PersonKey("id", "b"))}
    found = {name: date.about(view, occasion, world.now) for name, view in views.items()}
    assert found == {"a": {"date": "2027-01-01"}, "b": None}


def test_a_segment_is_entered_when_it_becomes_true_and_again_after_leaving():
    world = People(by(segment={"when": "person.attributes.points >= 100"}))
    world.join("before", points=500)
    world.enter()  # who is in already is noted
    world.enter()
    world.now += HOUR
    world.join("a", points=50)
    world.join("a", points=100)
    world.deliver()
    world.until(world.now + timedelta(minutes=1))
    assert world.mailed() == ["a"]
    world.now += HOUR
    world.join("a", points=150)
    world.enter()
    assert len(world.entered()) == 1
    world.join("a", points=1)
    world.now += HOUR
    world.join("a", points=100)
    world.deliver()
    world.until(world.now + timedelta(minutes=1))
    assert world.mailed() == ["a", "a"]


def test_those_who_are_in_already_enter_if_that_is_said():
    world = People(by(segment={"when": "person.attributes.points >= 100", "existing": True}))
    world.triggers, triggers = (), world.triggers
    world.join("before", points=500)
    world.triggers = triggers
    world.enter()
    world.until(world.now + timedelta(minutes=1))
    assert world.mailed() == ["before"]


def test_time_alone_takes_somebody_out_of_a_segment():
    trigger = by(segment={"when": 'within("product_viewed", "1d")', "on": "exit", "every": "1h"})
    world = People(trigger)
    world.join("a")
    world.enter()
    who = Person(external_id="a", email="a@example.com")
    world.happens(behaviour(EventType.PRODUCT_VIEWED, world.now, person=who))
    world.now += timedelta(hours=20)
    world.enter()
    assert not world.entered()
    world.now += timedelta(hours=5)
    world.enter()
    world.until(world.now + timedelta(minutes=1))
    assert world.mailed() == ["a"]


def test_a_change_whose_event_was_not_recorded_is_told_by_the_next_look():
    world = People(by(segment={"when": "person.attributes.points >= 100"}))
    world.enter()
    world.join("a", points=50)
    add = world.events.add
    refused = iter([True])

    def troubled(records: Any, **how: Any) -> Any:
        if records[0].event.type is EventType.TRIGGER_ENTERED and next(refused, False):
            raise TryAgain("away")
        return add(records, **how)

    world.events.add = troubled
    with pytest.raises(TryAgain):
        world.join("a", points=100)
    world.now += HOUR
    world.enter()
    world.until(world.now + timedelta(minutes=1))
    assert world.mailed() == ["a"]


def test_what_never_came_by_the_bus_is_caught_up_with_under_the_same_key():
    """And what comes after all starts nothing twice."""
    world = People(a_trigger(wait="1h", stale_after="2h", fallback={"every": "15m"}))
    world.join("P-1001")
    lost = behaviour(EventType.CART_UPDATED, world.now, commerce=cart(world.now, "shoe").commerce)
    world.records(lost)
    world.now += timedelta(minutes=1)
    world.enter()
    assert not world.runs.get("id:P-1001", "cart", "77")
    world.now += timedelta(minutes=90)
    assert world.enter()[("cart", "started")] == 1
    world.until(world.now + timedelta(minutes=1))
    assert len(world.sent) == 1
    world.handles(lost)
    world.now += timedelta(minutes=16)
    assert set(world.enter()) == {("cart", "looked_at")}
    world.until(world.now + HOUR)
    assert len(world.sent) == 1


def test_a_call_enters_once_a_request_id():
    world = People(by(call=True))
    world.join("a", "b")

    def call(person: str, request: str = "r-1", **said: Any) -> Any:
        return enter_by_call(
            world.triggers[0],
            PersonKey("id", person),
            request,
            said,
            walks=world.walks,
            events=world.events,
            now=world.now,
        )

    first = call("a", code="X")
    world.now += HOUR
    assert call("a", code="X") == (first.event_id, False)
    for other in (lambda: call("b", code="X"), lambda: call("a", code="Y")):
        with pytest.raises(Refused, match="request_id_reused"):
            other()
    assert call("a", "r-2").is_new
    world.deliver()
    world.until(world.now + HOUR)
    assert sorted(world.mailed()) == ["a", "a"]


@pytest.mark.parametrize(
    ("trigger", "request_id", "reason"),
    [
        (None, "r", "unknown_trigger"),
        (a_trigger(), "r", "not_by_call"),
        (by(call=True).model_copy(update={"status": "paused"}), "r", "not_running"),
        (by(call=True), "", "bad_request_id"),
        (by(call=True), "r\n", "bad_request_id"),
    ],
)
def test_a_call_that_cannot_be(trigger, request_id, reason):
    world = People()
    with pytest.raises(Refused, match=reason):
        enter_by_call(
            trigger, PersonKey("id", "a"), request_id, {}, walks=world.walks, events=world.events, now=world.now
        )


@pytest.mark.parametrize("month", [3, 10])
def test_a_schedule_keeps_its_clock_when_the_clocks_change(month):
    """02:30 is not there on one day, and twice on another: it is due once on each."""
    schedule = Schedule(cron="30 2 * * *", zone="Europe/Paris", audience="true")
    day = datetime(2026, month, 20, tzinfo=UTC)
    found = []
    for minute in range(0, 12 * 24 * 60, 10):
        occasion = schedule.latest(day + timedelta(minutes=minute))
        assert occasion
        if occasion.at not in found:
            found.append(occasion.at)
    days = Counter(moment.astimezone(ZoneInfo("Europe/Paris")).date() for moment in found)
    assert set(days.values()) == {1}
    assert len(days) in (12, 13)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "one of schedule, date, segment, call is needed"),
        ({"call": True, "segment": {"when": "true"}}, "one of schedule"),
        ({"schedule": {"audience": "true"}}, "one of `at` and `cron`"),
        ({"schedule": {"audience": "event.type", "cron": "0 9 * * *"}}, "unknown variable event"),
        ({"schedule": {"audience": "true", "cron": "99 9 * * *"}}, "is no cron expression"),
        ({"schedule": {"audience": "true", "cron": "0 9 * * *", "zone": "Mars/Base"}}, "no time zone"),
        ({"date": {"attribute": "b", "at": "25:00"}}, "should match pattern"),
        ({"segment": {"when": "true", "every": "5s"}}, "from a minute to a day"),
        ({"segment": {"when": "person.shoe > 1"}}, "unknown field person.shoe"),
    ],
)
def test_an_entry_that_is_none_is_refused(entry, problem):
    with pytest.raises(ValidationError, match=problem):
        by(**entry)


def test_a_trigger_has_events_or_an_entry():
    with pytest.raises(ValidationError, match="either event types or an `entry`"):
        a_trigger(entry={"call": True})
    with pytest.raises(ValidationError, match="either event types or an `entry`"):
        a_trigger(on=["trigger_entered"])
    assert PARTS == 16
