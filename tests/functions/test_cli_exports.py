"""`espial exports` on the local cloud: what it says of files in every state, and how they are read on or again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from espial.exports.files import Chunk, ExportFile, Progress
from espial.stores.export_ledger import DynamoExportLedger
from tests.builders import CONTEXT
from tests.functions.conftest import LoadApp
from tests.functions.test_split_export import EXPORTS, SAMPLES, Cloud, a_sample, queued

pytestmark = pytest.mark.cloud
SAMPLE = f"braze/main/{a_sample().relative_to(SAMPLES)}"


class Shell:
    """The command, and the functions that work behind it."""

    def __init__(self, cloud: Any, load_app: LoadApp) -> None:
        self.world = Cloud(cloud)
        self.ledger = DynamoExportLedger(cloud.client("dynamodb"), "Events-table")
        self._sqs = cloud.client("sqs")
        self.notices = self._sqs.create_queue(QueueName="notices")["QueueUrl"]
        environment = self.world.environment()
        self._split = load_app("split_export", **environment).handler
        self._record = load_app("record_export", **environment).handler

    def __call__(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, ["exports", *arguments])

    def json(self, *arguments: str) -> dict[str, Any]:
        """What `show --json` or one line of `list --json` says."""
        result = self(*arguments, "--json")
        assert 0 == result.exit_code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def split(self, record: dict[str, Any]) -> None:
        assert {"batchItemFailures": []} == self._split({"Records": [record]}, CONTEXT)

    def record(self) -> None:
        """What lies on ChunkQueue."""
        chunks = {f"m{number}": body for number, body in enumerate(self.world.chunks())}
        assert {"batchItemFailures": []} == self._record(queued(**chunks), CONTEXT)

    def noticed(self) -> int:
        """Hands over what lies on NoticeQueue, as SQS does; returns how many messages that were."""
        messages = self._sqs.receive_message(QueueUrl=self.notices, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            assert {"batchItemFailures": []} == self._split(queued(m=message["Body"]), CONTEXT)
        return len(messages)

    def entry(self, path: str = SAMPLE) -> ExportFile:
        """The ledger's name for the file."""
        return self.ledger.versions(EXPORTS, f"exports/{path}")[0].file


@pytest.fixture
def espial(cloud, load_app, tmp_path, monkeypatch):
    shell = Shell(cloud, load_app)
    state = tmp_path / "stack.json"
    outputs = {"StoreBucket": "store", "EventsTable": "Events-table", "ExportsBucket": EXPORTS}
    state.write_text(json.dumps({**outputs, "NoticeQueueUrl": shell.notices, "Endpoint": cloud.url}))
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(state))
    return shell


def test_a_file_from_its_drop_to_its_end(espial):
    """Not seen, queued with nothing read, done with everything; the same in the list as by itself."""
    record = espial.world.drop(a_sample())
    assert ("not seen", 0) == tuple(espial.json("list")[name] for name in ("state", "bytes_read"))
    espial.split(record)
    queued_ = espial.json("show", SAMPLE)
    assert ("queued", 1, 0, 0, None) == tuple(
        queued_[name] for name in ("state", "chunks", "chunks_done", "rows", "seconds_left")
    )
    espial.record()
    done = espial.json("show", f"exports/{SAMPLE}")
    events = len(espial.world.events())
    assert ("done", 1, events, events, 0, {}) == tuple(
        done[name] for name in ("state", "chunks_done", "rows", "events", "refused", "reasons")
    )
    assert done["bytes"] == done["bytes_read"] > queued_["bytes_read"]
    assert done["rows_a_second"] > 0
    assert done == espial.json("list", "braze/main/")


def test_a_file_on_its_way_says_how_far_it_is_and_how_long_it_takes(espial):
    """Rows and bytes of the last checkpoint count, before their chunk is done."""
    espial.split(espial.world.drop(a_sample()))
    (body,) = espial.world.chunks()
    chunk = Chunk.from_json(body)
    counts = Progress().counts._replace(rows=90, recorded=80, refused=10, reasons={"bad_timestamp": 10})
    half = Progress(chunk.start + 1, counts, reached=chunk.start + (chunk.end - chunk.start) // 2)
    begun = espial.ledger.find(chunk.file).begun_at
    espial.ledger.advance(chunk, Progress(), half, begun + timedelta(seconds=5))
    said = espial.json("show", SAMPLE)
    assert ("queued", 90, 80, 10, {"bad_timestamp": 10}) == tuple(
        said[name] for name in ("state", "rows", "events", "refused", "reasons")
    )
    assert 0.4 < said["bytes_read"] / said["bytes"] < 0.9
    assert (True, True) == (said["rows_a_second"] > 0, said["seconds_left"] is not None)
    shown = espial("show", SAMPLE).output
    assert "reasons      bad_timestamp 10\n" in shown
    assert "time left    0:" in shown


def test_the_list_is_a_line_a_file(espial, monkeypatch):
    """Why a file is left alone or has failed stands beside its state; truncated ones are done, with refusals."""
    monkeypatch.setenv("COLUMNS", "200")
    cut = SAMPLES / "edge/send-truncated-mid-block.avro"
    espial.split(espial.world.drop(cut))
    espial.record()
    espial.world.s3.put_object(Bucket=EXPORTS, Key="exports/braze/main/later.avro", Body=b"x")
    espial.world.s3.put_object(Bucket=EXPORTS, Key="exports/braze/main/_SUCCESS", Body=b"1")
    bad = espial.world.drop(cut, connection="nobody")
    espial.split(bad)
    lines = {line.split()[-1]: line for line in espial("list").output.splitlines()}
    assert lines["braze/main/_SUCCESS"].startswith("ignored: marker ")
    assert lines["braze/main/later.avro"].startswith("not seen ")
    assert ["done_with_refusals", "100%", "250", "250"] == lines[f"braze/main/{cut.relative_to(SAMPLES)}"].split()[:4]
    assert lines[f"braze/nobody/{cut.relative_to(SAMPLES)}"].startswith("failed: unknown_connection ")
    assert "nothing lies under exports/klaviyo/" in espial("list", "klaviyo/").output


def test_a_finished_file_is_read_again(espial):
    """Its rows are duplicates now, nothing is recorded twice, and it ends once more; while it is read it is not."""
    espial.split(espial.world.drop(a_sample()))
    early = espial("redo", SAMPLE)
    assert (1, True) == (early.exit_code, "is still being read" in early.stderr)
    espial.record()
    events = len(espial.world.events())
    result = espial("redo", SAMPLE)
    assert (0, f"exports/{SAMPLE}: read again from the start\n") == (result.exit_code, result.stdout)
    assert 1 == espial.noticed()
    espial.record()
    said = espial.json("show", SAMPLE)
    assert ("done", events, 0, events) == tuple(said[name] for name in ("state", "rows", "events", "duplicates"))
    assert events == len(espial.world.events())


def test_a_failed_file_is_read_on(espial):
    """Its unfinished chunks go on the queue; one that was read to its end is told so, with what to do instead."""
    espial.split(espial.world.drop(a_sample()))
    espial.world.chunks()
    espial.ledger.fail(espial.entry(), "object_forbidden", espial.entry().modified_at)
    assert "state        failed\nreason       object_forbidden\n" in espial("show", SAMPLE).output
    result = espial("resume", SAMPLE)
    assert (0, f"exports/{SAMPLE}: chunks back on the queue: 1\n") == (result.exit_code, result.stdout)
    assert 1 == espial.noticed()
    espial.record()
    assert "done" == espial.json("show", SAMPLE)["state"]
    refused = espial("resume", SAMPLE)
    assert (1, True) == (refused.exit_code, "was read to its end: `espial exports redo`" in refused.stderr)
    assert 0 == espial.noticed()


@pytest.mark.parametrize("command", ["show", "resume", "redo"])
def test_a_key_without_an_entry_is_told_apart(espial, command):
    """No such object, one that nobody noticed yet, and one that is no export file."""
    espial.world.drop(a_sample())
    espial.world.s3.put_object(Bucket=EXPORTS, Key="exports/braze/main/_SUCCESS", Body=b"1")
    said = [espial(command, key) for key in ("braze/main/nothing", SAMPLE, "braze/main/_SUCCESS")]
    assert [1, 1, 1] == [result.exit_code for result in said]
    assert f"espial: no object exports/braze/main/nothing in {EXPORTS}" in said[0].stderr
    assert f"espial: exports/{SAMPLE} was not seen yet" in said[1].stderr
    assert "espial: exports/braze/main/_SUCCESS is no export file (marker)" in said[2].stderr


def test_a_file_that_could_not_even_be_planned_is_planned_anew(espial):
    """Once its connection is there."""
    espial.split(espial.world.drop(a_sample(), connection="late"))
    late = SAMPLE.replace("/main/", "/late/")
    assert ("failed", "unknown_connection") == tuple(espial.json("show", late)[name] for name in ("state", "reason"))
    assert f"exports/{late}: to be planned anew\n" == espial("resume", late).stdout
    assert ("planned", 1) == (espial.json("show", late)["state"], espial.noticed())


def test_a_deleted_file_is_remembered(espial):
    """Its entry says what became of it, though the object is gone."""
    record = espial.world.drop(a_sample())
    espial.world.s3.delete_object(Bucket=EXPORTS, Key=f"exports/{SAMPLE}")
    espial.split(record)
    said = espial.json("show", SAMPLE)
    assert ("failed", "object_gone") == (said["state"], said["reason"])
