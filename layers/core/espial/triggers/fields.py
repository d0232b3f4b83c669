"""Fields that several definitions have: lengths of time, and CEL expressions that are checked when defined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from espial.triggers import cel, durations


def _length(value: object) -> object:
    return durations.parse(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_length),
    PlainSerializer(durations.text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": durations.PATTERN, "examples": ["30m", "1h", "7d", "PT36H"]}),
]
"""A length of time, from nothing to 366 days."""


def expression(*variables: str) -> Callable[[str], str]:
    """A check that is compiled into a field: the CEL expression may read these variables."""

    def check(source: str) -> str:
        cel.check(source, variables)
        return source

    return check
