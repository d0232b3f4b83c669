"""The export stores against the local cloud: objects by range and version, conditional writes, the queue."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from botocore.response import StreamingBody

from espial.errors import TryAgain
from espial.exports.files import Chunk, Counts, ExportFile, Listed, Progress, Unavailable
from espial.exports.notices import Notice
from espial.stores.chunk_queue import SqsChunkQueue
from espial.stores.export_ledger import DynamoExportLedger
from espial.stores.export_objects import ATTEMPTS, S3Objects

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
def ledger(cloud):
    dynamodb = cloud.client("dynamodb")
    dynamodb.create_table(
        TableName="events",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return DynamoExportLedger(dynamodb, "events")


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


def test_states_of_a_page_of_objects(ledger):
    """Looked up together, by key and etag; what has no entry is missing."""
    others = [Listed(f"exports/{n}", "e", 1, NOW) for n in range(120)]
    later = NOW + timedelta(seconds=1.5)
    ledger.claim(FILE, [0], later)
    found = ledger.states(BUCKET, [*others, Listed(KEY, "e1", 100, NOW)])
    assert {KEY: ("planned", later)} == found
    assert {} == ledger.states(BUCKET, [Listed(KEY, "e2", 100, NOW)])


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
