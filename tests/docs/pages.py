"""The pages users read, as blocks and links.

A fenced block whose info string says `run` is run by `test_commands.py`, in the order of its page: `sh run` and
`python run` must succeed, `console run` must also print what it shows, `…` standing for anything. A `yaml file=PATH`
block is a definition that validates in that place; with `run` it is put there before what follows is run.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from local.cloud import ROOT

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<words>.+)$", re.MULTILINE)
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


class Block(NamedTuple):
    """A fenced block: its page, the words of its info string, its text without indentation."""

    page: Path
    words: tuple[str, ...]
    text: str


def pages() -> list[Path]:
    """Every page: those at the top and all under docs/."""
    return [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    """How a test calls a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in FENCE.finditer(page.read_text()):
        yield Block(page, tuple(found["info"].split()), textwrap.dedent(found["text"]))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page, as GitHub names headings."""
    words = (found["words"] for found in HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in words}


def links(page: Path) -> list[str]:
    """The targets of every link and picture of a page."""
    return [found["target"] for found in LINK.finditer(prose(page))]
