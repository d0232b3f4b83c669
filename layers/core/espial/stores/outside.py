"""Fetching a small public document for the receivers: a platform's key, or the page that confirms a subscription."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from espial.errors import Refused, SignatureError, TryAgain
from espial.stores.guarded_http import GuardedHttp

SECONDS = 3.0
"""For connecting, for each step of the handshakes and for the whole of the body; resolving has its own limits."""
KEPT_SECONDS = 3600.0
MOST_KEPT = 64


class PublicDocuments:
    """`Outside` over the network. `allowed`, `context` and `port` are for tests, which talk to loopback only."""

    def __init__(
        self,
        *,
        allowed: Callable[[str], bool] | None = None,
        context: ssl.SSLContext | None = None,
        port: int = 443,
    ) -> None:
        self._http = GuardedHttp(allowed=allowed, context=context, port=port, any_port=False)
        self._kept: dict[str, tuple[float, bytes]] = {}

    def fetch(self, url: str) -> bytes:
        """See `espial.ports.Outside`."""
        kept = self._kept.get(url)
        if kept and time.monotonic() < kept[0]:
            return kept[1]
        found = self._get(url)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[url] = (time.monotonic() + KEPT_SECONDS, found)
        return found

    def _get(self, url: str) -> bytes:
        try:
            answer = self._http.request("GET", url, seconds=SECONDS)
        except Refused as exc:
            raise SignatureError(f"names an address that may not be fetched: {exc}") from exc
        host = urlsplit(url).hostname
        if answer.status == HTTPStatus.OK and not answer.is_cut:
            return answer.body
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TryAgain(f"{host}: HTTP {answer.status}")
        raise SignatureError(f"{host} does not give what the delivery names (HTTP {answer.status})")
