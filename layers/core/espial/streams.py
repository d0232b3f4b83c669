"""Event streams that a platform has read instead of posting them: what pulling one needs of the world."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from espial.errors import EspialError

EARLIEST = "EARLIEST"
LATEST = "LATEST"


class StreamRequest(NamedTuple):
    """Which stream, and from where on.

    region     `us` or `eu`.
    tokens     the accepted ones, newest first.
    offset     the last one that was read, empty for none yet; then `start` counts, `EARLIEST` or `LATEST`.
    """

    region: str
    app_key: str
    tokens: Sequence[bytes]
    offset: str = ""
    start: str = EARLIEST
    filters: Sequence[Mapping[str, Any]] = ()


class EventStream(Protocol):
    """A stream of lines over HTTP."""

    def lines(self, request: StreamRequest, seconds: float) -> Generator[bytes]:
        """Whole lines without their end, as they come; an empty one says that nothing more is waiting.

        Ends after `seconds`, or when the platform ends the stream; what was cut off is left out. Raises TryAgain for
        what may pass, `OffsetGone` for an offset that is not known any more, Refused for what has to be mended.
        """
        ...


class OffsetGone(EspialError):
    """The platform does not know the offset (any more)."""


class Position(NamedTuple):
    """How far a stream was read, and the right to read on, which `holder` proves."""

    stream: str
    holder: str
    offset: str


class Positions(Protocol):
    """How far each stream was read, and who reads it: one at a time. Each raises TryAgain when the store is away."""

    def take(self, stream: str, *, now: datetime, until: datetime) -> Position | None:
        """The right to read until then; None while somebody else has it."""
        ...

    def keep(self, position: Position, offset: str) -> bool:
        """The stream was read up to `offset`; False, changing nothing, if the right to read was lost meanwhile."""
        ...

    def release(self, position: Position) -> None:
        """Somebody else may read on at once. Changes nothing where the right was lost."""
        ...
