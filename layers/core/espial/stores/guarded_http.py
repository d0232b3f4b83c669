"""Calling addresses that a definition or a delivery names, guarded against being led into the private network (SSRF).

https only, every address the name resolves to must be public, the connection goes to the address that was checked,
redirects are not followed. A stack that runs on one machine may be told to reach that machine instead, and only it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from espial.addresses import is_loopback, is_public
from espial.answers import Answer
from espial.errors import AnswerLost, Refused, TryAgain

LARGEST = 65_536
"""Bytes of an answer that are read; what comes behind them is left unread, and the answer says so."""

PUBLIC, LOOPBACK = "public", "loopback"


class GuardedHttp:
    """`espial.answers.Http` over the network.

    `network` is the stack's OutgoingNetwork: `public` addresses over https, or those of this machine (`loopback`), over
    http as well. `any_port`: whether an address may name another port than that of https. `allowed`, `context` and
    `port`, that of https, are for tests, which talk to loopback only.
    """

    def __init__(
        self,
        network: str = PUBLIC,
        *,
        allowed: Callable[[str], bool] | None = None,
        context: ssl.SSLContext | None = None,
        port: int = 443,
        any_port: bool = True,
        largest: int = LARGEST,
    ) -> None:
        if network not in (PUBLIC, LOOPBACK):
            raise ValueError(f"the outgoing network must be {PUBLIC} or {LOOPBACK}, not {network!r}")
        self._schemes = ("https", "http") if network == LOOPBACK else ("https",)
        self._not_allowed = "address_not_public" if network == PUBLIC else "address_not_loopback"
        self._allowed = allowed or (is_public if network == PUBLIC else is_loopback)
        self._context = context
        self._port = port
        self._any_port = any_port
        self._largest = largest

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", seconds: float = 10.0
    ) -> Answer:
        """See `espial.answers.Http.request`."""
        parts = self._parts(url)
        host = parts.hostname or ""
        until = time.monotonic() + seconds
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, self._port_of(parts), timeout=seconds)
        sent = False
        try:
            connection.sock = self._connect(parts, seconds)
            sent = True  # the first byte may be on its way as soon as the next line begins
            connection.request(method, _target(parts), body or None, {"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            return self._read(answer, until)
        except (OSError, http.client.HTTPException) as exc:
            raise (AnswerLost if sent else TryAgain)(f"{host}: {type(exc).__name__}") from exc
        except ValueError:  # and no word of what stands in it
            raise Refused("bad_header", f"{host}: a method, address or header that cannot be sent") from None
        finally:
            connection.close()

    def _parts(self, url: str) -> SplitResult:
        """Raises Refused for what is no address that this may call."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise Refused("bad_address", "an address that cannot be read") from exc
        elsewhere = port not in (None, self._port) and not self._any_port
        written = url.isascii() and url.isprintable() and " " not in url
        if not written or parts.scheme not in self._schemes or "@" in parts.netloc or not host or elsewhere:
            raise Refused("bad_address", f"an address that is not plain {' or '.join(self._schemes)}")
        return parts

    def _port_of(self, parts: SplitResult) -> int:
        return parts.port or (self._port if parts.scheme == "https" else 80)

    def dial(self, host: str, port: int, seconds: float) -> socket.socket:
        """A connection to an address that was checked, the first that answers; for what speaks something else as well.

        Raises OSError, and Refused if any address of the host is not allowed or if it is none.
        """
        until = time.monotonic() + seconds
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise Refused("bad_address", "a host that is none") from exc
        addresses = [str(address[0]) for *_, address in found]
        if not all(map(self._allowed, addresses)):
            raise Refused(self._not_allowed, host)
        plain = _first(addresses, port, until)
        plain.settimeout(seconds)
        return plain

    def _connect(self, parts: SplitResult, seconds: float) -> socket.socket:
        """Raises as `dial` does."""
        host = parts.hostname or ""
        plain = self.dial(host, self._port_of(parts), seconds)
        if parts.scheme == "http":
            return plain
        try:
            return (self._context or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _read(self, answer: http.client.HTTPResponse, until: float) -> Answer:
        """Raises TimeoutError where it trickles, IncompleteRead where it breaks off."""
        body = b""
        while len(body) <= self._largest and (part := answer.read1(self._largest + 1 - len(body))):
            body += part
            if time.monotonic() > until:
                raise TimeoutError
        is_cut = len(body) > self._largest
        if not is_cut and answer.length:
            raise http.client.IncompleteRead(body, answer.length)  # half an answer must not be taken for one
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, body[: self._largest], is_cut)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _first(addresses: Sequence[str], port: int, until: float) -> socket.socket:
    """A host may have addresses of a kind that has no way out from here. Raises OSError if there is no other."""
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), max(0.1, (until - time.monotonic()) / 2))
        except OSError:
            continue
    return socket.create_connection((addresses[-1], port), max(0.1, until - time.monotonic()))
