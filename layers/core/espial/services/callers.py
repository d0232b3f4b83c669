"""Whose key a caller shows: the one connection of a platform that accepts it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from espial.deliveries import Connection
from espial.errors import TryAgain

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections


def connection_of(platform: str, shown: bytes, connections: Connections) -> Connection | None:
    """All keys are compared, in constant time; None if none fits. Raises TryAgain if none does and some are unread."""
    away: TryAgain | None = None
    for missed in (False, True):
        found: Connection | None = None
        for connection in connections.of_platform(platform, missed=missed):
            try:
                matches = [hmac.compare_digest(secret, shown) for secret in connections.secrets(connection)]
            except TryAgain as exc:
                away = exc
            else:
                found = connection if any(matches) else found
        if found:
            return found
    if away:
        raise away
    return None
