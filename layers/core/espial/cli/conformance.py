"""`espial conformance`: the whole sample library against a deployed receiver, over its real address.

Each sample is posted as it is, and in the ways a receiver must refuse: changed by a byte, without proof, signed with
somebody else's secret, signed long ago. What the answer has to be is what this version of Espial says of the very same
request; so a gateway that re-encodes bodies, drops headers or rewrites addresses, an old deployment or a wrong secret
shows. With `--recorded` the events are looked up in the stack's table and compared with what this version makes of
them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from espial import signing, sources
from espial.cli.output import say, table
from espial.cli.posting import post
from espial.cli.samples import Sample
from espial.cli.samples import samples as samples_in
from espial.cli.secrets import signing_secrets
from espial.cli.stack import Failed, Stack
from espial.definitions import load
from espial.definitions.models import TRACKING, ConnectionDefinition
from espial.deliveries import Arrival, Connection, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem, TryAgain
from espial.gateway import Request
from espial.normalise import normalise
from espial.services.receive_webhook import receive_webhook

ALL = "all"
AS_IT_IS = "as it is"
LONG_AGO = timedelta(days=30)
PATIENCE_SECONDS = 90.0
STRANGER = b"somebody else's secret, of no use here"
NOT_COMPARED = frozenset({"received_at", "raw", "connection", "occurred_at", "time_uncertain", "mode"})
"""What two deliveries of one report may differ in."""


_Key = tuple[str, str]
"""Home and event id."""
_Told = tuple[str, Mapping[str, Any]]
"""A sample's name and an event it must become."""
_Promised = tuple[_Key, _Told]
_Wanted = dict[_Key, list[_Told]]


@dataclass
class Result:
    """What a platform's samples came to."""

    posted: int = 0
    recorded: int = 0
    passed_over: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def conformance(  # noqa: PLR0917 - options of a command
    ctx: typer.Context,
    target: Annotated[str | None, typer.Option(help="The receiver's address. Default: the stack's API.")] = None,
    platform: Annotated[str, typer.Option(help="One platform, or all that a connection is defined for.")] = ALL,
    recorded: Annotated[bool, typer.Option("--recorded", help="Look the events up in the stack's table too.")] = False,
    samples: Annotated[Path, typer.Option(help="The sample library.")] = Path("events/sources"),
    directory: Annotated[Path, typer.Option("--dir", help="The folder of definitions.")] = Path("definitions"),
) -> None:
    """Post every sample, signed now, and in every way that must be refused; compare the answers.

    Connections and the halves of their secrets that sign are the local stack's (`espial local-secrets`). Ends with
    status 1 if an answer or an event is not as it has to be.
    """
    stack: Stack = ctx.obj
    address = (target or stack.api_url).rstrip("/")
    defined = [one for one in load.load(directory).connections.values() if platform in (ALL, one.platform)]
    if not defined:
        raise Failed(f"no connection of {platform} is defined in {directory}")
    results: dict[str, Result] = {}
    wanted: _Wanted = {}
    with httpx.Client() as client:
        for sample, connection in _pairs(samples, defined):
            result = results.setdefault(sample.platform, Result())
            suite = _Suite(sample, connection, result, client)
            if suite.passed_over():
                result.passed_over += 1
                continue
            for key, promised in suite.run(address):
                wanted.setdefault(key, []).append(promised)
    if recorded:
        _look_up(stack, wanted, results)
    _show(results, recorded)


def _pairs(folder: Path, defined: list[ConnectionDefinition]) -> Iterator[tuple[Sample, ConnectionDefinition]]:
    """Every sample with the connection whose settings it is about; tracking calls have an API of their own."""
    for name in sorted({one.platform for one in defined} - {TRACKING}):
        for sample in samples_in(folder / name).values():
            settings = sample.meta.get("settings", {})
            for one in defined:
                if one.platform == name and dict(one.settings) == settings:
                    yield sample, one
                    break


class _Suite:
    """One sample at one connection."""

    def __init__(self, sample: Sample, connection: ConnectionDefinition, result: Result, client: httpx.Client) -> None:
        self._sample = sample
        self._connection = connection
        self._result = result
        self._client = client
        self._held = signing_secrets().get(connection.name)

    def passed_over(self) -> bool:
        """Bodies that only the platform can sign, and connections whose signing half is not here."""
        return "accepted" in self._sample.meta or self._held is None

    def run(self, address: str) -> list[_Promised]:
        """Post every variant and compare its answer with what has to be answered; the events that may come of it.

        Where the body is not signed, one that was changed by a byte is taken, and may tell of the same event.
        """
        webhook = address + self._connection.path
        promised: list[_Promised] = []
        for variant, delivery in self._variants(webhook):
            expected = self._expected(delivery)
            if expected is None:
                continue
            if expected == HTTPStatus.OK:  # whichever is recorded first is kept
                promised += self._promised(delivery)
            answer, milliseconds = post(delivery, webhook, self._client)
            self._result.posted += 1
            self._result.slowest = max(self._result.slowest, milliseconds)
            if expected != answer.status_code:
                self._result.failures.append(
                    f"{self._sample}, {variant}: answered {answer.status_code}, not {expected}"
                )
        return promised

    def _variants(self, webhook: str) -> Iterator[tuple[str, RawDelivery]]:
        held = self._held or {}
        signer, now = held["signing"].encode(), datetime.now(UTC)
        settings = self._connection.settings
        url = self._connection.public_url or webhook

        def request(by: bytes | None, at: datetime = now) -> RawDelivery:
            return self._sample.request(self._connection.name, url, by, at)

        whole = request(signer)
        stranger = signing.new_secret(self._sample.platform, STRANGER, settings).signing
        yield AS_IT_IS, whole
        yield "without proof", request(None)
        yield "signed by somebody else", request(stranger)
        yield "changed by a byte", replace(whole, body=whole.body + b" ")
        yield "signed long ago", request(signer, now - LONG_AGO)

    def _expected(self, delivery: RawDelivery) -> int | None:
        """The status that this version of Espial answers the very same request with.

        None where that depends on what the platform's own servers say.
        """
        connection, outside = self._published, _Outside()
        secret = (self._held or {})["secret"].encode()
        path = {"platform": connection.platform, "connection": connection.name}
        bare, _, query = delivery.url.partition("?")
        request = Request("conformance", delivery.method, path, query, delivery.headers, delivery.body)
        outcome = receive_webhook(
            request,
            _OneConnection(replace(connection, public_url=bare), secret),
            _Nowhere(),
            outside,
            public_url="",
            now=datetime.now(UTC),
        )
        return None if outside.asked else outcome.reply.status

    @property
    def _published(self) -> Connection:
        return Connection.from_dict(self._connection.published())

    def _promised(self, delivery: RawDelivery) -> list[_Promised]:
        """Everything readable in a delivery."""
        source = sources.of(self._published)
        arrival = Arrival(connection=self._published, transport="webhook", received_at=datetime.now(UTC))
        found: list[_Promised] = []
        with suppress(MalformedDelivery):
            for item in source.split(delivery):
                with suppress(MalformedItem):
                    record = normalise(source, item, arrival)
                    told = str(self._sample), json.loads(record.body)
                    found.append(((record.home, record.event.event_id), told))
        return found


@dataclass(frozen=True)
class _OneConnection:
    connection: Connection
    secret: bytes

    def find(self, _platform: str, _name: str) -> Connection:
        return self.connection

    def secrets(self, _connection: Connection) -> tuple[bytes, ...]:
        return (self.secret,)

    def of_platform(self, platform: str, *, missed: bool = False) -> Sequence[Connection]:  # noqa: ARG002
        return (self.connection,)


class _Nowhere:
    def put(self, _delivery: RawDelivery) -> None:
        """Only the answer is asked for."""


@dataclass
class _Outside:
    asked: bool = False

    def fetch(self, url: str) -> bytes:
        self.asked = True
        raise TryAgain(f"{url} is not asked")


def _look_up(stack: Stack, wanted: _Wanted, results: dict[str, Result]) -> None:
    """Find every promised event and compare it; waits for the last ones.

    Of several reports of one event the one that was recorded first is kept, whichever that was.
    """
    client, missing = stack.client("dynamodb"), dict(wanted)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing:
        for (home, event_id), body in _items(client, stack.events_table, list(missing)):
            promised = missing.pop((home, event_id))
            result = results[str(body["platform"])]
            result.recorded += 1
            differing = [_differing(event, body) for _, event in promised]
            if all(differing):
                result.failures.append(
                    f"{promised[0][0]}: event {event_id} differs in {', '.join(sorted(differing[0]))}"
                )
        if time.monotonic() > deadline:
            break
        time.sleep(0.5 if missing else 0)
    for (_, event_id), promised in missing.items():
        sample, event = promised[0]
        results[str(event["platform"])].failures.append(f"{sample}: event {event_id} was not recorded")


def _items(client: Any, name: str, keys: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for start in range(0, len(keys), 100):
        asked = [{"pk": {"S": home}, "sk": {"S": f"E#{event_id}"}} for home, event_id in keys[start : start + 100]]
        answer = client.batch_get_item(RequestItems={name: {"Keys": asked}})
        for item in answer["Responses"][name]:
            key = item["pk"]["S"], item["sk"]["S"].removeprefix("E#")
            yield key, json.loads(item["body"]["S"])


def _differing(promised: Mapping[str, Any], body: Mapping[str, Any]) -> set[str]:
    names = (set(promised) | set(body)) - NOT_COMPARED
    return {name for name in names if promised.get(name) != body.get(name)}


def _show(results: Mapping[str, Result], recorded: bool) -> None:
    rows = [
        (
            name,
            str(result.posted),
            str(result.recorded) if recorded else "-",
            str(result.passed_over),
            f"{result.slowest:.0f} ms",
            "ok" if not result.failures else f"{len(result.failures)} WRONG",
        )
        for name, result in sorted(results.items())
    ]
    table(("platform", "requests", "events", "passed over", "slowest", ""), rows, whole=5)
    totals: Counter[str] = Counter()
    for result in results.values():
        totals.update(requests=result.posted, events=result.recorded, wrong=len(result.failures))
    say(f"{len(results)} platforms, {totals['requests']} requests, {totals['events']} events found")
    for failure in (one for result in results.values() for one in result.failures):
        say(f"WRONG {failure}")
    if totals["wrong"]:
        raise Failed(f"{totals['wrong']} answers or events are not as they have to be")
