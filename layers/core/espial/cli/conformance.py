"""`espial conformance`: the whole sample library against a deployed receiver, over its real address.

Each sample is posted as it is, and in the ways a receiver must refuse: changed by a byte, without proof, signed with
somebody else's secret, signed long ago. What the answer has to be is what this version of Espial says of the very same
request; so a gateway that re-encodes bodies, drops headers or rewrites addresses, an old deployment or a wrong secret
shows. With `--recorded` the events are looked up in the stack's table and compared with the library's.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from espial import signing
from espial.cli.output import say, table
from espial.cli.posting import post
from espial.cli.samples import Sample
from espial.cli.samples import samples as samples_in
from espial.cli.secrets import signing_secrets
from espial.cli.stack import Failed, Stack
from espial.definitions import load
from espial.definitions.models import TRACKING, ConnectionDefinition
from espial.deliveries import Connection, RawDelivery
from espial.errors import SignatureError
from espial.gateway import Request
from espial.services.receive_webhook import receive_webhook

ALL = "all"
LONG_AGO = timedelta(days=30)
PATIENCE_SECONDS = 90.0
STRANGER = b"somebody else's secret, of no use here"
NOT_COMPARED = frozenset({"received_at", "raw", "connection", "occurred_at", "time_uncertain", "mode"})
"""What two deliveries of one report may differ in."""


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
    wanted: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    with httpx.Client() as client:
        for sample, connection in _pairs(samples, defined):
            result = results.setdefault(sample.platform, Result())
            suite = _Suite(sample, connection, result, client)
            if suite.passed_over():
                result.passed_over += 1
                continue
            suite.run(address)
            if recorded:
                wanted |= {(home, event["event_id"]): (str(sample), event) for home, event in suite.promised()}
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

    def run(self, address: str) -> None:
        """Post every variant and compare its answer with what has to be answered."""
        webhook = address + self._connection.path
        for variant, delivery in self._variants(webhook):
            expected = self._expected(delivery)
            answer, milliseconds = post(delivery, webhook, self._client)
            self._result.posted += 1
            self._result.slowest = max(self._result.slowest, milliseconds)
            if expected != answer.status_code:
                self._result.failures.append(
                    f"{self._sample}, {variant}: answered {answer.status_code}, not {expected}"
                )

    def _variants(self, webhook: str) -> Iterator[tuple[str, RawDelivery]]:
        held = self._held or {}
        signer, now = held["signing"].encode(), datetime.now(UTC)
        settings = self._connection.settings
        url = self._connection.public_url or webhook

        def request(by: bytes | None, at: datetime = now) -> RawDelivery:
            return self._sample.request(self._connection.name, url, by, at)

        whole = request(signer)
        stranger = signing.new_secret(self._sample.platform, STRANGER, settings).signing
        yield "as it is", whole
        yield "without proof", request(None)
        yield "signed by somebody else", request(stranger)
        yield "changed by a byte", replace(whole, body=whole.body + b" ")
        yield "signed long ago", request(signer, now - LONG_AGO)

    def _expected(self, delivery: RawDelivery) -> int:
        """The status that this version of Espial answers the very same request with."""
        connection = Connection.from_dict(self._connection.published())
        secret = (self._held or {})["secret"].encode()
        path = {"platform": connection.platform, "connection": connection.name}
        bare, _, query = delivery.url.partition("?")
        request = Request("conformance", delivery.method, path, query, delivery.headers, delivery.body)
        outcome = receive_webhook(
            request,
            _OneConnection(replace(connection, public_url=bare), secret),
            _Nowhere(),
            _Nobody(),
            public_url="",
            now=datetime.now(UTC),
        )
        return outcome.reply.status

    def promised(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Home and event of everything that the library promises for the sample, where its id can be known."""
        for outcome in json.loads(self._sample.beside(".expected.json").read_text()):
            if "event" in outcome and not outcome["event"].get("time_uncertain"):
                yield outcome["home"], outcome["event"]


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


class _Nobody:
    def fetch(self, url: str) -> bytes:
        raise SignatureError(f"{url} is not asked")


def _look_up(
    stack: Stack, wanted: dict[tuple[str, str], tuple[str, Mapping[str, Any]]], results: dict[str, Result]
) -> None:
    """Find every promised event and compare it; waits for the last ones."""
    client, missing = stack.client("dynamodb"), dict(wanted)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing:
        for (home, event_id), body in _items(client, stack.events_table, list(missing)):
            sample, promised = missing.pop((home, event_id))
            result = results[str(promised["platform"])]
            result.recorded += 1
            if differing := sorted(_differing(promised, body)):
                result.failures.append(f"{sample}: event {event_id} differs in {', '.join(differing)}")
        if time.monotonic() > deadline:
            break
        time.sleep(0.5 if missing else 0)
    for (_, event_id), (sample, promised) in missing.items():
        results[str(promised["platform"])].failures.append(f"{sample}: event {event_id} was not recorded")


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
