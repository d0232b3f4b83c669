"""Schedule, or by hand (`{"feed": …, "at_once": true}`) -> the files of each feed from EventsTable's stream."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import count_written, log_failures
from espial.services.write_feed import batches
from espial.settings import WriteFeedSettings

tracer = Tracer()
settings = WriteFeedSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    failures: dict[str, Exception] = {}
    gaps = 0
    for writer in wiring.feed_writers(settings, lambda: datetime.now(UTC), feed=event.get("feed")):
        try:
            for written in batches(writer, context.get_remaining_time_in_millis, at_once=event.get("at_once") is True):
                outcomes[writer.feed.name] = written.outcome
                count_written(written)
                gaps += written.batch is not None and written.batch.gap
        except Exception as exc:  # noqa: BLE001  one feed must not stop the others
            failures[writer.feed.name] = exc
    metrics.add_metric("feed.gaps", MetricUnit.Count, gaps)
    metrics.add_metric("feed.failed", MetricUnit.Count, len(failures))
    log_failures("feed.failed", failures)
    return outcomes
