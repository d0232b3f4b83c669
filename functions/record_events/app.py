"""RawQueue -> EventsTable: deliveries archived, split, normalised and inserted if absent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import count_outcomes, log_failures
from espial.services.ledger import note_deliveries
from espial.services.record_events import read_messages, record
from espial.settings import RecordEventsSettings

tracer = Tracer()
settings = RecordEventsSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    deliveries, failures = read_messages(event["Records"], wiring.spilled(settings.store_bucket))
    # One that was queued twice, as the receiver was not told of the first time, is one.
    batch, now = list({delivery.delivery_id: delivery for delivery in deliveries.values()}.values()), datetime.now(UTC)
    tally = record(
        batch,
        connections=wiring.connections(settings.store_bucket),
        store=wiring.events_table(settings.events_table),
        archive=wiring.archive(settings.store_bucket),
        quarantine=wiring.quarantine(settings.store_bucket),
        now=now,
    )
    note_deliveries(wiring.ledger(settings.events_table), batch, tally, now)
    again = [message for message, delivery in deliveries.items() if delivery.delivery_id in tally.failures]
    metrics.add_metric("deliveries.recorded", MetricUnit.Count, len(event["Records"]) - len(failures) - len(again))
    count_outcomes(tally)
    logger.info("events.recorded", extra={"deliveries": len(deliveries), "retried": len(again), **tally.totals()})
    log_failures("delivery.retried", {**failures, **tally.failures})
    return {"batchItemFailures": [{"itemIdentifier": message} for message in (*failures, *again)]}
