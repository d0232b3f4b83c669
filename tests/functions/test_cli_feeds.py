"""`espial feeds` and `espial cdp-load` against the stores of a local cloud; functions are run by their handlers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
from typer.testing import CliRunner

from espial.cli import stores
from espial.cli.app import app
from espial.services import deliver_feed
from tests.functions.test_deliver_feed import Delivering
from tests.functions.test_write_feed import Written
from tests.loopback import Canned, loopback
from tests.sftp import sftp_server
from tests.unit.test_feeds_cdp import Feed, fill, sent
from tests.unit.test_write_feed import opened, send

pytestmark = pytest.mark.cloud


def espial(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def stack(cloud, tmp_path, monkeypatch) -> None:
    """What `make up` leaves, for the commands."""
    outputs = {"StoreBucket": "store", "EventsTable": "Events-table", "FeedsTable": "feeds", "FeedsBucket": "store"}
    outputs |= {"WriteFeedFunction": "write_feed", "DeliverFeedFunction": "deliver_feed", "Endpoint": cloud.url}
    (tmp_path / "stack.json").write_text(json.dumps(outputs))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(tmp_path / "stack.json"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def world(cloud, load_app, tmp_path, stack, monkeypatch) -> Iterator[Delivering]:
    """An applied feed with three sinks; `invoke` runs the function here, as the local cloud would."""
    (tmp_path / "in").mkdir()
    with sftp_server(tmp_path) as sftp, loopback(Canned(201)) as http:
        made = Delivering(cloud, load_app, sftp, http)

        def invoke(_stack: Any, function: str, event: dict[str, Any]) -> Any:
            if function == "write_feed":
                return {event["feed"]: "nothing"}
            with redirect_stdout(io.StringIO()):  # its metrics
                return json.loads(json.dumps(made.handle(event)))

        monkeypatch.setattr(stores, "invoke", invoke)
        yield made


def test_feeds_are_listed_with_what_each_sink_lacks(world):
    """In 80 columns, and for programs."""
    world.commit("1.csv", "1.rejects.csv")
    world.http.answers = [Canned(401)]
    world.run()
    world.commit("2.csv")
    result = espial("feeds", "list")
    assert 0 == result.exit_code, result.output
    assert all(len(line) <= 80 for line in result.output.splitlines())
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "feed batch closed files rows newly waiting" in lines
    assert "cdp 2" == next(line[:5] for line in lines if line.startswith("cdp "))
    assert "cdp/bucket 1 files is getting on" in lines
    assert [line for line in lines if line.startswith("cdp/http 2 files failed 1 times, again at")]
    (facts,) = [json.loads(line) for line in espial("feeds", "list", "--json").stdout.splitlines()]
    assert [1, 1, 2] == [sink["lacks"] for sink in facts["sinks"]]
    assert ("http_401", 1) == (facts["sinks"][2]["reason"], facts["sinks"][2]["failures"])
    world.run()
    assert "cdp/sftp has all" in " ".join(espial("feeds", "list").output.split())


def test_a_batch_is_shown_with_its_files(world):
    """The last one, or any."""
    world.commit("1.csv", "1.rejects.csv")
    world.commit("2.csv")
    last, first = (espial("feeds", "show", "cdp", *words).output for words in ((), ("--batch", "1")))
    assert "batch 2 of 2" in last
    assert "2.csv" in last
    assert "1.rejects.csv" in first
    assert "1.csv" not in last
    missing = espial("feeds", "show", "cdp", "--batch", "3")
    assert (1, "has no batch 3" in missing.stderr) == (missing.exit_code, True)
    assert ["1.csv", "1.rejects.csv"] == json.loads(espial("feeds", "show", "cdp", "--batch", "1", "--json").stdout)[
        "files"
    ]


def test_a_file_is_fetched_as_it_was_written(world, tmp_path):
    """Under its name, another, or to standard output."""
    world.commit("1.csv")
    assert 0 == espial("feeds", "get", "cdp", "1.csv").exit_code
    assert 0 == espial("feeds", "get", "cdp", "1.csv", "-o", "other.csv").exit_code
    assert b"rows\n" == (tmp_path / "1.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    assert b"rows\n" == espial("feeds", "get", "cdp", "1.csv", "-o", "-").stdout_bytes
    assert "no file 2.csv" in espial("feeds", "get", "cdp", "2.csv").stderr


def test_files_are_sent_again_by_name_and_by_batch(world, monkeypatch):
    """To all sinks that had them, or to one; what there was no time for is said."""
    world.commit("1.csv")
    world.commit("2.csv")
    world.run()
    world.http.seen.clear()
    result = espial("feeds", "resend", "cdp", "2", "1.csv", "--sink", "http")
    assert (0, "http: delivered, 2 files\n") == (result.exit_code, result.output)
    assert ["/in/1.csv", "/in/2.csv"] == [seen.path for seen in world.http.seen if "manifest" not in seen.path]
    assert 0 == espial("feeds", "resend", "cdp", "1.csv").exit_code
    with monkeypatch.context() as hurry:
        hurry.setattr(deliver_feed, "MARGIN_MS", 400_000)  # more than an invocation has
        result = espial("feeds", "resend", "cdp", "2", "--sink", "http")
    assert (1, "http: more, 0 files: no time for 2.csv and what is behind it\n") == (result.exit_code, result.output)
    result = espial("feeds", "resend", "cdp", "3.csv")
    assert (1, 3) == (result.exit_code, result.output.count("not_delivered_yet: "))
    assert "has no sink ftp" in espial("feeds", "resend", "cdp", "1.csv", "--sink", "ftp").stderr
    assert "no feed named other" in espial("feeds", "resend", "other", "1.csv").stderr


def test_writing_now_delivers_now(world):
    """Also to a sink that would wait for an hour."""
    world.commit("1.csv")
    world.http.answers = [Canned(401)]
    result = espial("feeds", "write", "cdp")
    assert (1, True) == (result.exit_code, "http: failed, 0 files: http_401" in result.output)
    world.http.answers = [Canned(201)]
    result = espial("feeds", "write", "cdp")
    assert 0 == result.exit_code
    assert [
        "written: nothing new",
        "bucket: nothing, 0 files",
        "sftp: nothing, 0 files",
        "http: delivered, 1 files",
    ] == (result.output.splitlines())


def test_a_feed_in_the_archive_is_checked(cloud, load_app, stack):
    """What the writer wrote is sound; what somebody damaged since is named."""
    world = Written(cloud, load_app, rotate={"rows": 15_000, "after": "0s"})
    world.insert(opened(), send())
    world.run()
    result = espial("feeds", "check", "cdp")
    assert (0, "2 files, 2 rows: all is well\n") == (result.exit_code, result.output)
    assert 0 == espial("feeds", "check", "cdp", "--last", "1").exit_code
    assert "2 files in inbox/new\n" == espial("feeds", "download", "cdp", "inbox/new").output
    assert "2 files, 2 rows: all is well\n" == espial("feeds", "check", "--folder", "inbox").output
    (batch,) = world.book.batches("cdp")
    world.archive.put("cdp", batch.token, batch.files[0].name, b"damaged")
    result = espial("feeds", "check", "cdp")
    assert 1 == result.exit_code
    assert f"damaged: {batch.files[0].name}" in result.output
    assert f"orphans: {batch.files[1].name}" in result.output
    assert "2 problems" in result.output


def test_a_folder_is_checked(tmp_path, monkeypatch):
    """Without a stack."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    feed = Feed(tmp_path / "in")
    fill(feed)
    result = espial("feeds", "check", "--folder", "in")
    assert (0, "4 files, 11 rows: all is well\n") == (result.exit_code, result.output)
    feed.put("campaign_event_nonrpi", sent("8"), sequence=5)
    result = espial("feeds", "check", "--folder", "in")
    assert (1, "gap: cdp campaign_event_nonrpi/braze: numbers 2 to 4 missing") == (
        *(result.exit_code, result.output.splitlines()[0]),
    )
    assert 2 == espial("feeds", "check").exit_code
    assert (1, "no folder") == (espial("feeds", "check", "--folder", "absent").exit_code, "no folder")


def test_a_folder_is_loaded_as_a_cdp_would(tmp_path, monkeypatch):
    """What it says, and that a second time nothing is new."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "in").mkdir()
    feed = Feed(tmp_path / "in", "parquet")
    fill(feed)
    result = espial("cdp-load", "in", "--database", "cdp.sqlite")
    assert 0 == result.exit_code, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "c-1 2 1 1 of 2 1 of 1 1 0" in lines
    assert "cust-1 2026-11-20 12:00:00 2026-11-20 13:00:00 2026-11-20 13:01:00" in lines
    assert "3 files loaded, 10 rows, 1 rows of rejects not loaded, all is well" == lines[-1]
    again = espial("cdp-load", "in", "--database", "cdp.sqlite")
    assert (0, "0 files loaded, 0 rows, 4 files known already, all is well") == (
        *(again.exit_code, again.output.splitlines()[-1]),
    )
    (tmp_path / "in/response_event_braze_0001.parquet").write_bytes(b"x")
    feed.put(
        "response_event",
        {
            "sor_name": "Braze",
            "client_campaign_event_id": "?",
            "client_response_event_id": "r",
            "response_event_datetime": "2026-11-20 12:00:00",
            "event_disposition_code": "telepathy",
        },
    )
    result = espial("cdp-load", "in")
    assert 1 == result.exit_code
    told = [line.partition(":")[0] for line in result.output.splitlines()[-4:]]
    assert ["damaged", "unknown_code", "orphans"] == told[:3]
