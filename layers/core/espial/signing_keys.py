"""What the schemes of `espial.verify` sign with; imported only when something is signed, never to acknowledge."""

from __future__ import annotations

from base64 import b64decode, b64encode

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)


def key_pair(randomness: bytes) -> tuple[bytes, bytes]:
    """A P-256 pair made of 32 random bytes: private (PKCS #8) and public (SubjectPublicKeyInfo), base64 of DER."""
    key = derive_private_key(int.from_bytes(randomness, "big") >> 1 | 1, SECP256R1())  # 255 bits: below the order
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(private), b64encode(public)


def ecdsa(signing: bytes, message: bytes) -> str:
    """The signature, base64 of DER (r, s), the same for the same message (RFC 6979). TypeError for another key."""
    key = load_der_private_key(b64decode(signing), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("the signing secret is not an elliptic curve key")
    return b64encode(key.sign(message, ECDSA(SHA256(), deterministic_signing=True))).decode()
