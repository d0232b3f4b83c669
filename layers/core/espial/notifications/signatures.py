"""Proof of who posts, by Standard Webhooks: HMAC-SHA256 by `whsec_…`, ed25519 by `whsk_…`, one for each secret."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from espial.errors import Refused


def signed(known: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> Mapping[str, str]:
    """The headers of a message, `timestamp` in Unix seconds. Raises Refused for a secret that is none."""
    content = f"{known}.{timestamp}.".encode() + body
    marks = " ".join(_mark(content, secret.strip()) for secret in secrets)
    return {"webhook-id": known, "webhook-timestamp": str(timestamp), "webhook-signature": marks}


def _mark(content: bytes, secret: str) -> str:
    kind, _, encoded = secret.partition("_")
    try:
        key = b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if kind == "whsec" and 24 <= len(key) <= 64:
        return f"v1,{b64encode(hmac.digest(key, content, 'sha256')).decode()}"
    if kind == "whsk" and len(key) in (32, 64):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  seldom needed

        return f"v1a,{b64encode(Ed25519PrivateKey.from_private_bytes(key[:32]).sign(content)).decode()}"
    raise Refused("bad_secret", "a signing secret is neither whsec_… (24 to 64 bytes) nor whsk_… (32), in base64")
