"""The pages are true: links lead somewhere, what they name exists, generated pages are fresh."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from espial.cli.app import app
from espial.definitions import load
from local import docs
from local.cloud import ROOT
from tests.docs.pages import Block, anchors, blocks, links, name, pages, prose
from tests.template.stack_template import folder, template

PAGES = pytest.mark.parametrize("page", pages(), ids=name)
INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@PAGES
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file or heading of the repository resolves; other links are https."""
    for target in links(page):
        path, _, anchor = target.partition("#")
        if "://" in path:
            assert path.startswith("https://"), target
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", docs.PAGES)
def test_a_generated_page_is_fresh(page: str) -> None:
    """What `make docs` writes is what is committed: the reference cannot fall behind the code."""
    assert docs.PAGES[page]() == (ROOT / "docs" / page).read_text(), "run `make docs`"


def test_every_variable_has_its_meaning() -> None:
    """The page of variables explains those that exist, and no others."""
    used = {variable for function in template().functions for variable in template().environment(function)}
    assert used == set(docs.VARIABLES)


def _commands() -> dict[str, set[str]]:
    """`espial` command, such as `quarantine list` -> its options."""
    found = {}
    for command, what in get_command(app).commands.items():  # type: ignore[attr-defined]
        for inner, leaf in getattr(what, "commands", {"": what}).items():
            found[f"{command} {inner}".strip()] = {option for given in leaf.params for option in given.opts}
    return found


def _mentions(page: Path) -> list[str]:
    """Every `espial …` in a page's code, inline or in blocks."""
    shell = [block.text for block in blocks(page) if block.words[:1] in (("sh",), ("console",))]
    lines = [line.removeprefix("$ ") for text in shell for line in text.splitlines()]
    return [text for text in (*INLINE_CODE.findall(prose(page)), *lines) if text.startswith("espial ")]


@PAGES
def test_a_documented_command_exists(page: Path) -> None:
    """Each `espial …` names a command that there is, and only options that it takes."""
    known = _commands()
    for mention in _mentions(page):
        words = [word for word in mention.split() if word != "espial"]
        if words[0].isupper():
            continue
        command = next((one for one in (" ".join(words[:2]), words[0]) if one in known), None)
        group = any(one.startswith(f"{words[0]} ") for one in known) and len(words) == 1
        assert command or group, f"{mention}: no such command"
        options = {word.strip("[]").partition("=")[0] for word in words if word.strip("[]").startswith("--")}
        assert options <= known.get(command or "", set()) | {"--help"}, mention


def test_every_command_is_documented() -> None:
    """docs/command-line.md has a heading for each command."""
    text = (ROOT / "docs/command-line.md").read_text()
    assert [] == [command for command in _commands() if f"`espial {command}" not in text]


@PAGES
def test_a_documented_make_target_exists(page: Path) -> None:
    """Each `make …` names a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*INLINE_CODE.findall(prose(page)), *(line for block in blocks(page) for line in block.text.splitlines())]
    named = [word for text in code for word in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", text)]
    assert [] == [target for target in named if target not in targets]


DEFINITIONS = [block for page in pages() for block in blocks(page) if any(w.startswith("file=") for w in block.words)]


@pytest.mark.parametrize("block", DEFINITIONS, ids=lambda block: f"{name(block.page)}:{block.words[1]}")
def test_a_definition_shown_validates(block: Block, tmp_path: Path) -> None:
    """A definition copied from a page is accepted, alone and under every stage."""
    directory = shutil.copytree(ROOT / "definitions", tmp_path / "definitions")
    path = tmp_path / block.words[1].removeprefix("file=")
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text)
    load.load(directory)
    for stage in load.stages(directory):
        load.load(directory, stage)


@PAGES
def test_no_definition_is_shown_unchecked(page: Path) -> None:
    """Every YAML block says where it belongs, so that the test above sees it."""
    assert [] == [block.text for block in blocks(page) if block.words[:1] == ("yaml",) and len(block.words) == 1]


def _named_tests(page: Path) -> list[str]:
    return re.findall(r"`(tests/[\w/.]+\.py::\w+)`", page.read_text())


@PAGES
def test_a_test_that_is_named_exists(page: Path) -> None:
    """A guarantee names a test that is there."""
    for named in _named_tests(page):
        path, _, function = named.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text(), named


def test_each_guarantee_names_its_tests() -> None:
    """None stands in the README without a test."""
    rows = re.findall(r"^\| (\d) \|.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert list("123456789") == rows
    assert len(_named_tests(ROOT / "README.md")) >= len(rows)


@PAGES
def test_a_path_that_is_named_exists(page: Path) -> None:
    """A file or folder of the repository that a page names is there."""
    roots = ("docs/", "events/", "functions/", "layers/", "local/", "requirements/", "tests/", "definitions/")
    for text in INLINE_CODE.findall(prose(page)):
        path = text.partition("::")[0]
        if path.startswith(roots) and re.fullmatch(r"[\w./-]+", path) and not path.startswith(IN_THE_BUCKET):
            assert (ROOT / path).exists(), text


IN_THE_BUCKET = ("definitions/active.json", "definitions/versions/", "definitions/templates/")
"""Keys of the store bucket, which look like paths."""


def test_the_picture_shows_the_stack() -> None:
    """Every function, queue, bucket, table and bus of the template is in the picture, and no function that is not."""
    picture = (ROOT / "docs/flow.svg").read_text()
    shown = set(re.findall(r'class="name"[^>]*>([^<]+)<', picture))
    stack = template()
    functions = {folder(function) for function in stack.functions}
    kinds = ("AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Events::EventBus")
    stores = {logical for kind in kinds for logical in stack.of_type(kind) if "DeadLetter" not in logical}
    assert functions | stores <= shown
    assert functions == {text for text in shown if "_" in text}
    for external in ("http://", "https://"):
        assert external not in picture.replace("http://www.w3.org/2000/svg", "")


def test_every_alarm_is_explained() -> None:
    """docs/operate.md says of each alarm what to do."""
    text = (ROOT / "docs/operate.md").read_text()
    for alarm in template().of_type("AWS::CloudWatch::Alarm"):
        general = re.sub(r"^\w+(ErrorAlarm|ThrottleAlarm)$", r"<Function>\1", alarm)
        queue = re.fullmatch(r"(Raw|Notice|Chunk|Trigger|Send)DeadLetterAlarm", alarm)
        expected = "`<Queue>DeadLetterAlarm`: Raw, Notice, Chunk, Trigger, Send" if queue else f"`{general}`"
        assert expected in text, alarm


def test_every_dead_letter_queue_has_its_way_back() -> None:
    """docs/operate.md names each dead-letter queue, and none that does not exist."""
    named = set(re.findall(r"\b\w+DeadLetterQueue\b", (ROOT / "docs/operate.md").read_text()))
    assert {queue for queue in template().of_type("AWS::SQS::Queue") if "DeadLetter" in queue} == named


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md names every direct dependency of every list, and nothing else."""
    expected, listed = {}, {}
    for path in (*ROOT.glob("layers/*/requirements.in"), *ROOT.glob("requirements/*.in")):
        title = f"layers/{path.parent.name}" if path.name == "requirements.in" else f"requirements/{path.stem}"
        lines = [line.strip() for line in path.read_text().splitlines()]
        expected[title] = {re.split(r"[\[=<>~ ;#]", line)[0] for line in lines if line and line[0] not in "#-"}
    page = (ROOT / "docs/dependencies.md").read_text()
    for title, _, section in (part.partition("\n") for part in page.split("\n## ")[1:]):
        entries = re.findall(r"^- ((?:`[^`]+`(?:, )?)+):", section, re.MULTILINE)
        listed[title] = {package for entry in entries for package in re.findall(r"`([^`]+)`", entry)}
    assert expected == listed


FORBIDDEN = re.compile(
    r"(?<![\w.])/(?:root|tmp|home|work)/\w|py[p]i\.org|files\.python[h]osted|docker\.io|ghcr\.io|quay\.io"
)
PICTURES = sorted((ROOT / "docs").rglob("*.svg"))


@pytest.mark.parametrize("page", [*pages(), *PICTURES], ids=name)
def test_no_machine_and_no_registry_is_named(page: Path) -> None:
    """Pages hold for every machine: no path of ours, no package host."""
    assert [] == FORBIDDEN.findall(page.read_text())


def test_the_changelog_keeps_its_order() -> None:
    """Its sections come in the order that its first lines promise."""
    text = (ROOT / "CHANGELOG.md").read_text()
    order = ["Breaking", "Security", "Added", "Changed", "Fixed", "Removed"]
    assert ", ".join(order) in text
    for version in text.split("\n## ")[1:]:
        found = re.findall(r"^### (\w+)$", version, re.MULTILINE)
        assert sorted(found, key=order.index) == found


def test_the_version_released_last_is_the_projects() -> None:
    """CHANGELOG and pyproject agree on the version."""
    found = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f'version = "{found[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_schema_of_the_event_is_linked_and_json() -> None:
    """What the reference calls the contract can be read."""
    assert "urn:espial:event:1" == json.loads((ROOT / "docs/event.schema.json").read_text())["$id"]
