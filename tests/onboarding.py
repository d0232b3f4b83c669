"""Onboarding over fakes: a bucket, a table, a queue and a clock in memory, and Braze's simulator without a network."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from espial.answers import Answer
from espial.cli.simulators.braze import Braze
from espial.errors import AnswerLost, TryAgain
from espial.exports.files import ExportFile
from espial.onboarding.definition import OnboardingDefinition
from espial.onboarding.state import ENDED, Counts, Execution, Held, Told, Work
from espial.services.onboard_recipients import Onboarder, Outcome
from tests.exporting import BUCKET, Bucket, Port
from tests.fakes import FakeEventStore, FakeQuarantine

NAME = "welcome"
KEY = f"onboarding/{NAME}/monday.csv"
SECRET = "k-1"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)

DEFINITION: dict[str, Any] = {
    "name": NAME,
    "platform": "braze",
    "endpoint": "https://rest.braze.example.com",
    "secret": "secretsmanager:espial/braze-key",
    "key": "PID",
    "columns": {
        "Email": "email",
        "Phone": "phone",
        "First Name": "first_name",
        "City": "home_city",
        "DOB": "dob",
        "Tier": "loyalty_tier",
    },
    "meta": {"cell_code": {"column": "Cell"}},
    "output": "Welcome output",
    "offer_code": "WELCOME10",
    "rate_limit": 50_000,
}
COLUMNS = ("PID", "Email", "Phone", "First Name", "City", "DOB", "Tier", "Cell")


def a_definition(**fields: Any) -> OnboardingDefinition:
    """The definition above with some fields replaced."""
    return OnboardingDefinition.model_validate({**DEFINITION, **fields})


def a_row(number: int, **fields: str) -> dict[str, str]:
    """A recipient that can be sent."""
    return {
        "PID": f"P-{1000 + number}",
        "Email": f"person{number}@example.com",
        "Phone": "",
        "First Name": "Ann",
        "City": "Madrid",
        "DOB": "1980-12-21",
        "Tier": "gold",
        "Cell": "A",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }


def a_file(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> bytes:
    """As a CDP exports it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


class FakeRecipientsTable:
    """RecipientsTable in dicts; tests/contract/test_recipients_table.py holds it and the real one to the same rules."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], Execution] = {}
        self.held: dict[tuple[str, str, str], tuple[str, datetime]] = {}
        self.begun: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.recipients: dict[tuple[str, str], Told] = {}
        self._holders = 0

    def find(self, name, file):
        return self.files.get(_key(name, file))

    def of(self, name):
        found = [one for (of, _, _), one in self.files.items() if of == name]
        return sorted(found, key=lambda one: one.updated_at, reverse=True)

    def refuse(self, name, file, reason, now):
        found = self.find(name, file)
        if not found or not found.number:
            self.files[_key(name, file)] = Execution(name, file, 0, "refused", now, reason=reason)

    def claim(self, name, file, rows, now):
        found = self.find(name, file)
        if found and found.number:
            return found
        self.begun[name] = self.begun.get(name, 0) + 1
        execution = Execution(name, file, self.begun[name], "running", now, rows=rows)
        self.files[_key(name, file)] = execution
        return execution

    def take(self, execution, *, now, until):
        key = _key(execution.name, execution.file)
        if self.ended.get(execution.name, 0) != execution.number - 1 or self.files[key].state != "running":
            return None
        if key in self.held and self.held[key][1] > now:
            return None
        self._holders += 1
        self.held[key] = (str(self._holders), until)
        return Held(self.files[key], str(self._holders))

    def _is_held(self, held):
        key = _key(held.execution.name, held.execution.file)
        return self.files[key].state == "running" and self.held[key][0] == held.holder

    def renew(self, held, *, until):
        if not self._is_held(held):
            return False
        self.held[_key(held.execution.name, held.execution.file)] = (held.holder, until)
        return True

    def advance(self, held, counts, *, now, until):
        if not self.renew(held, until=until):
            return None
        return held._replace(execution=self._put(held.execution, counts=counts, updated_at=now))

    def release(self, held, reason=""):
        if self._is_held(held):
            self.held[_key(held.execution.name, held.execution.file)] = (held.holder, datetime.min.replace(tzinfo=UTC))
            self._put(held.execution, reason=reason)

    def end(self, execution, state, reason, now):
        found = self.files[_key(execution.name, execution.file)]
        if found.state in ENDED:
            return
        if self.ended.get(execution.name, 0) != execution.number - 1:
            raise TryAgain("not its turn")
        self.ended[execution.name] = execution.number
        self._put(execution, state=state, reason=reason, updated_at=now)

    def _put(self, execution, **changes):
        key = _key(execution.name, execution.file)
        self.files[key] = self.files[key]._replace(**changes)
        return self.files[key]

    def told(self, name, external_ids):
        return {one: self.recipients[name, one] for one in external_ids if (name, one) in self.recipients}

    def remember(self, name, told):
        self.recipients |= {(name, external_id): one for external_id, one in told.items()}


def _key(name: str, file: ExportFile) -> tuple[str, str, str]:
    return name, file.key, file.etag


class Queue:
    """OnboardingQueue in memory."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.delays: list[int] = []

    def put(self, work: Work, delay_seconds: int = 0) -> None:
        self.messages.append(work.to_json())
        self.delays.append(delay_seconds)


class SimulatedHttp:
    """The simulator without a network between: what it would do to a connection becomes what the client raises."""

    def __init__(self, braze: Braze) -> None:
        self.braze = braze
        self.urls: list[str] = []

    def request(self, method, url, headers=None, body=b"", seconds=10.0):
        self.urls.append(url)
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        reply = self.braze.answer(method, "/" + url.split("/", 3)[3], lower, body)
        if reply.trouble:
            raise AnswerLost(reply.trouble)
        return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, _json(reply.body))


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


class World:
    """Everything the worker stands on; `step`, if set, is called before and after every call of a port."""

    def __init__(self, **definition: Any) -> None:
        self.now = NOW
        self.definitions = {NAME: a_definition(**definition)}
        self.bucket = Bucket()
        self.table = FakeRecipientsTable()
        self.queue = Queue()
        self.store = FakeEventStore()
        self.quarantine = FakeQuarantine()
        self.braze = Braze(SECRET, lambda: self.now.timestamp(), rate_limit=1_000_000)  # noqa: PLW0108 - time goes on
        self.http = SimulatedHttp(self.braze)
        self.slept: list[float] = []
        self.step = lambda: None
        self.time_left = lambda: 300_000.0
        self.stretch_rows = 7

    def onboarder(self) -> Onboarder:
        table = Port(self, self.table)
        return Onboarder(
            definition=self.definitions.get,
            secret=lambda _: SECRET,
            objects=Port(self, self.bucket),
            executions=table,
            recipients=table,
            queue=Port(self, self.queue),
            store=Port(self, self.store),
            quarantine=Port(self, self.quarantine),
            http=Port(self, self.http),
            clock=lambda: self.now,
            time_left=self.time_left,
            sleep=self._sleep,
            stretch_rows=self.stretch_rows,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def drop(self, rows: Sequence[Mapping[str, str]] | bytes, key: str = KEY, etag: str = "e1") -> Work:
        """A file appears in the bucket; what S3 says of it."""
        self.bucket.put(key, rows if isinstance(rows, bytes) else a_file(rows), etag)
        return Work(bucket=BUCKET, key=key, etag=etag)

    def onboard(self, work: Work) -> Outcome:
        return self.onboarder().onboard(work)

    def drain(self) -> list[Outcome]:
        """Work off what was handed back, each after its delay."""
        done: list[Outcome] = []
        while self.queue.messages:
            self.now += timedelta(seconds=self.queue.delays.pop(0))
            done += self.onboarder().onboard_message(self.queue.messages.pop(0), "m")
            assert len(done) < 100, done[-3:]
        return done

    def events(self, kind: str = "") -> list[Any]:
        return [one.event for one in self.store.items.values() if kind in ("", one.event.type.value)]

    def reasons(self) -> list[str]:
        return sorted(entry.reason for entry in self.quarantine.list(limit=1000))

    def execution(self, key: str = KEY, etag: str = "e1") -> Execution:
        return self.table.files[NAME, key, etag]

    def counts(self, key: str = KEY, etag: str = "e1") -> Counts:
        return self.execution(key, etag).counts
