"""ANY /in/{platform}/{connection}: a platform's webhook, verified, queued and answered; and SessionM's REST calls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from espial import wiring
from espial.edge import serve
from espial.gateway import Outcome, Request
from espial.logs import logger, metrics
from espial.services.receive_webhook import receive_webhook

# In the init phase, which has a whole processor: only the connection itself is left to the first request.
settings = wiring.receiver_settings()
connections = wiring.connections(settings.store_bucket)
queue = wiring.raw_queue()
outside = wiring.outside()


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    return serve(event, _receive)


def _receive(request: Request) -> Outcome:
    now = datetime.now(UTC)
    if "platform" not in request.path:
        from espial.services.receive_sessionm import receive_sessionm  # noqa: PLC0415  webhooks do without it

        return receive_sessionm(request, connections, queue, wiring.requests(), public_url=settings.public_url, now=now)
    return receive_webhook(request, connections, queue, outside, public_url=settings.public_url, now=now)
