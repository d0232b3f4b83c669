"""What was expected and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

console = Console(highlight=False)


@dataclass
class Report:
    """What was expected and what came of it."""

    rows: list[tuple[str, Any, Any]] = field(default_factory=list)

    def check(self, what: str, expected: Any, found: Any) -> None:
        """Note one result."""
        self.rows.append((what, expected, found))

    @property
    def failed(self) -> list[str]:
        return [what for what, expected, found in self.rows if expected != found]

    def show(self, seconds: float) -> None:
        """Every check, and how many are as expected."""
        console.rule("Checks", align="left")
        for what, expected, found in self.rows:
            good = expected == found
            console.print(
                f"  {'[green]ok[/]  ' if good else '[red]FAIL[/]'} {what}"
                + ("" if good else f": expected {expected}, found {found}")
            )
        console.print(f"\n{len(self.rows) - len(self.failed)} of {len(self.rows)} as expected, in {seconds:.0f} s")
