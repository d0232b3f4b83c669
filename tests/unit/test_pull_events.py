"""Pulling a stream: nothing is lost whatever is killed when, one reads at a time, and time is kept."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Connection, RawDelivery
from espial.errors import Refused, TryAgain
from espial.services import pull_events
from espial.services.pull_events import Clock, Puller, batches
from espial.streams import OffsetGone, StreamRequest
from tests.fakes import FakeConnections, FakeDeliveryQueue, FakePositions

START = datetime(2026, 1, 15, 10, tzinfo=UTC)
SETTINGS: dict[str, Any] = {"pull": True, "app_key": "app-1", "region": "eu"}
SHOP = Connection(name="shop", platform="airship", secrets=("secretsmanager:espial/shop",), settings=SETTINGS)
BUDGET_MS = 300_000.0


class Killed(BaseException):
    """The process is gone."""


class Time:
    """A clock that moves only when somebody waits or reads."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(
            lambda: START + timedelta(seconds=self.seconds),
            lambda: self.seconds,
            self.sleep,
            lambda: BUDGET_MS - self.seconds * 1000,
        )


def line(number: int, kind: str = "CLOSE") -> bytes:
    return orjson.dumps({"id": f"e-{number}", "type": kind, "offset": f"{number:05d}"})


class Log:
    """A stream that keeps `count` events and answers from any offset; `faults` are raised in turn, then it idles."""

    def __init__(self, time: Time, count: int, *faults: Exception | int) -> None:
        self.time = time
        self.count = count
        self.faults = list(faults)
        self.requests: list[StreamRequest] = []
        self.seconds: list[float] = []

    def lines(self, request: StreamRequest, seconds: float) -> Generator[bytes]:
        self.requests.append(request)
        self.seconds.append(seconds)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        first = int(request.offset) + 1 if request.offset else 1
        for number in range(first, self.count + 1):
            if fault is not None and number - first >= fault:
                raise TryAgain("the stream broke", after=0.0)
            yield line(number)
        yield b""
        self.time.seconds += seconds


class World:
    """One connection, everything else in memory."""

    def __init__(self, count: int = 10, *faults: Exception | int, connections: Sequence[Connection] = (SHOP,)) -> None:
        self.time = Time()
        self.log = Log(self.time, count, *faults)
        self.positions = FakePositions()
        self.queue = FakeDeliveryQueue()
        secrets = {one.name: (b"token-1",) for one in connections}
        self.connections = FakeConnections(*connections, secrets=secrets)

    def run(self) -> list[pull_events.Pulled]:
        puller = Puller(connections=self.connections, stream=self.log, positions=self.positions, queue=self.queue)
        return puller.run(self.time.clock())

    def again(self) -> list[pull_events.Pulled]:
        """A later invocation."""
        self.time.seconds, self.time.pauses = 0.0, []
        return self.run()

    def read(self) -> list[str]:
        """The ids of the events on the queue, in order."""
        return [orjson.loads(one)["id"] for found in self.queue.deliveries for one in found.body.splitlines()]


def ids(first: int, last: int) -> list[str]:
    return [f"e-{number}" for number in range(first, last + 1)]


def test_what_is_read_lies_on_the_queue_and_the_next_run_goes_on_behind_it() -> None:
    """As deliveries that the connection's own source reads."""
    world = World(10)
    (found,) = world.run()
    assert ("shop", "read", 10, 1, False) == found[:5]
    assert "00010" == world.positions.read_to["airship/shop"]
    world.log.count = 13
    world.again()
    assert ids(1, 13) == world.read()
    assert ["", "00010"] == [request.offset for request in world.log.requests]
    delivery = world.queue.deliveries[0]
    assert ("airship", "shop", "webhook", "live") == (
        delivery.platform,
        delivery.connection,
        delivery.transport,
        delivery.mode,
    )
    assert 10 == len(sources.load("airship").split(delivery))


def test_the_connection_says_which_stream() -> None:
    """Region, app key, tokens, start and filters are its settings."""
    told = {**SETTINGS, "start": "LATEST", "filters": [{"types": ["CUSTOM"]}]}
    world = World(1, connections=[replace(SHOP, settings=told)])
    world.run()
    expected = StreamRequest("eu", "app-1", (b"token-1",), "", "LATEST", [{"types": ["CUSTOM"]}])
    assert expected == world.log.requests[0]


@pytest.mark.parametrize("pull", [None, False, "yes", 1])
def test_only_who_asks_is_pulled(pull: Any) -> None:
    """An integration may post instead."""
    world = World(1, connections=[replace(SHOP, settings={**SETTINGS, "pull": pull})])
    assert [] == world.run()
    assert [] == world.log.requests


def test_killed_between_queue_and_offset_nothing_is_lost() -> None:
    """What was put is read again, under the same delivery id; the insert tells them apart."""
    world = World(10)
    world.positions.killed = Killed()
    with pytest.raises(Killed):
        world.run()
    assert ids(1, 10) == world.read()
    assert {} == world.positions.read_to
    world.positions.killed = None
    world.again()
    assert ids(1, 10) * 2 == world.read()
    assert 1 == len({delivery.delivery_id for delivery in world.queue.deliveries})


def test_killed_for_good_the_stream_is_free_when_its_time_is_over() -> None:
    """A process that is gone gives nothing back."""
    world = World(3)
    world.positions.take("airship/shop", now=START, until=START + timedelta(minutes=5))
    assert "busy" == world.run()[0].outcome
    world.time.seconds = 301.0
    assert BUDGET_MS - world.time.clock().time_left() == 301_000
    assert world.positions.take("airship/shop", now=START + timedelta(minutes=5), until=START) is not None


@given(st.integers(1, 40), st.lists(st.integers(0, 8), max_size=5), st.data())
def test_every_event_is_read_over_any_cuts_throttles_and_kills(
    count: int, cuts: list[int], data: st.DataObject
) -> None:
    """At least once, and no offset is kept past what is durable."""
    world = World(count, *cuts)
    for _ in range(data.draw(st.integers(0, 3))):
        trouble = data.draw(st.sampled_from(["killed", "queue", "table"]))
        world.positions.killed = Killed() if trouble == "killed" else None
        world.queue.away = trouble == "queue"
        world.positions.away = trouble == "table"
        try:
            world.again()
        except Killed:
            world.positions.held.clear()  # its time is over
        kept = int(world.positions.read_to.get("airship/shop", "0"))
        assert set(ids(1, kept)) <= set(world.read())
    world.positions.killed, world.queue.away, world.positions.away = None, False, False
    world.again()
    assert set(ids(1, count)) == set(world.read())
    assert f"{count:05d}" == world.positions.read_to["airship/shop"]


def test_of_two_pullers_the_second_reads_nothing() -> None:
    """An invocation that the schedule starts while the last one still runs."""
    world = World(3)
    first = world.positions.take("airship/shop", now=START, until=START + timedelta(minutes=5))
    assert first is not None
    assert "busy" == world.run()[0].outcome
    assert [] == world.log.requests
    world.positions.release(first)
    assert "read" == world.run()[0].outcome


def test_who_lost_the_stream_stops() -> None:
    """What it put is harmless, its offset does not count."""
    world = World(3)
    put = world.queue.put

    def slow(delivery: RawDelivery) -> None:
        put(delivery)
        world.positions.held["airship/shop"] = ("another", START + timedelta(hours=1))

    world.queue.put = slow  # type: ignore[method-assign]
    assert "lost" == world.run()[0].outcome
    assert {} == world.positions.read_to
    assert ("another", START + timedelta(hours=1)) == world.positions.held["airship/shop"]


def test_reading_stops_well_before_the_invocation_does() -> None:
    """Thirty seconds."""
    world = World(1)
    world.run()
    assert [pytest.approx(270.0)] == world.log.seconds
    assert 270.0 <= world.time.seconds <= 270.0 + pull_events.SHORTEST


def test_a_connection_may_ask_for_less_time() -> None:
    """`pull_seconds`; never for more than there is."""
    for asked, expected in ((60, 60.0), (9_999, 270.0)):
        world = World(1, connections=[replace(SHOP, settings={**SETTINGS, "pull_seconds": asked})])
        world.run()
        assert pytest.approx(expected) == world.log.seconds[0]


def test_several_streams_share_the_time_and_one_that_fails_stops_no_other() -> None:
    """Each gets its part of what is left."""
    world = World(1, Refused("unauthorised", "HTTP 401"), connections=[SHOP, replace(SHOP, name="other")])
    found = world.run()
    assert [("shop", "refused"), ("other", "read")] == [one[:2] for one in found]
    assert [pytest.approx(135.0), pytest.approx(270.0)] == world.log.seconds


def test_without_time_nothing_is_begun() -> None:
    """Not even the right to read is taken."""
    world = World(1)
    world.time.seconds = 270.0
    assert "no_time" == world.run()[0].outcome
    assert {} == world.positions.held


def test_a_cut_stream_is_read_on_at_once_from_its_offset() -> None:
    """All in one invocation."""
    world = World(10, 4, 4)
    (found,) = world.run()
    assert ("read", 10, 3) == (found.outcome, found.lines, found.deliveries)
    assert ids(1, 10) == world.read()
    assert ["", "00004", "00008"] == [request.offset for request in world.log.requests]


def test_pauses_grow_until_something_comes() -> None:
    """From a tenth of a second to ten."""
    broken = [TryAgain("connect", after=0.0)] * 9
    world = World(1, *broken)
    assert "read" == world.run()[0].outcome
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0] == [pytest.approx(one) for one in world.time.pauses[:9]]


def test_throttled_for_longer_than_there_is_time_is_for_the_next_run() -> None:
    """Nobody waits for a time-out."""
    world = World(1, TryAgain("HTTP 429", after=900.0))
    (found,) = world.run()
    assert ("try_again", "HTTP 429", []) == (found.outcome, found.detail, world.time.pauses)


def test_throttled_for_a_while_it_waits() -> None:
    """As long as it is told."""
    world = World(1, TryAgain("HTTP 429", after=7.0))
    assert "read" == world.run()[0].outcome
    assert 7.0 == world.time.pauses[0]


def test_an_offset_that_is_not_known_any_more_begins_anew_with_the_oldest_event() -> None:
    """Seven days were not read: what is still there is, and the result says so."""
    world = World(5, OffsetGone("HTTP 400"))
    world.positions.read_to["airship/shop"] = "00002"
    (found,) = world.run()
    assert ("read", True) == (found.outcome, found.restarted)
    assert [("00002", "EARLIEST"), ("", "EARLIEST")] == [(one.offset, one.start) for one in world.log.requests]
    assert ids(1, 5) == world.read()


def test_a_request_that_is_refused_for_good_is_reported() -> None:
    """Not tried again and again."""
    for fault in (Refused("refused", "HTTP 402"), OffsetGone("HTTP 400")):
        world = World(5, fault)
        (found,) = world.run()
        assert ("refused", 1) == (found.outcome, len(world.log.requests))
        assert "HTTP 40" in found.detail


def test_the_offset_of_an_update_counts_and_holds_no_event() -> None:
    """A filter may leave out most of a stream."""
    time = Time()
    found = list(batches([line(1), line(7, "OFFSET_UPDATE")], time.clock().monotonic))
    assert [([line(1)], "00007")] == [tuple(one) for one in found]
    assert [([], "00009")] == [tuple(one) for one in batches([line(9, "OFFSET_UPDATE")], time.clock().monotonic)]


def test_a_stream_that_said_nothing_but_its_offset_goes_on_there() -> None:
    """Begun with `LATEST`, the next run must not skip what came between the two."""
    world = World(0, connections=[replace(SHOP, settings={**SETTINGS, "start": "LATEST"})])

    def quiet(request: StreamRequest, seconds: float) -> Generator[bytes]:
        world.log.requests.append(request)
        yield line(40, "OFFSET_UPDATE")
        world.time.seconds += seconds

    world.log.lines = quiet  # type: ignore[method-assign]
    world.run()
    world.again()
    assert [("", "LATEST"), ("00040", "LATEST")] == [(one.offset, one.start) for one in world.log.requests]
    assert [] == world.queue.deliveries


def test_a_line_that_is_no_event_is_kept_for_quarantine() -> None:
    """And moves no offset."""
    odd = [line(1), b"{", b"[1]", b'{"offset":7}', b'"x"']
    assert [(odd, "00001")] == [tuple(one) for one in batches(odd, Time().clock().monotonic)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([line(1), b"", line(2)], [1, 1]),
        ([line(1), line(2, "OFFSET_UPDATE"), line(3)], [1, 1]),
        ([b"", b""], []),
        ([line(n) for n in range(2_500)], [1_000, 1_000, 500]),
        ([b'{"a":"' + b"a" * 600_000 + b'"}'] * 3, [2, 1]),
    ],
    ids=[
        "a keep-alive closes a batch",
        "so does an offset alone",
        "keep-alives alone are none",
        "by number",
        "by size",
    ],
)
def test_lines_are_packed(lines: list[bytes], expected: list[int]) -> None:
    """Into deliveries that fit their queue."""
    assert expected == [len(one.lines) for one in batches(lines, Time().clock().monotonic)]


def test_a_line_does_not_wait_for_others_for_long() -> None:
    """Five seconds."""
    time = Time()

    def slow() -> Generator[bytes]:
        for number in range(6):
            yield line(number)
            time.seconds += 2.0

    assert [4, 2] == [len(one.lines) for one in batches(slow(), time.clock().monotonic)]


@pytest.mark.parametrize(
    "settings",
    [
        {"pull": True},
        {"pull": True, "app_key": "a\r\nb"},
        {"region": "mars"},
        {"start": "NOW"},
        {"pull_seconds": 0},
        {"pull_seconds": "60"},
        {"pull_seconds": True},
        {"filters": {"types": []}},
        {"opens": "both"},
        {"mail_reports": "both"},
    ],
)
def test_settings_that_do_not_do_are_refused_when_they_are_applied(settings: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(ValueError, match="app_key" if "pull" in settings else next(iter(settings))):
        sources.of(replace(SHOP, settings=settings))


def test_settings_that_do() -> None:
    """All of them."""
    told = {**SETTINGS, "start": "LATEST", "pull_seconds": 60, "filters": [{"types": ["CUSTOM"]}], "opens": "open"}
    assert sources.load("airship") is sources.of(replace(SHOP, settings=told))


def test_secrets_that_cannot_be_read_are_for_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other connection waits for them."""
    world = World(1, connections=[SHOP, replace(SHOP, name="other")])
    found: Callable[..., Any] = world.connections.secrets

    def away(connection: Connection) -> Any:
        if connection.name == "shop":
            raise TryAgain("secrets are away")
        return found(connection)

    monkeypatch.setattr(world.connections, "secrets", away)
    assert ["try_again", "read"] == [one.outcome for one in world.run()]
