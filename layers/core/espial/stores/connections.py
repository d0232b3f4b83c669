"""The connections that `espial apply` published, and their secrets: read seldom, served stale when AWS is away."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from espial.deliveries import Connection
from espial.errors import EspialError, TryAgain, UnknownConnection
from espial.stores.aws_http import ATTEMPTS, AwsClient, AwsError

ACTIVE_KEY = "definitions/active.json"
REVALIDATE_SECONDS = 30.0
SECRET_SECONDS = 300.0
MISS_SECONDS = 2.0
"""How old the copy may be on which a name is called unknown: what was applied a moment ago must not be answered 404."""
RETRY_SECONDS = 5.0
"""How long a stale copy serves before the next try: an outage must not cost every request a time-out."""

GONE = frozenset({"ResourceNotFoundException", "InvalidRequestException", "ParameterNotFound"})
"""The secret does not exist, or is marked for deletion: it no longer proves anything."""

log = logging.getLogger(__name__)


class _Held(NamedTuple):
    value: bytes
    due: float


class PublishedConnections:
    """Implements `ports.Connections` over S3, Secrets Manager and the parameter store.

    `aws` makes the client of a service, on first use; `clock` is monotonic seconds.
    """

    def __init__(
        self, aws: Callable[[str], AwsClient], bucket: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._aws = aws
        self._bucket = bucket
        self._clock = clock
        self._connections: dict[str, Connection] | None = None
        self._etag = ""
        self._due = self._due_if_missed = 0.0
        self._secrets: dict[str, _Held] = {}

    def find(self, platform: str, name: str) -> Connection:
        """Raises UnknownConnection; TryAgain when nothing was ever loaded and the store is away."""
        for missed in (False, True):
            connection = self._current(missed=missed).get(name)
            if connection is not None and connection.platform == platform and connection.enabled:
                return connection
        raise UnknownConnection("no such connection is configured and enabled")

    def of_platform(self, platform: str, *, missed: bool = False) -> Sequence[Connection]:
        """See `ports.Connections.of_platform`."""
        return [c for c in self._current(missed=missed).values() if c.platform == platform and c.enabled]

    def secrets(self, connection: Connection) -> Sequence[bytes]:
        """The accepted secrets, in the order the connection lists them.

        One that no longer exists is passed over. Raises TryAgain when one cannot be read and was never read, or
        when none is left: to refuse what might be proven would lose it.
        """
        found = [value for reference in connection.secrets if (value := self._secret(reference)) is not None]
        if connection.secrets and not found:
            raise TryAgain(f"no secret of connection {connection.name} exists", after=RETRY_SECONDS)
        return found

    def _current(self, *, missed: bool = False) -> Mapping[str, Connection]:
        now = self._clock()
        if self._connections is None or now >= (self._due_if_missed if missed else self._due):
            held = self._connections is not None
            try:
                stored = self._aws("s3").get(
                    self._bucket, ACTIVE_KEY, etag=self._etag, attempts=1 if held else ATTEMPTS
                )
                if stored is not None:
                    self._connections, self._etag = _read(stored.body), stored.etag
                self._due, self._due_if_missed = now + REVALIDATE_SECONDS, now + MISS_SECONDS
            except (EspialError, ValueError) as exc:
                self._keep_stale(exc)
                self._due = self._due_if_missed = now + RETRY_SECONDS
        return self._connections or {}

    def _keep_stale(self, exc: Exception) -> None:
        if self._connections is not None:
            log.warning("connections.stale: %s", type(exc).__name__)
            return
        if isinstance(exc, AwsError) and exc.code == "NoSuchKey":
            # Not "unknown connection": a platform that posts before the first apply must come back.
            raise TryAgain("nothing was ever applied", after=RETRY_SECONDS) from exc
        raise TryAgain(f"the connections cannot be read: {exc}") from exc

    def _secret(self, reference: str) -> bytes | None:
        now = self._clock()
        held = self._secrets.get(reference)
        if held and now < held.due:
            return held.value
        try:
            value = self._fetch(reference)
        except AwsError as exc:
            if exc.code in GONE:
                self._secrets.pop(reference, None)
                log.warning("secret.gone: %s", reference)
                return None
            value = self._stale(reference, held, exc)
            self._secrets[reference] = _Held(value, now + RETRY_SECONDS)
        except TryAgain as exc:
            value = self._stale(reference, held, exc)
            self._secrets[reference] = _Held(value, now + RETRY_SECONDS)
        else:
            self._secrets[reference] = _Held(value, now + SECRET_SECONDS)
        return value

    def _stale(self, reference: str, held: _Held | None, exc: Exception) -> bytes:
        if held is None:
            raise TryAgain(f"{reference} cannot be read: {exc}") from exc
        log.warning("secret.stale: %s", reference)
        return held.value

    def _fetch(self, reference: str) -> bytes:
        """The value as it is stored, without white space around it."""
        store, _, name = reference.partition(":")
        if store == "secretsmanager":
            answer = self._aws(store).json("secretsmanager.GetSecretValue", {"SecretId": name}, "1.1")
            text = answer.get("SecretString")
            return (b64decode(answer["SecretBinary"]) if text is None else str(text).encode()).strip()
        if store == "ssm":
            answer = self._aws(store).json("AmazonSSM.GetParameter", {"Name": name, "WithDecryption": True}, "1.1")
            return str(answer["Parameter"]["Value"]).encode().strip()
        raise EspialError(f"secret reference {reference!r} is neither secretsmanager:NAME nor ssm:NAME")


def _read(body: bytes) -> dict[str, Connection]:
    """The readable connections of active.json: one that is not must not take the others away."""
    published: Mapping[str, Mapping[str, Any]] = json.loads(body)["connections"]
    found = {}
    for name, data in published.items():
        try:
            found[name] = Connection.from_dict({"name": name, **data})
        except (TypeError, KeyError):
            log.exception("connections.unreadable: %s", name)
    return found
