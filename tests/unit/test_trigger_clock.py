"""The wall's clock: limits by the calendar, quiet hours, and the hours that clocks skip or repeat (goals 41, 43)."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from espial.triggers import clock
from espial.vocabulary import EventType
from tests.simulation import a_trigger, agrees, at, behaviour, cart, order
from tests.travel import a_world, mails, skips

NIGHT = {"from": "21:00", "to": "08:00", "action": "defer"}
ZONES = sorted(name for name in available_timezones() if "/" in name)


def lives_in(zone, when=None):
    """The platform says where Ada is."""
    return behaviour(EventType.PROFILE_UPDATED, when or at("09:00:00", day=1), properties={"timezone": zone})


def shifts(zone: str, year: int = 2026) -> list[datetime]:
    """The hours in which a zone's clocks are set."""
    where = ZoneInfo(zone)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(where).utcoffset() or timedelta(0)

    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(366)]
    changed = [day for day in days if offset(day) != offset(day + timedelta(days=1))]
    hours = [day + timedelta(hours=n) for day in changed for n in range(1, 25)]
    return [hour for hour in hours if offset(hour) != offset(hour - timedelta(hours=1))]


# limits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "now", "began"),
    [
        ("day", "2026-03-29T12:00:00+00:00", "2026-03-28T23:00:00+00:00"),
        ("day", "2026-03-29T22:30:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("week", "2026-03-29T12:00:00+00:00", "2026-03-22T23:00:00+00:00"),
        ("month", "2026-03-31T21:59:00+00:00", "2026-02-28T23:00:00+00:00"),
        ("month", "2026-03-31T22:01:00+00:00", "2026-03-31T22:00:00+00:00"),
    ],
)
def test_a_day_begins_at_the_midnight_there(unit, now, began):
    """Clocks in Berlin are set forward on 29 March 2026."""
    where = ZoneInfo("Europe/Berlin")
    assert datetime.fromisoformat(began) == clock.day_began(unit, datetime.fromisoformat(now), where)


def test_a_midnight_that_is_left_out_is_when_the_clock_goes_on():
    """In Beirut the clock goes from 23:59:59 to 01:00."""
    where = ZoneInfo("Asia/Beirut")
    [change, *_] = shifts("Asia/Beirut")
    assert change == clock.day_began("day", change + timedelta(hours=5), where)


WINDOWS = [
    {"within": "24h"},
    {"within": "7d"},
    {"per": "day"},
    {"per": "week"},
    {"per": "month"},
]


@given(
    st.sampled_from(WINDOWS),
    st.integers(1, 3),
    st.sampled_from(["trigger", "channel", "category", "person"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Pacific/Apia", "nowhere", 7]),
    st.lists(st.integers(0, 40 * 24 * 60), min_size=1, max_size=40, unique=True),
)
def test_over_any_history_no_window_exceeds_its_cap(window, count, scope, zone, minutes):
    """Goal 41: two triggers, any history, every window that a message falls in."""
    limit = {"name": "cap", "count": count, "scope": scope, **window}
    fields = {"wait": "1m", "restart": True, "category": "promotion", "limits": [limit], "exit_on": []}
    triggers = [a_trigger(name="one", **fields), a_trigger(name="two", **{**fields, "wait": "2m"})]
    world = a_world(*triggers)
    world.happens(lives_in(zone))
    for minute in sorted(minutes):
        world.happens(cart(at("10:00:00", day=2) + timedelta(minutes=minute), "x", id=f"c-{minute}"))
    world.until(world.now + timedelta(hours=1))
    sent = [own for own in world.people.own if own.type is EventType.MESSAGE_REQUESTED]
    assert sent
    assert len(minutes) * 2 == len(world.people.own)
    where = clock.first_zone((zone,))
    for group in ["one", "two"] if scope == "trigger" else [None]:
        times = [own.occurred_at for own in sent if group in (None, own.properties["trigger"])]
        if "per" in window:
            assert all(
                number <= count
                for number in Counter(clock.day_began(window["per"], when, where) for when in times).values()
            )
        else:
            length = timedelta(days=7 if window["within"] == "7d" else 1)
            assert all(sum(when - length < other <= when for other in times) <= count for when in times)


def test_a_category_is_counted_by_itself():
    """What belongs to another category, or none, takes nothing from it."""
    limit = {"name": "cap", "count": 1, "within": "7d", "scope": "category"}
    triggers = [
        a_trigger(name="a", wait="1h", category="promotion", limits=[limit]),
        a_trigger(name="b", wait="2h", category="service", limits=[limit]),
        a_trigger(name="c", wait="3h", category="promotion", limits=[limit]),
        a_trigger(name="d", wait="4h"),
    ]
    world = a_world(*triggers)
    world.happens(cart(at("10:00:00"), "shoe"))
    world.until(at("20:00:00"))
    assert [at("11:00:00"), at("12:00:00"), at("14:00:00")] == [when for when, _ in mails(world)]
    assert ["limit:cap"] == skips(world)


# quiet hours --------------------------------------------------------------------------------------------------------


def test_what_is_due_at_night_goes_out_in_the_morning():
    """Deferred to the end, in the person's zone, and not called stale for it."""
    world = a_world(a_trigger(quiet_hours=NIGHT))
    world.happens(lives_in("America/New_York"))
    world.happens(cart(at("03:00:00"), "shoe"))  # 22:00 of the day before in New York
    world.until(at("23:00:00"))
    assert [at("13:00:00")] == [when for when, _ in mails(world)]


@pytest.mark.parametrize(
    ("zone", "fallback", "hours", "when"),
    [
        ("Europe/Berlin", "UTC", "person", "07:00:00"),
        ("Not/A_Zone", "Europe/Berlin", "person", "07:00:00"),
        ("../../etc/passwd", "UTC", "person", "08:00:00"),
        ("America", "UTC", "person", "08:00:00"),
        (None, "UTC", "person", "08:00:00"),
        ("America/New_York", "UTC", "Europe/Berlin", "07:00:00"),
    ],
)
def test_whose_clock_counts(zone, fallback, hours, when):
    """The person's, else the trigger's; or always the one that is named."""
    world = a_world(a_trigger(quiet_hours={**NIGHT, "zone": hours}, zone=fallback))
    world.happens(lives_in(zone))
    world.happens(cart(at("02:00:00"), "shoe"))
    world.until(at("23:00:00"))
    assert [at(when)] == [when for when, _ in mails(world)]


def test_skipping_says_so():
    """`action: skip`."""
    world = a_world(a_trigger(quiet_hours={**NIGHT, "action": "skip"}))
    world.happens(cart(at("02:00:00"), "shoe"))
    world.until(at("23:00:00"))
    assert ([], ["quiet_hours"]) == (mails(world), skips(world))


def test_what_happens_in_quiet_hours_still_ends_the_run():
    """Bought in the night: nothing in the morning."""
    world = a_world(a_trigger(quiet_hours=NIGHT))
    world.happens(cart(at("02:00:00"), "shoe"))
    world.happens(order(at("05:00:00")))
    world.until(at("23:00:00"))
    assert ([], ["bought"]) == (mails(world), skips(world))


def test_the_stages_after_one_that_was_put_off_keep_their_distance():
    """Goal 43: later steps wait too; two do not come together in the morning."""
    stages = [{"after": "1h", "template": "a"}, {"after": "3h", "template": "b"}]
    world = a_world(a_trigger(wait="0s", stages=stages, quiet_hours=NIGHT))
    world.happens(cart(at("02:00:00"), "shoe"))
    world.until(at("23:00:00"))
    assert [(at("08:00:00"), "a"), (at("10:00:00"), "b")] == mails(world)


@pytest.mark.parametrize(("looked", "what"), [("08:15:00", "sent"), ("08:15:01", "skipped"), ("07:00:00", "waiting")])
def test_what_quiet_hours_put_off_is_late_only_after_they_are_over(looked, what):
    """Nobody looked in the night, since everything was away: `stale_after` counts from their end."""
    world = a_world(a_trigger(quiet_hours=NIGHT))
    event = cart(at("02:00:00"), "shoe")
    world.happens(event)
    world.now = at(looked)
    asked = {"person": "id:P-1001", "trigger": "cart", "key": "77", "version": event.event_id}
    assert what == world.fires(asked).what


def test_what_was_late_before_the_quiet_hours_is_stale():
    """Due at 20:00 and looked at first at 21:30: it is not saved by the night."""
    world = a_world(a_trigger(quiet_hours=NIGHT))
    event = cart(at("19:00:00"), "shoe")
    world.happens(event)
    world.now = at("21:30:00")
    asked = {"person": "id:P-1001", "trigger": "cart", "key": "77", "version": event.event_id}
    assert "stale" == world.fires(asked).reason


def test_no_zone_ever_sends_in_quiet_hours_nor_loses_one():
    """Goal 43: every zone of the database (400 and more), both days its clocks are set, a message every 20 minutes."""
    assert len(ZONES) >= 400
    days = {zone: shifts(zone) or [at("12:00:00")] for zone in ZONES}
    looked = 0
    for zone, changes in days.items():
        where = ZoneInfo(zone)
        for start, end in (
            (time(21), time(8)),
            (time(1, 30), time(2, 30)),
            (time(0), time(1)),
            (time(23, 30), time(0, 30)),
        ):
            for change in changes:
                for minute in range(-26 * 60, 26 * 60, 20):
                    moment = change + timedelta(minutes=minute)
                    over = clock.quiet_until(start, end, moment, where)
                    assert (over is None) != clock.quiet(start, end, moment, where)
                    if over is not None:
                        assert not clock.quiet(start, end, over, where)
                        assert moment < over <= moment + timedelta(hours=26)
                    looked += 1
    assert looked > 400 * 2 * 4 * 100


@given(
    st.sampled_from(ZONES), st.integers(0, 1), st.lists(st.integers(-1500, 1500), min_size=1, max_size=6, unique=True)
)
def test_on_the_days_clocks_are_set_everything_goes_out_in_order(zone, which, minutes):
    """Goal 43 on the use-cases: stages and all, in whatever zone, none inside quiet hours, none lost, in order."""
    changes = shifts(zone) or [at("12:00:00")]
    change = changes[min(which, len(changes) - 1)]
    stages = [{"after": "1h", "template": "a"}, {"after": "2h", "template": "b"}, {"after": "26h", "template": "c"}]
    world = a_world(a_trigger(wait="0s", stages=stages, quiet_hours=NIGHT, restart=False))
    world.now = change - timedelta(days=30)
    world.happens(agrees(world.now))
    world.happens(lives_in(zone, world.now))
    for minute in sorted(minutes):
        world.happens(cart(change + timedelta(minutes=minute), "x", id=f"c-{minute}"))
    world.until(change + timedelta(days=9))
    for when, _ in mails(world):
        assert not clock.quiet(time(21), time(8), when, ZoneInfo(zone))
    assert [] == skips(world)
    sent: dict[str, list[int]] = {}
    for own in world.people.own:
        sent.setdefault(own.properties["key"], []).append(own.properties.get("stage", 0))
    assert {f"c-{minute}": [0, 1, 2] for minute in minutes} == sent


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"limits": [{"name": "a", "count": 1}]}, "give `within`"),
        ({"limits": [{"name": "a", "count": 1, "within": "1d", "per": "day"}]}, "give `within`"),
        ({"limits": [{"name": "a", "count": 1, "per": "day", "scope": "category"}]}, "category: is missing"),
        ({"quiet_hours": {"from": "21:00", "to": "21:00"}}, "nothing would ever be sent"),
        ({"quiet_hours": {"from": "9pm", "to": "08:00"}}, "a time such as"),
        ({"quiet_hours": {"from": 1260, "to": "08:00"}}, "a time such as"),
        ({"quiet_hours": {"from": "21:00", "to": "08:00", "zone": "Mars/Base"}}, "no time zone"),
        ({"zone": "CEST?"}, "no time zone"),
    ],
)
def test_clocks_that_make_no_sense_are_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        a_trigger(**fields)


def test_quiet_hours_survive_publishing():
    """Through the JSON that the functions read."""
    trigger = a_trigger(quiet_hours=NIGHT, zone="Europe/Berlin")
    published = trigger.model_dump(mode="json")
    assert {"from": "21:00", "to": "08:00", "zone": "person", "action": "defer"} == published["quiet_hours"]
    assert trigger == type(trigger).model_validate(published)
