"""Feed files to an address that takes them by PUT or POST, each in one request that says what it must hold."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

from espial.answers import Http, wait
from espial.errors import Refused, TryAgain
from espial.feeds.definition import HttpSink
from espial.sinks.kinds import content_type

SECONDS = 60.0
SLOWEST = 100_000
"""Bytes a second: a file may take as long as that, and `SECONDS` more."""

PASSING = frozenset({408, 425, 429})


class HttpUpload:
    """`Sink` over an address.

    A file comes with `Content-Type`, `Content-Disposition` with its name, and `Content-Digest` (RFC 9530), by which
    the receiver tells whether all of it is there. `token` gives the bearer token, if one is asked for; `seconds_left`
    tells how long a file may take.
    """

    def __init__(
        self,
        to: HttpSink,
        http: Http,
        token: Callable[[], bytes] | None,
        clock: Callable[[], datetime],
        seconds_left: Callable[[], float],
    ) -> None:
        self._to = to
        self._http = http
        self._token = token
        self._clock = clock
        self._seconds_left = seconds_left

    def put(self, name: str, content: bytes) -> None:
        """See `espial.feeds.files.Sink`. Raises Refused: http_<status>, and as `espial.answers.Http` does."""
        headers = {
            "Content-Type": content_type(name),
            "Content-Length": str(len(content)),
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Digest": f"sha-256=:{b64encode(sha256(content).digest()).decode()}:",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token().decode()}"
        url = self._to.url.replace("{name}", quote(name, safe=""))
        answer = self._http.request(self._to.method, url, headers, content, self._seconds(content))
        if 200 <= answer.status < 300:
            return
        if answer.status in PASSING or answer.status >= 500:
            raise TryAgain(f"HTTP {answer.status}", after=wait(answer, self._clock()))
        raise Refused(f"http_{answer.status}")

    def _seconds(self, content: bytes) -> float:
        """Connecting, sending and the answer may each take that long, and all three must be over in time."""
        return min(SECONDS + len(content) / SLOWEST, max(self._seconds_left() / 3, 1.0))
