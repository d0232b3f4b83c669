"""`espial enter`, and what `espial apply` says of a schedule in the past, against a local cloud."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.functions.test_cli import espial  # noqa: F401  a fixture

pytestmark = pytest.mark.cloud
ROOT = Path(__file__).parents[2]
TRIGGER = """
status: staging
entry: {entry}
consent: {{topic: marketing}}
send: {{provider: ses, template: cart-reminder}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "definitions", tmp_path / "mine"))


def write(folder: Path, entry: str) -> None:
    (folder / "triggers/called.yaml").write_text(TRIGGER.format(entry=entry))


def test_a_person_enters_once_a_request(espial, folder):
    write(folder, "{call: true}")
    assert espial("apply", str(folder)).exit_code == 0
    first = espial("enter", "called", "id:a", "--request", "r-1", "--properties", '{"code": "X"}')
    assert first.output.endswith(": entered\n")
    again = espial("enter", "called", "id:a", "--request", "r-1", "--properties", '{"code": "X"}', "--json")
    assert json.loads(again.output)["is_new"] is False
    for words, problem in (
        (("called", "id:b", "--request", "r-1"), "request_id_reused"),
        (("cart-abandoned", "id:a", "--request", "r-2"), "not_by_call"),
        (("nothing", "id:a", "--request", "r-2"), "unknown_trigger"),
        (("called", "id:a", "--request", "r 2"), "bad_request_id"),
        (("called", "id:a", "--request", "r-2", "--properties", "[]"), "must be a JSON object"),
        (("called", "fax:1", "--request", "r-2"), "fax"),
    ):
        refused = espial("enter", *words)
        assert refused.exit_code
        assert problem in " ".join(refused.output.replace("│", " ").split())


def test_a_schedule_in_the_past_is_refused_with_file_line_and_field(espial, folder):
    write(folder, '{schedule: {at: "2020-01-01T00:00:00Z", audience: "true"}}')
    refused = espial("apply", str(folder))
    assert refused.exit_code
    said = " ".join(refused.output.split())
    assert "triggers/called.yaml:3: entry.schedule.at: is past" in said
