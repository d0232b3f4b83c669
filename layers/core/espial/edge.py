"""What the receiving functions do around their service: read the request, count and log the outcome, answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from espial.deliveries import Reply
from espial.gateway import Outcome, Request, answer, read
from espial.logs import logger, metrics, where

ACCEPTED = frozenset({"accepted", "confirmed", "handshake"})


def serve(event: Mapping[str, Any], receive: Callable[[Request], Outcome]) -> dict[str, Any]:
    """The answer to a request, as API Gateway gives it."""
    return counted(lambda: receive(read(event)))


def counted(receive: Callable[[], Outcome]) -> dict[str, Any]:
    """The answer to whatever came. What `receive` raises is our fault: 500, so that the platform tries again.

    Metrics: webhook.accepted, webhook.confirmed, webhook.handshake, webhook.refused by reason.
    """
    try:
        outcome = receive()
    except Exception as exc:  # noqa: BLE001  no traceback must reach the platform, and no message of one the log
        outcome = Outcome(Reply(status=500), "internal_error", detail=where(exc))
    if outcome.reason in ACCEPTED:
        metrics.add_metric(f"webhook.{outcome.reason}", MetricUnit.Count, 1)
        logger.info(f"webhook.{outcome.reason}", extra=outcome.log_fields())
    else:
        metrics.add_dimension("reason", outcome.reason)
        metrics.add_metric("webhook.refused", MetricUnit.Count, 1)
        level = logger.error if outcome.reply.status >= 500 else logger.warning
        level("webhook.refused", extra=outcome.log_fields())
    return answer(outcome.reply)
