"""A small AWS client over one kept-alive connection: JSON-protocol calls, and S3 get and put.

The acknowledging path needs four calls of AWS's thousands; loading an SDK for them costs several times the rest
of its cold start (docs/decisions/0001-receiver-without-sdk.md). Like the SDK's, a client honours
AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE>, retries what may pass with full jitter and corrects its clock by AWS's.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import select
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from espial.errors import EspialError, TryAgain
from espial.stores.credentials import CredentialSource, find_credentials
from espial.stores.sigv4 import sign

ATTEMPTS = 4
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
BUDGET_SECONDS = 8.0
"""No call takes longer, retries included: under the receivers' own time-out, so that they can still answer 503."""
IDLE_SECONDS = 30.0
"""A connection unused for longer is not trusted: the other side, or something between, may have dropped it silently."""
CLOCK_TOLERANCE = timedelta(minutes=4)
"""AWS refuses signatures more than 5 minutes off."""

SERVICE_IDS = {"secretsmanager": "SECRETS_MANAGER"}
"""Services whose AWS_ENDPOINT_URL_ suffix is not their endpoint's name in capitals."""

PASSING = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "KmsThrottled",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    }
)
"""Codes of passing faults, besides any with `Throttl` in it, any 5xx and 429."""
WRONG_TIME = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Codes under which the services report a clock that is off; whether it is, the answer's Date says."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})

_XML_CODE = re.compile(rb"<Code>([^<]+)</Code>")


class AwsError(EspialError):
    """AWS said no for good; `code` is its word for it, `status` the HTTP status."""

    def __init__(self, service: str, action: str, code: str, status: int) -> None:
        # AWS's own message is left out: for some codes it repeats the signed request, token included.
        super().__init__(f"{service} {action}: {code} (HTTP {status})")
        self.code = code
        self.status = status


class Limits(NamedTuple):
    """Seconds: `read` for sending all of a body, and for each read of the answer; `call` for all that a call takes."""

    read: float = READ_SECONDS
    call: float = BUDGET_SECONDS


LARGE = Limits(read=30.0, call=60.0)
"""For objects of hundreds of megabytes. A last attempt may take it to 90 seconds."""


class Stored(NamedTuple):
    """An S3 object: its bytes and its entity tag, quotes included."""

    body: bytes
    etag: str


class _Request(NamedTuple):
    action: str
    method: str
    base: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code, whichever protocol words it."""
        if found := _XML_CODE.search(self.body):
            return found[1].decode()
        try:
            word = json.loads(self.body)["__type"]
        except (ValueError, KeyError, TypeError):
            word = self.headers.get("x-amzn-errortype") or f"HTTP{self.status}"
        return str(word).rpartition("#")[2].partition(":")[0]

    def may_pass(self) -> bool:
        """True for throttling and faults on their side."""
        at_fault = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status == HTTPStatus.TOO_MANY_REQUESTS
        return at_fault or "Throttl" in self.code or self.code in PASSING


class AwsClient:
    """One service in one region.

    `endpoint` replaces AWS's own address (S3 is then addressed by path). `sleep` stands in tests for time.sleep.
    """

    def __init__(
        self,
        service: str,
        region: str,
        endpoint: str | None = None,
        credentials: CredentialSource | None = None,
        *,
        limits: Limits = Limits(),  # noqa: B008 - it never changes
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.service = service
        self.region = region
        self._endpoint = (endpoint or configured_endpoint(service)).rstrip("/")
        self._credentials = credentials or find_credentials()
        self._limits = limits
        self._sleep = sleep
        self._skew = timedelta()
        self._open: dict[str, tuple[http.client.HTTPConnection, float]] = {}

    def json(self, target: str, payload: Mapping[str, Any], version: str = "1.0") -> dict[str, Any]:
        """Call `target` (`AmazonSQS.SendMessage`) and return its answer.

        Raises TryAgain for what may pass (after retrying), AwsError for what will not.
        """
        found: dict[str, Any] = json.loads(self.call(target, json.dumps(payload).encode(), version) or b"{}")
        return found

    def call(self, target: str, payload: bytes, version: str = "1.0") -> bytes:
        """`json` for who brings a faster serialiser: JSON in, JSON out, both as bytes."""
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
        return self._call(_Request(target, "POST", self._host(), "/", headers, payload)).body

    def get(self, bucket: str, key: str, *, etag: str = "", attempts: int = ATTEMPTS) -> Stored | None:
        """An S3 object, or None if it is still the one with `etag`.

        Raises as `json` does; an absent object is an AwsError with code NoSuchKey.
        """
        headers = {"if-none-match": etag} if etag else {}
        answer = self._call(_Request("GetObject", "GET", *self._place(bucket, key), headers, b""), attempts)
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return None
        return Stored(answer.body, answer.headers.get("etag", ""))

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        content_type: str = "application/octet-stream",
        encoding: str = "",
        *,
        absent: bool = False,
    ) -> None:
        """Store an S3 object; returns once it is durable. Raises as `json` does.

        `absent`: only where there is none yet; else an AwsError with code PreconditionFailed.
        """
        headers = {"content-type": content_type} | ({"content-encoding": encoding} if encoding else {})
        headers |= {"if-none-match": "*"} if absent else {}
        self._call(_Request("PutObject", "PUT", *self._place(bucket, key), headers, body))

    def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        while self._open:
            self._open.popitem()[1][0].close()

    def _host(self, bucket: str = "") -> str:
        """Scheme and host of the service, or of a bucket of its own."""
        if self._endpoint:
            return self._endpoint
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        host = f"{self.service}.{self.region}.{domain}"
        return f"https://{bucket}.{host}" if bucket else f"https://{host}"

    def _place(self, bucket: str, key: str) -> tuple[str, str]:
        path = "/" + quote(key, safe="/~")
        # A bucket's dots would not be covered by AWS's certificate.
        by_path = self._endpoint or "." in bucket
        return (self._host(), f"/{bucket}{path}") if by_path else (self._host(bucket), path)

    def _call(self, request: _Request, attempts: int = ATTEMPTS) -> _Answer:
        end = time.monotonic() + self._limits.call
        problem = "no time left"
        for attempt in range(attempts):
            if attempt:
                self._sleep(random.uniform(0, min(2.0, 0.1 * 2**attempt)))  # noqa: S311  jitter, not a secret
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                answer = self._exchange(self._signed(request), left)
            except (OSError, http.client.HTTPException) as exc:
                problem = type(exc).__name__
                continue
            if answer.status < HTTPStatus.MULTIPLE_CHOICES or answer.status == HTTPStatus.NOT_MODIFIED:
                return answer
            problem = answer.code
            if problem in EXPIRED:
                self._credentials.renew()
            elif not answer.may_pass() and not (problem in WRONG_TIME and self._correct_clock(answer)):
                raise AwsError(self.service, request.action, problem, answer.status)
        raise TryAgain(f"{self.service} {request.action}: {problem}")

    def _signed(self, request: _Request) -> _Request:
        headers = sign(
            method=request.method,
            path=request.path,
            headers={"host": urlsplit(request.base).netloc, **request.headers},
            body=request.body,
            credentials=self._credentials.current(),
            service=self.service,
            region=self.region,
            now=datetime.now(UTC) + self._skew,
        )
        return request._replace(headers=headers)

    def _correct_clock(self, answer: _Answer) -> bool:
        """Take over AWS's time if ours is off by more than it tolerates; False if that was not the matter."""
        try:
            theirs = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError):
            return False
        ours = datetime.now(UTC)
        if abs(theirs - ours - self._skew) <= CLOCK_TOLERANCE:
            return False
        self._skew = theirs - ours
        return True

    def _exchange(self, request: _Request, left: float) -> _Answer:
        connection, fresh = self._connect(request.base, left)
        try:
            return self._ask(connection, request)
        except ConnectionError:
            # The other side may close a kept-alive connection at any moment; only a fresh one's failure counts.
            if fresh:
                raise
        connection, _ = self._connect(request.base, left)
        return self._ask(connection, request)

    def _ask(self, connection: http.client.HTTPConnection, request: _Request) -> _Answer:
        try:
            connection.request(request.method, request.path, body=request.body, headers=request.headers)
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            # Half an exchange must never be read as the answer to the next one.
            connection.close()
            raise
        # Another thread may have left its connection in the meantime: one is kept.
        if response.will_close or self._open.setdefault(request.base, (connection, time.monotonic()))[0] != connection:
            connection.close()
        return _Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)

    def _connect(self, base: str, left: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection to `base` and whether it is a new one."""
        connection, used_at = self._open.pop(base, (None, 0.0))
        if connection is not None and connection.sock is not None:
            # Readable while nothing was asked: the other side has closed it.
            closed = select.select([connection.sock], [], [], 0)[0]
            if not closed and time.monotonic() - used_at < IDLE_SECONDS:
                connection.sock.settimeout(min(self._limits.read, left))
                return connection, False
            connection.close()
        url = urlsplit(base)
        timeout = min(CONNECT_SECONDS, left)
        connection = (
            http.client.HTTPSConnection(url.hostname or "", url.port, timeout=timeout, context=_tls())
            if url.scheme == "https"
            else http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
        )
        connection.connect()
        connection.sock.settimeout(min(self._limits.read, left))
        return connection, True


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificate store is dear."""
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))


def configured_endpoint(service: str) -> str:
    """What the environment says of a service's address, or nothing."""
    own = SERVICE_IDS.get(service, service.upper())
    return os.environ.get(f"AWS_ENDPOINT_URL_{own}") or os.environ.get("AWS_ENDPOINT_URL", "")
