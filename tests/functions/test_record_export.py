"""record_export on the local cloud: from a chunk to the table and the quarantine, by its handler."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from espial.exports.files import ExportFile
from tests.builders import CONTEXT
from tests.functions.conftest import LoadApp
from tests.functions.test_split_export import SAMPLES, Cloud, a_sample, queued

pytestmark = pytest.mark.cloud


@pytest.fixture
def world(cloud: Any) -> Cloud:
    return Cloud(cloud)


class Pipeline:
    """split_export and record_export, one after the other."""

    def __init__(self, world: Cloud, load_app: LoadApp) -> None:
        self._world = world
        self._split = load_app("split_export", **world.environment()).handler
        self._record = load_app("record_export", **world.environment()).handler

    def __call__(self, record: dict[str, Any]) -> list[Any]:
        self._split({"Records": [record]}, CONTEXT)
        chunks = {f"m{number}": body for number, body in enumerate(self._world.chunks())}
        failures: list[Any] = self._record(queued(**chunks), CONTEXT)["batchItemFailures"]
        return failures


@pytest.fixture
def pipeline(world: Cloud, load_app: LoadApp) -> Pipeline:
    return Pipeline(world, load_app)


def test_a_braze_file_is_recorded_once(world, pipeline):
    """Its rows are opens that arrived by export; the same file dropped again adds nothing."""
    record = world.drop(a_sample())
    assert [] == pipeline(record)
    events = world.events()
    assert {"opened"} == {event["type"] for event in events}
    assert {True} == {event["raw"].startswith("s3://acme-exports/exports/braze/main/") for event in events}
    assert [] == pipeline(world.drop(a_sample()))
    assert len(events) == len(world.events())


def test_a_truncated_file_gives_its_intact_blocks(world, pipeline, caplog):
    """250 of the 400 rows lie before the cut; the damage is quarantined, nobody's address is logged."""
    assert [] == pipeline(world.drop(SAMPLES / "edge/send-truncated-mid-block.avro"))
    assert 250 == len(world.events())
    assert ["truncated_block"] == world.quarantined()
    assert "@example" not in str([vars(line) for line in caplog.records])
    (done,) = (vars(line) for line in caplog.records if line.message == "export.done_with_refusals")
    assert (250, 1, {"truncated_block": 1}) == (done["recorded"], done["damages"], done["reasons"])


def test_a_file_of_history_is_recorded_as_such(world, pipeline):
    """Under the connection's backfill folder; publish_events keeps such events off the bus."""
    assert [] == pipeline(world.drop(a_sample(), folder="backfill/"))
    assert {"backfill"} == {event["mode"] for event in world.events()}


def test_a_container_s_state_goes_to_the_store(world, load_app):
    """By the function's own wiring, under the object's etag."""
    app = load_app("record_export", **world.environment())
    recorder = app.wiring.chunk_recorder(app.settings, datetime.now(UTC), lambda: 0.0)
    file = ExportFile(bucket="b", key="k", etag="e1", size=1, modified_at=datetime.now(UTC))
    recorder.resumes(file).save("window", b"state")
    assert b"state" == world.s3.get_object(Bucket="store", Key="resume/e1/window")["Body"].read()
    assert b"state" == recorder.resumes(file).load("window")


def test_a_message_that_is_no_chunk_fails_alone(world, pipeline, load_app):
    """It ends in the dead-letter queue, its neighbours are recorded."""
    app = load_app("record_export", **world.environment())
    answer = app.handler(queued(m1="nonsense"), CONTEXT)
    assert {"batchItemFailures": [{"itemIdentifier": "m1"}]} == answer
