"""Each port's contract, passed by its fake and by its real implementation on the local cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from espial import events
from espial.errors import MalformedItem
from espial.events import Campaign, Cart, Client, Commerce, Person, PersonKey, Product
from espial.ports import EventBus, EventStore, Quarantine, Quarantined, RawArchive, Recorded
from espial.stores.archive import S3Archive
from espial.stores.bus import EventBridgeBus
from espial.stores.events_table import EventsTable
from espial.stores.quarantine import S3Quarantine
from espial.vocabulary import EventType
from tests.builders import NOON, a_delivery, a_record, an_event
from tests.fakes import FakeArchive, FakeBus, FakeEventStore, FakeQuarantine

ADA = PersonKey("id", "cust-1")
REAL = pytest.param("real", marks=pytest.mark.cloud)


def events_table(cloud: Any, name: str = "Events-table") -> EventsTable:
    """A fresh table with its stream, as the template declares it."""
    dynamodb = cloud.client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return EventsTable(dynamodb, name)


def a_bucket(cloud: Any) -> Any:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="store", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return s3


@pytest.fixture(params=["fake", REAL])
def store(request: pytest.FixtureRequest) -> EventStore:
    if request.param == "fake":
        return FakeEventStore()
    return events_table(request.getfixturevalue("cloud"))


@pytest.fixture(params=["fake", REAL])
def archive(request: pytest.FixtureRequest) -> RawArchive:
    return FakeArchive() if request.param == "fake" else S3Archive(a_bucket(request.getfixturevalue("cloud")), "store")


@pytest.fixture(params=["fake", REAL])
def quarantine(request: pytest.FixtureRequest) -> Quarantine:
    if request.param == "fake":
        return FakeQuarantine()
    return S3Quarantine(a_bucket(request.getfixturevalue("cloud")), "store")


@pytest.fixture(params=["fake", REAL])
def bus(request: pytest.FixtureRequest) -> EventBus:
    if request.param == "fake":
        return FakeBus()
    eventbridge = request.getfixturevalue("cloud").client("events")
    eventbridge.create_event_bus(Name="bus")
    return EventBridgeBus(eventbridge, "bus")


class TestEventStore:
    @pytest.fixture
    def add(self, store: EventStore) -> Callable[..., Any]:
        def added(*records: Any, transport: str = "webhook") -> Any:
            return store.add(records, transport=transport, expires_days=60)

        return added

    def test_the_first_report_is_new_and_the_second_a_duplicate(self, add):
        """The insert is the dedupe, within one call and over two."""
        assert [Recorded.NEW, Recorded.NEW] == add(a_record("one"), a_record("two"))
        assert [Recorded.DUPLICATE, Recorded.NEW] == add(a_record("one"), a_record("three"))

    def test_repeats_within_one_call_are_one_event(self, add, store):
        """An ESP that repeats an event in its own batch neither fails it nor doubles the event."""
        verdicts = add(a_record("one"), a_record("two"), a_record("one"), a_record("one"))
        assert [Recorded.NEW, Recorded.NEW, Recorded.DUPLICATE, Recorded.DUPLICATE] == verdicts
        assert 2 == len(store.events_of(ADA))

    def test_more_records_than_one_call_takes_are_all_recorded_in_order_of_verdicts(self, add, store):
        """Sixty records, every third of them known: the verdicts stay with their records."""
        add(*(a_record(str(n)) for n in range(0, 60, 3)))
        verdicts = add(*(a_record(str(n)) for n in range(60)))
        assert [Recorded.NEW if n % 3 else Recorded.DUPLICATE for n in range(60)] == verdicts
        assert 60 == len(store.events_of(ADA))

    def test_another_transport_is_added_to_the_lineage_once(self, add, store):
        """Webhook and bucket copy are one event that lists both (goal 18)."""
        add(a_record("one"), transport="webhook")
        assert [Recorded.DUPLICATE] == add(a_record("one"), transport="export")
        assert [Recorded.DUPLICATE] == add(a_record("one"), transport="export")
        assert [("export", "webhook")] == [stored.via for stored in store.history(ADA)]

    def test_one_id_with_other_content_is_a_conflict_counted_once(self, add, store):
        """Kept beside the event, and neither counted nor kept again when it is delivered again (goal 19)."""
        add(a_record("one"))
        other = a_record("one", platform_type="click")
        assert [Recorded.CONFLICT] == add(other)
        assert [Recorded.DUPLICATE] == add(other)
        assert ["open"] == [event.platform_type for event in store.events_of(ADA)]

    def test_a_conflict_within_one_call_is_found(self, add):
        """Two contents under one id in one batch: the first is the event, the second its conflict."""
        other = a_record("one", platform_type="click")
        assert [Recorded.NEW, Recorded.CONFLICT, Recorded.DUPLICATE] == add(a_record("one"), other, other)

    def test_a_conflict_over_another_transport_still_counts_as_lineage(self, add, store):
        """That both channels reported the event is true whatever they said of it."""
        add(a_record("one"))
        assert [Recorded.CONFLICT] == add(a_record("one", platform_type="click"), transport="export")
        assert [("export", "webhook")] == [stored.via for stored in store.history(ADA)]

    @pytest.mark.parametrize(
        ("poorer", "richer"),
        [
            ({}, {"message_id": "m-1"}),
            ({"person": Person(external_id="cust-1")}, {}),
            ({"client": Client(ip="192.0.2.7")}, {"client": Client(ip="192.0.2.7", user_agent="Mail/1.0")}),
            ({"campaign": Campaign(id="c-1")}, {"campaign": Campaign(id="c-1", tags=("a",))}),
            ({"properties": {"a": {"b": 1}, "c": None}}, {"properties": {"a": {"b": 1, "d": 2}, "c": "x"}}),
        ],
        ids=["field", "person", "client", "list", "properties"],
    )
    @pytest.mark.parametrize("poorer_first", [True, False])
    def test_a_report_that_says_less_or_more_is_no_conflict(self, add, poorer, richer, poorer_first):
        """A file often leaves out what the webhook says: only a field that both have can contradict."""
        first, second = (poorer, richer) if poorer_first else (richer, poorer)
        assert [Recorded.NEW] == add(a_record("one", **first))
        assert [Recorded.DUPLICATE] * 2 == [*add(a_record("one", **second), transport="export"), *add(a_record("one"))]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"message_id": "m-1"}, {"message_id": "m-2"}),
            ({"client": Client(ip="192.0.2.7")}, {"client": Client(ip="192.0.2.8", user_agent="Mail/1.0")}),
            ({"campaign": Campaign(tags=("a",))}, {"campaign": Campaign(tags=("a", "b"))}),
            ({"properties": {"a": {"b": 1}}}, {"properties": {"a": {"b": 2}}}),
            ({"properties": {"a": {"b": 1}}}, {"properties": {"a": "b"}}),
            (
                {"commerce": Commerce(cart=Cart(id="c"))},
                {"commerce": Commerce(cart=Cart(id="c", items=(Product(id="p"),)))},
            ),
        ],
        ids=["field", "client", "list", "properties", "kind", "emptied cart"],
    )
    def test_a_field_that_both_have_and_that_differs_is_a_conflict(self, add, one, other):
        """At any depth, lists as wholes, whichever comes first."""
        assert [Recorded.NEW, Recorded.CONFLICT] == add(a_record("one", **one), a_record("one", **other))
        assert [Recorded.NEW, Recorded.CONFLICT] == add(a_record("two", **other), a_record("two", **one))

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_what_two_others_contradict_each_other_in_is_a_conflict_in_any_order(self, add, order):
        """Though the third agrees with either."""
        said = [{}, {"message_id": "m-1", "send_key": "k"}, {"message_id": "m-2"}]
        verdicts = add(*(a_record("one", **said[number]) for number in order))
        assert 1 == verdicts.count(Recorded.CONFLICT)

    @pytest.mark.parametrize(
        "field",
        [
            {"received_at": NOON + timedelta(days=1)},
            {"raw": "raw/elsewhere#7"},
            {"mode": "replay"},
            {"connection": "other"},
        ],
    )
    def test_what_differs_between_two_reports_of_one_event_is_no_conflict(self, add, field):
        """When and how a report arrived is not what it says."""
        add(a_record("one"))
        assert [Recorded.DUPLICATE] == add(a_record("one", **field))

    def test_a_finer_time_over_another_channel_is_no_conflict(self, add):
        """The id pins the second; one channel reports milliseconds, the other does not."""
        add(a_record("one"))
        finer = NOON + timedelta(milliseconds=123)
        same = events.event_id(finer, "one")
        assert [Recorded.DUPLICATE] == add(a_record("one", occurred_at=finer, event_id=same), transport="export")

    def test_a_key_no_table_takes_is_refused_and_its_neighbours_are_recorded(self, add):
        """A hostile address of three thousand characters is quarantined, not retried for ever."""
        hostile = a_record("two", person=Person(email="a" * 3000 + "@example.com"))
        first, refused, last = add(a_record("one"), hostile, a_record("three"))
        assert (Recorded.NEW, "key_too_long", Recorded.NEW) == (first, refused.reason, last)
        assert isinstance(refused, MalformedItem)

    def test_events_come_oldest_first_since_an_instant_and_the_newest_of_too_many(self, add, store):
        """`since` is exact although ids sort by the second; a limit keeps what is newest."""
        times = [NOON + timedelta(seconds=half / 2) for half in range(10)]
        add(*(a_record(f"{n}", occurred_at=time) for n, time in reversed(list(enumerate(times)))))
        assert times == [event.occurred_at for event in store.events_of(ADA)]
        assert times[3:] == [event.occurred_at for event in store.events_of(ADA, since=times[3])]
        assert times[-2:] == [event.occurred_at for event in store.events_of(ADA, limit=2)]

    def test_one_persons_events_are_not_another_persons(self, add, store):
        """A key that begins with another key is another person."""
        add(a_record("one"), a_record("two", person=Person(external_id="cust-11")))
        assert ["one"] == [name for name in ("one", "two") if a_record(name).event in store.events_of(ADA)]

    def test_every_word_of_an_event_survives(self, add, store):
        """Any text in any field, reserved words and quotes of query languages included."""
        event = an_event("one", properties={"select": '\'; DROP "table" ?', "ttl": [1, 2.5, None], "żółw": "🐢\n"})
        record = a_record("one", properties=event.properties)
        add(record)
        assert [event] == store.events_of(ADA)

    def test_the_events_of_a_campaign_are_found_by_id_or_name(self, add, store):
        """For people who ask now and then, over all persons."""
        campaign = Campaign(id="cmp-1", name='Autumn "sale"')
        add(
            a_record("one", campaign=campaign),
            a_record("two", campaign=campaign, person=Person(email="bea@example.com")),
            a_record("three", campaign=Campaign(id="cmp-2"), properties={"about": "cmp-1"}),
        )
        ours = {events.event_id(NOON, name) for name in ("one", "two")}
        assert ours == {stored.event.event_id for stored in store.of_campaign("cmp-1")}
        assert ours == {stored.event.event_id for stored in store.of_campaign('Autumn "sale"')}

    def test_our_own_events_of_a_trigger_are_found_over_all_persons(self, add, store):
        """What was sent and what was not; an event of somebody else that only says the name is none of them."""
        requested, skipped = EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED
        add(
            a_record("one", type=requested, properties={"trigger": "cart"}),
            a_record("two", type=skipped, properties={"trigger": "cart"}, person=Person(email="bea@example.com")),
            a_record("three", type=requested, properties={"trigger": "cart-2", "key": "cart"}),
            a_record("four", type=EventType.CUSTOM, properties={"trigger": "cart"}),
        )
        ours = {events.event_id(NOON, name) for name in ("one", "two")}
        assert ours == {event.event_id for event in store.of_trigger("cart")}


class TestArchive:
    def test_every_delivery_is_read_back_whole_by_its_pointer(self, archive):
        """Exact bytes, whatever they are, with all that is known of their arrival."""
        deliveries = [
            a_delivery(delivery_id="a", body=bytes(range(256)), headers={"x-note": "naïve"}),
            a_delivery(delivery_id="b", body=b"", mode="backfill", method="REPLAY"),
        ]
        pointers = archive.keep(deliveries)
        assert deliveries == [archive.read(pointer) for pointer in pointers]

    def test_a_retried_batch_keeps_its_pointers(self, archive):
        """Redelivery leaves one copy."""
        assert archive.keep([a_delivery()]) == archive.keep([a_delivery()])

    @pytest.mark.parametrize("index", ["1", "x", ""])
    def test_a_pointer_to_nothing_is_a_key_error(self, archive, index):
        """Neither another delivery nor a crash."""
        (pointer,) = archive.keep([a_delivery()])
        with pytest.raises(KeyError):
            archive.read(f"{pointer.rpartition('#')[0]}#{index}")

    def test_an_object_that_is_gone_is_a_key_error(self, archive):
        """Raw objects expire before somebody asks for them."""
        with pytest.raises(KeyError):
            archive.read("raw/2020/01/01/00/gone.ndjson.gz#0")


def an_entry(id: str = "2026-11-20/not_json/abc", **fields: Any) -> Quarantined:
    values = {
        "id": id,
        "reason": id.split("/")[1],
        "detail": "unexpected end",
        "path": "",
        "platform": "sendgrid",
        "connection": "main",
        "quarantined_at": NOON,
        "content": {"kind": "delivery", "body": "e30="},
        **fields,
    }
    return Quarantined(**values)


class TestQuarantine:
    def test_an_entry_comes_back_as_it_was_put(self, quarantine):
        """Times, reason, place and content."""
        quarantine.put(an_entry())
        assert an_entry() == quarantine.get(an_entry().id)

    def test_putting_the_same_thing_again_keeps_one(self, quarantine):
        """A retried batch quarantines nothing twice."""
        quarantine.put(an_entry())
        quarantine.put(an_entry())
        assert [an_entry()] == list(quarantine.list())

    def test_entries_are_listed_newest_day_first_by_reason_up_to_a_limit(self, quarantine):
        """What an operator looks for first."""
        days = ["2026-11-18/not_json/a", "2026-11-20/not_json/b", "2026-11-20/key_too_long/c", "2026-11-19/not_json/d"]
        for day in days:
            quarantine.put(an_entry(day))
        listed = [entry.id for entry in quarantine.list()]
        assert ["2026-11-19/not_json/d", "2026-11-18/not_json/a"] == listed[2:]
        assert [days[1], days[3], days[0]] == [entry.id for entry in quarantine.list(reason="not_json")]
        assert 2 == len(list(quarantine.list(limit=2)))

    def test_removing_is_repeatable_and_what_is_gone_is_a_key_error(self, quarantine):
        """A replay that crashed after the removal is repeated without harm."""
        quarantine.put(an_entry())
        quarantine.remove(an_entry().id)
        quarantine.remove(an_entry().id)
        with pytest.raises(KeyError):
            quarantine.get(an_entry().id)


class TestBus:
    def test_what_the_bus_accepts_is_not_returned(self, bus):
        """More than one call takes; nothing is left over."""
        assert [] == bus.put([an_event(str(n)) for n in range(25)])
