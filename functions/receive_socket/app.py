"""A frame of a WebSocket: one tracking call, checked, queued and answered on the same socket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from espial import wiring
from espial.edge import counted
from espial.logs import logger, metrics
from espial.services.receive_socket import receive_frame
from espial.settings import ReceiverSettings

settings: ReceiverSettings = wiring.receiver_settings()
connections = wiring.connections(settings.store_bucket)
queue = wiring.raw_queue()


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    return counted(
        lambda: receive_frame(event, connections, queue, public_url=settings.public_url, now=datetime.now(UTC))
    )
