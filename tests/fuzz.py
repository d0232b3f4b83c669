"""Hostile deliveries by the thousand, made of the samples, against the path from the request to the record.

    python -m tests.fuzz [--inputs 1000000] [--seed 7] [PLATFORM ...]

Each input is a sample whose bytes, values, headers, query or encoding were changed, then signed by the platform's own
scheme where that can be done. It goes through the receiving service and, when that took it, through recording. What
must hold of every one:

- no error comes out but those that have a status; the status is one of `ANSWERS`;
- what was answered 200 is accounted for: as events or in quarantine, or it holds no report (a ping);
- it takes less than `MOST_SECONDS` of processor time; the process never grows past `MOST_BYTES`.

A failure prints the seed and the input's number, which make it again.
"""

from __future__ import annotations

import argparse
import gzip
import random
import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes

import orjson

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import EspialError
from espial.gateway import Request
from espial.services.receive_webhook import receive_webhook
from espial.services.record_events import record
from tests import samples
from tests.fakes import FakeArchive, FakeConnections, FakeDeliveryQueue, FakeEventStore, FakeOutside, FakeQuarantine
from tests.samples import Case

ANSWERS = frozenset({200, 405, 413, 503})
"""Every status the receiver may answer, besides the platform's own for what is not proven. 503 is for a key that lies
elsewhere, where nobody answers."""
MOST_SECONDS = 1.0
MOST_BYTES = 256 * 1_048_576
SEED = 20_260_115

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**63, 10**30, -(10**300), 1e308, 0.1, "", " ", "0", "null", "true", "\x00", "\ufeff"),
    *("é" * 300, "a" * 70_000, "-1", "1e999", "NaN", "9" * 400, "2026-01-15T10:00:37Z", "2026-13-45", "1768471200"),
    *("+15550100000", "Ada <ada@example.com>", "@", "a@b@c", "../../x", "{{7*7}}", "%00", "\u202e", [], {}, [[]]),
    *([None], {"": ""}, {"a": {"a": {"a": 1}}}, [1, "a", None, {}]),
)


@dataclass
class Found:
    """What a platform's inputs came to; `failures` say what did not hold."""

    inputs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    recorded: int = 0
    quarantined: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def flipped(body: bytes, chance: random.Random) -> bytes:
    """A few bytes are others."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def cut(body: bytes, chance: random.Random) -> bytes:
    """The end, the beginning or the middle is missing, or stands there twice."""
    one, other = sorted((chance.randint(0, len(body)), chance.randint(0, len(body))))
    return chance.choice((body[:one], body[other:], body[:one] + body[other:], body[:other] + body[one:]))


def junk(_body: bytes, chance: random.Random) -> bytes:
    """Nothing of it is left."""
    return chance.choice(
        (
            chance.randbytes(chance.randint(0, 200)),
            b"[" * chance.choice((500, 2_000, 100_000)),
            b'{"a":' * chance.choice((500, 2_000, 100_000)) + b"1",
            b"[" + b"{}," * 200 + b"{}]",
            b"&".join(b"a[b]=%d" % number for number in range(2_000)),
            b"a" + b"[b]" * 5_000 + b"=1",
            b"\xff\xfe" + "{}".encode("utf-16-le"),
            b"null",
            b'"text"',
            b"0",
        )
    )


def valued(body: bytes, chance: random.Random) -> bytes:
    """One to three values of a JSON document or a form are odd, missing, or named otherwise."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _form_valued(body, chance)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        action = chance.randrange(4)
        if action == 0 and isinstance(holder, dict):
            holder[str(chance.choice(ODD))[:50]] = holder.pop(key)
        elif action == 1:
            del holder[key]
        else:
            holder[key] = deepcopy(chance.choice(ODD))  # it may be changed in its turn
    return _dumped(document, body)


def _dumped(document: Any, body: bytes) -> bytes:
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, TypeError):  # numbers over 64 bits: JSON has them, orjson does not write them
        import json

        try:
            return json.dumps(document).encode("utf-8", "surrogatepass")
        except (ValueError, TypeError):
            return body


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in a document."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            waiting.append(holder[key])


def _form_valued(body: bytes, chance: random.Random) -> bytes:
    fields = body.split(b"&")
    place = chance.randrange(len(fields))
    name, _, value = fields[place].partition(b"=")
    if value.startswith((b"%7B", b"%5B")):  # a JSON document in a field, as some platforms post it
        inner = valued(unquote_to_bytes(value.replace(b"+", b" ")), chance)
        return b"&".join((*fields[:place], name + b"=" + quote_plus(inner).encode(), *fields[place + 1 :]))
    odd = quote_plus(str(chance.choice(ODD)), errors="surrogatepass").encode()
    fields[place] = chance.choice((name, b"=" + odd, name + b"=" + odd, name + b"[]=" + odd, odd + b"=" + name))
    return b"&".join(fields)


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (valued, valued, valued, flipped, cut, junk)


CONTENT_TYPES = (
    *("", "text/plain", "multipart/form-data; boundary=x", "application/x-ndjson", "application/json; x=\xff"),
    "application/x-www-form-urlencoded",
)


def bombs() -> list[tuple[bytes, str]]:
    """Bodies that inflate to far more than they are, with their encoding."""
    zeros = bytes(80 * 1_048_576)
    nested = b"[" * 5_000_000
    return [(gzip.compress(zeros, 9), "gzip"), (zlib.compress(zeros, 9), "deflate"), (gzip.compress(nested, 9), "gzip")]


BOMBS = bombs()


def inputs(platform: str, count: int, seed: int) -> Iterator[tuple[Case, RawDelivery]]:
    """`count` hostile deliveries of a platform, the same for the same seed, the bombs among them."""
    chance = random.Random(f"{platform} {seed}")
    known = samples.cases(platform)
    for number in range(count):
        case = chance.choice(known)
        delivery = replace(case.delivery, headers={"content-type": case.headers.get("content-type", "")})
        if number < len(BOMBS):
            body, encoding = BOMBS[number]
            delivery = replace(delivery, body=body, headers={**delivery.headers, "content-encoding": encoding})
        else:
            delivery = _changed(delivery, chance)
        yield case, _signed(case, delivery, chance)


def _changed(delivery: RawDelivery, chance: random.Random) -> RawDelivery:
    delivery = replace(delivery, body=chance.choice(CHANGES)(delivery.body, chance))
    what = chance.randrange(12)
    if what == 0:
        return replace(delivery, headers={**delivery.headers, "content-type": chance.choice(CONTENT_TYPES)})
    if what == 1:
        encoding = chance.choice(("gzip", "deflate", "br", "\xff"))
        packed = chance.choice((delivery.body, gzip.compress(delivery.body), gzip.compress(delivery.body)[:-3]))
        return replace(delivery, body=packed, headers={**delivery.headers, "content-encoding": encoding})
    if what == 2:
        url = delivery.url + chance.choice(("?key=", "?a=%ff", "?a[b]=1&a=2", "?" + "a=1&" * 3_000, "#x", "?[", "?x=é"))
        return replace(delivery, url=url)
    return delivery


def _signed(case: Case, delivery: RawDelivery, chance: random.Random) -> RawDelivery:
    """With proof, where it can be given: some platforms put it into a body that has to be whole for that."""
    if chance.random() < 0.03:
        return replace(delivery, headers={**delivery.headers, "authorization": "Basic \xff", "x-signature": "=="})
    signer = case.keys.signing
    try:
        return signing.signed(signer, delivery, case.received_at, case.connection.settings)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, EspialError):
        return delivery


def fuzz(platform: str, count: int, seed: int = SEED) -> Found:
    """Put `count` inputs through, and say what did not hold."""
    found, before = Found(), _most_memory()
    for number, (case, delivery) in enumerate(inputs(platform, count, seed)):
        started = time.process_time()
        problem = _problem(case, delivery, found)
        taken = time.process_time() - started
        found.inputs += 1
        found.slowest = max(found.slowest, taken)
        if taken > MOST_SECONDS:
            problem = problem or f"took {taken:.2f} s"
        if problem:
            found.failures.append(f"{platform}, seed {seed}, input {number} ({case.name}): {problem}")
    grown = _most_memory() - before
    if grown > MOST_BYTES:
        found.failures.append(f"{platform}: the process grew by {grown / 1_048_576:.0f} MB")
    return found


def _most_memory() -> int:
    """Bytes this process had at the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _problem(case: Case, delivery: RawDelivery, found: Found) -> str | None:
    queue, connection = FakeDeliveryQueue(), case.connection
    bare, _, query = delivery.url.partition("?")
    path = {"platform": connection.platform, "connection": connection.name}
    request = Request("fuzz", delivery.method, path, query, delivery.headers, delivery.body)
    connection = replace(connection, public_url=bare)
    connections = FakeConnections(connection, secrets={connection.name: (case.keys.accepted,)})
    try:
        outcome = receive_webhook(request, connections, queue, FakeOutside(), public_url="", now=case.received_at)
    except Exception as exc:  # noqa: BLE001 - that none comes out is what is asked
        return f"receiving raised {type(exc).__name__}: {exc}"
    status = outcome.reply.status
    found.statuses[status] += 1
    if status not in {*ANSWERS, case.source.unproven, case.source.busy}:
        return f"answered {status}"
    if outcome.reason != "accepted":
        return None if not queue.deliveries else f"{outcome.reason}, and kept all the same"
    return _lost(connections, queue.deliveries[0], found)


def _lost(connections: FakeConnections, delivery: RawDelivery, found: Found) -> str | None:
    """What of a delivery that was taken is not accounted for."""
    quarantine = FakeQuarantine()
    try:
        tally = record(
            [delivery],
            connections=connections,
            store=FakeEventStore(),
            archive=FakeArchive(),
            quarantine=quarantine,
            now=delivery.received_at,
        )
    except Exception as exc:  # noqa: BLE001
        return f"recording raised {type(exc).__name__}: {exc}"
    for reason in tally.failures.values():
        return f"recording failed with {type(reason).__name__}: {reason}"
    found.recorded += tally.total("new")
    found.quarantined += tally.total("quarantined")
    if tally.total("quarantined") < len(quarantine.entries):
        return "quarantine and tally differ"
    return None


def main() -> int:
    """Fuzz the platforms named, or all; the exit status is 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description="Hostile deliveries by the thousand.")
    parser.add_argument("platforms", nargs="*", default=sorted({*sources.NAMES} - {"segment"}))
    parser.add_argument("--inputs", type=int, default=10_000, help="of each platform")
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    failures: list[str] = []
    for platform in asked.platforms:
        found = fuzz(platform, asked.inputs, asked.seed)
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
        print(
            f"{platform:18} {found.inputs:8,} inputs, {found.recorded:8,} events, {found.quarantined:7,} quarantined, "
            f"slowest {found.slowest * 1000:4.0f} ms, {statuses}",
            flush=True,
        )
        failures += found.failures
    for failure in failures[:50]:
        print(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
