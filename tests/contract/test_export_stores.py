"""The export stores against both clouds: objects by range and version, conditional writes, the queue."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from botocore.response import StreamingBody

from espial.errors import TryAgain
from espial.exports.files import Chunk, Counts, ExportFile, Listed, Progress, Unavailable
from espial.exports.notices import Notice
from espial.stores.chunk_queue import SqsChunkQueue
from espial.stores.export_ledger import DynamoExportLedger
from espial.stores.export_objects import ATTEMPTS, S3Objects
from espial.stores.resumes import S3Resumes
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.exporting import FakeLedger

BUCKET = "acme-exports"
KEY = "exports/braze/demo/event_type=x/a b+0+1.avro"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
FILE = ExportFile(bucket=BUCKET, key=KEY, etag="e1", size=100, modified_at=NOW)

pytestmark = pytest.mark.cloud


@pytest.fixture
def s3(cloud):
    client = cloud.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return client


@pytest.fixture
def table(cloud):
    """The real ledger."""
    dynamodb = cloud.client("dynamodb")
    dynamodb.create_table(
        TableName="events",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return DynamoExportLedger(dynamodb, "events")


@pytest.fixture(params=["table", "fake"])
def ledger(request, table):
    """The real ledger, and what stands for it in unit tests."""
    return FakeLedger() if request.param == "fake" else table


def chunk(number: int = 0) -> Chunk:
    return Chunk(file=FILE, number=number, start=number * 50, end=number * 50 + 50)


def test_an_object_is_read_by_ranges(s3):
    """Any range of the version that the notice told of, byte for byte."""
    content = bytes(range(256)) * 20
    etag = s3.put_object(Bucket=BUCKET, Key=KEY, Body=content)["ETag"].strip('"')
    objects = S3Objects(s3)
    file = objects.head(Notice(BUCKET, KEY, etag=etag))
    assert (len(content), etag, KEY) == (file.size, file.etag, file.key)
    for start, end in [(0, 1), (0, len(content)), (300, 301), (4000, len(content)), (7, 7)]:
        assert content[start:end] == objects.read(file, start, end)


def test_a_replaced_object_is_told_from_the_one_noticed(s3):
    """Neither looked at nor read under the old version's name."""
    old = s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"old")["ETag"].strip('"')
    objects = S3Objects(s3)
    file = objects.head(Notice(BUCKET, KEY, etag=old))
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"newer")
    with pytest.raises(Unavailable, match="object_replaced"):
        objects.read(file, 0, 3)
    with pytest.raises(Unavailable, match="object_replaced"):
        objects.head(Notice(BUCKET, KEY, etag=old))


def test_a_deleted_object_is_gone(s3):
    """Not an error to retry."""
    etag = s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"old")["ETag"].strip('"')
    objects = S3Objects(s3)
    file = objects.head(Notice(BUCKET, KEY, etag=etag))
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    with pytest.raises(Unavailable, match="object_gone"):
        objects.read(file, 0, 3)
    with pytest.raises(Unavailable, match="object_gone"):
        objects.head(Notice(BUCKET, KEY, etag=etag))


class Breaking:
    """An S3 client whose bodies break off after `gives` bytes each; 0 breaks at once."""

    def __init__(self, s3, gives: int) -> None:
        self._s3 = s3
        self._gives = gives
        self.calls = 0

    def get_object(self, **arguments):
        self.calls += 1
        answer = self._s3.get_object(**arguments)
        whole = answer["Body"].read()
        answer["Body"] = StreamingBody(io.BytesIO(whole[: self._gives]), len(whole))
        return answer


def test_a_body_that_breaks_off_is_continued(s3):
    """Asked for again from the byte where it broke; without a single byte it gives up after some tries."""
    content = bytes(range(100))
    etag = s3.put_object(Bucket=BUCKET, Key=KEY, Body=content)["ETag"].strip('"')
    file = S3Objects(s3).head(Notice(BUCKET, KEY, etag=etag))
    breaking = Breaking(s3, 30)
    assert content == S3Objects(breaking, sleep=lambda _: None).read(file, 0, 100)
    assert 4 == breaking.calls
    dead = Breaking(s3, 0)
    with pytest.raises(TryAgain):
        S3Objects(dead, sleep=lambda _: None).read(file, 0, 100)
    assert ATTEMPTS == dead.calls


def test_a_listing_goes_on_after_a_key(s3):
    """Objects in key order, etags without quotes, from the key where the last listing stopped."""
    for name in ("exports/a", "exports/b", "exports/c", "other/d"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
    found = list(S3Objects(s3).listing(BUCKET, "exports/", "exports/a"))
    assert ["exports/b", "exports/c"] == [one.key for one in found]
    assert '"' not in found[0].etag
    assert 9 == found[0].size


def test_a_file_is_claimed_once(ledger):
    """The second to claim is given what the first entered, whatever it planned itself."""
    assert ("planned", (0, 50)) == ledger.claim(FILE, [0, 50], NOW)[1:3]
    assert (0, 50) == ledger.claim(FILE, [0, 10, 20], NOW).edges
    ledger.queued(FILE, NOW)
    found = ledger.find(FILE)
    assert ("queued", FILE) == (found.state, found.file)
    assert [chunk(0), chunk(1)] == found.unfinished()


def test_a_failed_file_is_planned_anew_with_its_old_chunks(ledger):
    """Checkpoints belong to the chunks of the first plan."""
    ledger.claim(FILE, [0, 50], NOW)
    ledger.fail(FILE, "object_forbidden", NOW)
    assert ("failed", "object_forbidden") == (ledger.find(FILE).state, ledger.find(FILE).reason)
    assert ("planned", (0, 50)) == ledger.claim(FILE, [0], NOW)[1:3]


def test_a_file_that_failed_before_it_was_planned_takes_the_plan(ledger):
    """There are no chunks to keep."""
    ledger.fail(FILE, "unknown_connection", NOW)
    assert () == ledger.find(FILE).edges
    assert ("planned", (0, 50)) == ledger.claim(FILE, [0, 50], NOW)[1:3]


def test_a_checkpoint_advances_only_from_where_it_stands(ledger):
    """Place and counts are written together; the slower of two workers is told, and writes nothing."""
    first = Progress(20, Counts(rows=5, recorded=5))
    assert Progress() == ledger.progress(chunk())
    assert ledger.advance(chunk(), Progress(), first, NOW)
    assert not ledger.advance(chunk(), Progress(), Progress(30, Counts(rows=9)), NOW)
    assert first == ledger.progress(chunk())
    done = Progress(50, Counts(rows=8, recorded=7, refused=1), done=True)
    assert ledger.advance(chunk(), first, done, NOW)
    assert not ledger.advance(chunk(), first, done, NOW)
    assert not ledger.advance(chunk(), done, Progress(60), NOW)
    assert done == ledger.progress(chunk())


def test_the_last_chunk_completes_its_file_once(ledger):
    """Each chunk's counts are added once, however often it reports; one caller is told of the completion."""
    ledger.claim(FILE, [0, 50], NOW)
    counts = Counts(rows=5, recorded=4, duplicates=1)
    assert [None, None] == [ledger.finish(chunk(0), counts, NOW) for _ in range(2)]
    completed = ledger.finish(chunk(1), counts, NOW)
    assert ("done", Counts(rows=10, recorded=8, duplicates=2)) == (completed.state, completed.counts)
    assert ledger.finish(chunk(1), counts, NOW) is None
    assert Counts(rows=10, recorded=8, duplicates=2) == ledger.find(FILE).counts


def test_what_is_done_stays_done(ledger):
    """Late words of failure or of queueing change nothing."""
    ledger.claim(FILE, [], NOW)
    assert "done" == ledger.settle(FILE, NOW).state
    ledger.fail(FILE, "object_gone", NOW)
    ledger.queued(FILE, NOW)
    assert "done" == ledger.claim(FILE, [0], NOW).state
    assert ledger.settle(FILE, NOW) is None


def test_stale_sequencers_are_recognised(ledger):
    """Older than the latest of the same key; the same again is not stale, so that a repeat can mend a crash."""
    notice = Notice(BUCKET, KEY, sequencer="0065A6B2C3")
    assert not ledger.is_stale(notice, NOW)
    assert not ledger.is_stale(notice, NOW)
    assert not ledger.is_stale(notice._replace(sequencer="0065A6B2C3D4"), NOW)
    assert ledger.is_stale(notice, NOW)
    assert not ledger.is_stale(notice._replace(key="another"), NOW)
    assert not ledger.is_stale(notice._replace(sequencer=""), NOW)


def test_entries_of_a_page_of_objects(ledger):
    """Looked up together, by key and etag; what has no entry is missing."""
    others = [Listed(f"exports/{n}", "e", 1, NOW) for n in range(120)]
    later = NOW + timedelta(seconds=1.5)
    ledger.claim(FILE, [0], later)
    found = ledger.entries(BUCKET, [*others, Listed(KEY, "e1", 100, NOW)])
    assert {KEY: ledger.find(FILE)} == found
    assert ("planned", later) == (found[KEY].state, found[KEY].updated_at)
    assert {} == ledger.entries(BUCKET, [Listed(KEY, "e2", 100, NOW)])


def test_the_sweep_keeps_its_place(ledger):
    """One place a bucket; none at first."""
    assert "" == ledger.sweep_position(BUCKET)
    ledger.keep_sweep_position(BUCKET, KEY)
    assert KEY == ledger.sweep_position(BUCKET)
    ledger.keep_sweep_position(BUCKET, "")
    assert "" == ledger.sweep_position(BUCKET)


def test_chunks_go_on_the_queue(cloud):
    """More than one call's worth, every one of them."""
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="chunks")["QueueUrl"]
    sent = [chunk(number) for number in range(23)]
    SqsChunkQueue(sqs, url).put(sent)
    found = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [Chunk.from_json(message["Body"]) for message in messages]
    assert sent == sorted(found, key=lambda one: one.number)


class Refusing:
    """An SQS client that refuses all messages but the first of each call."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def send_message_batch(self, **call):
        first, *others = call["Entries"]
        self.taken.append(first["MessageBody"])
        return {"Successful": [{"Id": first["Id"]}], "Failed": [{"Id": entry["Id"]} for entry in others]}


def test_refused_messages_are_sent_again_and_never_forgotten():
    """A 200 can hold failures: they alone are repeated, and reported if that does not help."""
    sqs = Refusing()
    SqsChunkQueue(sqs, "url").put([chunk(number) for number in range(3)])
    assert [0, 1, 2] == [Chunk.from_json(body).number for body in sqs.taken]
    with pytest.raises(TryAgain):
        SqsChunkQueue(Refusing(), "url").put([chunk(number) for number in range(4)])


def test_a_file_with_refusals_says_so_and_why(ledger):
    """Reasons are added up over the chunks, as the numbers are."""
    ledger.claim(FILE, [0, 50], NOW)
    ledger.finish(chunk(0), Counts(rows=5, recorded=4, refused=1, reasons={"missing_field": 1}), NOW)
    reasons = {"missing_field": 2, "truncated_block": 1}
    last = Counts(rows=2, refused=2, ignored=3, damages=1, reasons=reasons)
    assert "done_with_refusals" == ledger.finish(chunk(1), last, NOW).state
    total = {"missing_field": 3, "truncated_block": 1}
    assert Counts(rows=7, recorded=4, refused=3, ignored=3, damages=1, reasons=total) == ledger.find(FILE).counts


def test_a_file_read_to_its_end_stays_so_with_refusals_too(ledger):
    """Failure, queueing and another plan come too late."""
    ledger.claim(FILE, [0], NOW)
    assert "done_with_refusals" == ledger.finish(chunk(0), Counts(refused=1), NOW).state
    ledger.fail(FILE, "object_gone", NOW)
    ledger.ignore(FILE, "not_data", NOW)
    ledger.queued(FILE, NOW)
    assert not ledger.resume(FILE, NOW)
    assert ("done_with_refusals", "") == (ledger.claim(FILE, [0], NOW).state, ledger.find(FILE).reason)


def test_a_failure_is_not_hidden_by_a_late_word_of_queueing(ledger):
    """A worker may fail the file before its splitter says that it is queued."""
    ledger.claim(FILE, [0], NOW)
    ledger.fail(FILE, "object_gone", NOW)
    ledger.queued(FILE, NOW)
    assert "failed" == ledger.find(FILE).state


def test_a_failed_file_whose_chunks_were_all_read_after_all_is_done(ledger):
    """A retry that succeeds says more than the failure before."""
    ledger.claim(FILE, [0], NOW)
    ledger.fail(FILE, "internal_error", NOW)
    assert ("done", "") == (ledger.finish(chunk(0), Counts(rows=1, recorded=1), NOW).state, ledger.find(FILE).reason)


def test_an_ignored_file_is_planned_once_it_is_data(ledger):
    """Its platform may learn to read it."""
    ledger.ignore(FILE, "not_data", NOW)
    assert ("ignored", "not_data") == (ledger.find(FILE).state, ledger.find(FILE).reason)
    found = ledger.claim(FILE, [0], NOW)
    assert ("planned", (0,), "") == (found.state, found.edges, found.reason)


def test_a_file_resumes_where_it_stands(ledger):
    """Planned again, with its chunks; the finished ones stay finished, and its beginning is the first one."""
    ledger.claim(FILE, [0, 50], NOW)
    ledger.queued(FILE, NOW)
    ledger.finish(chunk(0), Counts(rows=5, recorded=5), NOW)
    ledger.fail(FILE, "object_forbidden", NOW)
    later = NOW + timedelta(hours=3)
    assert ledger.resume(FILE, later)
    found = ledger.claim(FILE, [0], later)
    assert ("planned", "", [chunk(1)], NOW) == (found.state, found.reason, found.unfinished(), found.begun_at)


def test_a_file_is_read_again_in_a_new_round(ledger):
    """From its start, with counts and checkpoints of its own; what comes late from the last round changes nothing."""
    ledger.claim(FILE, [0, 50], NOW)
    assert not ledger.redo(FILE, NOW)
    for number in range(2):
        ledger.advance(chunk(number), Progress(), Progress(50, done=True), NOW)
        ledger.finish(chunk(number), Counts(rows=5, refused=5, reasons={"missing_field": 5}), NOW)
    later = NOW + timedelta(hours=3)
    assert ledger.redo(FILE, later)
    assert not ledger.redo(FILE, later)
    assert ledger.finish(chunk(0), Counts(rows=5), later) is None
    found = ledger.find(FILE)
    assert ("planned", (), Counts(), 1) == (found.state, found.edges, found.counts, found.round)
    (again,) = ledger.claim(FILE, [0], later).unfinished()
    assert (1, Progress()) == (again.round, ledger.progress(again))
    assert ledger.finish(chunk(0), Counts(rows=5), later) is None
    assert Counts() == ledger.find(FILE).counts
    assert ledger.advance(again, Progress(), Progress(9, Counts(rows=7)), later)
    done = ledger.finish(again, Counts(rows=7, recorded=7), later)
    assert ("done", Counts(rows=7, recorded=7), later) == (done.state, done.counts, done.begun_at)


def test_chunks_tell_how_far_they_are(ledger):
    """Those that were begun, with the instant of their last checkpoint; more than one call's worth."""
    later = NOW + timedelta(minutes=5)
    stands = Progress(70, Counts(rows=5, recorded=5, reasons={"bad_date": 2}), reached=75)
    ledger.advance(chunk(1), Progress(), stands, later)
    ledger.advance(chunk(130), Progress(), Progress(6_510, done=True), NOW)
    found = ledger.moved([chunk(number) for number in range(140)])
    assert {1: (stands, later), 130: (Progress(6_510, done=True), NOW)} == found


def test_every_version_of_an_object_has_its_entry(table):
    """The one that moved last first; chunks, sequencers and other keys are not among them."""
    replaced = ExportFile(bucket=BUCKET, key=KEY, etag="e0", size=9, modified_at=NOW)
    table.fail(replaced, "object_replaced", NOW)
    table.claim(FILE, [0], NOW + timedelta(minutes=1))
    table.advance(chunk(0), Progress(), Progress(9), NOW)
    table.is_stale(Notice(BUCKET, KEY, sequencer="00A1"), NOW)
    table.claim(ExportFile(bucket=BUCKET, key=f"{KEY}2", etag="e1", size=9, modified_at=NOW), [0], NOW)
    assert [("e1", "planned"), ("e0", "failed")] == [(s.file.etag, s.state) for s in table.versions(BUCKET, KEY)]
    assert [] == table.versions(BUCKET, "exports/nothing")


def test_entries_of_before_are_read(table, cloud):
    """Versions before this one knew neither reasons nor rounds, and wrote no instant into a chunk's item."""
    item = {
        "pk": {"S": f"X#{BUCKET}/{KEY}"},
        "sk": {"S": "O#e1"},
        "state": {"S": "done"},
        "edges": {"L": [{"N": "0"}]},
        "finished": {"NS": ["0"]},
        "file": {"S": msgspec.json.encode(FILE).decode()},
        "rows": {"N": "5"},
        "recorded": {"N": "5"},
        "updated_at": {"N": str(NOW.timestamp())},
    }
    dynamodb = cloud.client("dynamodb")
    dynamodb.put_item(TableName="events", Item=item)
    old = {**item, "sk": {"S": "O#e1#C#000000"}, "place": {"N": "50"}, "done": {"BOOL": True}}
    dynamodb.put_item(TableName="events", Item={name: old[name] for name in ("pk", "sk", "place", "done", "rows")})
    found = table.find(FILE)
    assert ("done", Counts(rows=5, recorded=5), 0, None) == (found.state, found.counts, found.round, found.begun_at)
    assert Progress(50, Counts(rows=5), done=True) == table.progress(chunk(0))
    assert {} == table.moved([chunk(0)])
    assert table.redo(FILE, NOW)


def test_what_a_container_keeps_is_there_for_the_same_file_only(s3):
    """By the object's etag; what is not there, or cannot be reached, is nothing and no error."""
    resumes = S3Resumes(s3, BUCKET, FILE)
    assert resumes.load("window") is None
    resumes.save("window", b"\x00\x01")
    resumes.save("window", b"\x02")
    assert b"\x02" == S3Resumes(s3, BUCKET, FILE).load("window")
    assert S3Resumes(s3, BUCKET, msgspec.structs.replace(FILE, etag="e2")).load("window") is None
    away = S3Resumes(s3, "no-such-bucket", FILE)
    away.save("window", b"\x00")
    assert away.load("window") is None
