"""Event streams -> RawQueue: read from where the last run stopped, for as long as there is time.

An offset is kept only once all up to it is durable; whatever is read twice is recorded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

import orjson

from espial.deliveries import Connection, RawDelivery
from espial.errors import Refused, TryAgain
from espial.ports import Connections, DeliveryQueue
from espial.sources.airship import OFFSET_UPDATE
from espial.streams import EARLIEST, EventStream, OffsetGone, Position, Positions, StreamRequest

PLATFORM = "airship"
MARGIN_MS = 30_000
"""Nothing is read in the last part of an invocation's time."""
MOST_LINES = 1_000
MOST_BYTES = 1_000_000
"""Of one delivery, roughly; compressed it fits its queue."""
PATIENCE_SECONDS = 5.0
"""How long a line waits for others."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two attempts to connect; each pause is twice the one before."""
SHORTEST = 1.0
"""Seconds that are worth an attempt to connect."""
_TELLS_OFFSET = f'"{OFFSET_UPDATE}"'.encode()


class Clock(NamedTuple):
    """An invocation's time: the instant, seconds that only grow, how to wait, and the milliseconds it has left."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], object]
    time_left: Callable[[], float]


class Pulled(NamedTuple):
    """What became of one connection's stream.

    `outcome` is `read`, `busy` (somebody else reads it), `lost` (somebody else does by now), `no_time`, `try_again`
    or `refused`; `restarted` says that its offset was not known any more, so that events may be missing.
    """

    connection: str
    outcome: str
    lines: int = 0
    deliveries: int = 0
    restarted: bool = False
    detail: str = ""


class Batch(NamedTuple):
    """Lines that hold an event, and the offset up to which they go; empty if no line says it."""

    lines: list[bytes]
    offset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Puller:
    """Reads the stream of every connection that asks for it with `pull: true`."""

    connections: Connections
    stream: EventStream
    positions: Positions
    queue: DeliveryQueue

    def run(self, clock: Clock) -> list[Pulled]:
        """One after the other, each for its share of the time that is left.

        One that cannot be read does not stop the others. Raises TryAgain when the connections cannot be had.
        """
        asked = [one for one in self.connections.of_platform(PLATFORM) if one.settings.get("pull") is True]
        found = []
        for place, connection in enumerate(asked):
            share = (clock.time_left() - MARGIN_MS) / 1000 / (len(asked) - place)
            seconds = min(share, float(connection.settings.get("pull_seconds", share)))
            try:
                found.append(self._pulled(connection, clock, seconds))
            except TryAgain as exc:
                found.append(Pulled(connection.name, "try_again", detail=str(exc)))
        return found

    def _pulled(self, connection: Connection, clock: Clock, seconds: float) -> Pulled:
        if seconds < SHORTEST:
            return Pulled(connection.name, "no_time")
        tokens = self.connections.secrets(connection)
        now = clock.now()
        until = now + timedelta(milliseconds=clock.time_left())
        position = self.positions.take(f"{PLATFORM}/{connection.name}", now=now, until=until)
        if position is None:
            return Pulled(connection.name, "busy")
        settings = connection.settings
        request = StreamRequest(
            region=settings.get("region", "us"),
            app_key=settings.get("app_key", ""),
            tokens=tokens,
            offset=position.offset,
            start=settings.get("start", EARLIEST),
            filters=settings.get("filters", ()),
        )
        reading = _Reading(self, clock, connection, position, request)
        try:
            return reading.until(clock.monotonic() + seconds)
        finally:
            with suppress(TryAgain):  # the right ends by itself
                self.positions.release(position)


class _Reading:
    """One stream, read until its time is up, over as many connections as that takes."""

    def __init__(
        self, puller: Puller, clock: Clock, connection: Connection, position: Position, request: StreamRequest
    ) -> None:
        self._puller = puller
        self._clock = clock
        self._connection = connection
        self._position = position
        self._request = request
        self._found = Pulled(connection.name, "read")

    def until(self, end: float) -> Pulled:
        """What became of it by `end` (of the clock that only grows)."""
        pause = FIRST_PAUSE
        while (left := end - self._clock.monotonic()) >= SHORTEST:
            lines, after, detail = self._found.lines, 0.0, ""
            try:
                if not self._read(left):
                    return self._found._replace(outcome="lost")
            except OffsetGone as exc:
                if not self._request.offset:
                    return self._found._replace(outcome="refused", detail=str(exc))
                self._request = self._request._replace(offset="", start=EARLIEST)
                self._found = self._found._replace(restarted=True)
            except Refused as exc:
                return self._found._replace(outcome="refused", detail=str(exc))
            except TryAgain as exc:
                after, detail = exc.after, str(exc)
            if self._found.lines > lines:
                pause = FIRST_PAUSE
            if detail and self._clock.monotonic() + max(pause, after) > end - SHORTEST:
                return self._found._replace(outcome="try_again", detail=detail)
            self._clock.sleep(min(max(pause, after), max(0.0, end - self._clock.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE)
        return self._found

    def _read(self, seconds: float) -> bool:
        """Over one connection; False if somebody else reads the stream by now."""
        with closing(self._puller.stream.lines(self._request, seconds)) as lines:
            for batch in batches(lines, self._clock.monotonic):
                if batch.lines:
                    self._puller.queue.put(self._delivery(batch.lines))
                    self._found = self._found._replace(
                        lines=self._found.lines + len(batch.lines), deliveries=self._found.deliveries + 1
                    )
                if batch.offset:
                    if not self._puller.positions.keep(self._position, batch.offset):
                        return False
                    self._request = self._request._replace(offset=batch.offset)
        return True

    def _delivery(self, lines: list[bytes]) -> RawDelivery:
        """Its id is the same when the same lines are read again."""
        body = b"\n".join(lines) + b"\n"
        return RawDelivery(
            delivery_id=f"{self._connection.name}-{blake2b(body, digest_size=16).hexdigest()}",
            platform=PLATFORM,
            connection=self._connection.name,
            transport="webhook",
            body=body,
            received_at=self._clock.now(),
            headers={"content-type": "application/x-ndjson"},
            mode=self._connection.mode,
        )


def batches(lines: Iterable[bytes], monotonic: Callable[[], float]) -> Iterator[Batch]:
    """The stream's lines, packed; an empty one, or an offset alone, says that nothing more waits and closes a batch.

    Raises what `lines` raises, after what came whole before that.
    """
    waiting: list[bytes] = []
    size, since = 0, 0.0
    failure: Exception | None = None
    try:
        for line in lines:
            if line:
                since = since if waiting else monotonic()
                waiting.append(line)
                size += len(line)
            full = len(waiting) >= MOST_LINES or size >= MOST_BYTES
            idle = not line or _TELLS_OFFSET in line
            if waiting and (full or idle or monotonic() - since >= PATIENCE_SECONDS):
                yield _batch(waiting)
                waiting, size = [], 0
    except (TryAgain, Refused) as exc:
        failure = exc
    if waiting:
        yield _batch(waiting)
    if failure:
        raise failure


def _batch(lines: list[bytes]) -> Batch:
    """Without the lines that only tell an offset. One that cannot be read is kept, for its place in quarantine."""
    events, offset = [], ""
    for line in lines:
        try:
            told = orjson.loads(line)
        except orjson.JSONDecodeError:
            told = None
        known = told if isinstance(told, dict) else {}
        given = known.get("offset")
        offset = given if isinstance(given, str) and given else offset
        if known.get("type") != OFFSET_UPDATE:
            events.append(line)
    return Batch(events, offset)
