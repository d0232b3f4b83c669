"""AWS Signature Version 4 with the standard library: the header form, the whole body signed.

Source: AWS General Reference, "Signature Version 4 signing process"; proven by the published test vectors
and against botocore. Why not the SDK's: docs/decisions/0001-receiver-without-sdk.md.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """An access key; `token` is empty for a long-lived one, `expires_at` is epoch seconds."""

    access_key: str
    secret_key: str
    token: str = ""
    expires_at: float = math.inf


def sign(
    *,
    method: str,
    path: str,
    headers: Mapping[str, str],
    credentials: Credentials,
    service: str,
    region: str,
    now: datetime,
    query: str = "",
    body: bytes = b"",
) -> dict[str, str]:
    """The headers to send, lower-cased: those given, the date, the session token and the authorization.

    `path` and `query` are percent-encoded as sent, the path without dot segments; `headers` must hold `host`,
    and every one of them is signed. S3 gets the body's hash as a header, as it demands.
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    body_hash = hashlib.sha256(body).hexdigest()
    sent = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    sent["x-amz-date"] = stamp
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    if service == "s3":
        sent["x-amz-content-sha256"] = body_hash
    names = sorted(sent)
    signed = ";".join(names)
    canonical = "\n".join(
        (
            method,
            # Every service but S3 signs the path encoded once more than it is sent.
            path if service == "s3" else quote(path, safe="/~"),
            "&".join("=".join(pair) for pair in sorted(_pairs(query))),
            *(f"{name}:{sent[name]}" for name in names),
            "",
            signed,
            body_hash,
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_key(credentials.secret_key, stamp[:8], region, service), text.encode(), "sha256").hex()
    sent["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return sent


def _pairs(query: str) -> list[tuple[str, str]]:
    found = (part.partition("=") for part in query.split("&") if part)
    return [(name, value) for name, _, value in found]


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    """One key a day, region and service: four of the five HMACs are paid once."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
