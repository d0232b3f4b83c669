"""Schedule (or by hand, `{"days": 30, "retry_failed": true}`) -> files left lying are split, the ledger is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.ledger import plain
from espial.logs import logger, metrics
from espial.services.ledger import unbalanced
from espial.services.sweep_exports import DAYS, sweep
from espial.settings import SweepExportsSettings

tracer = Tracer()
settings = SweepExportsSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    swept = sweep(
        settings.exports_bucket,
        splitter=wiring.splitter(settings, now),
        objects=wiring.export_objects(),
        ledger=wiring.export_ledger(settings.events_table),
        now=now,
        time_left=context.get_remaining_time_in_millis,
        days=int(event.get("days", DAYS)),
        retry_failed=event.get("retry_failed") is True,
    )
    metrics.add_metric("export.swept", MetricUnit.Count, sum(swept.outcomes.values()))
    wrong = unbalanced(wiring.ledger(settings.events_table), now, context.get_remaining_time_in_millis)
    metrics.add_metric("ledger.unbalanced", MetricUnit.Count, len(wrong))
    for balance in wrong:
        logger.error("ledger.unbalanced", extra=plain(balance, now))
    found = {"listed": swept.listed, "complete": swept.complete, "outcomes": dict(swept.outcomes)}
    found["unbalanced"] = [balance.source for balance in wrong]
    logger.info("exports.swept", extra=found)
    return found
