"""What the schemes of `espial.verify` sign with; imported only when something is signed, never to acknowledge.

Everything is deterministic: throw-away keys are made of the random bytes given, and the same message gets the same
signature.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import shake_256
from itertools import count
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

if TYPE_CHECKING:
    from espial.verify.public_keys import Kind

_PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
_EXPONENT = 65_537


def key_pair(kind: Kind, randomness: bytes) -> tuple[bytes, bytes]:
    """A pair made of 32 random bytes: private (PKCS #8) and public (SubjectPublicKeyInfo), base64 of DER."""
    key: _PrivateKey
    match kind:
        case "ecdsa":
            key = derive_private_key(int.from_bytes(randomness, "big") >> 1 | 1, SECP256R1())  # below the order
        case "rsa":
            key = _rsa_key(randomness)
        case "ed25519":
            key = Ed25519PrivateKey.from_private_bytes(randomness)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(private), b64encode(public)


def signature(kind: Kind, signing: bytes, message: bytes) -> str:
    """The message's signature in base64, ECDSA as DER (r, s) after RFC 6979. TypeError for a key of another kind."""
    key = _private_key(signing)
    match kind, key:
        case "ecdsa", EllipticCurvePrivateKey():
            found = key.sign(message, ECDSA(SHA256(), deterministic_signing=True))
        case "rsa", RSAPrivateKey():
            found = key.sign(message, PKCS1v15(), SHA256())
        case "ed25519", Ed25519PrivateKey():
            found = key.sign(message)
        case _:
            raise TypeError(f"the signing secret is not an {kind} key")
    return b64encode(found).decode()


@lru_cache(maxsize=64)
def _private_key(signing: bytes) -> object:
    """Cached: reading an RSA key checks it, which takes longer than signing with it."""
    return load_der_private_key(b64decode(signing), password=None)


@lru_cache(maxsize=16)
def _rsa_key(randomness: bytes) -> RSAPrivateKey:
    """2,048 bits, for samples, never in earnest: the library makes random keys only."""
    p, q = (_prime(randomness + name) for name in (b"p", b"q"))
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    public = RSAPublicNumbers(_EXPONENT, p * q)
    return RSAPrivateNumbers(p, q, d, rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q), public).private_key()


def _prime(seed: bytes) -> int:
    start = int.from_bytes(shake_256(seed).digest(128), "big") | 3 << 1022 | 1
    small = [n for n in range(3, 2000, 2) if all(n % m for m in range(3, int(n**0.5) + 1, 2))]
    for offset in count(0, 2):
        candidate = start + offset
        if all(candidate % n for n in small) and (candidate - 1) % _EXPONENT and pow(2, candidate - 1, candidate) == 1:
            return candidate
    raise AssertionError  # `count` has no end
