"""Proof in one of several ways, and by JSON Web Tokens: what the telephony platforms use beside plain codes."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.verify import NO_SETTINGS, Scheme, from_base64, matches, require_fresh, token

Claims = dict[str, Any]

_HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_LEEWAY = 60.0
"""Seconds that the sender's clock may be off where a token says from when or until when it counts."""


def any_of(*schemes: Scheme) -> Scheme:
    """Whichever of them accepts; each needs the secret. The first one signs."""

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        reasons = {}
        for scheme in schemes:
            try:
                return scheme.verify(delivery, secrets, now, settings=settings)
            except SignatureError as exc:
                reasons[str(exc)] = True
        raise SignatureError("; ".join(reasons))

    return Scheme(verify=verify, sign=schemes[0].sign, new_secret=schemes[0].new_secret)


def json_web_token(
    *,
    read: Callable[[RawDelivery], str],
    write: Callable[[RawDelivery, str], RawDelivery],
    claim: Callable[[RawDelivery, int], Claims],
    check: Callable[[RawDelivery, Claims], None],
    issued: str,
    algorithms: Sequence[str] = ("HS256",),
    default_max_age: float = 300.0,
) -> Scheme:
    """A token with a keyed hash (RFC 7519), among whose claims are hashes of the delivery.

    `read` finds the token, empty for none, and `write` puts it there; `claim` makes the platform's claims at a second
    since 1970 and `check` raises SignatureError where they do not fit the delivery. `issued` is the claim that must
    be fresh; `exp` and `nbf` count too where there are any. No other algorithm than the ones named is believed.
    """

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        claims = _proven(read(delivery), secrets, algorithms)
        require_fresh(_seconds(claims, issued), now, default_max_age, settings)
        if "exp" in claims and now.timestamp() > _seconds(claims, "exp") + _LEEWAY:
            raise SignatureError("the token has expired")
        if "nbf" in claims and now.timestamp() < _seconds(claims, "nbf") - _LEEWAY:
            raise SignatureError("the token does not count yet")
        check(delivery, claims)

    def sign(signing: bytes, delivery: RawDelivery, now: datetime) -> RawDelivery:
        parts = ({"alg": algorithms[0], "typ": "JWT"}, claim(delivery, int(now.timestamp())))
        signed = b".".join(map(_encoded, map(orjson.dumps, parts)))
        code = hmac.new(signing, signed, _HASHES[algorithms[0]]).digest()
        return write(delivery, b".".join((signed, _encoded(code))).decode())

    return Scheme(verify=verify, sign=sign, new_secret=token)


def covers(claims: Claims, name: str, covered: bytes) -> None:
    """Raises SignatureError unless the claim is the hex SHA-256 of these bytes."""
    given = claims.get(name)
    expected = sha256(covered).hexdigest().encode()
    if not isinstance(given, str) or not matches(given.lower().encode("utf-8", "surrogatepass"), expected):
        raise SignatureError(f"the token's {name} is not the delivery's")


def _proven(shown: str, secrets: Sequence[bytes], algorithms: Sequence[str]) -> Claims:
    parts = shown.split(".")
    if len(parts) != 3:
        raise SignatureError("no token" if not shown else "the token is not one of three parts")
    algorithm = _object(parts[0]).get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise SignatureError("the token's algorithm is not one of the platform's")
    code, signed = _decoded(parts[2]), shown.rpartition(".")[0].encode()
    found = [matches(code, hmac.new(one, signed, _HASHES[algorithm]).digest()) for one in secrets if one]
    if not any(found):
        raise SignatureError(f"none of the {len(secrets)} secrets fits the token")
    return _object(parts[1])


def _object(part: str) -> Claims:
    try:
        found = orjson.loads(_decoded(part))
    except orjson.JSONDecodeError as exc:
        raise SignatureError("a part of the token is not JSON") from exc
    if not isinstance(found, dict):
        raise SignatureError("a part of the token is not an object")
    return found


def _seconds(claims: Claims, name: str) -> float:
    given = claims.get(name)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise SignatureError(f"the token's {name} is not a time")
    return given


def _decoded(part: str) -> bytes:
    return from_base64(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4))


def _encoded(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")
