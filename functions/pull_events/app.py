"""Schedule -> event streams that have to be read (Airship) -> RawQueue, from where the last run stopped."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.errors import EspialError
from espial.logs import logger, metrics
from espial.services.pull_events import Clock
from espial.settings import PullEventsSettings

tracer = Tracer()
settings = PullEventsSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(_event: dict[str, Any], context: Any) -> dict[str, Any]:
    clock = Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep, context.get_remaining_time_in_millis)
    found = wiring.puller(settings).run(clock)
    for one in found:
        logger.info("stream.pulled", extra=one._asdict())
    metrics.add_metric("stream.lines", MetricUnit.Count, sum(one.lines for one in found))
    metrics.add_metric("stream.restarted", MetricUnit.Count, sum(one.restarted for one in found))
    if refused := [one.connection for one in found if one.outcome == "refused"]:
        raise EspialError(f"refused: {', '.join(refused)}")  # for the alarm: nobody would notice otherwise
    return {one.connection: one.outcome for one in found}
