"""Signatures by a private key of the platform, proved with its public key: ECDSA P-256, RSA PKCS #1 v1.5, Ed25519.

Secrets are public keys: PEM (of a key or a certificate), base64 of a DER SubjectPublicKeyInfo, or, for Ed25519,
base64 of the 32 bytes. A certificate proves something only between its two dates.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, lru_cache
from hashlib import new as new_hash
from typing import Any, Literal, NamedTuple

from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.verify import NO_SETTINGS, Scheme, Secret, from_base64, require_fresh, whole_seconds

Kind = Literal["ecdsa", "rsa", "ed25519"]
DAY = 86_400.0
_CERTIFICATE = b"-----BEGIN CERTIFICATE"


class Shown(NamedTuple):
    """What a delivery shows: signatures (one right one suffices), what they cover in parts, the signed time if any.

    `at` is seconds since 1970; `algorithm` the hash, `sha256` or `sha1`, which Ed25519 does not ask for.
    """

    signatures: Sequence[bytes]
    message: Sequence[bytes]
    at: float | None = None
    algorithm: str = "sha256"


Signer = Callable[[bytes], str]
"""Message -> its signature under the signing key, base64 (with SHA-256)."""


def public_key_signature(
    kind: Kind,
    *,
    read: Callable[[RawDelivery], Shown],
    write: Callable[[RawDelivery, datetime, Signer], RawDelivery],
    default_max_age: float = DAY,
    key_urls: Callable[[RawDelivery], Sequence[str]] = lambda _delivery: (),
) -> Scheme:
    """`read` finds signature and message in a delivery, `write` puts a signature where `read` finds it.

    `read` raises SignatureError for what is missing or unreadable. `key_urls` as in `Scheme`.
    """

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        shown = read(delivery)
        if shown.at is not None:
            require_fresh(shown.at, now, default_max_age, settings)
        if not shown.signatures:
            raise SignatureError("no signature")
        check = _check(kind, shown)
        for secret in secrets:
            key = public_key(kind, secret)
            if key is not None and in_force(secret, now) and any(check(key, one) for one in shown.signatures):
                return
        raise SignatureError(f"none of the {len(secrets)} public keys fits the signature")

    def sign(signing: bytes, delivery: RawDelivery, now: datetime) -> RawDelivery:
        from espial.signing_keys import signature  # noqa: PLC0415 - not on the acknowledging path

        return write(delivery, now, lambda message: signature(kind, signing, message))

    def new_secret(randomness: bytes) -> Secret:
        from espial.signing_keys import key_pair  # noqa: PLC0415

        return Secret(*key_pair(kind, randomness))

    return Scheme(verify=verify, sign=sign, new_secret=new_secret, key_urls=key_urls)


def ecdsa_timestamped(*, signature_header: str, timestamp_header: str, default_max_age: float = DAY) -> Scheme:
    """ECDSA P-256 with SHA-256 over the timestamp header's text and then the raw body.

    The signature is base64 of DER (r, s); the timestamp is whole seconds since 1970 (SendGrid, "Event Webhook
    Security Features").
    """

    def read(delivery: RawDelivery) -> Shown:
        stamp = delivery.headers.get(timestamp_header, "")
        signature = from_base64(delivery.headers.get(signature_header, ""))
        return Shown((signature,), (stamp.encode(), delivery.body), whole_seconds(stamp))

    def write(delivery: RawDelivery, now: datetime, sign: Signer) -> RawDelivery:
        stamp = str(int(now.timestamp()))
        signed = {timestamp_header: stamp, signature_header: sign(stamp.encode() + delivery.body)}
        return replace(delivery, headers={**delivery.headers, **signed})

    return public_key_signature("ecdsa", read=read, write=write, default_max_age=default_max_age)


def signature_of_body(kind: Kind, header: str) -> Scheme:
    """A signature of the raw body in one header, base64."""

    def read(delivery: RawDelivery) -> Shown:
        given = delivery.headers.get(header, "").strip()
        return Shown((from_base64(given),) if given else (), (delivery.body,))

    def write(delivery: RawDelivery, _now: datetime, sign: Signer) -> RawDelivery:
        return replace(delivery, headers={**delivery.headers, header: sign(delivery.body)})

    return public_key_signature(kind, read=read, write=write)


def _check(kind: Kind, shown: Shown) -> Callable[[Any, bytes], bool]:
    """(key, signature) -> whether it is one of the message, which is hashed once for all keys."""
    invalid, arguments = _tools(kind, shown.algorithm)
    if kind == "ed25519":
        message = b"".join(shown.message)
    else:
        hashed = new_hash(shown.algorithm, usedforsecurity=False)
        for part in shown.message:
            hashed.update(part)  # in steps: the body, up to megabytes, is not copied
        message = hashed.digest()

    def check(key: Any, signature: bytes) -> bool:
        try:
            key.verify(signature, message, *arguments)
        except invalid:
            return False
        return True

    return check


@cache
def _tools(kind: Kind, algorithm: str) -> tuple[type[Exception], tuple[Any, ...]]:
    """What a key raises for a wrong signature, and what it wants besides signature and message."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only these schemes pay for it

    if kind == "ed25519":
        return InvalidSignature, ()
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256  # noqa: PLC0415

    digest = Prehashed(SHA256() if algorithm == "sha256" else SHA1())  # noqa: S303 - what the platform signs with
    if kind == "rsa":
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415

        return InvalidSignature, (PKCS1v15(), digest)
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415

    return InvalidSignature, (ECDSA(digest),)


@lru_cache(maxsize=64)
def public_key(kind: Kind, secret: bytes) -> Any | None:
    """The key, or None if the secret is no public key of this kind (ECDSA: on P-256; RSA: 1024 bits or more).

    Cached: parsing costs as much as a fifth of a check.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    try:
        key = _parsed(kind, secret)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if kind == "ecdsa":
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey  # noqa: PLC0415

        return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None
    if kind == "rsa":
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415

        return key if isinstance(key, RSAPublicKey) and key.key_size >= 1024 else None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    return key if isinstance(key, Ed25519PublicKey) else None


def in_force(secret: bytes, now: datetime) -> bool:
    """Whether a certificate is valid at `now`, by its dates. A bare key has none, and always is."""
    if _CERTIFICATE not in secret:
        return True
    first, last = _validity(secret)
    return first <= now <= last


@lru_cache(maxsize=64)
def _validity(certificate: bytes) -> tuple[datetime, datetime]:
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    found = load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc, found.not_valid_after_utc


def _parsed(kind: Kind, secret: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_der_public_key,
        load_pem_public_key,
    )

    if _CERTIFICATE in secret:
        from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

        return load_pem_x509_certificate(secret).public_key()
    if b"-----BEGIN" in secret:
        return load_pem_public_key(secret)
    raw = b64decode(b"".join(secret.removeprefix(b"whpk_").split()), validate=True)
    if kind == "ed25519" and len(raw) == 32:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        return Ed25519PublicKey.from_public_bytes(raw)
    return load_der_public_key(raw)
