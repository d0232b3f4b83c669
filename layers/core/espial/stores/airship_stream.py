"""Airship's Real-Time Data Streaming over HTTP: one long answer, a JSON event a line.

https://docs.airship.com/developer/rest-api/connect/operations/event-stream/
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from espial.errors import Refused, TryAgain
from espial.streams import OffsetGone, StreamRequest

HOSTS: Mapping[str, str] = {"us": "connect.urbanairship.com", "eu": "connect.asnapieu.com"}
PATH = "/api/events"
ACCEPT = "application/vnd.urbanairship+x-ndjson; version=3;"
CONNECT_SECONDS = 10.0
READ_AT_ONCE = 65_536
LONGEST_LINE = 4_000_000
"""Bytes; an event is a few thousand."""

PIECE = 1_048_576
"""Bytes that are inflated at a time."""

_GONE = frozenset({400, 409, 410, 416})
"""Answers to a request with an offset that mean the offset; which one Airship gives is not documented."""
_UNAUTHORISED = frozenset({401, 403})
_PASSING = frozenset({408, 425, 429})


class _Opened(NamedTuple):
    """An answer that is still coming, and the socket it comes over.

    The connection forgets the socket when the answer is to be its last, so it is kept here.
    """

    connection: HTTPConnection
    sock: socket
    answer: HTTPResponse

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def _https(host: str, seconds: float) -> HTTPConnection:
    return HTTPSConnection(host, timeout=seconds)


class AirshipStream:
    """Implements `streams.EventStream`. `connect` is for tests, which talk to loopback."""

    def __init__(self, connect: Callable[[str, float], HTTPConnection] = _https) -> None:
        self._connect = connect

    def lines(self, request: StreamRequest, seconds: float) -> Generator[bytes]:
        """See `EventStream.lines`."""
        end = time.monotonic() + seconds
        opened = self._open(request, end)
        try:
            inflate = _inflater(opened.answer.getheader("content-encoding", ""))
            rest = b""
            while part := _next(opened, end):
                for piece in inflate(part):
                    *whole, rest = (rest + piece).split(b"\n")
                    if len(rest) > LONGEST_LINE:
                        raise Refused("line_too_long", f"a line of over {LONGEST_LINE} bytes")
                    for line in whole:
                        yield line.strip()
        finally:
            opened.close()

    def _open(self, request: StreamRequest, end: float) -> _Opened:
        """The answer to the first token that is let in."""
        refused = Refused("unauthorised", "the connection has no secret")
        for token in request.tokens:
            try:
                return self._redirected(request, token, end)
            except Refused as exc:
                if exc.reason != "unauthorised":
                    raise
                refused = exc
        raise refused

    def _redirected(self, request: StreamRequest, token: bytes, end: float) -> _Opened:
        """A 307 is followed once, with its cookie and to the same host: it ties the stream to one server."""
        host = HOSTS[request.region]
        opened = self._post(host, request, token, "", end)
        if opened.answer.status == 307:
            opened.close()
            cookie, leads_to = _cookie(opened.answer), urlsplit(opened.answer.getheader("location", "")).netloc
            if not cookie or leads_to not in ("", host):
                raise Refused("redirected", f"{host} redirects without a cookie, or elsewhere")
            opened = self._post(host, request, token, cookie, end)
        if opened.answer.status == 200:
            return opened
        opened.close()
        raise _error(host, opened.answer, request)

    def _post(self, host: str, request: StreamRequest, token: bytes, cookie: str, end: float) -> _Opened:
        headers = {
            "Accept": ACCEPT,
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "X-UA-Appkey": request.app_key,
            "Authorization": f"Bearer {token.decode('latin-1')}",
            **({"Cookie": cookie} if cookie else {}),
        }
        body: dict[str, Any] = {"resume_offset": request.offset} if request.offset else {"start": request.start}
        body["enable_offset_updates"] = True
        if request.filters:
            body["filters"] = list(request.filters)
        connection = self._connect(host, max(0.1, min(CONNECT_SECONDS, end - time.monotonic())))
        try:
            connection.request("POST", PATH, json.dumps(body).encode(), headers)
            return _Opened(connection, connection.sock, connection.getresponse())
        except (OSError, HTTPException) as exc:
            connection.close()
            raise TryAgain(f"{host}: {type(exc).__name__}", after=0.0) from exc
        except ValueError:
            connection.close()  # and no word of what stands in it
            raise Refused("unauthorised", "the secret or the app key cannot stand in a header") from None


def _next(opened: _Opened, end: float) -> bytes:
    """What came meanwhile; nothing once the time is up or the answer at its end. Raises TryAgain where it breaks."""
    left = end - time.monotonic()
    if left <= 0:
        return b""
    try:
        opened.sock.settimeout(left)
        return opened.answer.read1(READ_AT_ONCE)
    except TimeoutError:
        return b""
    except (OSError, HTTPException) as exc:
        raise TryAgain(f"the stream broke: {type(exc).__name__}", after=0.0) from exc


def _inflater(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """What undoes the answer's encoding, in pieces. Raises Refused for one that was not asked for.

    The pieces raise TryAgain where it is damaged.
    """
    if encoding.strip().lower() in ("", "identity"):
        return lambda part: iter((part,))
    if encoding.strip().lower() != "gzip":
        raise Refused("encoding", f"the stream is encoded as {encoding[:40]}")
    member = zlib.decompressobj(wbits=31)

    def inflate(part: bytes) -> Iterator[bytes]:
        nonlocal member
        while part or not member.eof:
            try:
                found = member.decompress(part, PIECE)
            except zlib.error as exc:
                raise TryAgain("the stream broke: it is not gzip", after=0.0) from exc
            part = member.unused_data if member.eof else member.unconsumed_tail
            if found:
                yield found
            elif not part:
                return
            if member.eof:
                member = zlib.decompressobj(wbits=31)

    return inflate


def _cookie(answer: HTTPResponse) -> str:
    given = answer.msg.get_all("set-cookie") or []
    return "; ".join(pair for one in given if "=" in (pair := one.partition(";")[0].strip()))


def _error(host: str, answer: HTTPResponse, request: StreamRequest) -> Exception:
    """What an answer other than a stream means. Its body is not told: it may repeat the token."""
    status = answer.status
    if status in _PASSING or status >= 500 or status == 307:
        given = answer.getheader("retry-after", "")
        after = min(float(given), 900.0) if given.isascii() and given.isdigit() else 1.0
        return TryAgain(f"{host}: HTTP {status}", after=after)
    if status in _GONE and request.offset:
        return OffsetGone(f"{host}: HTTP {status}")
    if status in _UNAUTHORISED:
        return Refused("unauthorised", f"{host}: HTTP {status}")
    return Refused("refused", f"{host}: HTTP {status}")
