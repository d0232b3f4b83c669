"""From the table's stream to the bus, and how calls are cut to what a service takes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from espial import events, people
from espial.events import Channel
from espial.people import TELLING
from espial.services.publish_events import REFRESH_SECONDS, Wanted, publish, wanted_by
from espial.stores.batches import batches
from espial.stores.bus import ATTEMPTS, BYTES_A_CALL, EventBridgeBus
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.fakes import FakeBus, stream_record

OPENED, CLICKED = an_event("1"), an_event("2", type=EventType.CLICKED)


def test_what_was_inserted_and_is_wanted_is_published():
    """In the stream's order; the rest is counted."""
    bus = FakeBus()
    records = [stream_record(OPENED, "1"), stream_record(CLICKED, "2")]
    outcome = publish(records, bus=bus, wanted=frozenset({"clicked"}))
    assert ([CLICKED], {"published": 1, "unwanted": 1}) == (bus.events, outcome.totals())


def test_everything_is_published_where_that_is_the_setting():
    """None is no filter."""
    bus = FakeBus()
    publish([stream_record(OPENED, "1"), stream_record(CLICKED, "2")], bus=bus, wanted=None)
    assert [OPENED, CLICKED] == bus.events


@pytest.mark.parametrize(
    "record",
    [
        stream_record(OPENED, "1", name="MODIFY"),
        stream_record(OPENED, "1", name="REMOVE"),
        stream_record(OPENED, "1", sk="PROFILE"),
        stream_record(OPENED, "1", sk=f"X#{OPENED.event_id}#abc"),
    ],
    ids=["lineage added", "expired", "profile", "conflict"],
)
def test_nothing_but_a_new_event_is_published(record):
    """A change of lineage, an expiry and the other kinds of items are no events."""
    bus = FakeBus()
    assert ([], {}) == (bus.events, publish([record], bus=bus, wanted=None).totals())


def test_a_backfilled_event_fires_nothing():
    """Recorded, counted, kept off the bus (goal 14)."""
    bus = FakeBus()
    outcome = publish([stream_record(an_event(mode="backfill"), "1")], bus=bus, wanted=None)
    assert ([], {"backfill": 1}) == (bus.events, outcome.totals())


def test_a_replayed_event_is_published_as_such():
    """It was not recorded before, so nobody has seen it; whoever minds reads its mode."""
    bus = FakeBus()
    publish([stream_record(an_event(mode="replay"), "1")], bus=bus, wanted=None)
    assert ["replay"] == [event.mode for event in bus.events]


def test_the_sequence_numbers_of_refused_events_are_returned_in_order():
    """The first is where the stream goes on from."""
    chosen = [an_event(str(n)) for n in range(4)]
    bus = FakeBus(refuses=frozenset({chosen[1].event_id, chosen[3].event_id}))
    outcome = publish([stream_record(event, f"s-{n}") for n, event in enumerate(chosen)], bus=bus, wanted=None)
    assert (["s-1", "s-3"], {"published": 2, "failed": 2}) == (outcome.failed, outcome.totals())


def test_an_image_that_breaks_the_contract_does_not_block_its_shard():
    """No retry mends it; it is reported, and what follows it is published."""
    bad = stream_record(OPENED, "s-1")
    bad["dynamodb"]["NewImage"]["body"]["S"] = '{"type":"no such"}'
    bus = FakeBus()
    outcome = publish([bad, stream_record(CLICKED, "s-2")], bus=bus, wanted=None)
    assert (["s-1"], [], [CLICKED]) == (outcome.unreadable, outcome.failed, bus.events)


class TestWanted:
    """Which types go on the bus."""

    def test_what_starts_or_ends_a_run_is_wanted(self):
        """And what changes a person, whatever the triggers."""
        trigger = {"on": ["opened"], "exit_on": [{"event": "goal_reached"}]}
        assert TELLING | {"opened", "goal_reached"} == wanted_by({"triggers": {"thanks": trigger}})

    def test_whatever_says_something_of_a_person_is_always_wanted(self):
        """The list follows `espial.people`: a type left out would leave profiles behind the events."""
        traits = {"traits": {"first_name": "Ada", "consent": {"email": True}}}
        silent = [
            kind
            for kind in EventType
            for channel in get_args(Channel)
            if kind not in TELLING
            and people.of_event(an_event(type=kind, channel=channel, properties=traits)) != people.NOTHING
        ]
        assert [] == silent

    def test_definitions_are_read_again_after_a_while(self):
        """A trigger applied now is heard within half a minute."""
        now = [0.0]
        applied: dict[str, Any] = {"triggers": {}}
        wanted = Wanted(lambda: applied, lambda: now[0])
        assert "opened" not in wanted.current()
        applied["triggers"] = {"thanks": {"on": ["opened"]}}
        assert "opened" not in wanted.current()
        now[0] += REFRESH_SECONDS
        assert "opened" in wanted.current()

    def test_the_last_definitions_serve_while_the_store_is_away(self):
        """And where there never were any, nothing is guessed: the stream waits."""
        now, answers = [0.0], [{"triggers": {"thanks": {"on": ["opened"]}}}]

        def active():
            return answers.pop()

        wanted = Wanted(active, lambda: now[0])
        wanted.current()
        now[0] += REFRESH_SECONDS
        assert "opened" in wanted.current()
        with pytest.raises(IndexError):
            Wanted(active, lambda: now[0]).current()

    def test_before_anything_was_applied_only_what_is_always_wanted_goes_out(self):
        """No definitions are no triggers."""
        assert TELLING == Wanted(lambda: None, lambda: 0.0).current()


class Bridge:
    """A bus client that keeps what it is given and answers as told."""

    def __init__(self, *answers):
        self.calls = []
        self.answers = list(answers)

    def put_events(self, *, Entries):  # noqa: N803  the service's word
        self.calls.append(Entries)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        failed = answer or set()
        receipts = [{"ErrorCode": "x"} if n in failed else {"EventId": "e"} for n in range(len(Entries))]
        return {"FailedEntryCount": len(failed), "Entries": receipts}


def put(bridge, *chosen):
    return EventBridgeBus(bridge, "bus", sleep=lambda _seconds: None).put(chosen)


def test_an_entry_says_what_rules_match_on():
    """Source, type, instant and the canonical event, nothing else."""
    bridge = Bridge()
    put(bridge, OPENED)
    expected = {
        "Source": "espial",
        "DetailType": "opened",
        "Time": NOON.timestamp(),
        "EventBusName": "bus",
        "Detail": events.encode(OPENED).decode(),
    }
    assert [[expected]] == bridge.calls


def test_only_the_entries_that_failed_in_a_200_are_sent_again():
    """Read the receipt."""
    bridge = Bridge({1})
    assert [] == put(bridge, OPENED, CLICKED)
    assert [["opened", "clicked"], ["clicked"]] == [[e["DetailType"] for e in call] for call in bridge.calls]


@pytest.mark.parametrize("answer", [{0}, EndpointConnectionError(endpoint_url="https://events.example.com")])
def test_what_stays_refused_is_handed_back(answer, caplog):
    """After a few tries; the stream keeps it, and the log says why."""
    bridge = Bridge(*[answer] * ATTEMPTS)
    assert ([OPENED], ATTEMPTS) == (put(bridge, OPENED), len(bridge.calls))
    why = "bus.refused: x" if answer == {0} else "bus.unavailable: EndpointConnectionError"
    assert [why] * ATTEMPTS == [record.getMessage() for record in caplog.records]


def test_a_huge_event_goes_out_without_its_properties():
    """The emulator takes it, AWS does not; whoever needs more reads the raw archive."""
    bridge = Bridge()
    put(bridge, an_event(properties={"html": "x" * 1_200_000}))
    sent = events.decode(bridge.calls[0][0]["Detail"])
    assert ({}, OPENED.event_id, OPENED.raw) == (sent.properties, an_event("1").event_id, sent.raw)


def test_calls_are_cut_to_ten_entries_and_a_megabyte():
    """Several events below the limit can be above it together."""
    bridge = Bridge()
    put(bridge, *(an_event(str(n), properties={"html": "é" * 150_000}) for n in range(12)))
    assert 12 == sum(map(len, bridge.calls))
    assert all(sum(len(e["Detail"].encode()) for e in call) <= BYTES_A_CALL for call in bridge.calls)


@given(sizes=st.lists(st.integers(0, 40)), count=st.integers(1, 10), total=st.none() | st.integers(40, 100))
def test_batches_lose_nothing_and_stay_within_limits(sizes, count, total):
    """Every item leaves exactly once, in order, in batches the service accepts; none is empty."""
    cut = list(batches(sizes, count=count, total=total, size=lambda size: size))
    assert sizes == [size for batch in cut for size in batch]
    assert all(0 < len(batch) <= count and (total is None or sum(batch) <= total) for batch in cut)
