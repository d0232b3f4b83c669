"""Signature schemes as data: each factory in here returns the `Scheme` that a source names, both sides of it.

Rules that hold for all: the exact bytes are checked before anything is believed; several secrets are accepted, so that
rotation has an overlap; comparisons take constant time; whatever the bytes, SignatureError is the only way to fail.
The acknowledging path imports this: standard library at the top, cryptography only inside the scheme that needs it,
and what signs (`espial.signing_keys`) only when something is signed.

`shared` holds secrets that are shown as they are, `hmacs` keyed hashes, `public_keys` signatures.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from espial.deliveries import RawDelivery
from espial.errors import SignatureError

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


class Verify(Protocol):
    """Proves that a delivery comes from the platform; raises only SignatureError.

    `secrets` are the accepted ones, newest first. `settings` are the connection's own; all schemes that sign a time
    read `max_age_seconds`, the tolerance each way, in place of their default.
    """

    def __call__(
        self, delivery: RawDelivery, secrets: Sequence[bytes], now: datetime, *, settings: Mapping[str, Any] = ...
    ) -> None: ...


class Secret(NamedTuple):
    """`signing` is what the platform signs or authenticates with, `accepted` what the connection's secret holds."""

    signing: bytes
    accepted: bytes


def _names_no_key(_delivery: RawDelivery) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a platform proves its deliveries; called, it is `verify`.

    verify      proves a delivery; raises only SignatureError.
    sign        (signing, delivery, now) -> the delivery as the platform would send it: with the proving headers
                (lower-cased), or proof in its body or URL, where the platform puts it there.
    new_secret  32 random bytes -> a throw-away secret, the same for the same bytes.
    key_urls    delivery -> addresses of the keys that it names itself (SNS, Adobe I/O), each checked to be the
                vendor's own; raises SignatureError for any other. What lies there is passed among the secrets, unless
                the connection has secrets of its own: these pin the keys.
    """

    verify: Verify
    sign: Callable[[bytes, RawDelivery, datetime], RawDelivery]
    new_secret: Callable[[bytes], Secret]
    key_urls: Callable[[RawDelivery], Sequence[str]] = _names_no_key

    def __call__(
        self,
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        self.verify(delivery, secrets, now, settings=settings)


def token(randomness: bytes) -> Secret:
    """A `new_secret` for shared secrets: 32 hexadecimal digits, the same on both sides."""
    text = randomness[:16].hex().encode()
    return Secret(text, text)


def matches(shown: bytes, expected: bytes) -> bool:
    """Equal, in constant time."""
    return hmac.compare_digest(shown, expected)


def require_match(shown: bytes | None, secrets: Sequence[bytes], what: str) -> None:
    """Raises SignatureError unless `shown` is one of the secrets. Every secret is compared; empty ones never match."""
    if not shown:
        raise SignatureError(f"no {what}")
    found = [matches(shown, secret) for secret in secrets if secret]
    if not any(found):
        raise SignatureError(f"wrong {what}")


def require_fresh(at: float, now: datetime, default_max_age: float, settings: Mapping[str, Any] = NO_SETTINGS) -> None:
    """Raises SignatureError unless `at` (seconds since 1970) is within the tolerance, each way."""
    if not abs(now.timestamp() - at) <= settings.get("max_age_seconds", default_max_age):
        raise SignatureError("the timestamp is too far from now")


def whole_seconds(stamp: str) -> int:
    """A header's Unix time in seconds. Raises SignatureError for anything but up to 12 digits."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise SignatureError("the timestamp is not whole seconds")
    return int(stamp)


def from_base64(text: str) -> bytes:
    """Signature bytes. Raises SignatureError for what is not base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError as exc:  # binascii.Error, and text that is not ASCII
        raise SignatureError("the signature is not base64") from exc


def from_hex(text: str) -> bytes:
    """Signature bytes, either case. Raises SignatureError for what is not hexadecimal."""
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise SignatureError("the signature is not hexadecimal") from exc
