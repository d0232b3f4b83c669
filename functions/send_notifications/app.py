"""OutgoingQueue (a destination's name) -> its address or mailbox: what waits for it. By the clock, all names queued."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.errors import TryAgain
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.settings import SendNotificationsSettings

tracer = Tracer()
settings = SendNotificationsSettings.from_env()
published = wiring.published(settings.store_bucket)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    pushed = {one.name: one for one in published.destinations() if one.is_pushed and one.enabled}
    failures: dict[str, Exception] = {}
    tally: Counter[str] = Counter()
    if "Records" in event:
        for record in event["Records"]:  # one, so that a receiver that hangs holds up nobody else
            destination = pushed.get(record["body"])
            try:
                if destination:
                    worker = wiring.worker(destination.process, settings, context.get_remaining_time_in_millis)
                    tally += worker.work(destination)
            except TryAgain as exc:
                failures[record["messageId"]] = exc
            logger.info("notifications.posted", extra={"destination": record["body"], "counts": dict(tally)})
    else:
        wiring.outgoing_queue(settings.outgoing_queue_url).poke(pushed)
    for outcome in ("delivered", "failed", "gone", "given_up"):
        metrics.add_metric(f"notifications.{outcome}", MetricUnit.Count, tally[outcome])
    log_failures("notifications.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failures]}
