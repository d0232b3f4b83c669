"""NotifyQueue (events from the bus) -> what waits for each destination that wants to know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.services.ledger import note_arrived
from espial.settings import RouteNotificationsSettings

tracer = Tracer()
settings = RouteNotificationsSettings.from_env()
router = wiring.router(settings)
published = wiring.published(settings.store_bucket)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    bodies = {record["messageId"]: record["body"] for record in event["Records"]}
    routed = router.route_messages(bodies, published.destinations(), now)
    unnoted = note_arrived(wiring.ledger(settings.events_table), "route_notifications", routed.happened, now)
    failures = routed.failures | unnoted
    put = {".".join(of): count for of, count in routed.tally.items()}
    metrics.add_metric("notifications.put", MetricUnit.Count, routed.tally.total())
    logger.info("events.routed", extra={"events": len(routed.happened), "notifications": put})
    log_failures("event.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failures]}
