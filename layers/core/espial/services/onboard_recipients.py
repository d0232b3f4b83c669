"""A file of recipients -> new and changed ones -> the platform, in its batches and at its pace -> events of ours.

A file is read wholly before anything is sent of it; one that is not what was to be sent is refused wholly. Then it gets
the onboarding's next execution number. Of each batch, in this order: the recipients are recorded as selected, sent,
recorded as onboarded or rejected, and remembered with what they were told. So a worker that is killed anywhere leaves
nothing behind that is not done again with the same outcome: the same events, and the same words to the platform.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from espial import onboarding
from espial.answers import Http
from espial.errors import Malformed, MalformedDelivery, MalformedItem, Refused, TryAgain
from espial.exports import Container, open_container
from espial.exports.files import ExportFile, ExportObjects, FileSource, Unavailable
from espial.exports.notices import Notice, ignored, parse
from espial.normalise import Recordable
from espial.onboarding import Batch, Recipient, Refusal, rows
from espial.onboarding.definition import OnboardingDefinition
from espial.onboarding.happened import Narrator
from espial.onboarding.rows import Numbered
from espial.onboarding.state import ENDED, Counts, Execution, Executions, Held, OnboardingQueue, Recipients, Told, Work
from espial.ports import EventStore, Quarantine, Quarantined, Verdict
from espial.services.recorder import OWN_EXPIRES_DAYS, entry_id
from espial.sources import Layout

PREFIX = "onboarding"

STRETCH_ROWS = 500
"""Rows between two checkpoints: of a file in which little changed they still make requests worth their while."""

CALL_SECONDS = 15.0
MARGIN_MS = 40_000
"""Time left at which a worker hands back: more than a request and its books take."""

LEASE = timedelta(minutes=6)
"""Longer than a worker lives."""

PATIENCE = 10.0
"""Seconds that a worker waits for its pace; for longer ones it hands back."""

TURN_SECONDS = 30
"""After which a file is looked at again while an earlier one, or another worker, is at it."""

BACK_OFF_SECONDS = (1, 5, 30, 120, 300)
MAX_DELAY_SECONDS = 900
MAX_HANDOFFS = 20
"""Without any progress in between; then the message goes the way of the dead-letter queue."""


class Outcome(NamedTuple):
    """What one call did with a file, and for what `reason`.

    `outcome` is ignored, unavailable, refused (wholly), repeated (has ended already), waiting (for its turn),
    handed_back, failed (the file went away) or done. `refused` are rows put in quarantine by this call, or the file.
    """

    outcome: str
    key: str
    reason: str = ""
    execution: int = 0
    counts: Counts = Counts()
    refused: int = 0


class OutOfTime(TryAgain):
    """The process has to end; another one goes on at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarder:
    """Onboards files.

    `definition` gives an onboarding by name (None: there is none), `secret` its API key. `time_left` gives the
    milliseconds this process still has, `sleep` waits.
    """

    definition: Callable[[str], OnboardingDefinition | None]
    secret: Callable[[OnboardingDefinition], str]
    objects: ExportObjects
    executions: Executions
    recipients: Recipients
    queue: OnboardingQueue
    store: EventStore
    quarantine: Quarantine
    http: Http
    clock: Callable[[], datetime]
    time_left: Callable[[], float]
    sleep: Callable[[float], None]
    stretch_rows: int = STRETCH_ROWS

    def onboard_message(self, message: str | Mapping[str, Any], message_id: str) -> Iterator[Outcome]:
        """Onboard each file that a message tells of: S3's notices, or what was handed back. See `onboard`."""
        try:
            works = _works(message)
        except MalformedDelivery as exc:
            content = {"kind": "notice", "message": message, "raw": message_id}
            now = self.clock()
            self.quarantine.put(_entry(entry_id(now, exc.reason, message_id), exc, "", now, content))
            yield Outcome("refused", "", exc.reason, refused=1)
            return
        for work in works:
            yield self.onboard(work)

    def onboard(self, work: Work) -> Outcome:
        """Onboard one file, or as much of it as there is time for.

        What passes (a throttle, a time-out) hands it back with a delay; raises TryAgain once that no longer helps, and
        Refused where somebody has to mend something before it can go on, such as a wrong key.
        """
        if reason := ignored(work.key, -1):
            return Outcome("ignored", work.key, reason)
        name = _name(work.key)
        try:
            file = self.objects.head(Notice(work.bucket, work.key, -1, work.etag, work.version_id))
            work = msgspec.structs.replace(work, etag=file.etag)  # what is handed back means this version
            execution = self.executions.find(name, file)
            if execution and execution.state in ENDED:
                return Outcome("repeated", work.key, execution.reason, execution.number, execution.counts)
            return self._begin(name, file, execution, work)
        except Unavailable as exc:
            return self._gone(name, work, exc)

    def _begin(self, name: str, file: ExportFile, execution: Execution | None, work: Work) -> Outcome:
        """Check a file that is seen for the first time, give it its number, and go on with it once it has its turn."""
        try:
            of = self._definition(name, is_begun=bool(execution and execution.number))
            layout = Layout(encoding=of.encoding, delimiter=of.delimiter)
            container = open_container(FileSource(self.objects, file), file.key, layout)
            if execution is None or not execution.number:
                execution = self.executions.claim(name, file, rows.check(of, container, file.size), self.clock())
        except Malformed as exc:
            return self._refused(name, file, exc)
        now = self.clock()
        held = self.executions.take(execution, now=now, until=now + LEASE)
        if held is None:
            return self._wait(execution, work)
        return _Run(self, of, container, held, work).go()

    def _definition(self, name: str, *, is_begun: bool) -> OnboardingDefinition:
        """Raises Malformed where there is none that is enabled; Refused where it was taken away from under a file."""
        of = self.definition(name)
        if of is not None and of.enabled:
            return of
        reason = "disabled" if of else "unknown_onboarding"
        raise Refused(reason, name) if is_begun else Malformed(reason, name)

    def _wait(self, execution: Execution, work: Work) -> Outcome:
        self.queue.put(work, TURN_SECONDS)
        return Outcome("waiting", work.key, "", execution.number, execution.counts)

    def _gone(self, name: str, work: Work, error: Unavailable) -> Outcome:
        """Nothing is left to read. An execution that had begun ends there, so that later files have their turn."""
        known = [one for one in self.executions.of(name) if (one.file.key, one.file.etag) == (work.key, work.etag)]
        for execution in known:
            if not execution.number or execution.state in ENDED:
                continue
            try:
                self.executions.end(execution, "failed", error.reason, self.clock())
            except TryAgain:  # an earlier one has not ended
                return self._wait(execution, work)
            return Outcome("failed", work.key, error.reason, execution.number, execution.counts)
        return Outcome("unavailable", work.key, error.reason)

    def _refused(self, name: str, file: ExportFile, error: Malformed) -> Outcome:
        """Nothing of the file was sent, and nothing will be."""
        now = self.clock()
        self.quarantine.put(refusal(name, file, error, now))
        if name:
            self.executions.refuse(name, file, error.reason, now)
        return Outcome("refused", file.key, error.reason, refused=1)


class _Run:
    """One worker's turn at one execution."""

    def __init__(self, to: Onboarder, of: OnboardingDefinition, container: Container, held: Held, work: Work) -> None:
        self._to = to
        self._of = of
        self._container = container
        self._held = held
        self._work = work
        self._sending = _Sending(to, of, held)

    def go(self) -> Outcome:
        try:
            return self._go()
        except Unavailable as exc:
            execution = self._held.execution
            self._to.executions.end(execution, "failed", exc.reason, self._to.clock())
            return self._outcome("failed", exc.reason)
        except TryAgain as exc:
            return self._hand_back(exc)
        except Refused as exc:
            self._to.executions.release(self._held, exc.reason)
            raise

    def _go(self) -> Outcome:
        execution = self._held.execution
        numbered = rows.read(
            self._of, self._container, execution.file.size, self._of.channel_execution(execution.number)
        )
        left = islice(numbered, execution.counts.rows, None)
        while stretch := list(islice(left, self._to.stretch_rows)):
            counts = self._held.execution.counts.plus(self._deal_with(stretch))
            now = self._to.clock()
            held = self._to.executions.advance(self._held, counts, now=now, until=now + LEASE)
            if held is None:
                raise TryAgain("another worker has taken over")
            self._held = held
            self._sending.moved = True
        narrator = Narrator(self._of, self._held.execution)
        record(self._to.store, [narrator.completed()])
        self._to.executions.end(self._held.execution, "done", "", self._to.clock())
        return self._outcome("done")

    def _deal_with(self, stretch: Sequence[Numbered]) -> Counts:
        """Choose those that are new or changed, and send them."""
        readable = [one.found for one in stretch if isinstance(one.found, Recipient)]
        told = self._to.recipients.told(self._of.name, [one.external_id for one in readable])
        sent = failed = unchanged = refused = 0
        chosen: list[Numbered] = []
        for one in stretch:
            if isinstance(one.found, MalformedItem):
                self._sending.refuse(one.number, one.found)
                refused += 1
                continue
            last = told.get(one.found.external_id)
            if last and (last.execution, last.contact) == (self._held.execution.number, one.found.contact):
                sent += last.outcome == "onboarded"
                failed += last.outcome == "rejected"
            elif last and last.content == rows.content(self._of, one.found):
                unchanged += 1
            else:
                chosen.append(one)
        counts = Counts(sent, failed, unchanged, refused)
        batches = iter(chosen)
        while batch := list(islice(batches, self._of.batch_size)):
            counts = counts.plus(self._sending.send(batch, told))
        return counts

    def _hand_back(self, why: TryAgain) -> Outcome:
        """Put the rest back on the queue. Raises `why` if that was done too often without getting any further."""
        handoffs = 0 if self._sending.moved else self._work.handoffs + 1
        self._to.executions.release(self._held, "" if isinstance(why, OutOfTime) else str(why))
        if handoffs > MAX_HANDOFFS:
            raise why
        delay = 0
        if not isinstance(why, OutOfTime):
            delay = max(math.ceil(why.after), BACK_OFF_SECONDS[min(handoffs, len(BACK_OFF_SECONDS) - 1)])
        self._to.queue.put(msgspec.structs.replace(self._work, handoffs=handoffs), min(delay, MAX_DELAY_SECONDS))
        return self._outcome("handed_back", str(why))

    def _outcome(self, outcome: str, reason: str = "") -> Outcome:
        execution = self._held.execution
        refused = self._sending.refused
        return Outcome(outcome, execution.file.key, reason, execution.number, execution.counts, refused)


@dataclass(slots=True)
class _Sending:
    """Hands batches of one execution to the platform, at its pace."""

    to: Onboarder
    of: OnboardingDefinition
    held: Held
    moved: bool = False
    refused: int = 0
    _next: datetime | None = None
    _narrator: Narrator = field(init=False)

    def __post_init__(self) -> None:
        self._narrator = Narrator(self.of, self.held.execution)

    def send(self, numbered: Sequence[Numbered], told: Mapping[str, Told]) -> Counts:
        """Record, send, record and remember one batch; returns what became of it."""
        if not self.to.executions.renew(self.held, until=self.to.clock() + LEASE):
            raise TryAgain("another worker has taken over")
        recipients, unfit = self._select(numbered)
        answers = self._delivered(recipients) if recipients else []
        events = [self._narrator.answered(one, answer) for one, answer in zip(recipients, answers, strict=True)]
        record(self.to.store, events)
        self.to.recipients.remember(self.of.name, dict(map(self._told, recipients, answers, [told] * len(answers))))
        self.moved = True
        failed = len(answers) - answers.count(None)
        return Counts(sent=len(answers) - failed, failed=failed, refused=unfit)

    def _select(self, numbered: Sequence[Numbered]) -> tuple[list[Recipient], int]:
        """Record them as selected; those that no event can hold are refused, and counted."""
        given = [(one.number, one.found) for one in numbered if isinstance(one.found, Recipient)]
        verdicts = added(self.to.store, [self._narrator.selected(found) for _, found in given])
        fit = []
        for (number, found), verdict in zip(given, verdicts, strict=True):
            if isinstance(verdict, MalformedItem):
                self.refuse(number, verdict)
            else:
                fit.append(found)
        return fit, len(given) - len(fit)

    def _delivered(self, recipients: Sequence[Recipient]) -> list[Refusal | None]:
        """The platform's verdicts. A batch that is refused for nobody knows whose sake is sent in halves."""
        batch = Batch(self.of, self.of.channel_execution(self.held.execution.number), recipients)
        platform = onboarding.load(self.of.platform)
        request = platform.request(batch, self.to.secret(self.of))
        self._keep_pace()
        url = self.of.endpoint + request.path
        answer = self.to.http.request("POST", url, request.headers, request.body, CALL_SECONDS)
        verdicts = platform.verdicts(answer, batch, self.to.clock())
        if verdicts is None:
            half = len(recipients) // 2
            return self._delivered(recipients[:half]) + self._delivered(recipients[half:])
        return verdicts

    def _keep_pace(self) -> None:
        """At most so many requests a minute. Raises TryAgain where that means a long wait, OutOfTime before the end."""
        if self.to.time_left() < MARGIN_MS:
            raise OutOfTime("out of time", after=0)
        now = self.to.clock()
        wait = (self._next - now).total_seconds() if self._next else 0.0
        if wait > PATIENCE:
            raise TryAgain("the pace allows no request yet", after=wait)
        if wait > 0:
            self.to.sleep(wait)
        self._next = max(now, self._next or now) + timedelta(minutes=1) / self.of.rate_limit

    def _told(self, found: Recipient, refusal: Refusal | None, told: Mapping[str, Told]) -> tuple[str, Told]:
        number = self.held.execution.number
        if refusal is None:
            return found.external_id, Told(rows.content(self.of, found), number, found.contact)
        before = told.get(found.external_id)
        return found.external_id, Told(before.content if before else "", number, found.contact, "rejected")

    def refuse(self, number: int, error: MalformedItem) -> None:
        """Put a row into quarantine; its neighbours go on."""
        file = self.held.execution.file
        self.to.quarantine.put(refusal(self.of.name, file, error, self.to.clock(), row=number))
        self.refused += 1


def added(store: EventStore, records: Sequence[Recordable]) -> list[Verdict]:
    """Insert events of ours. Raises TryAgain if one of them could not be: together they are done again."""
    verdicts = store.add(records, transport="internal", expires_days=OWN_EXPIRES_DAYS) if records else []
    for verdict in verdicts:
        if isinstance(verdict, TryAgain):
            raise verdict
    return verdicts


def record(store: EventStore, records: Sequence[Recordable]) -> None:
    """Insert events that surely fit: raises whatever stands against it."""
    for verdict in added(store, records):
        if isinstance(verdict, Exception):
            raise verdict


def refusal(name: str, file: ExportFile, error: Malformed, now: datetime, *, row: int = 0) -> Quarantined:
    """The quarantine entry of a file, or of one row of it."""
    content = {
        "kind": "onboarding",
        "raw": f"{file.pointer}#{row}",
        "bucket": file.bucket,
        "key": file.key,
        "etag": file.etag,
        "row": row,
    }
    return _entry(entry_id(file.modified_at, error.reason, file.pointer, str(row)), error, name, now, content)


def _entry(id: str, error: Malformed, name: str, now: datetime, content: Mapping[str, Any]) -> Quarantined:
    return Quarantined(id, error.reason, error.detail, error.path, PREFIX, name, now, content)


def _name(key: str) -> str:
    """The onboarding in `onboarding/<name>/…`; empty where the key does not name one."""
    parts = key.split("/", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else ""


def _works(message: str | Mapping[str, Any]) -> list[Work]:
    """Raises MalformedDelivery for what is neither work nor a notice."""
    if isinstance(message, str):
        try:
            found = json.loads(message)
        except ValueError as exc:
            raise MalformedDelivery("bad_notice", str(exc)) from exc
        if isinstance(found, dict) and found.get("kind") == "onboarding":
            try:
                return [msgspec.convert(found, Work)]
            except msgspec.ValidationError as exc:
                raise MalformedDelivery("bad_notice", str(exc)) from exc
    return [Work(bucket=one.bucket, key=one.key, etag=one.etag, version_id=one.version_id) for one in parse(message)]
