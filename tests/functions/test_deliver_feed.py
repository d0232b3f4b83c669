"""deliver_feed on the local cloud: from the archive to a bucket's folder, SFTP and FTP servers and an HTTP address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from espial.definitions.load import Definitions
from espial.definitions.publish import bundle
from espial.errors import TryAgain
from espial.feeds.definition import FeedDefinition
from espial.feeds.files import Batch
from espial.stores.feed_archive import S3FeedArchive
from espial.stores.feeds_table import FeedBookTable
from tests.builders import CONTEXT
from tests.contract.test_ports import a_bucket
from tests.ftp import RunningFtp, ftp_server
from tests.loopback import Canned, Loopback, loopback
from tests.sftp import PASSWORD, USER, SftpServer, sftp_server
from tests.unit.test_deliver_feed import a_file, with_manifests

pytestmark = pytest.mark.cloud

NOW = datetime.now(UTC).replace(microsecond=0)


class Delivering:
    """Table, buckets, secrets, an applied feed with every kind of sink, FTP if it is given, and the handler."""

    def __init__(
        self, cloud: Any, load_app: Any, sftp: SftpServer, http: Loopback, ftp: RunningFtp | None = None
    ) -> None:
        dynamodb, self.s3 = cloud.client("dynamodb"), a_bucket(cloud)
        dynamodb.create_table(
            TableName="feeds",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        secrets = cloud.client("secretsmanager")
        secrets.create_secret(Name="espial/cdp-sftp", SecretString=PASSWORD)
        secrets.create_secret(Name="espial/cdp-ftp", SecretString=PASSWORD)
        secrets.create_secret(Name="espial/cdp-http", SecretString="token-1")
        inbox = {"kind": "sftp", "host": "127.0.0.1", "port": sftp.port, "user": USER, "host_key": sftp.host_key}
        sinks = [
            {"kind": "bucket"},
            {**inbox, "directory": "/in", "secret": "secretsmanager:espial/cdp-sftp"},
            {"kind": "http", "url": f"{http.url}/in/{{name}}", "secret": "secretsmanager:espial/cdp-http"},
        ]
        if ftp:
            host = {"host": "localhost", "port": ftp.port, "user": USER, "certificate": ftp.certificate}
            sinks.append({"kind": "ftp", **host, "directory": "/in", "secret": "secretsmanager:espial/cdp-ftp"})
        feed = FeedDefinition.model_validate({"name": "cdp", "sinks": sinks})
        active = bundle(Definitions(feeds={"cdp": feed})).active
        self.s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
        self.book, self.archive = FeedBookTable(dynamodb, "feeds"), S3FeedArchive(self.s3, "store")
        self.sftp, self.ftp, self.http = sftp, ftp, http
        self.app = load_app(
            "deliver_feed",
            AWS_ENDPOINT_URL=cloud.url,
            FEEDS_TABLE="feeds",
            FEEDS_BUCKET="store",
            STORE_BUCKET="store",
            OUTGOING_NETWORK="loopback",
        )

    def commit(self, *names: str) -> None:
        standing = self.book.take("cdp", now=NOW, until=NOW)
        assert standing
        files = []
        for name in names:
            self.archive.put("cdp", f"t{standing.number}", name, b"rows\n")
            files.append(a_file(name, "rejects" if "rejects" in name else "data"))
        batch = Batch(
            feed="cdp",
            number=standing.number + 1,
            token=f"t{standing.number}",
            closed_at=NOW - timedelta(hours=1),
            files=tuple(files),
            positions={},
        )
        assert self.book.commit(standing, batch, {})

    def handle(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        context = SimpleNamespace(**{**vars(CONTEXT), "get_remaining_time_in_millis": lambda: 300_000})
        found: list[dict[str, Any]] = self.app.handler(event, context)
        return found

    def run(self, **event: Any) -> dict[str, tuple[str, int]]:
        return {said["sink"]: (said["outcome"], said["files"]) for said in self.handle(event)}

    def arrived(self) -> dict[str, list[str]]:
        listed = self.s3.list_objects_v2(Bucket="store", Prefix="feeds/cdp/").get("Contents", [])
        return {
            "bucket": sorted(item["Key"].removeprefix("feeds/cdp/") for item in listed),
            "sftp": sorted(path.name for path in (self.sftp.folder / "in").iterdir()),
            "ftp": sorted(path.name for path in (self.ftp.folder / "in").iterdir()),
            "http": [seen.path.removeprefix("/in/") for seen in self.http.seen],
        }


@pytest.fixture
def world(cloud, load_app, tmp_path) -> Iterator[Delivering]:
    for server in ("sftp", "ftp"):
        (tmp_path / server / "in").mkdir(parents=True)
    with (
        sftp_server(tmp_path / "sftp") as sftp,
        ftp_server(tmp_path / "ftp", "explicit") as ftp,
        loopback(Canned(201)) as http,
    ):
        yield Delivering(cloud, load_app, sftp, http, ftp)


def test_every_file_reaches_every_sink(world):
    """In order, with its manifest; what was refused goes to the bucket only."""
    world.commit("1.csv", "1.rejects.csv")
    world.commit("2.csv")
    found = world.run()
    assert {"bucket": 3, "sftp": 2, "ftp": 2, "http": 2} == {sink: files for sink, (_, files) in found.items()}
    assert {"delivered"} == {outcome for outcome, _ in found.values()}
    both = with_manifests("1.csv", "2.csv")
    refused = with_manifests("rejects/1.rejects.csv")
    assert {
        "bucket": sorted([*both, *refused]),
        "sftp": sorted(both),
        "ftp": sorted(both),
        "http": both,
    } == world.arrived()
    for server in (world.sftp, world.ftp):
        assert b"rows\n" == (server.folder / "in/2.csv").read_bytes()
    assert "Bearer token-1" == world.http.seen[0].headers["authorization"]
    assert {("nothing", 0)} == set(world.run().values())


def test_a_sink_that_fails_holds_up_no_other_and_is_seen(world, capsys, caplog):
    """The metric that the alarm watches tells how old what it lacks is; no secret is in a log."""
    world.commit("1.csv")
    world.http.answers = [Canned(401)]
    delivered = dict.fromkeys(("bucket", "sftp", "ftp"), ("delivered", 1))
    assert {**delivered, "http": ("failed", 0)} == world.run()
    printed = capsys.readouterr().out
    metrics = [json.loads(line) for line in printed.splitlines() if "feed.undelivered" in line]
    ages = {(one.get("feed"), one.get("sink")): one["feed.undelivered"] for one in metrics}
    ages = {key: age[0] if isinstance(age, list) else age for key, age in ages.items()}
    assert 3600 <= ages["cdp", "http"] == ages[None, None]
    assert 0 == ages["cdp", "sftp"]
    told = printed + str([vars(record) for record in caplog.records])
    assert "http_401" in told
    assert PASSWORD not in told
    assert "token-1" not in told
    world.http.answers = [Canned(201)]
    assert ("waits", 0) == world.run()["http"]
    assert {"http": ("delivered", 1)} == world.run(feed="cdp", sink="http", at_once=True)


def test_a_file_is_sent_again_by_name(world):
    """Byte for byte, to the sinks that are meant."""
    world.commit("1.csv")
    world.run()
    (world.sftp.folder / "in/1.csv").write_bytes(b"damaged")
    assert {"sftp": ("delivered", 1)} == world.run(feed="cdp", sink="sftp", names=["1.csv"])
    assert b"rows\n" == (world.sftp.folder / "in/1.csv").read_bytes()
    failed = world.run(feed="cdp", names=["other.csv"])
    assert {("failed", 0)} == set(failed.values())


def test_a_stack_on_aws_does_not_call_this_machine(world, load_app, cloud):
    """What a definition names may not lead into the private network."""
    world.commit("1.csv")
    world.app = load_app("deliver_feed", OUTGOING_NETWORK="public")
    failed = dict.fromkeys(("sftp", "ftp", "http"), ("failed", 0))
    assert {"bucket": ("delivered", 1), **failed} == world.run()
    assert "address_not_public: 127.0.0.1" == world.book.delivered("cdp", "sftp").reason
    assert "address_not_public: localhost" == world.book.delivered("cdp", "ftp").reason
    assert [] == world.http.seen


def test_a_table_that_is_away_is_an_error_of_the_function(world, cloud):
    """Nobody would notice otherwise: no sink is known to lack anything."""
    world.commit("1.csv")
    cloud.client("dynamodb").delete_table(TableName="feeds")
    with pytest.raises(TryAgain):
        world.run()
