"""Keyed hashes (RFC 2104): what is signed and where the proof stands differ by platform, the rest does not."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from hashlib import new as new_hash
from typing import Any, NamedTuple

from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.verify import (
    NO_SETTINGS,
    Scheme,
    Secret,
    from_base64,
    from_hex,
    matches,
    require_fresh,
    token,
    whole_seconds,
)

MINUTES_5 = 300.0
DAY = 86_400.0


class Shown(NamedTuple):
    """What a delivery shows: the codes given (one right one suffices), what they cover, and the signed time.

    `message` is in parts, so that a body of megabytes is hashed where it lies; `at` is seconds since 1970, None
    where no time is signed.
    """

    codes: Sequence[bytes]
    message: Sequence[bytes]
    at: float | None = None


Mac = Callable[[Iterable[bytes]], bytes]
"""Message parts -> their code under the signing key."""


def as_it_is(secret: bytes) -> tuple[bytes, ...]:
    """The secret's bytes are the key."""
    return (secret,) if secret else ()


def hmac_signature(
    *,
    read: Callable[[RawDelivery], Shown],
    write: Callable[[RawDelivery, datetime, Mac], RawDelivery],
    algorithm: str = "sha256",
    keys: Callable[[bytes], Sequence[bytes]] = as_it_is,
    default_max_age: float = MINUTES_5,
    new_secret: Callable[[bytes], Secret] = token,
) -> Scheme:
    """A keyed hash: `read` finds code and message in a delivery, `write` puts a code where `read` finds it.

    `keys` are the key bytes that a secret may stand for, the first of them being the one to sign with; none for a
    secret that cannot be one. `read` raises SignatureError for what is missing or unreadable.
    """

    def mac(key: bytes, message: Iterable[bytes]) -> bytes:
        code = hmac.new(key, digestmod=algorithm)
        for part in message:
            code.update(part)
        return code.digest()

    return _keyed(mac=mac, read=read, write=write, keys=keys, default_max_age=default_max_age, new_secret=new_secret)


def keyed_digest(
    *,
    read: Callable[[RawDelivery], Shown],
    write: Callable[[RawDelivery, datetime, Mac], RawDelivery],
    algorithm: str,
    default_max_age: float = MINUTES_5,
) -> Scheme:
    """A plain hash of the message with the secret itself standing between its parts (no HMAC; Unisender Go).

    `read` and `write` as for `hmac_signature`. Where the secret comes last, the last part is empty. Who has seen a
    hash like this can continue it: `read` must refuse what was appended (by parsing the body, say).
    """

    def mac(key: bytes, message: Iterable[bytes]) -> bytes:
        return new_hash(algorithm, key.join(message), usedforsecurity=False).digest()

    return _keyed(mac=mac, read=read, write=write, keys=as_it_is, default_max_age=default_max_age, new_secret=token)


def _keyed(
    *,
    mac: Callable[[bytes, Iterable[bytes]], bytes],
    read: Callable[[RawDelivery], Shown],
    write: Callable[[RawDelivery, datetime, Mac], RawDelivery],
    keys: Callable[[bytes], Sequence[bytes]],
    default_max_age: float,
    new_secret: Callable[[bytes], Secret],
) -> Scheme:
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
        if not shown.codes:
            raise SignatureError("no signature")
        for secret in secrets:
            for key in keys(secret):
                expected = mac(key, shown.message)
                found = [matches(code, expected) for code in shown.codes]
                if any(found):
                    return
        raise SignatureError(f"none of the {len(secrets)} secrets fits the signature")

    def sign(signing: bytes, delivery: RawDelivery, now: datetime) -> RawDelivery:
        key = keys(signing)[0]
        return write(delivery, now, lambda message: mac(key, message))

    return Scheme(verify=verify, sign=sign, new_secret=new_secret)


def hmac_of_body(
    header: str,
    *,
    encoding: str = "hex",
    algorithm: str = "sha256",
    prefix: str = "",
    keys: Callable[[bytes], Sequence[bytes]] = as_it_is,
) -> Scheme:
    """The code of the raw body in one header, `hex` or `base64`, perhaps behind a prefix such as `sha256=`."""
    decode = from_hex if encoding == "hex" else from_base64

    def read(delivery: RawDelivery) -> Shown:
        given = delivery.headers.get(header, "").strip()
        return Shown((decode(given.removeprefix(prefix)),) if given else (), (delivery.body,))

    def write(delivery: RawDelivery, _now: datetime, mac: Mac) -> RawDelivery:
        code = mac((delivery.body,))
        text = code.hex() if encoding == "hex" else b64encode(code).decode()
        return replace(delivery, headers={**delivery.headers, header: prefix + text})

    return hmac_signature(read=read, write=write, algorithm=algorithm, keys=keys)


@lru_cache(maxsize=64)
def _base64_key(secret: bytes) -> tuple[bytes, ...]:
    encoded = secret.strip().removeprefix(b"whsec_")
    try:
        key = b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return ()
    return as_it_is(key)


def standard_webhooks(*prefixes: str, bare: bool = False, default_max_age: float = MINUTES_5) -> Scheme:
    """Standard Webhooks 1.0, symmetric: `<prefix>-id`, `-timestamp`, `-signature`; HMAC over `id.timestamp.body`.

    The signature header is a list, separated by spaces, of `v1,<base64>`; any right one suffices, other versions
    are passed over. A bare base64 is taken for v1. Secrets are `whsec_<base64>` or base64 alone. `prefixes` are tried
    in order (`webhook`, `svix`), the first one signs; `bare` for who writes signature and secret without their
    prefixes (Sweego).
    """
    named = [(f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature") for prefix in prefixes]

    def read(delivery: RawDelivery) -> Shown:
        headers = delivery.headers
        shown = named[0]
        for names in named:
            if names[2] in headers:
                shown = names
                break
        message_id, timestamp, signatures = shown
        given, stamp = headers.get(message_id, ""), headers.get(timestamp, "")
        if not given:
            raise SignatureError("no message id")
        at = whole_seconds(stamp)
        versioned = [one.rpartition(",") for one in headers.get(signatures, "").split()]
        codes = [from_base64(code) for version, _, code in versioned if version in ("v1", "")]
        return Shown(codes, (f"{given}.{stamp}.".encode("utf-8", "surrogatepass"), delivery.body), at)

    def write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
        stamp, given = str(int(now.timestamp())), f"msg_{delivery.delivery_id}"
        code = b64encode(mac((f"{given}.{stamp}.".encode(), delivery.body))).decode()
        names = {"id": given, "timestamp": stamp, "signature": code if bare else f"v1,{code}"}
        signed = {f"{prefixes[0]}-{name}": value for name, value in names.items()}
        return replace(delivery, headers={**delivery.headers, **signed})

    def new_secret(randomness: bytes) -> Secret:
        text = (b"" if bare else b"whsec_") + b64encode(randomness[:24])
        return Secret(text, text)

    return hmac_signature(
        read=read, write=write, keys=_base64_key, default_max_age=default_max_age, new_secret=new_secret
    )
