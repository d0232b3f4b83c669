"""A scheme chosen by a connection's setting `signature`, for senders that nobody wrote a source for.

signature:
  scheme: hmac                    # also shared_secret (the default), bearer_token, standard_webhooks,
  header: x-acme-signature        #   ed25519, rsa, ecdsa: a signature of the raw body in `header`
  encoding: hex                   # or base64
  algorithm: sha256               # or sha1, sha512
  prefix: "sha256="               # what stands before the code
  signed: "{timestamp}.{body}"    # of {body} {timestamp} {id} {url} {method}; default: "{body}"
  timestamp_header: x-acme-time   # whole seconds, or milliseconds; old ones are refused (max_age_seconds, 300)
  id_header: x-acme-id
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.verify import Scheme, from_base64, from_hex, whole_seconds
from espial.verify.hmacs import Mac, Shown, hmac_signature, standard_webhooks
from espial.verify.public_keys import signature_of_body
from espial.verify.shared import bearer_token, shared_secret

ALGORITHMS = ("sha256", "sha1", "sha384", "sha512")
MAY_BE_SIGNED = ("body", "timestamp", "id", "url", "method")
SCHEMES = ("shared_secret", "bearer_token", "standard_webhooks", "hmac", "ed25519", "rsa", "ecdsa")
_OPTIONS = frozenset({"scheme", "header", "encoding", "algorithm", "prefix", "signed", "timestamp_header", "id_header"})
_PART = re.compile(r"\{(\w+)\}")
_MILLISECONDS = 13
"""Digits of a Unix time in milliseconds, this century and the next two."""


def chosen(setting: Any) -> Scheme:
    """The scheme that the setting `signature` describes. Raises ValueError that names the option to blame."""
    options = {"scheme": "shared_secret"} if setting is None else setting
    if not isinstance(options, Mapping):
        raise ValueError("signature: must be a mapping with `scheme`")  # noqa: TRY004 - one error for all settings
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"signature.{name}: no such option, must be one of {', '.join(sorted(_OPTIONS))}")
    match options.get("scheme"):
        case "shared_secret":
            return shared_secret()
        case "bearer_token":
            return bearer_token()
        case "standard_webhooks":
            return standard_webhooks("webhook", "svix")
        case "hmac":
            return _hmac(options)
        case "ed25519" | "rsa" | "ecdsa" as kind:
            return signature_of_body(kind, _text(options, "header").lower())
        case _:
            raise ValueError(f"signature.scheme: must be one of {', '.join(SCHEMES)}")


def _text(options: Mapping[str, Any], name: str, default: str | None = None) -> str:
    found = options.get(name, default)
    if not isinstance(found, str) or (default is None and not found):
        raise ValueError(f"signature.{name}: {'is missing' if found is None else 'must be text'}")
    return found


def _one_of(options: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    found = _text(options, name, known[0])
    if found not in known:
        raise ValueError(f"signature.{name}: must be one of {', '.join(known)}")
    return found


def _hmac(options: Mapping[str, Any]) -> Scheme:
    header = _text(options, "header").lower()
    prefix = _text(options, "prefix", "")
    encoding = _one_of(options, "encoding", ("hex", "base64"))
    algorithm = _one_of(options, "algorithm", ALGORITHMS)
    parts = _parts(_text(options, "signed", "{body}"))
    named = {name: _text(options, f"{name}_header").lower() for name in ("timestamp", "id") if name in parts[1::2]}
    if "timestamp_header" in options and "timestamp" not in named:
        raise ValueError("signature.signed: must hold {timestamp}, or anybody could change the time")
    decode = from_hex if encoding == "hex" else from_base64

    def message(delivery: RawDelivery) -> list[bytes]:
        found: list[bytes] = []
        for place, part in enumerate(parts):
            if place % 2 == 0:
                found.append(part.encode())
            elif part == "body":
                found.append(delivery.body)
            else:
                value = delivery.headers.get(named[part], "") if part in named else getattr(delivery, part)
                found.append(value.encode("utf-8", "surrogatepass"))
        return found

    def read(delivery: RawDelivery) -> Shown:
        given = delivery.headers.get(header, "").strip()
        if not given.startswith(prefix):
            raise SignatureError(f"the signature does not begin with {prefix}")
        at = _seconds(delivery.headers.get(named["timestamp"], "")) if "timestamp" in named else None
        return Shown((decode(given.removeprefix(prefix)),) if given else (), message(delivery), at)

    def write(delivery: RawDelivery, now: datetime, mac: Mac) -> RawDelivery:
        shown = {"timestamp": str(int(now.timestamp())), "id": delivery.delivery_id}
        stamped = {**delivery.headers, **{name: shown[part] for part, name in named.items()}}
        code = mac(message(replace(delivery, headers=stamped)))
        text = code.hex() if encoding == "hex" else b64encode(code).decode()
        return replace(delivery, headers={**stamped, header: prefix + text})

    return hmac_signature(read=read, write=write, algorithm=algorithm)


def _parts(signed: str) -> list[str]:
    """Literal text and part names in turn. Raises ValueError unless the body is among them."""
    parts = _PART.split(signed)
    unknown = [name for name in parts[1::2] if name not in MAY_BE_SIGNED]
    if unknown or "body" not in parts[1::2]:
        known = ", ".join(f"{{{name}}}" for name in MAY_BE_SIGNED)
        raise ValueError(f"signature.signed: must hold {{body}}, and no other parts than {known}")
    return parts


def _seconds(stamp: str) -> float:
    if len(stamp) == _MILLISECONDS and stamp.isascii() and stamp.isdigit():
        return int(stamp) / 1000
    return whole_seconds(stamp)
