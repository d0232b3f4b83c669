"""The commands that pages mark as runnable are run, page by page and in order, against one deployed stack."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT
from local.stack import Stack
from tests.docs.pages import Block, blocks, name, pages

pytestmark = pytest.mark.cloud
RUNNABLE = {page: [block for block in blocks(page) if "run" in block.words] for page in pages()}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The built template on a local cloud of its own, as `make up` leaves it."""
    missing = [path for path in (local_cloud.PYTHON, local_stack.SAM, local_stack.BUILD) if not path.exists()]
    if missing:
        message = f"nothing to deploy, `make setup build` makes it: {missing[0].relative_to(ROOT)} is missing"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("docs")
    with local_cloud.running(folder) as cloud:
        deployed = local_stack.deploy(cloud, folder / "stack.json")
        local_stack.prepare(deployed)
        yield deployed


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository as the commands see it, in a folder where they may write."""
    shutil.copytree(ROOT / "definitions", tmp_path / "definitions")
    (tmp_path / "events").symlink_to(ROOT / "events")
    shutil.copy(ROOT / "samconfig.toml", tmp_path)
    return tmp_path


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [page for page, found in RUNNABLE.items() if found], ids=name)
def test_the_commands_of_a_page_work(page: Path, stack: Stack, checkout: Path) -> None:
    """A reader can copy them: each succeeds and prints what the page shows."""
    environment = {
        **os.environ,
        **stack.environment,
        "EVENTS_TABLE": stack.outputs["EventsTable"],
        "ADMIN_URL": stack.outputs["AdminUrl"],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
    }
    for block in RUNNABLE[page]:
        if block.words[0] == "yaml":
            (checkout / block.words[1].removeprefix("file=")).write_text(block.text)
            continue
        for command, shown in _commands(block):
            done = _run(command, environment, checkout)
            assert 0 == done.returncode, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
            for line in shown:
                pattern = ".*".join(map(re.escape, line.split("…")))
                assert re.search(f"^{pattern}\\s*$", done.stdout, re.MULTILINE), f"{line!r} is not in:\n{done.stdout}"


def _run(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What it said; whatever it started ends with it, also when the test's time is over."""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _commands(block: Block) -> Iterator[tuple[list[str], list[str]]]:
    """What to run, and the lines that it must print."""
    match block.words[0]:
        case "python":
            yield [sys.executable, "-c", block.text], []
        case "sh":
            yield ["bash", "-euo", "pipefail", "-c", block.text], []
        case "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield ["bash", "-c", command], [line for line in shown if line.strip()]
        case other:
            pytest.fail(f"{name(block.page)}: a block of {other} cannot be run")


def test_pages_with_commands_run_some() -> None:
    """The pages that people copy from first are among those that are run."""
    for page in ("README.md", "CONTRIBUTING.md", "docs/command-line.md", "docs/configure.md", "docs/operate.md"):
        assert RUNNABLE[ROOT / page], page
