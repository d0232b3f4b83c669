"""Simulators of platforms that send for us: one module for each sender, by its name, that says in `PLUG` what it is.

Each knows what the platform demands of a request and what it answers; what they share, `espial.cli.simulators.platform`
does.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from espial.cli.simulators.platform import Plug

NAMES = tuple(sorted(path.stem for path in Path(__path__[0]).glob("*.py") if not path.stem.startswith("_")))
"""Every platform that can be simulated, by module name."""


def load(name: str) -> Plug:
    """The plug of one of NAMES."""
    plug: Plug = import_module(f"{__name__}.{name}").PLUG
    return plug
