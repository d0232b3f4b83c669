"""Loading a function's app.py as Lambda does: fresh, with its own environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from espial import wiring

FUNCTIONS = Path(__file__).parents[2] / "functions"
LoadApp = Callable[..., Any]


@pytest.fixture
def load_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadApp]:
    """(name, VARIABLE=value, …) -> the module functions/<name>/app.py, with nothing left of an earlier load."""
    opened = []
    make = wiring.aws.__wrapped__

    @cache
    def aws(service: str, *, large: bool = False) -> Any:
        opened.append(make(service, large=large))
        return opened[-1]

    def load(name: str, **environment: str) -> Any:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        for made in vars(wiring).values():
            if hasattr(made, "cache_clear"):
                made.cache_clear()
        monkeypatch.setattr(wiring, "aws", aws)
        spec = spec_from_file_location(f"functions.{name}.app", FUNCTIONS / name / "app.py")
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for client in opened:
        client.close()
