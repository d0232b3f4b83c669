"""How commands speak: results to standard output, everything else to standard error, readable at 80 columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, markup=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of result."""
    out.print(line)


def complain(line: str) -> None:
    """One line about what went wrong."""
    print(line, file=sys.stderr)


def dump(value: Any) -> None:
    """A result for programs: indented JSON, one object a line for a list of them."""
    if isinstance(value, list):
        for item in value:
            print(json.dumps(item, ensure_ascii=False, default=str))
    else:
        print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: int = 1) -> None:
    """Rows under headings; the first `whole` columns never wrap. Outside text is printed without control characters."""
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        view.add_column(name, overflow="fold", no_wrap=index < whole)
    for row in rows:
        view.add_row(*(Text("\n".join(map(plain, cell.split("\n")))) for cell in row))
    Console(highlight=False).print(view)


def width() -> int:
    """How many columns a table has."""
    return Console().width


def plain(text: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)
