"""FeedsTable, the table's stream and the archive: the stores behind feeds keep the rules that their fakes keep."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from espial.errors import TryAgain
from espial.feeds.correlation import Candidate
from espial.feeds.files import Batch, Delivered, Entry, Waiting
from espial.stores.aws_http import AwsClient
from espial.stores.events_table import EventsTable
from espial.stores.feed_archive import S3FeedArchive
from espial.stores.feeds_table import FeedBookTable, SendIndexTable
from espial.stores.light_sdk import LightClient
from espial.stores.table_stream import DynamoStream
from tests.builders import NOON, a_record, an_event
from tests.contract.test_ports import a_bucket, events_table
from tests.feeding import Book, Index

LATER = NOON + timedelta(minutes=16)
CLOUD = [pytest.param(name, marks=pytest.mark.cloud) for name in ("sdk", "light")]


@pytest.fixture
def dynamodb(request):
    """Either client of a table of its own."""
    cloud = request.getfixturevalue("cloud")
    sdk = cloud.client("dynamodb")
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    sdk.create_table(
        TableName="feeds",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
    )
    http = AwsClient("dynamodb", "eu-west-1", cloud.url)
    yield {"sdk": sdk, "light": LightClient(http, lambda: sdk)}
    http.close()


@pytest.fixture(params=["fake", *CLOUD])
def book(request):
    if request.param == "fake":
        return Book(lambda: None)
    return FeedBookTable(request.getfixturevalue("dynamodb")[request.param], "feeds")


@pytest.fixture(params=["fake", *CLOUD])
def index(request):
    if request.param == "fake":
        return Index(lambda: None)
    client = request.getfixturevalue("dynamodb")[request.param]
    return SendIndexTable(client, "feeds", "cdp", kept=timedelta(days=30), now=NOON)


def a_batch(number: int = 1, token: str = "t1", **fields: Any) -> Batch:
    return Batch(
        **{
            "feed": "cdp",
            "number": number,
            "token": token,
            "closed_at": NOON,
            "files": (),
            "positions": {"shard": str(number)},
            **fields,
        }
    )


def test_a_batch_and_the_way_on_are_committed_together(book):
    standing = book.take("cdp", now=NOON, until=LATER)
    assert (standing.number, standing.positions, standing.closed_at) == (0, {}, None)
    assert book.commit(standing, a_batch(counts={"fed": 2}), {"layout/braze": 3}, LATER)
    book.release(standing)
    after = book.take("cdp", now=NOON, until=LATER)
    assert (after.number, after.positions, after.series) == (1, {"shard": "1"}, {"layout/braze": 3})
    assert (after.closed_at, after.due_from) == (NOON, LATER)
    assert [batch.counts for batch in book.batches("cdp")] == [{"fed": 2}]
    assert book.committed("cdp", ["t1", "never"]) == {"t1"}
    assert book.committed("other", ["t1"]) == set()


def test_who_lost_the_right_commits_nothing(book):
    first = book.take("cdp", now=NOON, until=LATER)
    second = book.take("cdp", now=LATER, until=LATER + timedelta(minutes=16))
    assert second is not None
    assert not book.commit(first, a_batch(), {})
    assert not book.skip(first, {"shard": "9"})
    assert list(book.batches("cdp")) == []
    assert book.commit(second, a_batch(), {})


@pytest.mark.parametrize("client", CLOUD)
def test_one_writer_at_a_time(dynamodb, client):
    book = FeedBookTable(dynamodb[client], "feeds")
    standing = book.take("cdp", now=NOON, until=LATER)
    assert standing is not None
    assert book.take("cdp", now=NOON, until=LATER) is None
    assert book.take("other", now=NOON, until=LATER) is not None
    book.release(standing)
    assert book.take("cdp", now=NOON, until=LATER) is not None


def test_what_holds_nothing_is_skipped(book):
    standing = book.take("cdp", now=NOON, until=LATER)
    assert book.skip(standing, {"shard": "7"})
    book.release(standing)
    after = book.take("cdp", now=NOON, until=LATER)
    assert (after.number, after.positions) == (0, {"shard": "7"})


def test_batches_come_in_order_from_any_on(book):
    standing = book.take("cdp", now=NOON, until=LATER)
    for number in range(1, 12):
        standing = msgspec.structs.replace(standing, number=number - 1)
        assert book.commit(standing, a_batch(number, f"t{number}"), {})
    assert [batch.number for batch in book.batches("cdp")] == list(range(1, 12))
    assert [batch.number for batch in book.batches("cdp", after=9)] == [10, 11]


def test_a_sink_moves_on_from_where_it_stands_alone(book):
    nothing = book.delivered("cdp", "sftp")
    assert nothing == Delivered(feed="cdp", sink="sftp")
    one = msgspec.structs.replace(nothing, batch=1, files=1)
    two = msgspec.structs.replace(nothing, batch=1, files=2, failures=1, reason="away", failed_at=NOON)
    assert book.deliver(nothing, one)
    assert not book.deliver(nothing, two)
    assert book.deliver(one, two)
    assert book.delivered("cdp", "sftp") == two
    assert book.delivered("cdp", "bucket") == Delivered(feed="cdp", sink="bucket")


def test_sends_and_waiting_responses_are_found_by_key(index):
    entries = {f"A{n}": Entry((Candidate(f"c{n}", n, "t1", dispatch="d"),), (f"e{n}",)) for n in range(120)}
    index.put(entries)
    assert index.entries([*entries, "unknown"]) == entries
    assert index.entries([]) == {}
    index.put({"A1": Entry()})
    assert index.entries(["A1"]) == {"A1": Entry()}


def test_waiting_responses_are_known_by_id_and_come_up_when_their_time_is_over(index):
    soon, late = NOON + timedelta(hours=2), NOON + timedelta(hours=72)
    waiting = [
        Waiting(event=an_event(name), keys=("A1",), until=until, kept_by="t0")
        for name, until in (("1", soon), ("2", late))
    ]
    index.keep(waiting)
    ids = [one.event.event_id for one in waiting]
    assert index.waiting(ids) == dict(zip(ids, waiting, strict=True))
    assert set(index.due(NOON, soon)) == {ids[0]}
    assert ids[1] in set(index.due(soon, late))
    fed = msgspec.structs.replace(waiting[0], fed_by="t1")
    index.keep([fed])
    assert index.waiting(ids[:1]) == {ids[0]: fed}
    index.remind_no_more({ids[0]: soon})
    assert set(index.due(NOON, soon)) == set()
    assert index.waiting(ids[:1]) == {ids[0]: fed}


@pytest.mark.cloud
def test_one_feed_does_not_see_what_another_waits_for(dynamodb):
    one, other = (
        SendIndexTable(dynamodb["sdk"], "feeds", name, kept=timedelta(days=30), now=NOON) for name in ("cdp", "crm")
    )
    one.put({"A1": Entry(waiting=("e1",))})
    one.keep([Waiting(event=an_event("1"), keys=("A1",), until=NOON, kept_by="t0")])
    assert other.entries(["A1"]) == {}
    assert list(other.due(NOON, NOON)) == []


@pytest.mark.cloud
def test_a_table_that_is_away_is_a_matter_of_time(dynamodb):
    book = FeedBookTable(dynamodb["sdk"], "no-such-table")
    with pytest.raises(TryAgain):
        book.take("cdp", now=NOON, until=LATER)
    with pytest.raises(TryAgain):
        list(book.batches("cdp"))


def a_stream(cloud: Any) -> tuple[EventsTable, DynamoStream]:
    store = events_table(cloud)
    arn = cloud.client("dynamodb").describe_table(TableName="Events-table")["Table"]["LatestStreamArn"]
    return store, DynamoStream(cloud.client("dynamodbstreams"), arn)


@pytest.mark.cloud
def test_the_stream_gives_what_was_inserted_once_and_in_order(request):
    cloud = request.getfixturevalue("cloud")
    store, stream = a_stream(cloud)
    records = [a_record(str(number), occurred_at=NOON + timedelta(seconds=number)) for number in range(30)]
    store.add(records[:20], transport="webhook", expires_days=60)
    store.add(records[:5], transport="export", expires_days=60)
    cloud.client("dynamodb").put_item(TableName="Events-table", Item={"pk": {"S": "P#id:1"}, "sk": {"S": "PROFILE"}})
    pages = list(stream.read({}))
    assert [event for page in pages for event in page.events] == [record.event for record in records[:20]]
    reached = pages[-1].positions
    assert [page for page in stream.read(reached) if page.events] == []
    store.add(records[20:], transport="webhook", expires_days=60)
    assert [event for page in stream.read(reached) for event in page.events] == [r.event for r in records[20:]]


class Shards:
    """A stream as DynamoDB splits it: shard -> (parent, whether it is closed, its records with empty answers amid)."""

    def __init__(self, trimmed: str = "", **shards: tuple[str, bool, list[int | None]]) -> None:
        self.shards = shards
        self.trimmed = trimmed
        self.asked: list[str] = []
        self.answers = 0

    def describe_stream(self, **_: Any) -> Any:
        shards = [
            {
                "ShardId": name,
                **({"ParentShardId": parent} if parent else {}),
                "SequenceNumberRange": {"EndingSequenceNumber": "9"} if closed else {},
            }
            for name, (parent, closed, _) in self.shards.items()
        ]
        return {"StreamDescription": {"Shards": shards}}

    def get_shard_iterator(self, *, ShardId: str, ShardIteratorType: str, SequenceNumber: str = "", **_: Any) -> Any:  # noqa: N803
        if self.trimmed == ShardId and SequenceNumber:
            raise ClientError({"Error": {"Code": "TrimmedDataAccessException"}}, "GetShardIterator")
        self.asked.append(f"{ShardId} {ShardIteratorType}")
        records = self.shards[ShardId][2]
        return {"ShardIterator": f"{ShardId}/{records.index(int(SequenceNumber)) + 1 if SequenceNumber else 0}"}

    def get_records(self, *, ShardIterator: str, **rest: Any) -> Any:  # noqa: N803
        self.answers += 1
        shard, _, text = ShardIterator.partition("/")
        _, closed, held = self.shards[shard]
        at = int(text)
        records: list[Any] = []
        if at < len(held) and held[at] is not None:
            image = {"body": {"S": msgspec.json.encode(an_event(f"{shard}{held[at]}")).decode()}}
            keys = {"pk": {"S": "P#id:1"}, "sk": {"S": "E#1"}}
            change: dict[str, Any] = {"Keys": keys, "NewImage": image, "SequenceNumber": str(held[at])}
            records = [{"eventName": "INSERT", "dynamodb": change}]
        last = closed and at >= len(held)
        return {"Records": records} if last else {"Records": records, "NextShardIterator": f"{shard}/{at + 1}"}


def read(shards: Shards, positions: dict[str, str]) -> tuple[list[str], dict[str, str], bool]:
    """Ids of the events in order, where to go on, and whether there was a gap."""
    pages = list(DynamoStream(shards, "arn").read(positions))
    events = [event.event_id for page in pages for event in page.events]
    return events, dict(pages[-1].positions) if pages else positions, any(page.gap for page in pages)


def ids(*names: str) -> list[str]:
    return [an_event(name).event_id for name in names]


def test_parents_are_read_before_children_and_never_again():
    shards = Shards(child=("parent", False, [None, 5]), parent=("gone", True, [None, None, 1]))
    events, positions, gap = read(shards, {})
    assert (events, gap) == (ids("parent1", "child5"), False)
    assert positions == {"parent": "END", "child": "5"}
    shards.asked.clear()
    assert read(shards, positions) == ([], positions, False)
    assert shards.asked == ["child AFTER_SEQUENCE_NUMBER"]


def test_shards_are_read_in_turn_so_that_a_busy_one_starves_none():
    shards = Shards(one=("", False, [1, 2, 3, 4]), two=("", False, [1, 2]))
    assert read(shards, {})[0] == ids("one1", "two1", "one2", "two2", "one3", "one4")


def test_a_closed_shard_is_read_to_its_end_whatever_is_empty_in_between():
    shards = Shards(parent=("", True, [1, *[None] * 60, 2]), child=("parent", False, [3]))
    assert read(shards, {}) == (ids("parent1", "parent2", "child3"), {"parent": "END", "child": "3"}, False)


def test_an_idle_open_shard_costs_few_calls():
    shards = Shards(one=("", False, []))
    read(shards, {})
    assert shards.answers <= 25


@pytest.mark.parametrize(
    ("positions", "gap"),
    [
        ({"a": "5"}, True),  # left midway, and gone
        ({"a": "END"}, False),
        ({"a": "END", "b": "2"}, True),
        ({"x": "END"}, True),  # the parent of what is there was born and forgotten meanwhile
        ({"b": "END", "c": "900"}, False),
        ({}, False),
    ],
)
def test_what_the_stream_has_forgotten_between_two_runs_is_told(positions, gap):
    """Shards vanish from the list a day after they were closed."""
    shards = Shards(c=("b", False, [900, 901]))
    if positions == {"a": "END"}:
        shards = Shards(c=("a", False, [900, 901]))
    assert read(shards, positions)[2] is gap


def test_what_a_shard_has_forgotten_is_told_once():
    shards = Shards(trimmed="child", child=("parent", False, [7]))
    events, positions, gap = read(shards, {"parent": "END", "child": "5"})
    assert (events, gap) == (ids("child7"), True)
    quiet = Shards(trimmed="child", child=("parent", False, []))
    _, positions, gap = read(quiet, {"parent": "END", "child": "5"})
    assert gap
    assert read(quiet, positions)[2] is False


@pytest.mark.cloud
def test_the_archive_keeps_files_byte_for_byte(request):
    archive = S3FeedArchive(a_bucket(request.getfixturevalue("cloud")), "store")
    archive.put("cdp", "t1", "a.csv", b"a,b\n1,2\n")
    assert archive.get("cdp", "t1", "a.csv") == b"a,b\n1,2\n"
    with pytest.raises(KeyError):
        archive.get("cdp", "t2", "a.csv")
    with pytest.raises(TryAgain):
        S3FeedArchive(request.getfixturevalue("cloud").client("s3"), "no-such-bucket").put("cdp", "t", "n", b"")
