"""`espial apply` against the store bucket: all or nothing, once, and told in plain words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from espial.definitions import load, publish
from espial.deliveries import Connection
from espial.errors import TryAgain
from espial.stores.definitions_bucket import DefinitionsBucket
from espial.triggers.definition import Trigger
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.unit.test_definitions_load import BAD, FILES, write

pytestmark = pytest.mark.cloud
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def bucket(cloud):
    """The store bucket, empty."""
    client = cloud.client("s3")
    client.create_bucket(Bucket="store", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return DefinitionsBucket(client, "store")


@pytest.fixture
def espial(cloud, bucket, tmp_path, monkeypatch):
    """Runs the command in a folder with good definitions and a local stack."""
    write(tmp_path / "definitions", {})
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/stack.json").write_text(json.dumps({"StoreBucket": "store", "Endpoint": cloud.url}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return lambda *words: CliRunner().invoke(app, list(words))


def keys(cloud) -> list[str]:
    return [found["Key"] for found in cloud.client("s3").list_objects_v2(Bucket="store").get("Contents", ())]


def test_apply_publishes_what_the_functions_read(espial, bucket):
    """Connections, triggers and templates come back as the functions' own types."""
    result = espial("apply")
    assert 0 == result.exit_code, result.output
    active = bucket.active()
    assert "esp" == Connection.from_dict(active["connections"]["esp"]).name
    assert load.load(Path("definitions")).triggers["hello"] == Trigger.model_validate(active["triggers"]["hello"])
    assert "The shop <shop@example.com>" == active["providers"]["ses"]["from"]
    assert "Hello" == bucket.template(active["templates"]["hello"])["subject"]
    assert active == bucket.version(active["version"])
    assert datetime.fromisoformat(active["applied_at"]).tzinfo


def test_apply_twice_changes_nothing_the_second_time(espial, bucket):
    """The same definitions are the same version: neither rewritten nor dated anew."""
    espial("apply")
    before = bucket.active()
    result = espial("apply")
    assert f"nothing to change: version {before['version'][:12]} is in force\n" == result.output
    assert before == bucket.active()


def test_apply_says_what_changes_in_plain_words(espial, bucket):
    """Added, removed and changed are one sentence each, down to the field."""
    assert (
        "+ connection esp is added\n+ provider ses is added\n+ template hello is added\n+ trigger hello is added\n"
        in (espial("apply").output)
    )
    write(
        Path("definitions"),
        {
            "triggers/hello.yaml": FILES["triggers/hello.yaml"].replace("1h", "2h"),
            "templates/hello/template.yaml": "subject: Hello again\ncategory: transactional\n",
            "connections/shop.yaml": "platform: segment\nsecrets: []\n",
        },
    )
    Path("definitions/connections/esp.yaml").unlink()
    lines = espial("apply").output.splitlines()
    assert "- connection esp is removed" in lines
    assert "+ connection shop is added" in lines
    assert '~ template hello: subject changes from "Hello" to "Hello again"' in lines
    assert '~ trigger hello: wait changes from "1h" to "2h"' in lines
    assert not any("sha" in line for line in lines)


def test_a_dry_run_tells_and_changes_nothing(espial, cloud):
    """What would happen can be reviewed first."""
    result = espial("apply", "--dry-run", "--stage", "local")
    assert 0 == result.exit_code
    assert "+ trigger hello is added" in result.output
    assert [] == keys(cloud)


def test_a_stage_is_applied_as_overlaid(espial, bucket):
    """The local stack waits seconds, not hours."""
    espial("apply", "--stage", "local")
    assert "3s" == bucket.active()["triggers"]["hello"]["wait"]


@pytest.mark.parametrize(("files", "expected"), BAD)
def test_nothing_is_written_when_anything_is_wrong(espial, bucket, cloud, files, expected):
    """Every bad definition names file, line and field, ends in status 1 and leaves what is active as it was."""
    espial("apply")
    before, there = bucket.active(), keys(cloud)
    write(Path("definitions"), {**files, "connections/new.yaml": "platform: braze\nsecrets: []\n"})
    for name, text in files.items():
        if text is None:
            (Path("definitions") / name).unlink()
    result = espial("apply")
    assert 1 == result.exit_code
    for start in expected:
        assert f"definitions/{start}" in result.stderr
    assert "nothing was changed" in result.stderr
    assert "Traceback" not in result.output + result.stderr
    assert before == bucket.active()
    assert there == keys(cloud)


def test_older_versions_stay_readable(espial, bucket):
    """What is in flight under a version can still be read after the next one is active (goal 47)."""
    espial("apply")
    first = bucket.active()
    espial("apply", "--stage", "local")
    assert first["version"] != bucket.active()["version"]
    assert first == bucket.version(first["version"])


def test_two_people_applying_at_once_cannot_overwrite_each_other(tmp_path, bucket):
    """The second is told to look again: the changes shown to them were against what is no longer active."""
    new = publish.bundle(load.load(write(tmp_path, {})))
    newer = publish.bundle(load.load(tmp_path, "local"))
    publish.publish(new, bucket, NOW, replaces=None)
    with pytest.raises(TryAgain, match="applied meanwhile"):
        publish.publish(newer, bucket, NOW, replaces=None)
    assert new.version == bucket.active()["version"]


def test_a_switch_that_is_overtaken_between_reading_and_writing_is_refused(tmp_path, bucket):
    """The condition is the bucket's own, so not even an instant is left in which one apply hides another."""
    old, new = (publish.bundle(load.load(write(tmp_path, {}), stage)) for stage in (None, "local"))
    publish.publish(old, bucket, NOW, replaces=None)

    class Overtaken(DefinitionsBucket):
        def _read(self, key):
            found = super()._read(key)
            super()._put(key, {"version": "theirs"})
            return found

    with pytest.raises(TryAgain, match="applied meanwhile"):
        Overtaken(bucket._client, "store").switch(new.active, replaces=old.version)
    assert "theirs" == bucket.active()["version"]


def test_readers_see_the_old_or_the_new_whole(tmp_path, bucket):
    """Everything a bundle needs is there before the one write that switches to it."""
    seen: list[object] = []

    class Watched(DefinitionsBucket):
        def switch(self, bundle, *, replaces):
            seen.extend(self.template(digest) for digest in bundle["templates"].values())
            seen.append(self.version(bundle["version"]))
            super().switch(bundle, replaces=replaces)

    new = publish.bundle(load.load(write(tmp_path, {})))
    publish.publish(new, Watched(bucket._client, "store"), NOW, replaces=None)
    assert 2 == len(seen)
    assert None not in seen
