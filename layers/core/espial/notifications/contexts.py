"""Who is logged in to the pull, and which batches are out, as the pull sees them.

Nothing here is worth stealing: ids are kept as hashes only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from espial.soap.values import Form

IDLE = timedelta(minutes=30)
"""How long a context lives without being used."""

WRONG = 5
LOCKED = timedelta(minutes=15)
"""`WRONG` wrong passwords within this time lock a user for it."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A login: `roles` are the destinations that its password opens, `role` the one it reads."""

    user: str
    roles: tuple[str, ...]
    role: str
    form: Form = "map"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications that a reader has and has not acknowledged; whose `lease` it is, that destination's."""

    destination: str
    lease: str
    until: datetime
    notifications: tuple[str, ...]


class Contexts(Protocol):
    """Each raises TryAgain when the store is away."""

    def open(self, context_id: str, context: Context, *, now: datetime) -> None:
        """Logged in."""
        ...

    def use(self, context_id: str, *, now: datetime) -> Context | None:
        """Whose context it is, which lives on from now; None if it is unknown or was idle for too long."""
        ...

    def switch(self, context_id: str, role: str) -> None:
        """Read another destination from now on."""
        ...

    def close(self, context_id: str) -> None:
        """Logged out; harmless if it is already."""
        ...

    def attempt(self, user: str, *, now: datetime) -> bool:
        """A password is about to be tried; False, with nothing counted, while the user is locked.

        It counts as a wrong one before it is looked at, so that many at once are no way around.
        """
        ...

    def right(self, user: str) -> None:
        """It was right: take back what `attempt` counted."""
        ...

    def keep(self, batch: Batch) -> None:
        """Remember a batch that is out."""
        ...

    def batch(self, lease: str) -> Batch | None:
        """A batch that was handed out lately, whatever became of it."""
        ...
