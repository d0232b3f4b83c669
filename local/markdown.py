"""The little Markdown that generated pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

NOTE = "<!-- Written by `make docs`. Change the code it describes, not this page. -->"


def page(title: str, *parts: Iterable[str]) -> str:
    """A whole page out of the lines of its parts."""
    return "\n".join([f"# {title}", "", NOTE, "", *(line for part in parts for line in part)]).rstrip() + "\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], align: str = "") -> Iterator[str]:
    """The lines of a table; `align` is for every column but the first."""
    heads = list(heads)
    yield _row(heads)
    yield _row(["---", *[align or "---"] * (len(heads) - 1)])
    yield from map(_row, rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def code(words: Iterable[str]) -> str:
    """Words as code, with commas between."""
    return ", ".join(f"`{word}`" for word in words)
