"""Fetching a small public document for the receivers: a platform's key, or the page that confirms a subscription.

Guarded against being led into the private network (SSRF): https only, every address the name resolves to must be
public, the connection goes to the address that was checked, and redirects are not followed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from espial.errors import SignatureError, TryAgain

SECONDS = 3.0
"""For connecting, for each step of the handshakes and for the whole of the body; resolving has its own limits."""
LARGEST = 65_536
KEPT_SECONDS = 3600.0
MOST_KEPT = 64


def is_public(address: str) -> bool:
    """Whether the internet routes it: not private, loopback, link-local, multicast or reserved.

    Of an IPv6 address that leads to an IPv4 one (mapped, 6to4, NAT64) the latter counts.
    """
    from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address  # noqa: PLC0415 - seldom needed

    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        translated = IPv4Address(int(found) & 0xFFFF_FFFF) if found in IPv6Network("64:ff9b::/96") else None
        found = translated or found.ipv4_mapped or found.sixtofour or found
        if isinstance(found, IPv6Address) and found not in IPv6Network("2000::/3"):
            return False  # nothing else is given out for use (RFC 4291, 2.4)
    return found.is_global and not found.is_multicast


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
        host, target = self._parts(url)
        connection = http.client.HTTPSConnection(host, self._port, timeout=SECONDS)
        try:
            connection.sock = self._connect(host)
            connection.request("GET", target, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = _read(answer)
        except (OSError, http.client.HTTPException) as exc:
            raise TryAgain(f"{host}: {type(exc).__name__}") from exc
        finally:
            connection.close()
        if answer.status == http.client.OK and len(body) <= LARGEST:
            return body
        if answer.status >= http.client.INTERNAL_SERVER_ERROR or answer.status == http.client.TOO_MANY_REQUESTS:
            raise TryAgain(f"{host}: HTTP {answer.status}")
        raise SignatureError(f"{host} does not give what the delivery names (HTTP {answer.status})")

    def _parts(self, url: str) -> tuple[str, str]:
        """Host and target. Raises SignatureError for what is no address that this may fetch."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as exc:
            raise SignatureError("names an address that cannot be read") from exc
        written = url.isascii() and url.isprintable() and " " not in url
        if not written or parts.scheme != "https" or "@" in parts.netloc or not host or port not in (None, self._port):
            raise SignatureError("names an address that is not plain https")
        path = parts.path or "/"
        return host, f"{path}?{parts.query}" if parts.query else path

    def _connect(self, host: str) -> ssl.SSLSocket:
        """To an address that was checked, the first that answers.

        Raises OSError, SignatureError if any address of the host is not public, or if it is none.
        """
        try:
            found = socket.getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise SignatureError("names a host that is none") from exc
        addresses = [str(address[0]) for *_, address in found]
        if not all(map(self._allowed, addresses)):
            raise SignatureError(f"{host} is not a public address")
        context = self._context or ssl.create_default_context()
        plain = _first(addresses, self._port)
        plain.settimeout(SECONDS)
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def _first(addresses: Sequence[str], port: int) -> socket.socket:
    """A host may have addresses of a kind that has no way out from here. Raises OSError if there is no other."""
    until = time.monotonic() + SECONDS
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), max(0.1, (until - time.monotonic()) / 2))
        except OSError:
            continue
    return socket.create_connection((addresses[-1], port), max(0.1, until - time.monotonic()))


def _read(answer: http.client.HTTPResponse) -> bytes:
    """At most one byte more than allowed. Raises TimeoutError where it trickles, IncompleteRead where it breaks off."""
    until = time.monotonic() + SECONDS
    body = b""
    while len(body) <= LARGEST and (part := answer.read1(LARGEST + 1 - len(body))):
        body += part
        if time.monotonic() > until:
            raise TimeoutError
    if len(body) <= LARGEST and answer.length:
        raise http.client.IncompleteRead(body, answer.length)  # half a key must not be kept
    return body
