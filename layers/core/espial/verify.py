"""Signature schemes as data: each factory returns the `Scheme` that a source names, both sides of it.

Rules that hold for all: the exact bytes are checked before anything is parsed; several secrets are accepted, so that
rotation has an overlap; comparisons take constant time; whatever the bytes, SignatureError is the only way to fail.
The acknowledging path imports this: standard library at the top, cryptography only inside the scheme that needs it,
and what signs (`espial.signing_keys`) only when something is signed.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol

from espial.deliveries import RawDelivery
from espial.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey


class Verify(Protocol):
    """Proves that a delivery comes from the platform; raises only SignatureError.

    `secrets` are the accepted ones, newest first. `max_age` is the connection's own tolerance in seconds
    (its setting `max_age_seconds`), each way; None keeps the scheme's default, and schemes that sign no
    time ignore it.
    """

    def __call__(
        self, delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, max_age: float | None = None
    ) -> None: ...


class Secret(NamedTuple):
    """`signing` is what the platform signs or authenticates with, `accepted` what the connection's secret holds."""

    signing: bytes
    accepted: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a platform proves its deliveries; called, it is `verify`.

    verify      proves a delivery; raises only SignatureError.
    sign        (signing, body, now) -> the proving headers, lower-cased, as the platform would send them.
    new_secret  32 random bytes -> a throw-away secret, the same for the same bytes.
    """

    verify: Verify
    sign: Callable[[bytes, bytes, datetime], dict[str, str]]
    new_secret: Callable[[bytes], Secret]

    def __call__(
        self, delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, max_age: float | None = None
    ) -> None:
        self.verify(delivery, secrets, now, max_age=max_age)


def ecdsa_timestamped(*, signature_header: str, timestamp_header: str, default_max_age: float) -> Scheme:
    """ECDSA P-256 with SHA-256 over the timestamp header's text and then the raw body.

    Secrets are public keys, base64 of a DER SubjectPublicKeyInfo or PEM; the signature is base64 of DER (r, s);
    the timestamp is whole seconds since 1970 (SendGrid, "Event Webhook Security Features").
    """

    def verify(delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, max_age: float | None = None) -> None:
        stamp = delivery.headers.get(timestamp_header, "")
        signature = _base64(delivery.headers.get(signature_header, ""))
        _require_fresh(stamp, now, default_max_age if max_age is None else max_age)

        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only this scheme pays for it
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.utils import Prehashed  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        hashed = sha256(stamp.encode())
        hashed.update(delivery.body)  # in two steps: the body, up to megabytes, is not copied
        digest = hashed.digest()
        algorithm = ECDSA(Prehashed(SHA256()))
        for secret in secrets:
            key = _public_key(secret)
            if key is None:
                continue
            try:
                key.verify(signature, digest, algorithm)
            except InvalidSignature:
                continue
            return
        raise SignatureError(f"none of the {len(secrets)} public keys fits the signature")

    def sign(signing: bytes, body: bytes, now: datetime) -> dict[str, str]:
        from espial.signing_keys import ecdsa  # noqa: PLC0415 - not on the acknowledging path

        stamp = str(int(now.timestamp()))
        return {timestamp_header: stamp, signature_header: ecdsa(signing, stamp.encode() + body)}

    def new_secret(randomness: bytes) -> Secret:
        from espial.signing_keys import key_pair  # noqa: PLC0415

        return Secret(*key_pair(randomness))

    return Scheme(verify=verify, sign=sign, new_secret=new_secret)


def shared_key(
    present: Callable[[RawDelivery], bytes | None], show: Callable[[bytes], dict[str, str]], what: str
) -> Scheme:
    """A secret that the sender shows as it is: `present` finds it in a delivery, `show` makes the headers with it."""

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,  # noqa: ARG001 - nothing here carries a time
        *,
        max_age: float | None = None,  # noqa: ARG001
    ) -> None:
        require_match(present(delivery), secrets, what)

    return Scheme(verify=verify, sign=lambda signing, _body, _now: show(signing), new_secret=_token)


def require_match(shown: bytes | None, secrets: Sequence[bytes], what: str) -> None:
    """Raises SignatureError unless `shown` is one of the secrets. Every secret is compared; empty ones never match."""
    if not shown:
        raise SignatureError(f"no {what}")
    matches = [hmac.compare_digest(shown, secret) for secret in secrets if secret]
    if not any(matches):
        raise SignatureError(f"wrong {what}")


def bearer_token() -> Scheme:
    """`Authorization: Bearer <token>`, the token being the secret (Braze Currents, custom HTTP connector)."""
    return shared_key(
        lambda delivery: _credentials(delivery.headers, "bearer"),
        lambda token: {"authorization": f"Bearer {token.decode()}"},
        "bearer token",
    )


def write_key(present: Callable[[RawDelivery], bytes | None]) -> Scheme:
    """A write key, shown as `Authorization: Basic`; `present` finds it there or where else the platform allows it."""
    return shared_key(present, lambda key: {"authorization": f"Basic {b64encode(key + b':').decode()}"}, "write key")


def basic_write_key(headers: Mapping[str, str]) -> bytes | None:
    """The write key of `Authorization: Basic`: the user name, with or without the colon after it (Segment, HTTP API).

    `headers` are lower-cased. None when there is no readable one; whether it is a right one is not asked here.
    """
    encoded = _credentials(headers, "basic")
    if encoded is None:
        return None
    try:
        return b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True).partition(b":")[0] or None
    except ValueError:
        return None


def _token(randomness: bytes) -> Secret:
    token = randomness[:16].hex().encode()
    return Secret(token, token)


def _credentials(headers: Mapping[str, str], scheme: str) -> bytes | None:
    name, _, value = headers.get("authorization", "").strip().partition(" ")
    return value.strip().encode("utf-8", "surrogatepass") if name.lower() == scheme else None


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as exc:  # binascii.Error, and text that is not ASCII
        raise SignatureError("the signature is not base64") from exc


def _require_fresh(stamp: str, now: datetime, max_age: float) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise SignatureError("the timestamp is not whole seconds")
    if abs(now.timestamp() - int(stamp)) > max_age:
        raise SignatureError("the timestamp is too far from now")


@lru_cache(maxsize=64)
def _public_key(secret: bytes) -> EllipticCurvePublicKey | None:
    """The key, or None if the secret is no P-256 public key. Cached: parsing costs as much as a fifth of a check."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_der_public_key,
        load_pem_public_key,
    )

    try:
        if b"-----BEGIN" in secret:
            key = load_pem_public_key(secret)
        else:
            key = load_der_public_key(b64decode(b"".join(secret.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None
