"""Secrets that the sender shows as they are: bearer tokens, Basic credentials, write keys, a key in the URL."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from espial.deliveries import SECRET_PARAMETERS, RawDelivery
from espial.errors import SignatureError
from espial.verify import NO_SETTINGS, Scheme, Secret, matches, require_match, token


def shared_key(
    present: Callable[[RawDelivery], bytes | None], show: Callable[[bytes], dict[str, str]], what: str
) -> Scheme:
    """A secret in one place: `present` finds it in a delivery, `show` makes the headers with it."""

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,  # noqa: ARG001 - nothing here carries a time
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,  # noqa: ARG001
    ) -> None:
        require_match(present(delivery), secrets, what)

    def sign(signing: bytes, delivery: RawDelivery, _now: datetime) -> RawDelivery:
        return replace(delivery, headers={**delivery.headers, **show(signing)})

    return Scheme(verify=verify, sign=sign, new_secret=token)


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


def shared_secret() -> Scheme:
    """For platforms that sign nothing: whichever way of showing a secret their console offers.

    Accepted wherever it stands: Basic credentials (the secret is `user:password`), a bearer token, the whole value
    of `Authorization`, the header that the setting `secret_header` names, or the parameter `key` or
    `access_token` of the URL's query.
    """

    def verify(
        delivery: RawDelivery,
        secrets: Sequence[bytes],
        now: datetime,  # noqa: ARG001 - nothing here carries a time
        *,
        settings: Mapping[str, Any] = NO_SETTINGS,
    ) -> None:
        shown = list(_shown(delivery, settings))
        if not shown:
            raise SignatureError("no secret is shown")
        found = [matches(one, secret) for one in shown for secret in secrets if secret]
        if not any(found):
            raise SignatureError("wrong secret")

    def sign(signing: bytes, delivery: RawDelivery, _now: datetime) -> RawDelivery:
        return replace(delivery, headers={**delivery.headers, "authorization": f"Basic {b64encode(signing).decode()}"})

    def new_secret(randomness: bytes) -> Secret:
        given = b"espial:" + token(randomness).signing
        return Secret(given, given)

    return Scheme(verify=verify, sign=sign, new_secret=new_secret)


def _shown(delivery: RawDelivery, settings: Mapping[str, Any]) -> list[bytes]:
    headers = delivery.headers
    whole = headers.get("authorization", "").strip()
    shown: list[bytes] = []
    if whole:
        shown += (_encoded(whole), _encoded(whole.partition(" ")[2].strip()))
        basic = basic_credentials(headers)
        shown += [basic] if basic else []
    named = settings.get("secret_header")
    if isinstance(named, str):
        shown.append(_encoded(headers.get(named.lower(), "")))
    parameters = parse_qsl(urlsplit(delivery.url).query)
    shown += [_encoded(value) for name, value in parameters if name in SECRET_PARAMETERS]
    return [one for one in shown if one]


def basic_credentials(headers: Mapping[str, str]) -> bytes | None:
    """`user:password` of `Authorization: Basic`; None when there is none that can be read."""
    encoded = _credentials(headers, "basic")
    if encoded is None:
        return None
    try:
        return b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return None


def basic_write_key(headers: Mapping[str, str]) -> bytes | None:
    """The write key of `Authorization: Basic`: the user name, with or without the colon after it (Segment, HTTP API).

    `headers` are lower-cased. None when there is no readable one; whether it is a right one is not asked here.
    """
    credentials = basic_credentials(headers)
    return (credentials.partition(b":")[0] or None) if credentials else None


def _credentials(headers: Mapping[str, str], scheme: str) -> bytes | None:
    name, _, value = headers.get("authorization", "").strip().partition(" ")
    return _encoded(value.strip()) if name.lower() == scheme else None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
