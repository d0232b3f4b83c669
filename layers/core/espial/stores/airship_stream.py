"""Airship's Real-Time Data Streaming over HTTP: one long answer, a JSON event a line.

https://docs.airship.com/developer/rest-api/connect/operations/event-stream/
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Generator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
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

_GONE = frozenset({400, 409, 410, 416})
"""Answers to a request with an offset that mean the offset; which one Airship gives is not documented."""
_UNAUTHORISED = frozenset({401, 403})
_PASSING = frozenset({408, 425, 429})


def _https(host: str, seconds: float) -> HTTPConnection:
    return HTTPSConnection(host, timeout=seconds)


class AirshipStream:
    """Implements `streams.EventStream`. `connect` is for tests, which talk to loopback."""

    def __init__(self, connect: Callable[[str, float], HTTPConnection] = _https) -> None:
        self._connect = connect

    def lines(self, request: StreamRequest, seconds: float) -> Generator[bytes]:
        """See `EventStream.lines`."""
        end = time.monotonic() + seconds
        connection, answer = self._open(request, end)
        try:
            inflate = _inflater(answer.getheader("content-encoding", ""))
            rest = b""
            while part := _next(connection, answer, end):
                *whole, rest = (rest + inflate(part)).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    raise Refused("line_too_long", f"a line of over {LONGEST_LINE} bytes")
                for line in whole:
                    yield line.strip()
        finally:
            connection.close()

    def _open(self, request: StreamRequest, end: float) -> tuple[HTTPConnection, HTTPResponse]:
        """The answer of the first token that is let in."""
        refused = Refused("unauthorised", "the connection has no secret")
        for token in request.tokens:
            try:
                return self._redirected(request, token, end)
            except Refused as exc:
                if exc.reason != "unauthorised":
                    raise
                refused = exc
        raise refused

    def _redirected(self, request: StreamRequest, token: bytes, end: float) -> tuple[HTTPConnection, HTTPResponse]:
        """A 307 is followed once, with its cookie and to the same host: it ties the stream to one server."""
        host = HOSTS[request.region]
        connection, answer = self._post(host, request, token, "", end)
        if answer.status == 307:
            cookie, leads_to = _cookie(answer), urlsplit(answer.getheader("location", "")).netloc
            connection.close()
            if not cookie or leads_to not in ("", host):
                raise Refused("redirected", f"{host} redirects without a cookie, or elsewhere")
            connection, answer = self._post(host, request, token, cookie, end)
        if answer.status == 200:
            return connection, answer
        connection.close()
        raise _error(host, answer, request)

    def _post(
        self, host: str, request: StreamRequest, token: bytes, cookie: str, end: float
    ) -> tuple[HTTPConnection, HTTPResponse]:
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
            return connection, connection.getresponse()
        except (OSError, HTTPException) as exc:
            connection.close()
            raise TryAgain(f"{host}: {type(exc).__name__}", after=0.0) from exc


def _next(connection: HTTPConnection, answer: HTTPResponse, end: float) -> bytes:
    """What came meanwhile; nothing once the time is up or the answer at its end. Raises TryAgain where it breaks."""
    left = end - time.monotonic()
    if left <= 0:
        return b""
    try:
        if connection.sock is not None:
            connection.sock.settimeout(left)
        return answer.read1(READ_AT_ONCE)
    except TimeoutError:
        return b""
    except (OSError, HTTPException, ValueError) as exc:
        raise TryAgain(f"the stream broke: {type(exc).__name__}", after=0.0) from exc


def _inflater(encoding: str) -> Callable[[bytes], bytes]:
    """What undoes the answer's encoding, piece by piece. Raises TryAgain for what is damaged, Refused for another."""
    if encoding.strip().lower() in ("", "identity"):
        return lambda part: part
    if encoding.strip().lower() != "gzip":
        raise Refused("encoding", f"the stream is encoded as {encoding[:40]}")
    inflater = zlib.decompressobj(wbits=31)

    def inflate(part: bytes) -> bytes:
        try:
            found = inflater.decompress(part, LONGEST_LINE)
        except zlib.error as exc:
            raise TryAgain("the stream broke: it is not gzip", after=0.0) from exc
        if inflater.unconsumed_tail:
            raise Refused("line_too_long", f"{len(part)} bytes inflate to over {LONGEST_LINE}")
        return found

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
