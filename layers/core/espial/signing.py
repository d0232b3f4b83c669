"""The platforms' side of `espial.verify`: headers that prove a body, for samples, `espial send-sample` and the demo.

Everything is deterministic: randomness and time come as arguments, and ECDSA signs after RFC 6979.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from espial.errors import UnknownConnection


class Secret(NamedTuple):
    """`signing` is what the platform signs or authenticates with, `accepted` what the connection's secret holds."""

    signing: bytes
    accepted: bytes


def new_secret(platform: str, randomness: bytes) -> Secret:
    """A throw-away secret for a platform; the same `randomness` (16 bytes or more) gives the same one.

    SendGrid: a P-256 key pair (base64 DER, PKCS #8 and SubjectPublicKeyInfo); Braze: a token; Segment: a write key.
    Raises UnknownConnection for a platform without a scheme here.
    """
    seed = sha256(platform.encode() + b"\x1f" + randomness).digest()
    if platform == "sendgrid":
        return _key_pair(seed)
    if platform in {"braze", "segment"}:
        token = seed[:16].hex().encode()
        return Secret(token, token)
    raise UnknownConnection(f"no signing scheme for platform {platform!r}")


def sign(platform: str, signing: bytes, body: bytes, now: datetime) -> dict[str, str]:
    """The request headers, lower-cased, with which the platform would post `body` at `now`."""
    headers = {"content-type": "application/json"}
    if platform == "sendgrid":
        stamp = str(int(now.timestamp()))
        headers["x-twilio-email-event-webhook-timestamp"] = stamp
        headers["x-twilio-email-event-webhook-signature"] = _ecdsa(signing, stamp.encode() + body)
    elif platform == "braze":
        headers["authorization"] = f"Bearer {signing.decode()}"
    elif platform == "segment":
        headers["authorization"] = f"Basic {b64encode(signing + b':').decode()}"
    else:
        raise UnknownConnection(f"no signing scheme for platform {platform!r}")
    return headers


def _key_pair(seed: bytes) -> Secret:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = derive_private_key(int.from_bytes(seed, "big") >> 1 | 1, SECP256R1())  # 255 bits: below the group's order
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Secret(b64encode(private), b64encode(public))


def _ecdsa(signing: bytes, message: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_private_key  # noqa: PLC0415

    key = load_der_private_key(b64decode(signing), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("the signing secret is not an elliptic curve key")
    return b64encode(key.sign(message, ECDSA(SHA256(), deterministic_signing=True))).decode()
