"""One batch from RawQueue to the store: nothing lost, nothing doubled, nobody held up."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import events, sources
from espial.envelope import pack
from espial.errors import MalformedItem, Refused, TryAgain
from espial.events import PersonKey
from espial.exports.notices import Notice, parse
from espial.ports import Quarantined
from espial.services.record_events import read_messages, record
from espial.services.recorder import INSERT_TOGETHER, Recorder, Report
from espial.services.replay_quarantine import WaysBack, replay
from espial.services.timeline import timeline
from tests.builders import NOON, a_connection, a_delivery, a_record, an_arrival, an_item
from tests.fakes import FakeArchive, FakeConnections, FakeDeliveryQueue, FakeEventStore, FakeQuarantine

UNREADABLE = {"email": "ada@example.com"}
"""A SendGrid item without event and time."""


class World:
    """The ports of one recording, all fakes."""

    def __init__(self, *connections):
        self.connections = FakeConnections(*(connections or (a_connection(),)))
        self.store = FakeEventStore()
        self.archive = FakeArchive()
        self.quarantine = FakeQuarantine()

    def record(self, *deliveries):
        return record(deliveries, now=NOON, **vars(self))

    @property
    def recorded(self):
        return {event_id for _, event_id in self.store.items}

    def entries(self):
        return list(self.quarantine.list())


@pytest.fixture
def world():
    return World()


def test_every_item_becomes_an_event_that_points_to_its_raw_delivery(world):
    """The pointer leads back to the exact bytes."""
    delivery = a_delivery([an_item(1), an_item(2)])
    assert {"new": 2} == world.record(delivery).totals()
    pointers = {stored.event.raw for stored in world.store.items.values()}
    assert [delivery] == [world.archive.read(pointer) for pointer in pointers]


def test_outcomes_are_counted_by_platform_connection_verdict_and_type(world):
    """The metrics' raw material."""
    tally = world.record(a_delivery([an_item(1), an_item(1), an_item(2, event="open"), an_item(3, event="new thing")]))
    expected = {
        ("sendgrid", "main", "new", "delivered"): 1,
        ("sendgrid", "main", "duplicate", "delivered"): 1,
        ("sendgrid", "main", "new", "opened"): 1,
        ("sendgrid", "main", "new", "unknown"): 1,
    }
    assert expected == {tuple(outcome): count for outcome, count in tally.counts.items()}


def test_an_unreadable_item_is_quarantined_and_its_neighbours_go_on(world):
    """Place, reason and the item itself (guarantee 4)."""
    assert {"new": 2, "quarantined": 1} == world.record(a_delivery([an_item(1), UNREADABLE, an_item(2)])).totals()
    (entry,) = world.entries()
    assert ("missing_event", "event", "sendgrid", "main") == (
        entry.reason,
        entry.path,
        entry.platform,
        entry.connection,
    )
    assert ("item", UNREADABLE, 1) == tuple(entry.content[name] for name in ("kind", "item", "position"))


def test_an_unreadable_delivery_is_quarantined_whole(world):
    """Its exact bytes, so that it can go back when the parser is mended."""
    tally = world.record(a_delivery(body=b"<html>"), a_delivery(delivery_id="delivery-2"))
    assert ({"quarantined": 1, "new": 1}, {}) == (tally.totals(), tally.failures)
    (entry,) = world.entries()
    assert ("not_json", b"<html>") == (entry.reason, b64decode(entry.content["body"]))


@pytest.mark.parametrize("connections", [[a_connection(name="other")], [a_connection(platform="braze")]])
def test_a_delivery_of_a_connection_removed_meanwhile_is_kept_for_its_return(connections):
    """It was answered 200, so it is not dropped."""
    world = World(*connections)
    assert {"quarantined": 1} == world.record(a_delivery()).totals()
    assert ["unknown_connection"] == [entry.reason for entry in world.entries()]


def test_a_retry_quarantines_nothing_twice(world):
    """Entries are named by what they hold, not by when it was tried."""
    for _ in range(2):
        world.record(a_delivery([UNREADABLE, UNREADABLE]), a_delivery(body=b"x", delivery_id="delivery-2"))
    assert 3 == len(world.entries())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", " GZIP "])
def test_compressed_bodies_are_inflated(world, encoding):
    """Vendor SDKs compress by themselves."""
    body = gzip.compress(json.dumps([an_item()]).encode())
    assert {"new": 1} == world.record(a_delivery(body=body, headers={"content-encoding": encoding})).totals()


def test_a_compressed_body_that_is_damaged_or_a_bomb_is_quarantined(world):
    """Neither a crash nor a full memory."""
    headers = {"content-encoding": "gzip"}
    world.record(
        a_delivery(body=gzip.compress(b"[]")[:-9], headers=headers),
        a_delivery(body=gzip.compress(bytes(100_000_000)), headers=headers, delivery_id="delivery-2"),
    )
    assert {"damaged_compression", "too_large"} == {entry.reason for entry in world.entries()}


def test_a_bug_in_one_delivery_does_not_touch_the_others(world, monkeypatch):
    """It is retried alone, and what of it could be recorded is."""
    source = sources.load("sendgrid")

    def normalise(item, arrival):
        if item["sg_event_id"] == "event-2":
            raise ZeroDivisionError
        return source.normalise(item, arrival)

    monkeypatch.setattr(sources, "load", lambda _name: replace(source, normalise=normalise, configured=None))
    tally = world.record(
        a_delivery([an_item(1), an_item(2), an_item(3)]), a_delivery([an_item(4)], delivery_id="delivery-2")
    )
    assert (["delivery-1"], {"new": 3, "retried": 1}) == (list(tally.failures), tally.totals())
    assert isinstance(tally.failures["delivery-1"], ZeroDivisionError)


def test_a_delivery_that_cannot_be_archived_does_not_hold_up_the_others(world):
    """What cannot be kept raw is not recorded; it is retried and ends in the dead-letter queue."""

    def keep(deliveries):
        if any(b"poison" in delivery.body for delivery in deliveries):
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")
        return FakeArchive().keep(deliveries)

    world.archive.keep = keep
    tally = world.record(a_delivery(body=b"poison"), a_delivery(delivery_id="delivery-2"))
    assert (["delivery-1"], 1) == (list(tally.failures), tally.total("new"))


def test_without_the_archive_everything_is_retried_and_nothing_recorded(world):
    """A pointer must never lead nowhere."""
    world.archive.failure = TryAgain("S3 is away")
    tally = world.record(a_delivery(), a_delivery(delivery_id="delivery-2"))
    assert ({"delivery-1", "delivery-2"}, {}) == (set(tally.failures), world.store.items)


def test_without_the_connections_the_delivery_is_retried_not_quarantined(world):
    """Not to know is not to know that there is none."""

    def away(_platform, _name):
        raise TryAgain("definitions cannot be read")

    world.connections.find = away
    assert (["delivery-1"], []) == (list(world.record(a_delivery()).failures), world.entries())


def test_a_throttled_table_hands_every_delivery_back(world):
    """And the retry finds everything as it was."""
    world.store.away = 1
    assert {"delivery-1"} == set(world.record(a_delivery()).failures)
    assert {"new": 1} == world.record(a_delivery()).totals()


def test_without_the_quarantine_the_delivery_is_retried(world):
    """What was not put in its place is not dealt with."""
    world.quarantine.failure = TryAgain("S3 is away")
    tally = world.record(a_delivery([an_item(1), UNREADABLE]), a_delivery(body=b"x", delivery_id="delivery-2"))
    assert ({"delivery-1", "delivery-2"}, {"new": 1, "retried": 2}) == (set(tally.failures), tally.totals())


@pytest.mark.parametrize(
    ("connection", "delivery", "expected"),
    [("live", "live", "live"), ("backfill", "live", "backfill"), ("live", "replay", "replay")],
)
def test_an_event_bears_the_mode_of_its_delivery_else_of_its_connection(connection, delivery, expected):
    """Backfilled and replayed events say so for ever (goal 14)."""
    world = World(a_connection(mode=connection))
    world.record(a_delivery(mode=delivery))
    assert [expected] == [stored.event.mode for stored in world.store.items.values()]


def test_each_connection_has_its_own_dedupe_horizon():
    """`dedupe_days` becomes the day the item expires (goal 17)."""
    world = World(a_connection(dedupe_days=7))
    world.record(a_delivery())
    assert [int((NOON + timedelta(days=7)).timestamp())] == list(world.store.expires.values())


def test_a_batch_larger_than_one_insert_is_recorded_whole(world):
    """Full groups are inserted as they fill up, the rest at the end: an export's rows are never all in memory."""
    sizes, add = [], world.store.add

    def counted(records, **given):
        sizes.append(len(records))
        return add(records, **given)

    world.store.add = counted
    count = 2 * INSERT_TOGETHER + 7
    assert {"new": count} == world.record(a_delivery([an_item(n) for n in range(count)])).totals()
    assert [INSERT_TOGETHER, INSERT_TOGETHER, 7] == sizes


def test_an_item_that_could_not_even_be_read_is_quarantined_with_its_facts(world):
    """A damaged block of an export: its place in the file instead of its contents."""
    report = Report(
        source=sources.load("sendgrid"),
        arrival=an_arrival(transport="export"),
        item=MalformedItem("damaged_block", "sync marker missing"),
        raw="exports/sendgrid/main/a.avro#4096",
        origin="chunk-1",
        position=3,
        facts={"bucket": "exports", "row": 17},
    )
    assert {"quarantined": 1} == Recorder(world.store, world.quarantine, NOON).record([report]).totals()
    (entry,) = world.entries()
    assert ("damaged_block", None, 17, 3) == (entry.reason, *(entry.content[k] for k in ("item", "row", "position")))


numbers = st.integers(0, 12)
items = st.one_of(
    numbers.map(an_item),
    numbers.map(lambda n: an_item(n, response="250 OK, other words")),
    st.just(UNREADABLE),
    st.sampled_from([None, 7, "text", [], {}]),
)


@given(batch=st.lists(st.lists(items, max_size=8), max_size=6))
def test_every_item_has_exactly_one_outcome(batch):
    """The balance: items in = new + duplicate + conflict + quarantined (goal 27)."""
    world = World()
    tally = world.record(*(a_delivery(some, delivery_id=f"d-{n}") for n, some in enumerate(batch)))
    assert sum(map(len, batch)) == sum(tally.counts.values())
    assert len(world.store.items) == tally.total("new")
    assert sum(map(len, world.store.conflicts.values())) == tally.total("conflict")


@given(data=st.data(), some=st.lists(numbers, min_size=1, max_size=20))
def test_order_repetition_and_splitting_change_nothing_of_what_is_recorded(data, some):
    """However a platform cuts, shuffles and repeats its batches (guarantee 2)."""
    at_once = World()
    at_once.record(a_delivery([an_item(n) for n in some]))
    repeated = data.draw(st.permutations(some + data.draw(st.lists(st.sampled_from(some)))))
    cut = data.draw(st.integers(0, len(repeated)))
    in_parts = World()
    for part, numbers_of_part in enumerate((repeated[:cut], repeated[cut:])):
        in_parts.record(a_delivery([an_item(n) for n in numbers_of_part], delivery_id=f"d-{part}"))
    assert at_once.recorded == in_parts.recorded
    assert len(set(some)) == len(in_parts.recorded)


def a_message(id, delivery):
    packed = pack(delivery)
    attributes = {name: {"stringValue": value, "dataType": "String"} for name, value in packed.attributes.items()}
    return {"messageId": id, "body": packed.body, "messageAttributes": attributes}


def test_a_message_that_is_none_of_ours_fails_alone():
    """It ends in the dead-letter queue while its neighbours are recorded."""
    good, bad, bare = (a_message(name, a_delivery()) for name in ("m-1", "m-2", "m-3"))
    bad["body"] = "not base64!"
    bare["messageAttributes"] = {}
    deliveries, failures = read_messages([bad, good, bare], lambda key: b"")
    assert (["m-1"], ["m-2", "m-3"]) == (list(deliveries), list(failures))


FILE = {
    "kind": "export",
    "raw": "s3://exports/a@e1#0",
    "bucket": "exports",
    "key": "exports/x/y/a +1%20.avro",
    "etag": "e1",
    "version_id": "v1",
    "place": 0,
    "until": 9,
}
"""Of a quarantine entry: a file that could not be read."""


def by(queue, notify=None, state=None):
    """The ways back: a queue, what takes notices, and a ledger that says one thing of every file."""

    class Ledger:
        def entries(self, _bucket, objects):
            return {one.key: SimpleNamespace(state=state) for one in objects if state}

    return WaysBack(queue, notify, cast("Any", Ledger()))


class TestReplay:
    """The way back from quarantine."""

    def test_a_delivery_goes_back_as_it_came(self, world):
        """Same bytes, same id, same arrival."""
        delivery = a_delivery(body=b"<html>")
        world.record(delivery)
        queue = FakeDeliveryQueue()
        replay(world.entries()[0].id, quarantine=world.quarantine, ways=by(queue))
        assert ([delivery], []) == (queue.deliveries, world.entries())

    def test_an_item_goes_back_alone_and_is_recorded_once_its_parser_is_mended(self, world, monkeypatch):
        """Its neighbours are not sent again, and its identity is what it would have been."""
        source = sources.load("sendgrid")

        def fails(_item, _arrival):
            raise MalformedItem("not_yet_understood")

        monkeypatch.setattr(sources, "load", lambda _name: replace(source, normalise=fails, configured=None))
        world.record(a_delivery([an_item(1)]))
        monkeypatch.undo()
        queue = FakeDeliveryQueue()
        replay(world.entries()[0].id, quarantine=world.quarantine, ways=by(queue))
        assert {"new": 1} == world.record(*queue.deliveries).totals()
        directly = World()
        directly.record(a_delivery([an_item(1)]))
        assert directly.recorded == world.recorded

    def test_the_mode_is_kept_unless_told_otherwise(self, world):
        """A backfilled delivery does not fire triggers because it was replayed."""
        queue = FakeDeliveryQueue()
        for mode in (None, "replay"):
            world.record(a_delivery(body=b"<html>", mode="backfill"))
            replay(world.entries()[0].id, quarantine=world.quarantine, ways=by(queue), mode=mode)
        assert ["backfill", "replay"] == [delivery.mode for delivery in queue.deliveries]

    def test_an_entry_stays_until_it_is_durable_elsewhere(self, world):
        """A queue that is away loses nothing."""
        world.record(a_delivery(body=b"<html>"))
        with pytest.raises(TryAgain):
            replay(world.entries()[0].id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue(away=True)))
        assert 1 == len(world.entries())

    def test_what_holds_no_item_says_where_it_came_from(self, world):
        """There is nothing to put on the queue: the file has to be read again."""
        report = Report(
            sources.load("sendgrid"), an_arrival(), MalformedItem("damaged_block"), "exports/a.avro#9", "chunk-1", 0
        )
        Recorder(world.store, world.quarantine, NOON).record([report])
        with pytest.raises(Refused, match=r"nothing_to_replay: .*exports/a\.avro#9"):
            replay(world.entries()[0].id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue()))
        assert 1 == len(world.entries())

    @pytest.mark.parametrize("message", ['{"Records": 1}', {"Records": 1}])
    def test_a_notice_goes_back_as_it_came(self, world, message):
        """To be read by a parser that understands it now."""
        told: list[str] = []
        entry_id = self.refused(world, {"kind": "notice", "message": message, "raw": "m-1"})
        replay(entry_id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue(), told.append))
        assert ([{"Records": 1}], []) == ([json.loads(body) for body in told], world.entries())

    @pytest.mark.parametrize("state", [None, "failed", "queued"])
    def test_a_file_is_noticed_again(self, world, state):
        """The same version of it, never stale, whatever characters its key has."""
        told: list[str] = []
        entry_id = self.refused(world, FILE)
        replay(entry_id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue(), told.append, state))
        assert [[Notice("exports", "exports/x/y/a +1%20.avro", -1, "e1", "v1")]] == [parse(body) for body in told]
        assert [] == world.entries()

    def test_part_of_a_file_that_was_read_is_not_read_again(self, world):
        """Its rest is recorded, and a file that is done stays done: the platform has to drop it again."""
        entry_id = self.refused(world, FILE)
        with pytest.raises(Refused, match=r"nothing_to_replay: .*dropped again under a new key: s3://exports/a"):
            replay(entry_id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue(), state="done"))
        assert 1 == len(world.entries())

    def test_a_files_mode_is_its_connections(self, world):
        """Nobody is told `backfill` and gets triggers."""
        entry_id = self.refused(world, FILE)
        with pytest.raises(Refused, match="mode_not_possible"):
            replay(entry_id, quarantine=world.quarantine, ways=by(FakeDeliveryQueue()), mode="backfill")
        assert 1 == len(world.entries())

    def refused(self, world, content):
        entry = Quarantined("2026-11-20/refused/1", "refused", "", "", "braze", "main", NOON, content)
        world.quarantine.put(entry)
        return entry.id


def test_a_message_that_is_not_ours_fails_alone():
    """Whatever its attributes are, its neighbours are recorded."""
    good = pack(a_delivery())
    attributes = {name: {"stringValue": value} for name, value in good.attributes.items()}
    messages: list[dict[str, Any]] = [
        {"messageId": "m-1", "body": "x", "messageAttributes": {"delivery": {"binaryValue": "eA=="}}},
        {"messageId": "m-2", "body": good.body, "messageAttributes": attributes},
        {"messageId": "m-3", "body": "x"},
    ]
    deliveries, failures = read_messages(messages, lambda _: b"")
    assert (["m-2"], ["m-1", "m-3"]) == (list(deliveries), list(failures))


def test_a_timeline_since_finds_what_a_wrong_clock_filed_too_early():
    """The id holds the client's own time; what counts is when it happened."""
    store, key = FakeEventStore(), PersonKey("id", "cust-1")
    skewed = a_record("skewed", event_id=events.event_id(NOON - timedelta(hours=5), "skewed"), occurred_at=NOON)
    store.add([skewed, a_record("old", occurred_at=NOON - timedelta(hours=2))], transport="tracking", expires_days=60)
    found = timeline(store, lambda _: (), key, since=NOON - timedelta(hours=1))
    assert [skewed.event.event_id] == [stored.event.event_id for stored in found]


def test_a_timeline_merges_the_events_of_all_keys_of_a_person():
    """Whichever key each was recorded under, oldest first, each once, the newest of too many."""
    store = FakeEventStore()
    by_id, by_email = PersonKey("id", "cust-1"), PersonKey("email", "ada@example.com")
    times = [NOON + timedelta(minutes=n) for n in range(4)]
    records = [a_record(str(n), occurred_at=time) for n, time in enumerate(times)]
    homes = [f"P#{key}" for key in (by_id, by_email, by_email, by_id)]
    store.add(
        [r._replace(home=home) for r, home in zip(records, homes, strict=True)], transport="webhook", expires_days=60
    )

    def keys_of(_key):
        return [by_id, by_email]

    for key in (by_id, by_email):
        assert times == [stored.event.occurred_at for stored in timeline(store, keys_of, key)]
    assert times[2:] == [stored.event.occurred_at for stored in timeline(store, keys_of, by_id, limit=2)]
    assert times[1:] == [stored.event.occurred_at for stored in timeline(store, keys_of, by_id, since=times[1])]


@given(a=st.datetimes(min_value=NOON.replace(tzinfo=None), timezones=st.timezones() | st.just(UTC)), identity=st.text())
def test_the_id_of_an_event_begins_with_the_time_part_of_its_second(a, identity):
    """What a range query over ids relies on."""
    assert events.event_id(a, identity).startswith(events.time_part(a))
