"""What several platforms demand alike: access tokens, Basic credentials, texts that nothing is left to read in."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Told, basic

SECONDS = 1079


def token_of(secrets: Mapping[str, str]) -> str:
    """The one that is good while the secret is."""
    return sha256(secrets["client_secret"].encode()).hexdigest()


def granted(said: Mapping[str, Any] | None, secrets: Mapping[str, str]) -> Reply:
    """The answer to a request for a token."""
    asked = said or {}
    if asked.get("grant_type") != "client_credentials" or not asked.get("client_id"):
        return Reply(400, {"error": "invalid_request", "error_description": "A parameter is missing."})
    if asked.get("client_secret") != secrets["client_secret"]:
        return Reply(401, {"error": "invalid_client", "error_description": "Invalid client ID or secret."})
    return Reply(200, {"access_token": token_of(secrets), "token_type": "Bearer", "expires_in": SECONDS})


def is_granted(told: Told, secrets: Mapping[str, str]) -> bool:
    """Whether the request shows the token."""
    return told.headers.get("authorization") == f"Bearer {token_of(secrets)}"


def user_of(told: Told) -> str:
    """Who shows Basic credentials. Raises ValueError for what are none."""
    return b64decode(told.headers.get("authorization", "").removeprefix("Basic ")).decode().partition(":")[0]


def by_anybody(secret: str) -> Callable[[Told, Mapping[str, str]], bool]:
    """Basic credentials of whatever account."""
    return lambda told, secrets: user_of(told) != "" and basic(told, user_of(told), secrets[secret])


def is_finished(text: str) -> bool:
    """Whether there is no Liquid in it but braces to print."""
    return not re.search(r"\{[{%]", re.sub(r"\{\{ '\{' \}\}", "", text))
