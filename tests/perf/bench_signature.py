"""Benchmark: proving a delivery against the bare operation, in the same run, for every scheme that a source names.

    python -m tests.perf.bench_signature

A delivery is a sample of the platform grown to a size and signed as the platform does. The bare operation is the hash
of the same bytes, and for signatures by a private key one check with a parsed key besides. Secrets that are shown as
they are have none: their time may not grow with the body. Interleaved rounds of CPU time, medians; exit status 1 if
a target is missed.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.signing_keys import key_pair, signature
from espial.verify.public_keys import Kind, public_key
from tests import samples
from tests.perf import payloads
from tests.perf.bench_normalise import medians
from tests.samples import Case

SIZES = (1_000, 100_000, 1_000_000)
HELD_FROM = 100_000
TARGET = 1.1
SECONDS = 0.004
ROUNDS = 21
RANDOMNESS = b"benchmark only, never real".ljust(32, b"\0")


@dataclass(frozen=True)
class Entry:
    """One scheme: the platforms that name it, a sample of the first, and what it comes down to.

    operation   a hash (`sha256`), a kind of key (`rsa`), or "" for secrets that are shown as they are.
    """

    scheme: str
    platforms: list[str]
    case: Case
    operation: str


def entries() -> list[Entry]:
    """One for each distinct scheme: sources whose schemes differ in the names of headers alone share one."""
    found: dict[str, Entry] = {}
    for platform in sources.NAMES:
        case = next(filter(proven, payloads.good_cases(platform)), None)
        if case:
            scheme, operation = told_by(case)
            found.setdefault(f"{scheme} {operation}", Entry(scheme, [], case, operation)).platforms.append(platform)
    return list(found.values())


def told_by(case: Case) -> tuple[str, str]:
    """The factory of the sample's scheme, or the platform if it reads the proof itself, and the operation."""
    verify = case.source.verify.verify
    facts = closed_over(verify)
    reads = facts.get("read", verify)
    own = not reads.__module__.startswith("espial.verify")
    scheme = case.platform if own else reads.__qualname__.partition(".")[0]
    if "kind" in facts:
        return scheme, facts["kind"]
    if "mac" in facts:
        return scheme, closed_over(facts["mac"])["algorithm"]
    one, other = (proof(case, body) for body in (case.body, case.body + b" "))
    return scheme, "" if one == other else "sha256"


def closed_over(function: Callable[..., Any]) -> dict[str, Any]:
    """What a scheme's factory was given."""
    return dict(inspect.getclosurevars(function).nonlocals)


def proof(case: Case, body: bytes) -> dict[str, str]:
    """The headers that the platform would prove a body with."""
    return dict(signed(case, body).headers)


def signed(case: Case, body: bytes) -> RawDelivery:
    """The sample's delivery with another body, signed anew."""
    return signing.signed(samples.secret(case.platform).signing, replace(case.delivery, body=body), case.now)


def proven(case: Case) -> bool:
    """Whether it is accepted with the samples' own secret."""
    try:
        prove(case, case.delivery)()
    except SignatureError:
        return False
    return True


def prove(case: Case, delivery: RawDelivery) -> Callable[[], None]:
    """Verifies the delivery as the receiver does."""
    secrets = (samples.secret(case.platform).accepted,)
    return partial(case.source.verify, delivery, secrets, case.now, settings=case.connection.settings)


def grown(case: Case, size: int) -> RawDelivery:
    """The sample's delivery with a body of about `size` bytes, signed anew: more of its reports, or a longer one."""
    body = case.body
    key = payloads.array_key(case)
    more = max(0, size - len(body))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        body += b"&padding=" + b"x" * more
    else:
        if key is not None:
            rows = document[key] if key else document
            rows *= 1 + more // len(orjson.dumps(rows))
        else:
            document["padding"] = "x" * more
        body = orjson.dumps(document)
    return signed(case, body)


def bare(operation: str, body: bytes) -> Callable[[], object]:
    """The hash of the bytes; for a kind of key the check of its own signature of them besides."""
    if operation not in {"ecdsa", "rsa", "ed25519"}:
        hashing = getattr(hashlib, operation)
        return lambda: hashing(body).digest()
    kind = cast("Kind", operation)
    private, public = key_pair(kind, RANDOMNESS)
    given, key = b64decode(signature(kind, private, body)), public_key(kind, public)
    if key is None:
        raise TypeError("its own key is none")
    if kind == "ed25519":
        return lambda: key.verify(given, body)
    digest = Prehashed(SHA256())
    rest = (PKCS1v15(), digest) if kind == "rsa" else (ECDSA(digest),)
    return lambda: key.verify(given, hashlib.sha256(body).digest(), *rest)


def repeated(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def measured(entry: Entry, size: int) -> tuple[int, float, float | None]:
    """Bytes of the body, microseconds of a proof, and how many times the bare operation that is."""
    delivery = grown(entry.case, size)
    contestants: dict[str, Callable[[], object]] = {"espial": prove(entry.case, delivery)}
    if entry.operation:
        contestants["bare"] = bare(entry.operation, delivery.body)
    once = medians(contestants, 5)["espial"]
    times = max(1, int(SECONDS / max(once, 1e-7)))
    found = medians({name: partial(repeated, run, times) for name, run in contestants.items()}, ROUNDS)
    ratio = found["espial"] / found["bare"] if entry.operation else None
    return len(delivery.body), found["espial"] / times * 1e6, ratio


def rows() -> Iterator[tuple[str, bool]]:
    """A line for every scheme and size, and whether it met its target."""
    for entry in entries():
        first = None
        for size in SIZES:
            length, taken, ratio = measured(entry, size)
            first = first or taken
            held = taken <= 2 * first if ratio is None else ratio <= TARGET or size < HELD_FROM
            against = entry.operation or "shown as it is"
            verdict = "" if held else "missed"
            platforms = ", ".join(entry.platforms)
            shown = f"{ratio:5.2f}" if ratio else "     "
            yield f"{entry.scheme:28s} {against:15s} {length:9,d} {taken:9.1f} {shown}  {verdict:6s} {platforms}", held


def main() -> int:
    """Print what was measured against the targets."""
    print(f"{'scheme':28s} {'bare operation':15s} {'bytes':>9s} {'us':>9s} {'ratio':5s}")
    held = []
    for line, met in rows():
        print(line, flush=True)
        held.append(met)
    print(
        f"{sum(held)} of {len(held)} held: at most {TARGET} times the bare operation from {HELD_FROM:,} bytes up; "
        "a shown secret takes no longer for a longer body"
    )
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
