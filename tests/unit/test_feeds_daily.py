"""A day's log in one file: which day an event is in, when the day is over, and that it arrives whole and once."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Refused, TryAgain
from espial.feeds import log_lines, parcels
from espial.feeds.checking import Present, check
from espial.feeds.definition import built_in
from espial.feeds.files import FeedFile
from espial.feeds.schedule import Schedule
from espial.services.deliver_feed import Delivery, Outcome
from tests.builders import an_event
from tests.feeding import Killed, Trouble, World
from tests.unit.test_deliver_feed import Inbox, raising, with_manifests

DAY = datetime(2026, 11, 20, tzinfo=UTC)
MONDAY = "sendgrid_events_20261120.log"
TUESDAY = "sendgrid_events_20261121.log"


class Daily:
    """A log's writer, and one sink that gets a day in one file."""

    def __init__(self, *, schedule: Schedule | None = None, **fields: Any) -> None:
        self.world = World(**{"layouts": ("event_log",), "format": "log", "rotate": {"after": "6h"}, **fields})
        self.world.archive.get = self.world.archive.read  # type: ignore[method-assign, assignment]
        self.inbox = Inbox()
        self.schedule = schedule
        self.by_day = True
        self.trouble: Callable[[], None] = lambda: None
        self.count = 0

    def at(self, *clock: int, day: int = 0) -> None:
        """Set the clock."""
        self.world.now = DAY + timedelta(days=day, hours=clock[0], minutes=clock[1] if clock[1:] else 0)

    def event(self, *, received: datetime | None = None, connection: str = "sendgrid-main") -> str:
        """Record one now."""
        self.count += 1
        at = received or self.world.now
        event = an_event(
            event_id=f"e{self.count}", received_at=at, occurred_at=at, connection=connection, platform="sendgrid"
        )
        self.world.stream.insert(event)
        return event.event_id

    def write(self) -> str:
        """One run of the writer."""
        return self.world.writer().run().outcome

    def delivery(self) -> Delivery:
        return Delivery(
            feed="cdp",
            sink="daily",
            takes_refused=False,
            opened=lambda _seconds_left: nullcontext(self.inbox),
            book=self.world.book,
            archive=self.world.archive,  # type: ignore[arg-type]
            clock=lambda: self.world.now,
            jitter=lambda: 0.0,
            by_day=self.by_day,
            schedule=self.schedule,
        )

    def deliver(self, **options: Any) -> Outcome:
        return self.delivery().run(lambda: 300_000.0, **options)

    def ids(self, name: str) -> list[str]:
        """The events of a file that arrived, in its order."""
        lines = dict(self.inbox.arrived)[name].decode().splitlines()
        return [dict(log_lines.read(line))["event id"] for line in lines]


def test_a_days_files_arrive_as_one_when_the_day_is_over():
    """In their order, with a manifest that says of which files; a day without events has no file."""
    daily = Daily()
    expected = []
    for hour in (1, 8, 15, 22):
        daily.at(hour)
        expected.append(daily.event())
        assert ("committed", "nothing") == (daily.write(), daily.deliver().outcome)
    daily.at(0, 5, day=1)
    assert ("committed", Outcome("cdp", "daily", "delivered", 1)) == (daily.write(), daily.deliver())
    assert with_manifests(MONDAY) == daily.inbox.names
    assert expected == daily.ids(MONDAY)
    content, manifest = (said for _, said in daily.inbox.arrived)
    file = msgspec.json.decode(manifest, type=FeedFile)
    assert (4, len(content), sha256(content).hexdigest()) == (file.rows, file.size, file.sha256)
    assert ("2026-11-20", (1, 2, 3, 4)) == (file.day, file.pieces)
    assert [] == list(check([Present(file, lambda: content)], built_in()))
    for day in (2, 3):
        daily.at(0, 5, day=day)
        assert ("committed", "nothing") == (daily.write(), daily.deliver().outcome.replace("delivered", "nothing"))
    assert with_manifests(MONDAY) == daily.inbox.names


def test_the_days_end_at_midnight_by_when_an_event_was_received():
    """What is recorded a little later still belongs to its day; what comes when that is finished, to the next."""
    daily = Daily()
    daily.at(23, 50)
    first = daily.event()
    daily.write()
    daily.at(0, 4, day=1)
    slow, early = daily.event(received=DAY + timedelta(hours=23, minutes=59)), daily.event()
    assert "early" == daily.write()
    daily.at(0, 5, day=1)
    assert ("committed", 1) == (daily.write(), daily.deliver().files)
    assert [first, slow] == daily.ids(MONDAY)
    late = daily.event(received=DAY + timedelta(hours=23, minutes=59))
    daily.at(0, 6, day=2)
    assert ("committed", 1) == (daily.write(), daily.deliver().files)
    assert [early, late] == sorted(daily.ids(TUESDAY))
    assert [] == list(daily.deliver().reason)


def test_a_day_of_which_events_are_still_in_the_stream_is_not_over():
    """A batch may be full at midnight; what is left belongs to its day all the same."""
    daily = Daily(rotate={"after": "6h", "rows": 2}, page=1)
    daily.at(20)
    daily.event()
    daily.write()
    daily.at(23, 59)
    expected = [daily.event() for _ in range(5)]
    daily.at(0, 6, day=1)
    outcomes: list[str] = []
    while not {"nothing", "early"} & {*outcomes[-1:]}:
        outcomes.append(daily.write())
        if len(outcomes) <= 2:
            assert "nothing" == daily.deliver().outcome
    daily.deliver()
    assert ["e1", *expected] == sorted(daily.ids(MONDAY))


def test_each_system_has_its_own_file():
    """And what is given is noted after each."""
    daily = Daily(systems={"a": "Autumn Shop", "b": "Winter Shop"})
    daily.at(12)
    for connection in ("b", "a"):
        daily.event(connection=connection)
    daily.write()
    daily.at(0, 5, day=1)
    daily.write()
    daily.inbox.trouble = lambda: raising(TryAgain("away"))() if len(daily.inbox.arrived) > 2 else None
    assert "failed" == daily.deliver().outcome
    noted = daily.world.book.delivered("cdp", "daily")
    assert ("2026-11-20", 1) == (noted.day, noted.files)
    daily.inbox.trouble = lambda: None
    assert 1 == daily.deliver(at_once=True).files
    assert with_manifests("autumn_shop_events_20261120.log", "winter_shop_events_20261120.log") == daily.inbox.names
    assert 4 == len({*daily.inbox.arrived})


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_other_formats_are_joined_too(form):
    """A header stands in front only."""
    daily = Daily(format=form)
    for hour in (1, 12):
        daily.at(hour)
        daily.event()
        daily.write()
    daily.at(0, 5, day=1)
    daily.write()
    daily.deliver()
    content, manifest = (said for _, said in daily.inbox.arrived)
    file = msgspec.json.decode(manifest, type=FeedFile)
    assert (f"sendgrid_events_20261120.{form}", 2) == (file.name, file.rows)
    assert [] == list(check([Present(file, lambda: content)], built_in()))


def test_a_day_that_is_too_large_for_one_file_has_several(monkeypatch):
    """They are held in memory."""
    daily = Daily()
    for hour in (1, 8, 15):
        daily.at(hour)
        daily.event()
        daily.write()
    monkeypatch.setattr(parcels, "LARGEST", 2 * daily.world.files[0][0].size + 10)
    daily.at(0, 5, day=1)
    daily.write()
    assert 2 == daily.deliver().files
    assert with_manifests(MONDAY, "sendgrid_events_20261120-2.log") == daily.inbox.names
    assert (["e1", "e2"], ["e3"]) == (daily.ids(MONDAY), daily.ids("sendgrid_events_20261120-2.log"))


def test_a_day_is_sent_again_as_it_was():
    """By its name, and not before it was given."""
    daily = Daily()
    for day in (0, 1, 2):
        daily.at(12, day=day)
        daily.event()
        daily.write()
        daily.deliver()
    before = list(daily.inbox.arrived)
    daily.inbox.arrived.clear()
    assert 1 == daily.delivery().resend([MONDAY], lambda: 300_000.0).files
    assert before[:2] == daily.inbox.arrived
    for name in ("sendgrid_events_20261122.log", "1"):
        with pytest.raises(Refused, match=f"never given {name}"):
            daily.delivery().resend([MONDAY, name], lambda: 300_000.0)


def test_a_sink_may_change_between_single_files_and_days():
    """Nothing is left out either way; what is there may come again."""
    daily = Daily()
    daily.by_day = False
    for hour in (1, 8):
        daily.at(hour)
        daily.event()
        daily.write()
        daily.deliver()
    daily.by_day = True
    daily.at(15)
    daily.event()
    daily.write()
    daily.at(0, 5, day=1)
    daily.write()
    daily.deliver()
    assert {"e2", "e3"} <= {*daily.ids(MONDAY)}
    daily.by_day = False
    daily.at(12, day=1)
    daily.event()
    daily.write()
    daily.deliver()
    assert ["e4"] == daily.ids(daily.inbox.names[-2])


# -- times


@pytest.mark.parametrize(
    ("at", "zone", "since", "first"),
    [
        ("00:15", "UTC", "2026-11-20T00:15:00", "2026-11-20T00:15:00"),
        ("00:15", "UTC", "2026-11-20T00:15:01", "2026-11-21T00:15:00"),
        (["06:00", "18:00"], "UTC", "2026-11-20T07:00:00", "2026-11-20T18:00:00"),
        ("09:00", "America/New_York", "2026-11-20T23:00:00", "2026-11-21T14:00:00"),
        ("09:00", "Pacific/Auckland", "2026-11-20T19:59:00", "2026-11-20T20:00:00"),
        ("01:30", "Europe/London", "2026-10-25T00:30:01", "2026-10-26T01:30:00"),  # clocks go back: once
        ("01:30", "Europe/London", "2026-03-28T02:00:00", "2026-03-29T01:30:00"),  # and forward: all the same
    ],
)
def test_the_first_of_the_times(at, zone, since, first):
    """In its zone, with its summer time."""
    found = Schedule(at=at, zone=zone).first(datetime.fromisoformat(since).replace(tzinfo=UTC))
    assert datetime.fromisoformat(first).replace(tzinfo=UTC) == found


def test_a_file_goes_at_the_first_time_after_it_was_closed():
    """Until then nothing is late; who asks for it now does not wait."""
    daily = Daily(schedule=Schedule(at=("06:00", "18:00")), rotate={"after": "5m"})
    daily.by_day = False
    daily.at(7)
    daily.event()
    daily.write()
    daily.at(17, 50)
    assert Outcome("cdp", "daily", "nothing") == daily.deliver()
    daily.event()
    daily.write()
    daily.at(18)
    daily.event()
    daily.write()
    assert 3 == daily.deliver().files
    daily.at(19)
    daily.event()
    daily.write()
    assert (0, 1) == (daily.deliver().files, daily.deliver(at_once=True).files)


def test_a_time_that_was_missed_is_made_up_for():
    """The function was away at 18:00; how late it is counts from then."""
    daily = Daily(schedule=Schedule(at=("18:00",)))
    daily.by_day = False
    daily.at(7)
    daily.event()
    daily.write()
    daily.inbox.trouble = raising(TryAgain("away"))
    daily.at(23)
    failed = daily.deliver()
    assert ("failed", DAY + timedelta(hours=18)) == (failed.outcome, failed.oldest)
    daily.inbox.trouble = lambda: None
    daily.at(1, day=1)
    assert 1 == daily.deliver().files


def test_the_published_process():
    """A day's log at a quarter past midnight."""
    daily = Daily(schedule=Schedule(at=("00:15",)))
    daily.at(12)
    daily.event()
    daily.write()
    daily.at(0, 6, day=1)
    assert ("committed", "nothing") == (daily.write(), daily.deliver().outcome)
    daily.at(0, 15, day=1)
    assert 1 == daily.deliver().files


# -- whatever happens


@given(seed=st.integers(0, 1 << 32))
def test_whatever_dies_wherever_each_event_is_in_one_day_and_each_day_is_one_file(seed):
    """Killed, away or refused at any call of writer and sink: what came again is the same, and all is there."""
    rng = random.Random(seed)
    daily = Daily(rotate={"after": "2h", "rows": 3}, page=2, systems={"a": "A", "b": "B"})
    daily.at(0)
    daily.world.trouble = Trouble(rng, most=15, often=0.1)
    daily.inbox.trouble = Trouble(rng, most=15, often=0.1)
    recorded: dict[str, datetime] = {}
    for hour in range(80):
        daily.at(hour, rng.randrange(60))
        if hour < 50:
            for _ in range(rng.choice((0, 0, 1, 5))):
                received = daily.world.now - timedelta(minutes=rng.choice((0, 0, 0, 3, 90)))
                recorded[daily.event(received=received, connection=rng.choice("ab"))] = received
        for action in (daily.write, daily.write, daily.deliver):
            try:
                action()
            except (Killed, TryAgain):
                daily.world.book.sinks = {
                    key: msgspec.structs.replace(at, busy_until=None) for key, at in daily.world.book.sinks.items()
                }
    daily.world.trouble = daily.inbox.trouble = lambda: None
    daily.at(0, day=6)
    daily.world.settle()
    daily.event()
    daily.world.settle()
    daily.deliver(at_once=True)
    assert len(daily.inbox.names) == len({*daily.inbox.arrived})
    days = {name: daily.ids(name) for name in daily.inbox.names if name.endswith(".log")}
    assert sorted(recorded) == sorted(known for ids in days.values() for known in ids)
    for name, ids in days.items():
        day = datetime.strptime(name[len("a_events_") :][:8], "%Y%m%d").replace(tzinfo=UTC)
        assert all(recorded[known] < day + timedelta(days=1) for known in ids)
