"""Posting a delivery as its platform would."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import httpx

from espial.cli.stack import Failed
from espial.deliveries import RawDelivery

TIMEOUT_SECONDS = 30


def post(delivery: RawDelivery, address: str, client: httpx.Client | None = None) -> tuple[httpx.Response, float]:
    """The answer and how long it took, in milliseconds. Raises Failed when there is none.

    `address` is where the connection's webhook is reached from here; the delivery's own `url`, which its signature
    may cover, is the public one and gives the query.
    """
    query = urlsplit(delivery.url).query
    url, headers = (f"{address}?{query}" if query else address), dict(delivery.headers)
    parts = urlsplit(url)
    if parts.hostname and parts.hostname.endswith(".localhost"):  # not every resolver knows these names
        headers = {**headers, "host": parts.netloc}
        url = parts._replace(netloc=f"127.0.0.1:{parts.port or 80}").geturl()
    send = client.request if client else httpx.request
    started = time.monotonic()
    try:
        answer = send(delivery.method, url, headers=headers, content=delivery.body, timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Failed(f"{address}: no answer: {exc}") from exc
    return answer, (time.monotonic() - started) * 1000
