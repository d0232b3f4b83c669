"""The platforms' side of `espial.verify`, by platform: for samples, `espial send-sample` and the demo.

Everything is deterministic: randomness and time come as arguments, and ECDSA signs after RFC 6979.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from espial import sources
from espial.deliveries import Connection, RawDelivery
from espial.verify import NO_SETTINGS, Secret

__all__ = ["Secret", "new_secret", "sign", "signed"]


def new_secret(platform: str, randomness: bytes, settings: Mapping[str, Any] = NO_SETTINGS) -> Secret:
    """A throw-away secret of a platform's scheme; the same `randomness` (16 bytes or more) gives the same one.

    `settings` are the connection's. Raises UnknownConnection for an unknown platform.
    """
    seed = sha256(platform.encode() + b"\x1f" + randomness).digest()
    source = sources.of(Connection(name=platform, platform=platform, settings=settings))
    return source.verify.new_secret(seed)


def signed(
    signing: bytes, delivery: RawDelivery, now: datetime, settings: Mapping[str, Any] = NO_SETTINGS
) -> RawDelivery:
    """The delivery with the proof its platform would give at `now`: in headers, lower-cased, in its body or URL.

    `settings` are the connection's. Raises UnknownConnection for an unknown platform.
    """
    connection = Connection(name=delivery.connection, platform=delivery.platform, settings=settings)
    return sources.of(connection).verify.sign(signing, delivery, now)


def sign(platform: str, signing: bytes, body: bytes, now: datetime) -> dict[str, str]:
    """The headers, lower-cased, with which a platform that proves itself by headers would post JSON at `now`.

    Raises UnknownConnection for an unknown platform.
    """
    headers = {"content-type": "application/json"}
    delivery = RawDelivery(
        delivery_id="signed",
        platform=platform,
        connection="",
        transport="webhook",
        body=body,
        received_at=now,
        headers=headers,
    )
    return dict(signed(signing, delivery, now).headers)
