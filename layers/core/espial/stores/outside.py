"""Fetching a small public document for the receivers: a platform's key, or the page that confirms a subscription.

Guarded against being led into the private network (SSRF): https only, every address the name resolves to must be
public, the connection goes to the address that was checked, and redirects are not followed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from espial.errors import SignatureError, TryAgain

SECONDS = 3.0
"""For resolving aside, the whole of connecting and each read: platforms wait 4 seconds at least."""
LARGEST = 65_536
KEPT_SECONDS = 3600.0
MOST_KEPT = 64


def is_public(address: str) -> bool:
    """Whether the internet routes it: not private, loopback, link-local, multicast or reserved."""
    from ipaddress import ip_address  # noqa: PLC0415 - seldom needed by the receivers

    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_global) and not mapped.is_multicast


class PublicDocuments:
    """`Outside` over the network. `allowed` and `context` are for tests, which talk to loopback only."""

    def __init__(
        self, *, allowed: Callable[[str], bool] = is_public, context: ssl.SSLContext | None = None, port: int = 443
    ) -> None:
        self._allowed = allowed
        self._context = context
        self._port = port
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
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or "@" in parts.netloc or not host or parts.port not in (None, self._port):
            raise SignatureError("names an address that is not plain https")
        connection = http.client.HTTPSConnection(host, self._port, timeout=SECONDS)
        try:
            connection.sock = self._connect(host)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request("GET", target, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read(LARGEST + 1)
        except (OSError, http.client.HTTPException) as exc:
            raise TryAgain(f"{host}: {type(exc).__name__}") from exc
        finally:
            connection.close()
        if answer.status == http.client.OK and len(body) <= LARGEST:
            return body
        if answer.status >= http.client.INTERNAL_SERVER_ERROR or answer.status == http.client.TOO_MANY_REQUESTS:
            raise TryAgain(f"{host}: HTTP {answer.status}")
        raise SignatureError(f"{host} does not give what the delivery names (HTTP {answer.status})")

    def _connect(self, host: str) -> ssl.SSLSocket:
        """To the very address that was checked. Raises OSError, SignatureError for an address that is not public."""
        found = socket.getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        if not all(self._allowed(str(address[0])) for *_, address in found):
            raise SignatureError(f"{host} is not a public address")
        context = self._context or ssl.create_default_context()
        plain = socket.create_connection(found[0][4][:2], SECONDS)
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
