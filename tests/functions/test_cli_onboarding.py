"""`espial onboarding` and `espial simulate-platform` on the local cloud: what is said of files, and sending them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from tests.functions.conftest import LoadApp
from tests.functions.test_onboard_recipients import EXPORTS, KEY, World, braze, braze_process  # noqa: F401 - fixtures
from tests.onboarding import NAME, a_file, a_row
from tests.simulated import Simulator, simulator

pytestmark = pytest.mark.cloud


class Shell(World):
    """The command, and the function that works behind it."""

    def __init__(self, cloud: Any, simulated: Simulator, load_app: LoadApp) -> None:
        super().__init__(cloud, simulated, load_app)
        self.outputs = {
            "StoreBucket": "store",
            "EventsTable": "Events-table",
            "RecipientsTable": "Recipients-table",
            "ExportsBucket": EXPORTS,
            "OnboardingQueueUrl": self.queue,
            "RawQueueUrl": self.queue,
            "NoticeQueueUrl": self.queue,
            "Endpoint": cloud.url,
        }

    def __call__(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, ["onboarding", *arguments])

    def json(self, *arguments: str) -> dict[str, Any]:
        """What `show --json` or one line of `list --json` says."""
        result = self(*arguments, "--json")
        assert 0 == result.exit_code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def dropped(self) -> str:
        """S3's notice of the one file in the bucket."""
        (found,) = self.s3.list_objects_v2(Bucket=EXPORTS)["Contents"]
        about = {"bucket": {"name": EXPORTS}, "object": {"key": found["Key"], "eTag": found["ETag"].strip('"')}}
        return json.dumps({"Records": [{"s3": about}]})


@pytest.fixture
def espial(cloud, braze, load_app, tmp_path, monkeypatch) -> Shell:
    shell = Shell(cloud, braze, load_app)
    state = tmp_path / "stack.json"
    state.write_text(json.dumps(shell.outputs))
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(state))
    monkeypatch.chdir(tmp_path)
    return shell


def test_a_file_is_sent_from_here_as_often_as_one_likes(espial):
    """Each time under a name of its own; the list tells what came of it."""
    assert "nothing was dropped under onboarding/" in espial("list").output
    Path("monday.csv").write_bytes(a_file([*espial.rows(3), a_row(9, Email="nobody")]))
    key = espial("run", NAME, "monday.csv").stdout.strip()
    assert key.startswith(f"{NAME}/2")
    assert key.endswith("-monday.csv")
    assert [] == espial.onboard(espial.dropped())
    assert ("done", 1, 4, 3, 1) == tuple(
        espial.json("list")[n] for n in ("state", "execution", "rows", "sent", "refused")
    )
    assert espial.json("show", key) == espial.json("list", NAME)
    assert "done   1          4     3     0       0          1        welcome/" in espial("list").output
    assert "sent        3" in espial("show", key).output


def test_a_file_that_was_refused_is_looked_at_again(espial):
    """Once the definition is mended; of one that has ended there is nothing to resume."""
    content = a_file([{**a_row(1), "Shoe": "42"}], (*a_row(1), "Shoe"))
    assert [] == espial.onboard(espial.drop(content))
    assert "refused: unknown_column" in espial("list").output
    active = json.loads(espial.s3.get_object(Bucket="store", Key="definitions/active.json")["Body"].read())
    active["onboardings"][NAME]["unknown_columns"] = "ignore"
    active["version"] = "2"
    espial.s3.put_object(Bucket="store", Key="definitions/active.json", Body=json.dumps(active))
    assert f"{KEY}: back on the queue" in espial("resume", KEY).output
    (message,) = espial.sqs.receive_message(QueueUrl=espial.queue)["Messages"]
    from espial import wiring

    wiring.published.cache_clear()
    assert [] == espial.onboard(message["Body"])
    assert "done" == espial.json("show", KEY)["state"]
    ended = espial("resume", KEY)
    assert (1, True) == (ended.exit_code, "has ended" in ended.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "welcome/none.csv"), "espial: onboarding/welcome/none.csv was not seen yet"),
        (("run", "nobody", "monday.csv"), "espial: no onboarding 'nobody' is applied (known: welcome)"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(espial, words, said):
    """Each names the thing and what is known or what to do."""
    Path("monday.csv").write_bytes(a_file(espial.rows(1)))
    result = espial(*words)
    assert 1 == result.exit_code
    assert said in result.stderr


def test_a_refused_row_does_not_go_back_by_itself(espial):
    """Quarantine says where files of recipients are sent again."""
    assert [] == espial.onboard(espial.drop(a_file([a_row(1, Email="nobody")])))
    result = CliRunner().invoke(app, ["quarantine", "replay", "--reason", "bad_email"])
    assert "espial onboarding resume" in result.output + result.stderr


def test_a_simulator_listens_until_it_is_ended():
    """With the faults it was given; its own pages answer without a key."""
    with simulator("--key", "k", "--faults", "error=1,drop=1") as running:
        assert {"users": {}} == running.get("users")
        for _ in range(2):
            with pytest.raises(OSError):
                running.post("/users/track", {"attributes": [{"external_id": "P-1"}]}, key="k")
        running.post("/users/track", {"attributes": [{"external_id": "P-2"}]}, key="k")
        assert ["P-1", "P-2"] == list(running.get("users")["users"])


def test_a_platform_that_sends_is_simulated_too():
    """With faults of its own, by name; what it took is shown, and what its webhook would say of it."""
    mail = {"to": [{"email": "ada@example.com"}], "from": {"email": "a@example.org"}, "subject": "Hi", "text": "Hi"}
    with simulator("--key", "k", "--faults", "error=1,drop=1", platform="mailersend") as running:
        for _ in range(2):
            with pytest.raises(OSError):
                running.post("/v1/email", mail, key="k")
        [taken] = running.get("messages")["messages"]
        assert mail == taken["said"]
        assert ["activity.delivered"] == [event["type"] for event in running.get("events")["events"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("braze", "--faults", "fire=1"), "fire=1"),
        (("postmark", "--faults", "fire=1"), "fire=1"),
        (("postmark", "--for", "nobody"), "no secret of provider/nobody/server_token was made"),
        (("braze", "--for", "nobody"), "no secret of onboarding/nobody was made"),
        (("mailchimp",), "mailchimp"),
    ],
)
def test_a_simulator_that_cannot_begin_says_why(words, said, tmp_path, monkeypatch):
    """Before it listens."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["simulate-platform", *words])
    assert result.exit_code
    assert said in result.stderr
