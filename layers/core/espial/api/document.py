"""The OpenAPI document of the whole API, of both functions."""

from __future__ import annotations

from functools import cache
from typing import Any

from espial.api import changing, reading
from espial.api.app import document, resolver


@cache
def whole() -> dict[str, Any]:
    """Made from the routes; the stores behind them are not opened."""
    return document(resolver(None, reading.routes, changing.routes))
