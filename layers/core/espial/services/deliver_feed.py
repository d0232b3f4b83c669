"""Committed batches -> the sinks of a feed: every file, in order, whatever crashes or is away (A23).

A sink gets the next file when the one before it has arrived with its manifest, so a response is never there before the
send that it belongs to. How far a sink is is noted after each file; whoever crashes in between puts the same file
again, which is no error. One process at a time is at a sink. A sink that fails waits, and holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import chain, islice, takewhile
from traceback import extract_tb
from typing import Any, NamedTuple

from msgspec.structs import replace

from espial.errors import Refused, TryAgain
from espial.feeds.files import MANIFEST, Batch, Delivered, FeedArchive, FeedBook, FeedFile, Sink
from espial.feeds.parcels import DATA, Parcel, Piece, Step, steps_from
from espial.feeds.schedule import Schedule

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
"""After a failure that may pass; each pause is twice the one before."""

REFUSED_PAUSE = timedelta(hours=1)
"""After one that somebody has to mend."""

MARGIN_MS = 90_000
"""No file is begun in the last part of an invocation's time: it is more than a slow server takes for one."""

NOTING_MS = 10_000
"""Kept of an invocation's time, to note how a file that took all of the rest has failed."""

TimeLeft = Callable[[], float]
"""Milliseconds."""

SecondsLeft = Callable[[], float]
"""Seconds that a sink may still take; none are left below 0."""


class Outcome(NamedTuple):
    """What became of one sink.

    `outcome` is `delivered` (all that there is), `more` (no time for all), `nothing`, `busy` (somebody else is at it),
    `waits` (after a failure), `failed`, or `try_again` (how far it is cannot be read or noted). `oldest` is when the
    first file that is still missing could have been there.
    """

    feed: str
    sink: str
    outcome: str
    files: int = 0
    oldest: datetime | None = None
    failures: int = 0
    reason: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "oldest": self.oldest and self.oldest.isoformat()}


class _Failed(Exception):
    """Why a sink could not be opened, given a file, or closed."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One sink of one feed.

    `takes_refused`: rejects and unmatched rows go there too, each kind in a folder of its own. `by_day`: it gets a
    day's log in one file. `schedule`: a file goes at the first of its times after it was closed. `opened` makes the
    sink and calls nobody yet; it is told how many seconds are left for what it does. `jitter` gives a number from 0
    to 1.
    """

    feed: str
    sink: str
    takes_refused: bool
    opened: Callable[[SecondsLeft], AbstractContextManager[Sink]]
    book: FeedBook
    archive: FeedArchive
    clock: Callable[[], datetime]
    jitter: Callable[[], float]
    by_day: bool = False
    schedule: Schedule | None = None

    def run(self, time_left: TimeLeft, *, enough_ms: float = MARGIN_MS, at_once: bool = False) -> Outcome:
        """Hand over what there is, while more than `enough_ms` are left.

        `at_once`: even if it would wait, after a failure or for its time.
        """
        try:
            return self._run(time_left, enough_ms, at_once=at_once)
        except Exception as exc:  # noqa: BLE001 - it holds up no other sink, whatever it is
            return self._outcome("try_again", reason=_reason(exc))

    def resend(self, names: Collection[str], time_left: TimeLeft, *, enough_ms: float = MARGIN_MS) -> Outcome:
        """Hand over again files that it was given before, as they were, in their order: by name, or number of batch.

        A day's log is known by its name alone.

        `more`: there was no time for the file that `reason` names, and those behind it. Raises Refused if there are
        others among the names, and TryAgain.
        """
        standing = self.book.delivered(self.feed, self.sink)
        wanted = self._given(names, standing, lambda: time_left() > enough_ms)
        held = self._hold(self.book.delivered(self.feed, self.sink), time_left)  # it may have got on meanwhile
        if held is None:
            return self._outcome("busy")
        done = 0
        try:
            with self._opened(time_left) as sink:
                for parcel in wanted:
                    if time_left() <= enough_ms:
                        return self._outcome("more", done, reason=f"no time for {parcel.name} and what is behind it")
                    self._hand_over(sink, parcel)
                    done += 1
        except _Failed as exc:
            return self._outcome("failed", done, reason=_reason(exc.cause))
        finally:
            self.book.deliver(held, replace(held, busy_until=None))
        return self._outcome("delivered", done)

    def _given(self, names: Collection[str], standing: Delivered, has_time: Callable[[], bool]) -> list[Parcel]:
        """The named files that the sink was given, in their order. Only these are held, whatever history there is."""
        missing, found = {*names}, []
        if self.by_day:
            return self._given_days(missing, standing, has_time)
        for batch in self._looked_through(names, standing):
            for files, file in enumerate(batch.files, 1):
                named = {file.name, str(batch.number)} & {*names}
                if named and (batch.number, files) <= (standing.batch, standing.files) and self._gets(file):
                    found.append(Parcel((Piece(batch, file),)))
                    missing -= named
            if not missing or batch.number >= standing.batch:
                break
            if not has_time():
                raise TryAgain("no time to look through all batches: give the batch's number")
        self._all_found(missing)
        return found

    def _given_days(self, missing: set[str], standing: Delivered, has_time: Callable[[], bool]) -> list[Parcel]:
        found = []
        for step in steps_from(Delivered(feed=self.feed, sink=self.sink), self.book, self._gets, by_day=True):
            if (step.day, step.files) > (standing.day, standing.files) or not missing:
                break
            if step.parcel and step.parcel.name in missing:
                found.append(step.parcel)
                missing.remove(step.parcel.name)
            if not has_time():
                raise TryAgain("no time to look through all batches")
        self._all_found(missing)
        return found

    def _all_found(self, missing: Collection[str]) -> None:
        if missing:
            raise Refused("not_delivered_yet", f"sink {self.sink} was never given {', '.join(sorted(missing))}")

    def _looked_through(self, names: Collection[str], standing: Delivered) -> Iterable[Batch]:
        """The batches that are named; all of them for a file's name, which does not tell its batch."""
        if not all(name.isdecimal() for name in names):
            return self.book.batches(self.feed)
        known = sorted({number for number in map(int, names) if 1 <= number <= standing.batch})
        return chain.from_iterable(islice(self.book.batches(self.feed, after=number - 1), 1) for number in known)

    def _run(self, time_left: TimeLeft, enough_ms: float, *, at_once: bool) -> Outcome:
        standing = self.book.delivered(self.feed, self.sink)
        steps = self._steps(standing, at_once=at_once)
        first = next(steps, None)
        if first is None:
            return self._outcome("nothing")
        steps = chain([first], steps)
        waits = bool(standing.again_at and self.clock() < standing.again_at and not at_once)
        held = None if waits else self._hold(standing, time_left)
        if held:
            return self._deliver(held, steps, time_left, enough_ms)
        said = self._outcome("waits" if waits else "busy", oldest=_oldest(steps))
        return said._replace(failures=standing.failures, reason=standing.reason)

    def _deliver(self, noted: Delivered, steps: Iterable[Step], time_left: TimeLeft, enough_ms: float) -> Outcome:
        reached, done, said = noted, 0, self._outcome("delivered")
        try:
            with self._opened(time_left) as sink:
                for step in steps:
                    if step.parcel is None:
                        reached = step.after(reached)
                        continue
                    if time_left() <= enough_ms:
                        said = self._outcome("more", oldest=step.ready)
                        break
                    self._hand_over(sink, step.parcel)
                    reached = replace(step.after(reached), failures=0, reason="", failed_at=None, again_at=None)
                    if not self.book.deliver(noted, reached):
                        return self._outcome("busy", done, step.ready)
                    noted, done = reached, done + 1
        except _Failed as exc:
            reached = self._failure(reached, exc.cause)
            said = self._outcome("failed")._replace(failures=reached.failures, reason=reached.reason)
        self.book.deliver(noted, replace(reached, busy_until=None))
        if said.outcome == "failed":
            said = said._replace(oldest=_oldest(self._steps(reached)))
        return said._replace(files=done)

    @contextmanager
    def _opened(self, time_left: TimeLeft) -> Iterator[Sink]:
        """The sink. Raises _Failed where it cannot be opened or closed."""
        stack = ExitStack()
        with _as_failed():
            sink = stack.enter_context(self.opened(lambda: (time_left() - NOTING_MS) / 1000))
        try:
            yield sink
        except BaseException:
            with suppress(Exception):  # what went wrong first is what counts
                stack.close()
            raise
        with _as_failed():
            stack.close()

    def _steps(self, standing: Delivered, *, at_once: bool = False) -> Iterator[Step]:
        """What may go now; a step is ready when its time has come."""
        steps = steps_from(standing, self.book, self._gets, by_day=self.by_day)
        if self.schedule is None or at_once:
            return steps
        now, first = self.clock(), self.schedule.first
        timed = (step._replace(ready=first(step.ready)) for step in steps)
        return takewhile(lambda step: step.ready <= now, timed)

    def _gets(self, file: FeedFile) -> bool:
        return file.kind == DATA or self.takes_refused

    def _hold(self, standing: Delivered, time_left: TimeLeft) -> Delivered | None:
        """The right to be at the sink for as long as this process may live; None while somebody else has it."""
        now = self.clock()
        if standing.busy_until and now < standing.busy_until:
            return None
        held = replace(standing, busy_until=now + timedelta(milliseconds=time_left()))
        return held if self.book.deliver(standing, held) else None

    def _hand_over(self, sink: Sink, parcel: Parcel) -> None:
        """The file, and its manifest behind it. Raises _Failed, whatever goes wrong: it is this sink's matter alone."""
        with _as_failed():
            file, content = parcel.joined([self._content(*piece) for piece in parcel.pieces])
            name = placed(file)
            sink.put(name, content)
            sink.put(name + MANIFEST, file.manifest())

    def _content(self, batch: Batch, file: FeedFile) -> bytes:
        content = self.archive.get(self.feed, batch.token, file.name)
        if sha256(content).hexdigest() != file.sha256:
            raise Refused("damaged_in_archive", file.name)
        return content

    def _failure(self, reached: Delivered, cause: Exception) -> Delivered:
        now, failures = self.clock(), reached.failures + 1
        pause = REFUSED_PAUSE
        if isinstance(cause, TryAgain):
            pause = max(timedelta(seconds=cause.after), min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE))
        again_at = now + pause * (1 + self.jitter() / 4)
        return replace(reached, failures=failures, reason=_reason(cause), failed_at=now, again_at=again_at)

    def _outcome(self, outcome: str, files: int = 0, oldest: datetime | None = None, reason: str = "") -> Outcome:
        return Outcome(self.feed, self.sink, outcome, files, oldest, reason=reason)


def placed(file: FeedFile) -> str:
    """Where in a sink a file lies: what was refused is not among the data."""
    return file.name if file.kind == DATA else f"{file.kind}/{file.name}"


def deliver_all(deliveries: Sequence[Delivery], time_left: TimeLeft, *, at_once: bool = False) -> Iterator[Outcome]:
    """One after the other, each for its share of the time that is left: a sink that has much to get stops no other."""
    for delivery, enough_ms in _shares(deliveries, time_left):
        yield delivery.run(time_left, enough_ms=enough_ms, at_once=at_once)


def resend_all(deliveries: Sequence[Delivery], names: Collection[str], time_left: TimeLeft) -> list[Outcome]:
    """The files to each of the sinks again, each for its share of the time."""
    found = []
    for delivery, enough_ms in _shares(deliveries, time_left):
        try:
            found.append(delivery.resend(names, time_left, enough_ms=enough_ms))
        except Exception as exc:  # noqa: BLE001 - it holds up no other sink, whatever it is
            found.append(Outcome(delivery.feed, delivery.sink, "failed", reason=_reason(exc)))
    return found


def _shares(deliveries: Sequence[Delivery], time_left: TimeLeft) -> Iterator[tuple[Delivery, float]]:
    """Each with the time (ms) that it has to leave to those behind it."""
    for place, delivery in enumerate(deliveries):
        left = time_left()
        yield delivery, left - (left - MARGIN_MS) / (len(deliveries) - place)


@contextmanager
def _as_failed() -> Iterator[None]:
    """Whatever goes wrong at a sink is that sink's matter. Raises _Failed."""
    try:
        yield
    except Exception as exc:
        raise _Failed(exc) from exc


def _oldest(steps: Iterable[Step]) -> datetime | None:
    """Since when the first of the files is missing."""
    return next((step.ready for step in steps if step.parcel), None)


def _reason(cause: Exception) -> str:
    """A snake_case code and perhaps what it is about, or what time may mend; never what an unknown error says."""
    if isinstance(cause, Refused | TryAgain):
        return str(cause)[:300]
    if isinstance(cause, KeyError):
        return "not_in_archive"
    at = extract_tb(cause.__traceback__)[-1]
    return f"unexpected_error: {type(cause).__name__} in {at.name}, line {at.lineno}"
