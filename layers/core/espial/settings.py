"""What each function reads from its environment: one frozen dataclass a function, every missing name at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """Base: a field `events_table` is the variable EVENTS_TABLE; all are text, and each is required."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Raises RuntimeError naming every variable that is missing."""
        env = os.environ if env is None else env
        names = {field.name: field.name.upper() for field in fields(cls)}
        missing = [name for name in names.values() if not env.get(name)]
        if missing:
            raise RuntimeError(f"{cls.__name__}: missing environment variables: {', '.join(missing)}")
        return cls(**{field: env[name] for field, name in names.items()})
