"""Where the access key comes from in Lambda: the environment, or the container endpoint (SnapStart, ECS)."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from espial.errors import EspialError, TryAgain
from espial.stores.sigv4 import Credentials

REFRESH_BEFORE = 300.0
"""Seconds before expiry at which new credentials are asked for; until then a failed refresh does no harm."""

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Where credentials may be fetched without TLS: loopback and the addresses of the container agents."""


class CredentialSource(Protocol):
    """Credentials that may change while the process lives."""

    def current(self) -> Credentials:
        """Raises TryAgain when they cannot be had at this moment."""
        ...

    def renew(self) -> None:
        """AWS called the current ones expired: forget them."""
        ...


class EnvironmentCredentials:
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, read anew each time."""

    def current(self) -> Credentials:
        env = os.environ
        return Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", ""))

    def renew(self) -> None:
        """Only whoever set the environment can."""


class ContainerCredentials:
    """AWS_CONTAINER_CREDENTIALS_FULL_URI, with AWS_CONTAINER_AUTHORIZATION_TOKEN or its _FILE form."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._url = urlsplit(env["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        if self._url.scheme != "https" and self._url.hostname not in LOCAL_HOSTS:
            raise EspialError("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https or a container agent's address")
        self._held: Credentials | None = None

    def current(self) -> Credentials:
        """Fetched on first use and again before they expire; valid ones serve while the endpoint is away."""
        left = self._held.expires_at - time.time() if self._held else 0.0
        if self._held is None or left < REFRESH_BEFORE:
            try:
                self._held = self._fetch()
            except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
                if left <= 0 or self._held is None:
                    raise TryAgain(f"no credentials from the container endpoint: {type(exc).__name__}") from exc
        return self._held

    def renew(self) -> None:
        self._held = None

    def _fetch(self) -> Credentials:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=2)
        try:
            connection.request("GET", self._url._replace(scheme="", netloc="").geturl() or "/", headers=self._token())
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        found = json.loads(body)
        return Credentials(
            found["AccessKeyId"],
            found["SecretAccessKey"],
            found["Token"],
            datetime.fromisoformat(found["Expiration"]).timestamp(),
        )

    def _token(self) -> dict[str, str]:
        file = self._env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        # The file's content is rotated, so it is read for every fetch.
        token = Path(file).read_text().strip() if file else self._env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        return {"Authorization": token} if token else {}


def find_credentials(env: Mapping[str, str] | None = None) -> CredentialSource:
    """The environment's choice. Raises EspialError when it names neither."""
    env = os.environ if env is None else env
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        return EnvironmentCredentials()
    if env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return ContainerCredentials(env)
    raise EspialError("no AWS credentials: set AWS_ACCESS_KEY_ID or AWS_CONTAINER_CREDENTIALS_FULL_URI")
