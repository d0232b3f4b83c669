"""API Gateway's events (HTTP API, payload format 2.0) as a request, and our verdict as its answer.

Standard library only: the acknowledging path imports this.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple

from espial.deliveries import Connection, Reply
from espial.errors import EspialError, TryAgain


class Request(NamedTuple):
    """An HTTP request: exact body bytes, lower-cased header names, the query string as it was sent."""

    id: str
    method: str
    path: Mapping[str, str]
    query: str
    headers: Mapping[str, str]
    body: bytes


class Outcome(NamedTuple):
    """What became of a request: the answer, and what may be logged of it.

    `reason` is `accepted`, `handshake` or the snake_case code of a refusal. `platform` and `connection` stay empty
    until they are known to be ours, since anything may stand in a URL.
    """

    reply: Reply
    reason: str
    platform: str = ""
    connection: str = ""
    size: int = 0
    detail: str = ""

    @classmethod
    def of(cls, reply: Reply, reason: str, connection: Connection | None, size: int, detail: str = "") -> Outcome:
        """Named after its connection, if that much is known."""
        platform, name = (connection.platform, connection.name) if connection else ("", "")
        return cls(reply, reason, platform, name, size, detail)

    def log_fields(self) -> dict[str, Any]:
        """Neither body, address nor secret."""
        fields = self._asdict() | {"status": self.reply.status}
        del fields["reply"]
        return {name: value for name, value in fields.items() if value != ""}


class Refusal(EspialError):
    """An answer that is no success: the HTTP status, a snake_case reason, and what the caller may be told."""

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


def read(event: Mapping[str, Any]) -> Request:
    """The request in a Lambda event."""
    context = event["requestContext"]
    body = event.get("body") or ""
    return Request(
        id=context["requestId"],
        method=context["http"]["method"].upper(),
        path=event.get("pathParameters") or {},
        query=event.get("rawQueryString") or "",
        headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
        body=b64decode(body) if event.get("isBase64Encoded") else body.encode("utf-8", "surrogatepass"),
    )


def answer(reply: Reply) -> dict[str, Any]:
    """A reply as API Gateway takes it."""
    return {"statusCode": reply.status, "headers": dict(reply.headers), "body": reply.body}


def retry_after(exc: TryAgain) -> dict[str, str]:
    """The header that tells the sender when: whole seconds, at least one."""
    return {"retry-after": str(max(1, math.ceil(exc.after)))}


def url_of(request: Request, url: str) -> str:
    """The URL the sender called, with its query as sent. `url` is the configured one: the event's may be a proxy's.

    A query that was configured with it is the one that the sender repeats.
    """
    return f"{url.partition('?')[0]}?{request.query}" if request.query else url
