"""EventsTable on the local cloud: concurrency, faults, large items, and what its stream shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from espial import events
from espial.errors import MalformedItem, TryAgain
from espial.events import Campaign, Cart, Client, Commerce, Failure, Link, PersonKey, Product
from espial.ports import Recorded
from espial.stores.aws_http import AwsClient
from espial.stores.conflicts import ConflictsTable
from espial.stores.events_table import ATTEMPTS, EventsTable
from espial.stores.light_sdk import LightClient
from tests.builders import NOON, a_record
from tests.contract.test_ports import events_table

pytestmark = pytest.mark.cloud
TABLE = "Events-table"
ADA = PersonKey("id", "cust-1")


@pytest.fixture(params=["sdk", "light"])
def dynamodb(request: pytest.FixtureRequest, cloud: Any) -> Iterator[Any]:
    """Either client that the table takes."""
    events_table(cloud, TABLE)
    sdk = cloud.client("dynamodb")
    if request.param == "sdk":
        yield sdk
        return
    http = AwsClient("dynamodb", "eu-west-1", cloud.url)
    yield LightClient(http, lambda: sdk)
    http.close()


def inserted(cloud: Any) -> Counter[str]:
    """How often each sort key was inserted, by the table's stream."""
    arn = cloud.client("dynamodb").describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
    streams = cloud.client("dynamodbstreams")
    found: Counter[str] = Counter()
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            answer = streams.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                if record["eventName"] == "INSERT":
                    found[record["dynamodb"]["Keys"]["sk"]["S"]] += 1
            iterator = answer.get("NextShardIterator")
            if not answer["Records"] or not iterator:
                break
    return found


class Faulty:
    """A DynamoDB client whose batch calls fail as `fault` says; everything else goes through."""

    def __init__(self, client: Any, fault: Callable[[Any, dict[str, Any]], Any]) -> None:
        self._client = client
        self._fault = fault
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_execute_statement(self, **given: Any) -> Any:
        self.calls += 1
        return self._fault(self._client, given)


def error(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "BatchExecuteStatement")


def no_sleep(_seconds: float) -> None:
    return None


def add(table: EventsTable, *records: Any, transport: str = "webhook") -> Any:
    return table.add(records, transport=transport, expires_days=60)


def test_one_event_inserted_by_64_workers_at_once_is_inserted_once(cloud, dynamodb):
    """Dedupe holds under concurrency (goal 20): one NEW and one stream record an id, whoever was first."""
    records = [a_record(str(n)) for n in range(40)]

    def work(seed: int) -> Any:
        mine = random.Random(seed).sample(records, len(records))
        verdicts = EventsTable(dynamodb, TABLE, no_sleep).add(mine, transport="webhook", expires_days=60)
        return [record.event.event_id for record, verdict in zip(mine, verdicts, strict=True) if verdict == "new"]

    with ThreadPoolExecutor(64) as pool:
        new = Counter(event_id for ids in pool.map(work, range(64)) for event_id in ids)
    assert Counter(record.event.event_id for record in records) == new
    assert Counter(f"E#{record.event.event_id}" for record in records) == inserted(cloud)


def test_transports_added_at_once_are_all_in_the_lineage(dynamodb):
    """A lineage written by several workers at once loses none of them."""
    record = a_record("one")
    table = EventsTable(dynamodb, TABLE, no_sleep)
    add(table, record)

    def report(transport: str) -> Any:
        return add(EventsTable(dynamodb, TABLE, no_sleep), record, transport=transport)

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(report, ["export", "tracking", "internal", "webhook"] * 8))
    settled = [verdict for (verdict,) in verdicts if not isinstance(verdict, TryAgain)]
    assert {Recorded.DUPLICATE} == set(settled)
    assert [("export", "internal", "tracking", "webhook")] == [stored.via for stored in table.history(ADA)]


def test_a_transport_added_between_reading_and_writing_is_not_overwritten(dynamodb):
    """Another worker's lineage, written in that instant, makes ours look again."""
    record = a_record("one")
    other = EventsTable(dynamodb, TABLE, no_sleep)
    add(other, record)
    first = iter([True])

    def overtaken(client: Any, given: dict[str, Any]) -> Any:
        if given["Statements"][0]["Statement"].startswith("UPDATE") and next(first, False):
            add(other, record, transport="tracking")
        return client.batch_execute_statement(**given)

    ours = EventsTable(Faulty(dynamodb, overtaken), TABLE, no_sleep)
    assert [Recorded.DUPLICATE] == add(ours, record, transport="export")
    assert [("export", "tracking", "webhook")] == [stored.via for stored in other.history(ADA)]


def test_an_item_holds_what_the_design_says(dynamodb):
    """Keys, canonical JSON, lineage and the day it expires, as the other functions read them."""
    record = a_record("one")
    add(EventsTable(dynamodb, TABLE), record)
    key = {"pk": {"S": "P#id:cust-1"}, "sk": {"S": f"E#{record.event.event_id}"}}
    expected = {
        **key,
        "body": {"S": record.body.decode()},
        "via": {"SS": ["webhook"]},
        "ttl": {"N": str(int(record.event.received_at.timestamp()) + 60 * 86_400)},
    }
    assert expected == dynamodb.get_item(TableName=TABLE, Key=key)["Item"]


def test_a_conflict_lies_beside_its_event_with_its_own_body(cloud, dynamodb):
    """Both contents can be read and compared, and only the event is on the stream as one."""
    table = EventsTable(dynamodb, TABLE)
    other = a_record("one", platform_type="click")
    add(table, a_record("one"))
    add(table, other)
    key = {"pk": {"S": other.home}, "sk": {"S": f"X#{other.event.event_id}#{events.content_hash(other.event)}"}}
    assert other.body.decode() == dynamodb.get_item(TableName=TABLE, Key=key)["Item"]["body"]["S"]
    assert 1 == sum(sk.startswith("E#") for sk in inserted(cloud))


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ({"properties": {"html": "x" * 500_000}}, ("properties",)),
        (
            {"commerce": Commerce(cart=Cart(id="c", items=(Product(name="y" * 500_000),)))},
            ("commerce",),
        ),
    ],
)
def test_a_large_event_sheds_what_the_raw_archive_holds_as_well(dynamodb, fields, left_out):
    """It is recorded, says what it left out, and is still compared as a whole."""
    table = EventsTable(dynamodb, TABLE)
    record = a_record("one", **fields)
    assert [Recorded.NEW] == add(table, record)
    assert [Recorded.DUPLICATE] == add(table, record)
    assert [Recorded.CONFLICT] == add(table, a_record("one", **{**fields, "platform_type": "click"}))
    (stored,) = table.history(ADA)
    assert left_out == stored.left_out
    assert (record.event.event_id, record.event.raw) == (stored.event.event_id, stored.event.raw)


def together(table: EventsTable, dynamodb: Any) -> list[dict[str, Any]]:
    """Everything that agreeing reports say of Ada's events, where it is more than what is recorded."""
    found = ConflictsTable(dynamodb, TABLE).of_person(ADA).values()
    assert len(table.history(ADA)) >= len(found)
    return [others.together for others in found if others.together]


def test_what_a_later_report_adds_lies_beside_the_event(cloud, dynamodb):
    """The recorded event stays as it was published; the whole of it, by all reports, can be read beside it."""
    table = EventsTable(dynamodb, TABLE)
    poor, richer = a_record("one"), a_record("one", message_id="m-1", client=Client(ip="192.0.2.7"))
    other = a_record("one", campaign=Campaign(id="c-1"), client=Client(user_agent="Mail/1.0"))
    assert [Recorded.NEW] == add(table, poor)
    assert [Recorded.DUPLICATE] * 2 == [*add(table, richer), *add(table, other, transport="export")]
    assert [poor.event] == table.events_of(ADA)
    (said,) = together(table, dynamodb)
    assert ["export", "webhook"] == said.pop("via")
    expected = a_record(
        "one",
        message_id="m-1",
        client=Client(ip="192.0.2.7", user_agent="Mail/1.0"),
        campaign=Campaign(id="c-1"),
    )
    assert msgspec.json.decode(expected.body) == said
    before = inserted(cloud)
    assert [Recorded.DUPLICATE] * 3 == add(table, richer, other, poor)
    assert before == inserted(cloud)
    assert 1 == sum(sk.startswith("E#") for sk in before)


def test_a_report_that_contradicts_one_that_said_more_is_a_conflict(dynamodb):
    """Though it agrees with the recorded event, which says nothing of it."""
    table = EventsTable(dynamodb, TABLE)
    verdicts = add(table, a_record("one"), a_record("one", message_id="m-1"), a_record("one", message_id="m-2"))
    assert [Recorded.NEW, Recorded.DUPLICATE, Recorded.CONFLICT] == verdicts


def test_reports_that_add_at_once_are_all_in_what_they_say_together(dynamodb):
    """A worker that read before another wrote looks again."""
    records = [a_record("one", properties={f"p{number}": number}) for number in range(4)]
    add(EventsTable(dynamodb, TABLE, no_sleep), a_record("one"))

    def report(record: Any) -> Any:
        table = EventsTable(dynamodb, TABLE, no_sleep)
        return [verdict for _ in range(4) for verdict in add(table, record) if not isinstance(verdict, TryAgain)]

    with ThreadPoolExecutor(4) as pool:
        verdicts = [verdict for found in pool.map(report, records) for verdict in found]
    assert {Recorded.DUPLICATE} == set(verdicts)
    (said,) = together(EventsTable(dynamodb, TABLE), dynamodb)
    assert {"p0": 0, "p1": 1, "p2": 2, "p3": 3} == said["properties"]


@pytest.mark.parametrize("change", ["body", "content"])
def test_what_was_added_between_reading_and_writing_is_not_overwritten(dynamodb, change):
    """Another worker's addition in that instant makes ours look again, even if all that changed is a hash."""
    large = {"html": "x" * 400_000}
    additions: dict[str, dict[str, Any]] = {"body": {"send_key": "k-1"}, "content": {"properties": large}}
    theirs = additions[change]
    other = EventsTable(dynamodb, TABLE, no_sleep)
    add(other, a_record("one"))
    add(other, a_record("one", campaign=Campaign(id="c-1")))
    first = iter([True])

    def overtaken(client: Any, given: dict[str, Any]) -> Any:
        if given["Statements"][0]["Statement"].startswith("UPDATE") and next(first, False):
            assert [Recorded.DUPLICATE] == add(other, a_record("one", **theirs))
        return client.batch_execute_statement(**given)

    ours = EventsTable(Faulty(dynamodb, overtaken), TABLE, no_sleep)
    assert [Recorded.DUPLICATE] == add(ours, a_record("one", message_id="m-1"))
    said = together(other, dynamodb)[0]
    assert ("m-1", "c-1", theirs.get("send_key")) == (said["message_id"], said["campaign"]["id"], said.get("send_key"))
    differing = {"send_key": "k-2", "properties": {"html": "y" * 400_000}}
    name = next(iter(theirs))
    assert [Recorded.CONFLICT] == add(other, a_record("one", **{name: differing[name]}))


@pytest.mark.parametrize("large_first", [True, False])
def test_a_field_too_large_to_be_kept_is_compared_as_a_whole(dynamodb, large_first):
    """Whichever comes first: other properties are a conflict, none are a poorer report, the same are the same."""
    table = EventsTable(dynamodb, TABLE)
    whole, part = {"a": 1, "html": "x" * 400_000}, {"a": 1}
    large, small = a_record("one", properties=whole), a_record("one", properties=part)
    poorer = a_record("one", message_id="m-1")
    first, second = (large, small) if large_first else (small, large)
    assert [Recorded.NEW, Recorded.CONFLICT] == add(table, first, second)
    assert [Recorded.DUPLICATE] * 2 == add(table, poorer, first)
    assert [Recorded.DUPLICATE] * 2 == add(
        table, a_record("one", message_id="m-1", properties=first.event.properties), second
    )


def test_a_poor_report_before_one_too_large_to_be_kept_whole(dynamodb):
    """What is left out of what they say together is known by its hash."""
    table = EventsTable(dynamodb, TABLE)
    large = a_record("one", properties={"html": "x" * 400_000}, message_id="m-1")
    assert [Recorded.NEW, Recorded.DUPLICATE, Recorded.DUPLICATE] == add(table, a_record("one"), large, large)
    (said,) = together(table, dynamodb)
    assert ("m-1", False) == (said["message_id"], "properties" in said)
    assert [Recorded.CONFLICT] == add(table, a_record("one", properties={"html": "y" * 400_000}))


def test_reports_that_only_together_are_too_large_are_both_kept(dynamodb):
    """Together they shed; what no item can hold together lies apart, as a conflict to look at."""
    table = EventsTable(dynamodb, TABLE)
    one, two = a_record("one", properties={"a": "x" * 300_000}), a_record("one", properties={"b": "y" * 300_000})
    assert [Recorded.NEW, Recorded.DUPLICATE, Recorded.DUPLICATE] == add(table, one, two, one)
    wide, long = (
        a_record("two", failure=Failure(reason="z" * 300_000)),
        a_record("two", link=Link(url="https://example.com/" + "z" * 300_000)),
    )
    assert [Recorded.NEW, Recorded.CONFLICT, Recorded.DUPLICATE] == add(table, wide, long, long)


def test_an_event_too_large_whatever_it_sheds_is_refused(dynamodb):
    """It goes to quarantine instead of being retried until it is lost."""
    verdict, neighbour = add(
        EventsTable(dynamodb, TABLE), a_record("one", failure=Failure(reason="z" * 500_000)), a_record("two")
    )
    assert ("event_too_large", Recorded.NEW) == (verdict.reason, neighbour)


def test_statements_throttled_one_by_one_are_tried_again_alone(dynamodb):
    """A hot partition delays its own records; nothing is written twice."""
    seen: Counter[str] = Counter()

    def throttle_every_other_once(client: Any, given: dict[str, Any]) -> Any:
        answer = []
        for statement in given["Statements"]:
            sk = statement["Parameters"][1]["S"]
            seen[sk] += 1
            if len(seen) % 2 and seen[sk] == 1:
                answer.append({"Error": {"Code": "ThrottlingError"}})
            else:
                answer += client.batch_execute_statement(Statements=[statement])["Responses"]
        return {"Responses": answer}

    table = EventsTable(Faulty(dynamodb, throttle_every_other_once), TABLE, no_sleep)
    assert [Recorded.NEW] * 30 == add(table, *(a_record(str(n)) for n in range(30)))
    assert {1, 2} == set(seen.values())


def test_only_what_stays_throttled_is_handed_back(dynamodb):
    """The neighbours of a partition that is throttled for good are recorded."""
    hot = f"E#{a_record('1').event.event_id}"

    def throttle(client: Any, given: dict[str, Any]) -> Any:
        ok = [s for s in given["Statements"] if s["Parameters"][1]["S"] != hot]
        answers = iter(client.batch_execute_statement(Statements=ok)["Responses"] if ok else [])
        codes = [{"Error": {"Code": "ThrottlingError"}} if s not in ok else next(answers) for s in given["Statements"]]
        return {"Responses": codes}

    client = Faulty(dynamodb, throttle)
    verdicts = add(EventsTable(client, TABLE, no_sleep), *(a_record(str(n)) for n in range(3)))
    assert [Recorded.NEW, TryAgain, Recorded.NEW] == [v if isinstance(v, Recorded) else type(v) for v in verdicts]
    assert ATTEMPTS == client.calls


def test_a_lost_reply_leaves_one_event_and_no_loss(cloud, dynamodb):
    """The write happened, its answer did not arrive: the retry finds a duplicate, the stream has the insert."""
    lost = iter([True])

    def lose_one(client: Any, given: dict[str, Any]) -> Any:
        answer = client.batch_execute_statement(**given)
        if next(lost, False):
            raise ReadTimeoutError(endpoint_url="https://dynamodb.example.com")
        return answer

    table = EventsTable(Faulty(dynamodb, lose_one), TABLE, no_sleep)
    records = [a_record(str(n)) for n in range(3)]
    assert [TryAgain] * 3 == [type(verdict) for verdict in add(table, *records)]
    assert [Recorded.DUPLICATE] * 3 == add(table, *records)
    assert {f"E#{record.event.event_id}": 1 for record in records} == dict(inserted(cloud))


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"]
)
def test_a_table_that_is_away_is_not_asked_again_for_the_rest_of_the_batch(dynamodb, code):
    """The client has retried for seconds by then; forty more calls of that would outlive the function."""

    def away(_client: Any, _given: dict[str, Any]) -> Any:
        raise error(code, 500 if code == "InternalServerError" else 400)

    client = Faulty(dynamodb, away)
    verdicts = add(EventsTable(client, TABLE, no_sleep), *(a_record(str(n)) for n in range(100)))
    assert ({TryAgain}, 1) == ({type(verdict) for verdict in verdicts}, client.calls)


def test_one_statement_that_fails_the_call_is_found_and_its_neighbours_are_recorded(dynamodb):
    """Whatever the table refuses to even look at is quarantined alone."""
    bad = f"E#{a_record('7').event.event_id}"

    def picky(client: Any, given: dict[str, Any]) -> Any:
        if any(statement["Parameters"][1]["S"] == bad for statement in given["Statements"]):
            raise error("ValidationException")
        return client.batch_execute_statement(**given)

    verdicts = add(EventsTable(Faulty(dynamodb, picky), TABLE, no_sleep), *(a_record(str(n)) for n in range(25)))
    assert [7] == [index for index, verdict in enumerate(verdicts) if isinstance(verdict, MalformedItem)]
    assert 24 == verdicts.count(Recorded.NEW)


def test_a_missing_permission_is_not_mistaken_for_a_passing_fault(dynamodb):
    """It is raised as it is, so that somebody sees it."""

    def denied(_client: Any, _given: dict[str, Any]) -> Any:
        raise error("AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        add(EventsTable(Faulty(dynamodb, denied), TABLE, no_sleep), a_record("one"))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_fails_every_event_is_recorded_once_when_retried(cloud, dynamodb, seed):
    """Throttles, lost replies and wrong fault reports at random: retried until done, each id has one insert."""
    chance = random.Random(seed)

    def storm(client: Any, given: dict[str, Any]) -> Any:
        dice = chance.random()
        if dice < 0.15:
            raise error("ThrottlingException")
        answer = client.batch_execute_statement(**given)
        if dice < 0.3:
            raise ReadTimeoutError(endpoint_url="https://dynamodb.example.com")
        for response in answer["Responses"]:
            if chance.random() < 0.1:  # it was written, and says that it was not
                response["Error"] = {"Code": "InternalServerError"}
        return answer

    table = EventsTable(Faulty(dynamodb, storm), TABLE, no_sleep)
    records = [a_record(str(n), occurred_at=NOON) for n in range(60)] * 2
    left: list[tuple[str, Any]] = [(transport, r) for r in records for transport in ("webhook", "export")]
    chance.shuffle(left)
    for _ in range(60):
        again = []
        for transport in ("webhook", "export"):
            mine = [record for t, record in left if t == transport]
            verdicts = add(table, *mine, transport=transport)
            again += [(transport, r) for r, v in zip(mine, verdicts, strict=True) if isinstance(v, TryAgain)]
        left = again
        if not left:
            break
    assert [] == left
    assert {f"E#{record.event.event_id}": 1 for record in records} == dict(inserted(cloud))
    assert {("export", "webhook")} == {stored.via for stored in table.history(ADA)}
