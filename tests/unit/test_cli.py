"""The `espial` command without AWS: help, checks, previews, samples, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from espial import signing, sources
from espial.cli.app import app
from espial.cli.output import plain
from espial.cli.stack import Failed, Stack
from espial.definitions import schemas
from espial.definitions.load import load
from espial.deliveries import RawDelivery
from espial.feeds.definition import BUILT_IN
from tests.loopback import Canned, loopback
from tests.unit.test_definitions_load import write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def espial(tmp_path, monkeypatch):
    """Runs the command in a folder with good definitions and no stack."""
    write(tmp_path / "definitions", {})
    monkeypatch.chdir(tmp_path)
    for name in ("ESPIAL_STACK", "ESPIAL_STACK_FILE", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
    return lambda *words: CliRunner().invoke(app, list(words))


def test_validate_needs_no_stack_and_says_where_platforms_post(espial):
    """Definitions are checked on any machine; the two addresses are what the platform's settings ask for."""
    result = espial("validate")
    assert 0 == result.exit_code
    assert (
        "definitions: valid: 1 connection, 1 provider, 1 template, 1 trigger\n"
        "  esp: POST /in/sendgrid/esp, files under exports/sendgrid/esp/\n"
    ) == result.stdout


def test_validate_checks_every_stage(espial):
    """A mistake in an overlay is found before the stage is applied."""
    Path("definitions/stages/live.yaml").write_text("triggers:\n  hello:\n    wait: soon\n")
    result = espial("validate")
    assert 1 == result.exit_code
    assert "definitions/stages/live.yaml:3: wait: a duration such as 30m" in result.stderr


def test_what_is_doubtful_is_told_and_no_refusal(espial):
    """A mail that inboxes will clip is valid; whoever applies it should know."""
    Path("definitions/templates/hello/body.html").write_text(f"<html><body>{'<p>Hello</p>' * 10_000}</body></html>")
    result = espial("validate")
    assert 0 == result.exit_code
    assert result.stderr.startswith("warning: templates/hello/body.html: compiles to ")


def test_our_own_definitions_are_valid():
    """What `make up` applies passes, alone and as the local stage."""
    assert {"braze-main", "sendgrid-main", "shop"} <= set(load(ROOT / "definitions").connections)
    load(ROOT / "definitions", "local")


@pytest.mark.parametrize(
    "words",
    [
        ("events",),
        ("events", "--person", "a", "--campaign", "b"),
        ("nonsense",),
        ("quarantine", "replay"),
        ("explain", "only-a-person"),
        ("apply", "--stag", "x"),
    ],
)
def test_wrong_usage_is_status_2(espial, words):
    """Scripts can tell a typing mistake from a refusal."""
    result = espial(*words)
    assert 2 == result.exit_code
    assert "Traceback" not in result.output


def test_a_failure_is_one_line_and_status_1(espial):
    """Whoever runs it sees what to do, not where our code was."""
    result = espial("events", "--person", "ada@example.com")
    assert 1 == result.exit_code
    assert result.stderr.startswith("espial: which stack? name it with --stack or ESPIAL_STACK")
    assert 1 == result.stderr.count("\n")


def test_debug_shows_the_traceback(espial):
    """For a report of a fault."""
    result = espial("--debug", "events", "--person", "ada@example.com")
    assert isinstance(result.exception, Failed)


def test_the_module_runs_as_a_program(espial):
    """`python -m espial.cli` is the same command, with its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "espial.cli", "validate", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "layers/core"), "PATH": "/usr/bin:/bin"},
    )
    assert (1, "", "nowhere: no such folder\n1 problem: nothing was changed\n") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_the_published_schemas_are_fresh(kind, espial):
    """Editors check against what the code checks: `espial schema KIND > docs/schemas/KIND.json` renews one."""
    result = espial("schema", kind)
    assert 0 == result.exit_code
    assert (ROOT / f"docs/schemas/{kind}.json").read_text() == result.stdout


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_good_files_pass_their_schema_and_typos_do_not(kind):
    """The schema says the same as the command: fields we do not know are wrong."""
    import jsonschema  # type: ignore[import-untyped]
    import yaml

    schema = schemas.json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    pattern = "templates/*/template.yaml" if kind == "template" else f"{kind}s/*.yaml"
    files = sorted((BUILT_IN.parent if kind == "layout" else ROOT / "definitions").glob(pattern))
    assert files
    for path in files:
        data = yaml.load(path.read_text(), Loader=yaml.SafeLoader)
        if True in data:  # YAML 1.1 takes `on` for a truth
            data["on"] = data.pop(True)
        if kind == "trigger":
            data = {"on": data["on"], "key": data["key"], "send": data["send"]}
        jsonschema.validate(data, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "wiat": 1}, schema)


def test_preview_writes_what_the_person_would_see(espial):
    """HTML and text lie side by side; no AWS and no sending."""
    Path("data.json").write_text("{}")
    result = espial("preview", "hello", "--data", "data.json", "--out", "out/hello.html")
    assert 0 == result.exit_code, result.output
    assert "Subject: Hello" in result.output
    assert "Hello" in Path("out/hello.html").read_text()
    assert "Hello" in Path("out/hello.txt").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("preview", "helo"), "espial: no template 'helo' under definitions/templates (known: hello)"),
        (("preview", "hello", "--data", "none.json"), "espial: none.json: cannot be read: No such file or directory"),
        (("preview", "hello", "--data", "bad.json"), "espial: bad.json: not JSON"),
        (("preview", "hello", "--data", "list.json"), "espial: list.json: must be a JSON object"),
        (("schema", "nonsense"), "espial: no kind 'nonsense': one of campaign, "),
        (("local-secrets",), "espial: local-secrets works on the local cloud only"),
        (("send-sample", "sendgrid"), "espial: no samples in events/sources/sendgrid"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(espial, words, said):
    """Each names the thing and what is known or what to do."""
    Path("bad.json").write_text("{")
    Path("list.json").write_text("[]")
    result = espial(*words)
    assert 1 == result.exit_code
    assert result.stderr.startswith(said), result.stderr
    assert 1 == result.stderr.count("\n")


def test_local_secrets_refuses_anything_but_loopback(espial, monkeypatch):
    """A throw-away secret must never replace a real one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://secretsmanager.eu-west-1.amazonaws.com")
    assert 1 == espial("local-secrets").exit_code
    assert not Path(".local/secrets.json").exists()


def a_sample(case: str = "one") -> bytes:
    body = b'[{"event":"delivered","email":"ada@example.com"}]'
    folder = Path("events/sources/sendgrid")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case}.body").write_bytes(body)
    return body


def a_secret() -> signing.Secret:
    secret = signing.new_secret("sendgrid", b"0123456789abcdef")
    Path(".local").mkdir(exist_ok=True)
    kept = {"esp": {"reference": "r", "secret": secret.accepted.decode(), "signing": secret.signing.decode()}}
    Path(".local/secrets.json").write_text(json.dumps(kept))
    return secret


@pytest.mark.usefixtures("socket_enabled")
def test_send_sample_signs_afresh_and_posts(espial):
    """What the stack receives is what the platform would send: the exact bytes and a valid signature of now."""
    body, secret = a_sample(), a_secret()
    with loopback(Canned(200, b"")) as receiver:
        result = espial("send-sample", "sendgrid", "--url", f"{receiver.url}/in/sendgrid/esp")
    assert 0 == result.exit_code, result.output
    assert "one: 49 bytes to" in result.output
    assert "200 OK in " in result.output
    (seen,) = receiver.seen
    assert body == seen.body
    delivery = RawDelivery(
        delivery_id="d",
        platform="sendgrid",
        connection="esp",
        transport="webhook",
        body=seen.body,
        received_at=datetime.now(UTC),
        headers=seen.headers,
    )
    sources.load("sendgrid").verify(delivery, [secret.accepted], datetime.now(UTC))


@pytest.mark.usefixtures("socket_enabled")
def test_a_sample_of_a_bad_signature_keeps_it(espial):
    """What a sample says of its own headers, signature and age is sent as it says."""
    body = a_sample("stale")
    a_secret()
    notes = Path("events/sources/sendgrid/stale.meta.toml")
    notes.write_text("received_at = 2026-01-15T10:00:00Z\nsigned_at = 2026-01-13T10:00:00Z\n[headers]\nx-more = '1'\n")
    with loopback(Canned(401, b"")) as receiver:
        espial("send-sample", "sendgrid", "--case", "stale", "--url", receiver.url)
        notes.write_text("unsigned = true\n")
        espial("send-sample", "sendgrid", "--case", "stale", "--url", receiver.url)
    stale, bare = receiver.seen
    age = time.time() - int(stale.headers["x-twilio-email-event-webhook-timestamp"])
    assert 2 * 86_400 <= age < 2 * 86_400 + 60
    assert "1" == stale.headers["x-more"]
    assert "x-twilio-email-event-webhook-signature" not in bare.headers
    assert body == stale.body == bare.body


@pytest.mark.usefixtures("socket_enabled")
def test_a_refused_sample_is_status_1(espial):
    """A wrong local secret shows."""
    a_sample()
    a_secret()
    with loopback(Canned(401, b"")) as receiver:
        result = espial("send-sample", "sendgrid", "--url", f"{receiver.url}/in/sendgrid/esp")
    assert 1 == result.exit_code
    assert "401 Unauthorized" in result.stdout


def test_send_sample_without_a_local_secret_says_how_to_make_one(espial):
    """Only the platform can sign for a real connection."""
    a_sample()
    assert "run `espial local-secrets` first" in espial("send-sample", "sendgrid").stderr


def test_every_command_is_documented_and_nothing_else():
    """docs/command-line.md has a heading for each command, and each heading is a command."""
    import re

    described = set(
        re.findall(
            r"`espial ((?:quarantine |exports |onboarding |feeds |destinations |triggers |catalogue |template )?"
            r"[a-z-]+)",
            "\n".join(
                line for line in (ROOT / "docs/command-line.md").read_text().splitlines() if line.startswith("### ")
            ),
        )
    )
    group: Any = typer.main.get_command(app)
    known = {
        f"{name} {inner}" if inner else name
        for name, command in group.commands.items()
        for inner in getattr(command, "commands", {"": None})
    }
    assert known == described


def test_text_from_outside_cannot_steer_the_terminal():
    """A campaign's name may hold escape sequences."""
    assert "a�[2Jb é c" == plain("a\x1b[2Jb é c")


def test_the_stack_is_named_by_option_variable_or_samconfig(tmp_path, monkeypatch):
    """In that order, so that a command line always wins."""
    monkeypatch.chdir(tmp_path)
    asked = []

    class CloudFormation:
        def describe_stacks(self, **request):
            asked.append(request["StackName"])
            return {"Stacks": [{"Outputs": [{"OutputKey": "StoreBucket", "OutputValue": "b"}]}]}

    monkeypatch.setattr(Stack, "client", lambda self, service: CloudFormation())
    (tmp_path / "samconfig.toml").write_text('[default.global.parameters]\nstack_name = "three"\n')
    assert "b" == Stack().store_bucket
    monkeypatch.setenv("ESPIAL_STACK", "two")
    assert "b" == Stack().store_bucket
    assert "b" == Stack("one").store_bucket
    assert ["three", "two", "one"] == asked


def test_the_local_stack_is_meant_while_it_is_up(tmp_path, monkeypatch, capsys):
    """A forgotten option must not reach AWS; a named stack is never the local one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    state = tmp_path / ".local/stack.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"StoreBucket": "here", "Endpoint": "http://127.0.0.1:4999"}))
    stack = Stack()
    assert "here" == stack.store_bucket
    assert "on the local stack at http://127.0.0.1:4999 (--stack NAME for one on AWS)\n" == capsys.readouterr().err
    assert "http://127.0.0.1:4999" == stack.client("s3").meta.endpoint_url
    assert stack.is_local
    with pytest.raises(Failed, match="no output EventsTable"):
        _ = stack.events_table
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    assert not Stack("production").is_local


@pytest.mark.parametrize("content", ["{", '{"StoreBucket": "b"}', '{"Endpoint": "https://example.com"}'])
def test_a_damaged_state_file_is_not_guessed_around(tmp_path, monkeypatch, content):
    """What says that it is local must be on this machine."""
    path = tmp_path / "state.json"
    path.write_text(content)
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(path))
    with pytest.raises(Failed, match="start the local stack again"):
        _ = Stack().store_bucket
