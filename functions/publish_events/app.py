"""EventsTable's stream -> EventBus: what was recorded, where something wants it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.services.ledger import note_published
from espial.services.publish_events import publish
from espial.settings import PublishEventsSettings

tracer = Tracer()
settings = PublishEventsSettings.from_env()
everything = settings.publish_everything == "true"


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    outcome = publish(
        event["Records"],
        bus=wiring.event_bus(settings.event_bus),
        wanted=None if everything else wiring.wanted(settings.store_bucket).current(),
    )
    totals = {"published": 0, **outcome.totals()}
    for verdict, count in totals.items():
        metrics.add_metric(f"bus.{verdict}", MetricUnit.Count, count)
    logger.info("events.published", extra=totals)
    if outcome.unreadable:
        logger.error("stream.unreadable", extra={"sequence_numbers": outcome.unreadable})
    unnoted = note_published(wiring.ledger(settings.events_table), outcome.said, datetime.now(UTC))
    log_failures("ledger.retried", unnoted)
    again = [event["Records"][0]["dynamodb"]["SequenceNumber"]] if unnoted else outcome.failed[:1]
    # Lambda goes on from the first failure it is told; what is published twice is one to whoever receives it.
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in again]}
