"""Schedule, or by hand (`{"feed": …, "sink": …, "at_once": true, "names": [to send again]}`) -> files to the sinks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.errors import TryAgain
from espial.logs import logger, metrics
from espial.reporting import count_delivered
from espial.services.deliver_feed import deliver_all, resend_all
from espial.settings import DeliverFeedSettings

tracer = Tracer()
settings = DeliverFeedSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> list[dict[str, Any]]:
    time_left = context.get_remaining_time_in_millis
    deliveries = wiring.deliveries(settings, feed=event.get("feed"), sink=event.get("sink"))
    if names := event.get("names"):
        outcomes = resend_all(deliveries, names, time_left)
        metrics.add_metric("feed.resent", MetricUnit.Count, sum(outcome.files for outcome in outcomes))
    else:
        outcomes = list(deliver_all(deliveries, time_left, at_once=event.get("at_once") is True))
        count_delivered(outcomes, datetime.now(UTC))
    for outcome in outcomes:
        if outcome.outcome != "nothing":
            logger.info("feed.delivered", extra=outcome.plain())
    if any(outcome.outcome == "try_again" for outcome in outcomes):
        raise TryAgain("it could not be read or noted how far some sinks are")  # for the alarm
    return [outcome.plain() for outcome in outcomes]
