"""The balance of what came in and what became of it: exact however often, late and mixed the work is repeated."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from espial.deliveries import RawDelivery
from espial.errors import MalformedItem, TryAgain
from espial.events import Event
from espial.ledger import CONSUMERS, GRACE, PATIENCE, Balance, balances, hour_of, plain
from espial.own_events import PLATFORM
from espial.services import ledger as notes
from espial.services.ledger import (
    PUBLISH,
    Stretch,
    counted,
    due,
    note_arrived,
    note_deliveries,
    note_published,
    of_deliveries,
    of_events,
    of_feed,
    of_stretch,
    unbalanced,
)
from espial.services.publish_events import publish
from espial.services.record_events import record
from espial.services.recorder import Outcome, Recorder, Report, Tally
from espial.sources import load
from tests.builders import NOON, a_connection, a_delivery, an_arrival, an_event, an_item
from tests.fakes import (
    FakeArchive,
    FakeBus,
    FakeConnections,
    FakeEventStore,
    FakeLedger,
    FakeQuarantine,
    stream_record,
)

SOURCE = "sendgrid/main"
BAD = {"email": "ada@example.com"}
"""A SendGrid item without event and time."""


class World:
    """Recording, publishing and routing by fakes; every delivery is of the hour NOON lies in, unless it says else."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.store = FakeEventStore()
        self.quarantine = FakeQuarantine()
        self.ledger = FakeLedger()
        self.clock = NOON
        self.streamed: set[tuple[str, str]] = set()

    def now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def record(self, *deliveries: RawDelivery, note: bool = True) -> Tally:
        """One batch; without `note` the worker dies right after the last insert."""
        now = self.now()
        tally = record(
            deliveries,
            connections=FakeConnections(a_connection(), a_connection(name="other")),
            store=self.store,
            archive=FakeArchive(),
            quarantine=self.quarantine,
            now=now,
        )
        if note:
            note_deliveries(self.ledger, deliveries, tally, now)
        return tally

    def stream(self) -> list[Event]:
        """What was inserted since it was asked last, in order."""
        new = [key for key in self.store.items if key not in self.streamed]
        self.streamed.update(new)
        return [self.store.items[key].event for key in new]

    def publish(self, events: list[Event], wanted: frozenset[str] | None = None) -> list[Event]:
        """One batch of the stream; returns what went on the bus."""
        bus = FakeBus()
        outcome = publish([stream_record(event, str(n)) for n, event in enumerate(events)], bus=bus, wanted=wanted)
        note_published(self.ledger, outcome.said, self.now())
        return bus.events

    def route(self, events: list[Event]) -> None:
        for consumer in CONSUMERS:
            note_arrived(self.ledger, consumer, {str(n): event for n, event in enumerate(events)}, self.now())

    def finish(self, wanted: frozenset[str] | None = None) -> None:
        """Everything behind the insert, without trouble."""
        self.route(self.publish(self.stream(), wanted))

    def balance(self, source: str = SOURCE) -> Balance:
        found = {one.source: one for one in balances(hour_of(NOON), lambda: self.ledger.sheets(hour_of(NOON)))}
        return found[source]


@pytest.fixture
def world():
    return World()


def kinds(balance):
    return {kind: difference.count for kind, difference in balance.differences.items()}


def test_every_way_that_an_item_can_go_is_in_the_balance(world):
    """Recorded, again, contradicted, refused as an item and as a delivery; on the bus, kept off it, arrived."""
    world.record(
        a_delivery(
            [an_item(1), an_item(1), an_item(1, sg_message_id="other.filter0001"), BAD, an_item(2, event="open")]
        )
    )
    world.record(a_delivery(body=b"<html>", delivery_id="d-2"))
    world.finish(wanted=frozenset({"opened"}))
    found = plain(world.balance(), NOON)
    expected = {
        "received": 6,
        "recorded": 2,
        "duplicates": 1,
        "conflicts": 1,
        "quarantined": {"missing_event": 1, "not_json": 1},
        "ignored": 0,
        "pending": 0,
    }
    assert (expected, [], "balanced") == (found["record"], found["differences"], found["state"])
    assert ({"published": 1, "off": {"unwanted": 1}}, dict.fromkeys(CONSUMERS, 1)) == (found["publish"], found["route"])


def test_sources_are_balanced_by_themselves(world):
    """A loss at one connection is not made up for by another."""
    world.record(a_delivery(), a_delivery([an_item(2)], delivery_id="d-2", connection="other"))
    world.finish()
    assert [1, 1] == [world.balance(source).recorded for source in (SOURCE, "sendgrid/other")]


def test_the_hour_is_that_of_the_receipt(world):
    """Whenever the work is done: a retry falls into the same hour."""
    late = NOON - timedelta(hours=3)
    world.record(a_delivery(), a_delivery([an_item(2)], delivery_id="d-2", received_at=late))
    world.finish()
    assert {hour_of(NOON), hour_of(late)} == set(world.ledger.kept)
    for hour, sheets in world.ledger.kept.items():
        assert [1] == [balance.received for balance in balances(hour, sheets.values)]


def test_what_comes_twice_counts_once(world):
    """The very batch, its deliveries in other company, and the stream's records in other pieces."""
    one, two = a_delivery([an_item(1), BAD]), a_delivery([an_item(2)], delivery_id="d-2")
    for batch in ((one, two), (one, two), (two,), (one, a_delivery([an_item(3)], delivery_id="d-3"))):
        world.record(*batch)
    events = world.stream()
    for part in (events, events[:2], events[1:]):
        world.route(world.publish(part))
        world.route(part[::-1])
    found = world.balance()
    assert (4, 3, 0, {"missing_event": 1}) == (found.received, found.recorded, found.duplicates, found.quarantined)
    assert (3, 3, {}) == (found.published, found.routed["run_triggers"], kinds(found))


def test_a_worker_that_died_before_its_note_leaves_no_duplicate(world):
    """What it inserted came out of the stream, so its retry's word, that it was there already, is put right."""
    delivery = a_delivery([an_item(1), an_item(2), an_item(2)])
    world.record(delivery, note=False)
    assert {"duplicate": 3} == world.record(delivery).totals()
    world.finish()
    found = world.balance()
    assert (3, 2, 1, {}) == (found.received, found.recorded, found.duplicates, kinds(found))


def test_what_waits_for_a_retry_is_pending_until_it_is_done(world):
    """An open hour is no loss; the retry settles it, and the worse word that comes late changes nothing."""
    world.store.away = 1
    world.record(a_delivery([an_item(1), an_item(2)]))
    world.store.away = 0
    assert {"pending": 2} == kinds(world.balance())
    assert "open" == world.balance().state(NOON + timedelta(hours=6))
    assert "unbalanced" == world.balance().state(NOON + timedelta(hours=30))
    world.record(a_delivery([an_item(1), an_item(2)]))
    world.finish()
    world.store.away = 1
    world.record(a_delivery([an_item(1), an_item(2)]))
    assert (2, {}) == (world.balance().recorded, kinds(world.balance()))


def test_a_delivery_that_comes_back_from_quarantine_is_recorded_in_the_same_hour(world):
    """Its last word counts."""
    world.record(a_delivery(body=b"<html>"))
    world.record(a_delivery([an_item(1), an_item(2)]))
    world.finish()
    assert (2, 2, {}) == (world.balance().received, world.balance().recorded, dict(world.balance().quarantined))


def test_a_batch_that_cannot_be_noted_comes_again(world):
    """Deliveries, stream records and messages alike: no part of the balance is lost for good."""
    world.ledger.away = 3
    tally = world.record(a_delivery(), a_delivery([an_item(2)], delivery_id="d-2"))
    assert {"delivery-1": TryAgain, "d-2": TryAgain} == {name: type(why) for name, why in tally.failures.items()}
    event = an_event()
    assert ["ledger"] == list(note_published(world.ledger, [(event, "published")], NOON))
    assert ["m-1"] == list(note_arrived(world.ledger, "run_triggers", {"m-1": event}, NOON))
    assert ({}, {}) == (
        note_arrived(world.ledger, "run_triggers", {"m-1": event}, NOON),
        note_published(world.ledger, [], NOON),
    )


@pytest.mark.parametrize("stage", ["publish", "route", "record"])
def test_a_planted_loss_is_reported_with_its_id(world, stage):
    """Goal 27: recorded and never published, published and never arrived, published and nobody knows by whom."""
    world.record(a_delivery([an_item(1), an_item(2)]))
    lost, kept = world.stream()
    if stage == "record":
        world.ledger.kept[hour_of(NOON)].clear()
    on_bus = world.publish([kept] if stage == "publish" else [lost, kept])
    world.route([kept] if stage == "route" else on_bus)
    (difference,) = world.balance().differences.values()
    expected = {
        "publish": ("unpublished", [lost.event_id]),
        "route": ("unrouted", [lost.event_id]),
        "record": ("unexplained", sorted([lost.event_id, kept.event_id])),
    }
    assert expected[stage] == (difference.kind, difference.ids)


def test_what_a_feed_does_with_each_event_is_in_the_balance(world):
    """What waited and was fed counts as fed; what a feed never told of is missing, and named."""
    world.record(a_delivery([an_item(number) for number in range(3)]))
    one, two, three = world.publish(world.stream())
    world.route([one, two, three])
    for said in ([(one, "waiting")], [(one, "fed")], [(two, "ignored:deferred")]):
        world.ledger.note(of_feed("cdp", said, world.now()))
    assert {"cdp": {"fed": 1, "ignored:deferred": 1}} == world.balance().feeds
    assert [three.event_id] == world.balance().differences["unfed"].ids
    world.ledger.note(of_feed("cdp", [(three, "unmatched")], world.now()))
    assert {} == world.balance().differences
    assert {"cdp": {"fed": 1, "ignored:deferred": 1, "unmatched": 1}} == plain(world.balance(), NOON)["feeds"]


def test_an_event_published_by_hand_is_no_longer_missing(world):
    """`espial republish` puts it on the bus; that it arrived says so."""
    world.record(a_delivery())
    events = world.stream()
    assert {"unpublished": 1} == kinds(world.balance())
    world.route(events)
    assert (1, {}) == (world.balance().published, kinds(world.balance()))


def test_an_item_that_nobody_dealt_with_shows():
    """Items are counted before anything is done with them, so one that gets lost in our code is missed."""
    tally = Tally()
    tally.received["delivery-1"] = 3
    tally.count("delivery-1", Outcome("sendgrid", "main", "duplicate", "opened"), "01")
    sheets = of_deliveries([a_delivery()], tally, NOON)
    (balance,) = balances(hour_of(NOON), lambda: sheets)
    assert {"unaccounted": 2} == kinds(balance)


def test_our_own_events_are_nobodys_reports(world):
    """Nothing was received for them."""
    assert [] == of_events(PUBLISH, [(an_event(platform=PLATFORM), "published")], NOON)


def test_a_batch_of_many_ids_takes_several_items(world, monkeypatch):
    """An item holds 400 KB; the balance is the same."""
    monkeypatch.setattr(notes, "IDS_A_SHEET", 7)
    world.record(*(a_delivery([an_item(10 * n + i) for i in range(10)], delivery_id=f"d-{n}") for n in range(5)))
    world.finish()
    assert all(7 >= sum(len(i) for e in s.entries for i in e.ids.values()) for s in world.ledger.sheets(hour_of(NOON)))
    assert (50, 50, 50, {}) == (
        world.balance().received,
        world.balance().recorded,
        world.balance().published,
        kinds(world.balance()),
    )


@pytest.mark.parametrize("held", [20, 60, 1000])
def test_an_hour_that_does_not_fit_into_memory_is_read_in_classes(world, held):
    """Several times, with the same result."""
    items = [an_item(n) for n in range(40)]
    world.record(a_delivery([*items, BAD, items[0]]), a_delivery([items[1], BAD], delivery_id="d-2"))
    world.record(*(a_delivery([an_item(100 + n)], delivery_id=f"x-{n}") for n in range(20)), note=False)
    world.record(*(a_delivery([an_item(100 + n)], delivery_id=f"x-{n}") for n in range(20)))
    world.finish()
    world.route([an_event("stranger")])
    hour = hour_of(NOON)
    whole = balances(hour, lambda: world.ledger.sheets(hour))
    assert whole == balances(hour, lambda: world.ledger.sheets(hour), held=held)
    assert (64, 60, 2) == (whole[0].received, whole[0].recorded, whole[0].duplicates)


class TestStretches:
    """Chunks of export files, from checkpoint to checkpoint."""

    def record(self, world, start, end, numbers, *, last=False, bad=0, note=True, ignored=0, damages=0):
        """Rows by number, between two places."""
        items: list[Any] = [*map(an_item, numbers), *[MalformedItem("bad_row", "")] * bad]
        source, arrival, tally = load("sendgrid"), an_arrival(transport="export"), Tally()
        reports = (Report(source, arrival, item, "s3://f", f"f#{start}", n) for n, item in enumerate(items))
        Recorder(world.store, world.quarantine, NOON).record(counted(reports, tally), tally)
        reasons = +Counter(bad_row=bad, truncated_block=damages)
        stretch = Stretch(SOURCE, "file#0", NOON, start, end, last, ignored, damages, reasons)
        if note:
            world.ledger.note(of_stretch(stretch, tally, world.now()))

    def test_rows_refused_rows_damages_and_rows_that_report_nothing(self, world):
        """All of a stretch is in the balance."""
        self.record(world, None, 50, [1, 2, 2], bad=1, ignored=4)
        self.record(world, 50, 50, [3], last=True, damages=2)
        world.finish()
        found = world.balance()
        assert (11, 3, 1, 4) == (found.received, found.recorded, found.duplicates, found.ignored)
        assert ({"bad_row": 1, "truncated_block": 2}, {}) == (dict(found.quarantined), kinds(found))

    def test_a_chunk_that_is_not_read_to_its_end_keeps_the_hour_open(self, world):
        """Large files take time; a day later somebody should look."""
        self.record(world, None, 50, [1])
        world.finish()
        assert {"unfinished": 1} == kinds(world.balance())
        assert "open" == world.balance().state(NOON + timedelta(hours=5))

    @pytest.mark.parametrize("vain_first", [True, False])
    def test_of_two_workers_at_one_place_the_checkpointed_one_counts(self, world, vain_first):
        """One read further, the other's checkpoint stood: what comes next begins at it."""
        rounds = [lambda: self.record(world, None, 90, [1, 2, 3]), lambda: self.record(world, None, 50, [1, 2])]
        for step in rounds if vain_first else rounds[::-1]:
            step()
        self.record(world, 50, 120, [3, 4], last=True)
        world.finish()
        found = world.balance()
        assert (4, 4, 0, {}) == (found.received, found.recorded, found.duplicates, kinds(found))

    def test_a_stretch_whose_worker_died_is_recorded_by_the_next(self, world):
        """It had inserted, and noted nothing."""
        self.record(world, None, 50, [1, 2], note=False)
        self.record(world, None, 70, [1, 2, 3], last=True)
        world.finish()
        assert (3, 3, {}) == (world.balance().received, world.balance().recorded, kinds(world.balance()))

    def test_a_file_that_is_read_again_counts_once(self, world):
        """All its rows are known, and its stretches too, wherever the second reading cuts them."""
        self.record(world, None, 50, [1, 2])
        self.record(world, 50, 80, [3], last=True)
        self.record(world, None, 50, [1, 2])
        self.record(world, 50, 80, [3], last=True)
        world.finish()
        assert (3, 3, 0, {}) == (
            world.balance().received,
            world.balance().recorded,
            world.balance().duplicates,
            kinds(world.balance()),
        )


def test_the_state_tells_what_is_on_its_way_from_what_is_lost():
    """Nothing is judged before its time; a loss is told after two hours, what hangs after a day."""
    over = hour_of(NOON) + timedelta(hours=1)
    lost, hangs, fine = (Balance(hour_of(NOON), SOURCE) for _ in range(3))
    lost.differ("unpublished", 1, ["01"])
    hangs.differ("unexplained", 1, ["01"])
    for balance, expected in ((fine, ["balanced"] * 3), (lost, ["open", "unbalanced", "unbalanced"])):
        assert expected == [balance.state(over + age) for age in (GRACE / 2, GRACE, PATIENCE)]
    assert ["open", "open", "unbalanced"] == [hangs.state(over + age) for age in (GRACE / 2, GRACE, PATIENCE)]


def test_every_hour_is_checked_when_it_should_be_done_and_when_nothing_may_be_open():
    """By a check once an hour, at whatever minute."""
    for minute in (0, 17, 59):
        moments = [NOON + timedelta(hours=n, minutes=minute) for n in range(60)]
        checked = Counter(hour for moment in moments for hour in due(moment))
        ages = {moment - hour - timedelta(hours=1) for moment in moments for hour in due(moment)}
        assert 2 == checked[NOON + timedelta(hours=10)]
        assert all(age >= GRACE for age in ages)
        assert any(age >= PATIENCE for age in ages)


def test_the_check_names_what_is_lost(world):
    """And only that."""
    world.record(a_delivery(), a_delivery([an_item(2)], delivery_id="d-2", connection="other"))
    first, second = world.stream()
    world.route(world.publish([first]))
    found = unbalanced(world.ledger, hour_of(NOON) + timedelta(hours=3, minutes=30), lambda: 600_000)
    assert [f"sendgrid/{second.connection}"] == [balance.source for balance in found]
    assert [] == unbalanced(world.ledger, hour_of(NOON) + timedelta(hours=8), lambda: 600_000)


def test_an_hour_that_cannot_be_read_in_time_does_not_pass_as_balanced(world):
    """The check ends before its process does, and says so."""
    world.record(a_delivery())
    world.finish()
    (found,) = unbalanced(world.ledger, hour_of(NOON) + timedelta(hours=3), lambda: 9_999)
    assert ("*", {"unread": 1}) == (found.source, kinds(found))


@pytest.mark.parametrize("seed", range(200))
def test_any_interleaving_of_retries_and_crashes_comes_to_the_same_balance(seed):
    """Batches in any company, killed before or after their note, throttled, streamed in overlapping pieces."""
    world = World(seed)
    chance = world.chance
    deliveries = []
    for number in range(chance.randrange(1, 12)):
        items = [
            chance.choice([BAD, *(an_item(chance.randrange(25)) for _ in range(4))]) for _ in range(chance.randrange(6))
        ]
        deliveries.append(a_delivery(items, delivery_id=f"d-{number}"))
    waiting = list(deliveries)
    to_publish: list[Event] = []
    to_route: list[Event] = []
    while waiting or to_publish or to_route or (left := world.stream()):
        if not (waiting or to_publish or to_route):
            to_publish += left
        match chance.choice(["record", "record", "publish", "route"]):
            case "record":
                batch = list({d.delivery_id: d for d in chance.sample(waiting, min(len(waiting), 3))}.values())
                fate = chance.choice(["fine", "fine", "dies before", "dies after", "throttled", "unnoted"])
                world.store.away = fate == "throttled"
                world.ledger.away = fate == "unnoted"
                tally = world.record(*batch, note=fate != "dies before")
                world.store.away = world.ledger.away = 0
                if fate not in ("dies before", "dies after"):
                    waiting = [d for d in waiting if d not in batch or d.delivery_id in tally.failures]
            case "publish":
                to_publish += world.stream()
                piece = to_publish[: chance.randrange(1, 9)]
                to_route += world.publish(piece, chance.choice([None, None, frozenset({"opened"})]))
                if chance.random() < 0.7:  # else the stream gives it again, in other pieces
                    to_publish = to_publish[len(piece) :]
            case "route":
                piece = chance.sample(to_route, min(len(to_route), 4))
                world.route(piece)
                if chance.random() < 0.7:
                    to_route = [event for event in to_route if event not in piece]
    found = world.balance() if deliveries else None
    sent = sum(len(json.loads(delivery.body)) for delivery in deliveries)
    assert found is not None
    refused = sum(json.loads(delivery.body).count(BAD) for delivery in deliveries)
    assert (sent, refused, len(world.store.items)) == (found.received, found.quarantined.total(), found.recorded)
    assert sent - refused == found.recorded + found.duplicates + found.conflicts
    assert found.recorded == found.published + found.off.total()
    assert (0, {}) == (found.pending, kinds(found))
