"""Accept a platform's webhook: find who it claims to be, prove it, make it durable, answer (DESIGN 4, verdicts)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from espial import sources
from espial.deliveries import Connection, RawDelivery, Reply
from espial.errors import SignatureError, TryAgain, UnknownConnection
from espial.gateway import Outcome, Refusal, Request, retry_after, url_of

if TYPE_CHECKING:  # at run time the ports would bring the whole event model
    from espial.ports import Connections, DeliveryQueue

MAX_BODY = 6_000_000
"""Bytes. Lambda takes 6 MiB with everything around the body, so what is bigger cannot arrive there whole."""

ACCEPTED = Reply(body='{"accepted":true}', headers={"content-type": "application/json"})


def receive_webhook(
    request: Request, connections: Connections, queue: DeliveryQueue, *, public_url: str, now: datetime
) -> Outcome:
    """The verdict on one request to `/in/{platform}/{connection}`; 200 only once it is durable.

    404 unknown or disabled, 413 too big, 405 neither a delivery nor the platform's probe, 401 not proven (nothing
    kept, nothing explained), 503 when queue or secrets are away.
    """
    connection: Connection | None = None
    detail = ""
    try:
        connection = connections.find(request.path["platform"], request.path["connection"])
        delivery = _delivery(request, connection, public_url, now)
        reply, reason = _admit(delivery, connection, connections, queue, now)
    except UnknownConnection:
        reply, reason = Reply(status=404), "unknown_connection"
    except SignatureError as exc:
        reply, reason, detail = Reply(status=401), "bad_signature", str(exc)
    except TryAgain as exc:
        reply, reason, detail = Reply(status=503, headers=retry_after(exc)), "try_again", str(exc)
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


def _admit(
    delivery: RawDelivery, connection: Connection, connections: Connections, queue: DeliveryQueue, now: datetime
) -> tuple[Reply, str]:
    source = sources.load(connection.platform)
    if len(delivery.body) > MAX_BODY:
        raise Refusal(413, "too_large", f"over {MAX_BODY} bytes")
    secrets = connections.secrets(connection)
    if source.handshake and (reply := source.handshake(delivery, secrets)):
        return reply, "handshake"
    if delivery.method != "POST":
        raise Refusal(405, "method_not_allowed", "neither POST nor the platform's probe", {"allow": "POST"})
    if not connection.unsigned:
        source.verify(delivery, secrets, now, max_age=connection.settings.get("max_age_seconds"))
    queue.put(delivery)
    return ACCEPTED, "accepted"
