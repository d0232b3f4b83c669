"""Benchmark: proving a SendGrid delivery against the physical floor, in the same run.

    python -m tests.perf.bench_signature

The floor is SHA-256 of the same bytes plus one bare ECDSA P-256 check of the digest with a parsed key. Interleaved
rounds of CPU time, medians; exit status 1 if the target is missed.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from espial import signing, sources
from espial.deliveries import RawDelivery
from tests.perf.bench_normalise import batch, medians

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
TARGET = 1.1
REPEATS = 20
ROUNDS = 31


def ratio(size: int) -> float:
    """How many times the floor a batch of `size` events costs."""
    body = batch(size)
    secret = signing.new_secret("sendgrid", b"benchmark only, never a real secret")
    headers = signing.sign("sendgrid", secret.signing, body, NOW)
    delivery = RawDelivery(
        delivery_id="d-1",
        platform="sendgrid",
        connection="bench",
        transport="webhook",
        body=body,
        received_at=NOW,
        headers=headers,
    )
    verify = sources.load("sendgrid").verify
    signature = b64decode(headers["x-twilio-email-event-webhook-signature"])
    key = load_der_public_key(b64decode(secret.accepted))
    if not isinstance(key, EllipticCurvePublicKey):
        raise TypeError("not an elliptic curve key")
    algorithm = ECDSA(Prehashed(SHA256()))
    signed = headers["x-twilio-email-event-webhook-timestamp"].encode() + body

    def espial() -> None:
        for _ in range(REPEATS):
            verify(delivery, (secret.accepted,), NOW)

    def floor() -> None:
        for _ in range(REPEATS):
            key.verify(signature, sha256(signed).digest(), algorithm)

    medians({"espial": espial, "floor": floor}, 3)
    found = medians({"espial": espial, "floor": floor}, ROUNDS)
    times = {name: seconds / REPEATS * 1e6 for name, seconds in found.items()}
    print(f"{size:5d} events, {len(body):8,d} bytes: espial {times['espial']:7.1f} us, floor {times['floor']:7.1f} us")
    return times["espial"] / times["floor"]


def main() -> int:
    """Print what was measured against the target."""
    small, large = ratio(2), ratio(1000)
    print(f"  espial / (hash + bare check) = {large:.2f} at 1,000 events (target <= {TARGET}), {small:.2f} at 2 events")
    return 0 if large <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
