"""The platforms' side of `espial.verify`, by platform: for samples, `espial send-sample` and the demo.

Everything is deterministic: randomness and time come as arguments, and ECDSA signs after RFC 6979.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from espial import sources
from espial.verify import Secret

__all__ = ["Secret", "new_secret", "sign"]


def new_secret(platform: str, randomness: bytes) -> Secret:
    """A throw-away secret of a platform's scheme; the same `randomness` (16 bytes or more) gives the same one.

    Raises UnknownConnection for an unknown platform.
    """
    seed = sha256(platform.encode() + b"\x1f" + randomness).digest()
    return sources.load(platform).verify.new_secret(seed)


def sign(platform: str, signing: bytes, body: bytes, now: datetime) -> dict[str, str]:
    """The request headers, lower-cased, with which the platform would post `body` at `now`.

    Raises UnknownConnection for an unknown platform.
    """
    return {"content-type": "application/json"} | sources.load(platform).verify.sign(signing, body, now)
