"""Accept a platform's webhook: find who it claims to be, prove it, make it durable, answer (DESIGN 4, verdicts)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from espial import sources
from espial.deliveries import Connection, RawDelivery, Reply
from espial.errors import SignatureError, TryAgain, UnknownConnection
from espial.gateway import Outcome, Refusal, Request, retry_after, url_of

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections, DeliveryQueue, Outside
    from espial.sources import Source

MAX_BODY = 6_000_000
"""Bytes. Lambda takes 6 MiB with everything around the body, so what is bigger cannot arrive there whole."""

ACCEPTED = Reply(body='{"accepted":true}', headers={"content-type": "application/json"})


def receive_webhook(
    request: Request,
    connections: Connections,
    queue: DeliveryQueue,
    outside: Outside,
    *,
    public_url: str,
    now: datetime,
) -> Outcome:
    """The verdict on one request to `/in/{platform}/{connection}`; 200 only once it is durable.

    404 unknown or disabled, 413 too big, 405 neither a delivery nor the platform's probe, 401 not proven (or what
    the platform takes for "again"; nothing kept, nothing explained), 503 when queue, secrets or keys are away.
    """
    connection: Connection | None = None
    detail, unproven, busy = "", 401, 503
    try:
        connection = connections.find(request.path["platform"], request.path["connection"])
        delivery = _delivery(request, connection, public_url, now)
        source = sources.of(connection)
        unproven, busy = source.unproven, source.busy
        reply, reason = _admit(
            source, delivery, connection, connections=connections, queue=queue, outside=outside, now=now
        )
    except UnknownConnection:
        reply, reason = Reply(status=404), "unknown_connection"
    except SignatureError as exc:
        reply, reason, detail = Reply(status=unproven), "bad_signature", str(exc)
    except TryAgain as exc:
        reply, reason, detail = Reply(status=busy, headers=retry_after(exc)), "try_again", str(exc)
    except Refusal as exc:
        reply, reason = Reply(status=exc.status, headers=exc.headers), exc.reason
    return Outcome.of(reply, reason, connection, len(request.body), detail)


def _delivery(request: Request, connection: Connection, public_url: str, now: datetime) -> RawDelivery:
    return RawDelivery(
        delivery_id=request.id,
        platform=connection.platform,
        connection=connection.name,
        transport="webhook",
        body=request.body,
        received_at=now,
        headers=request.headers,
        method=request.method,
        url=url_of(request, connection.public_url or f"{public_url}/in/{connection.platform}/{connection.name}"),
        mode=connection.mode,
    )


def _without_secret(delivery: RawDelivery, connection: Connection) -> RawDelivery:
    """The header that the connection's setting says to hold its secret is not kept."""
    named = connection.settings.get("secret_header")
    if not isinstance(named, str):
        return delivery
    kept = {name: value for name, value in delivery.headers.items() if name != named.lower()}
    return replace(delivery, headers=kept)


def _admit(
    source: Source,
    delivery: RawDelivery,
    connection: Connection,
    *,
    connections: Connections,
    queue: DeliveryQueue,
    outside: Outside,
    now: datetime,
) -> tuple[Reply, str]:
    if len(delivery.body) > MAX_BODY:
        raise Refusal(413, "too_large", f"over {MAX_BODY} bytes")
    secrets = connections.secrets(connection)
    if source.handshake and (reply := source.handshake(delivery, secrets)):
        return reply, "handshake"
    if delivery.method not in source.methods:
        allow = {"allow": ", ".join(sorted(source.methods))}
        raise Refusal(405, "method_not_allowed", "neither a report nor the platform's probe", allow)
    if not connection.unsigned:
        named = () if secrets else source.verify.key_urls(delivery)
        keys = [outside.fetch(url) for url in named]
        source.verify(delivery, (*secrets, *keys), now, settings=connection.settings)
        if source.confirm and (url := source.confirm(delivery, connection.settings)):
            outside.fetch(url)
            return ACCEPTED, "confirmed"
    queue.put(_without_secret(delivery, connection))
    return (source.accepted(delivery) if source.accepted else ACCEPTED), "accepted"
