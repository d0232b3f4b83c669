"""Schedule -> who enters a trigger by its schedule, a date or a segment; what a lost event would have started."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import count_runs
from espial.settings import EnterPeopleSettings

tracer = Tracer()
settings = EnterPeopleSettings.from_env()
published = wiring.published(settings.store_bucket)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(_event: dict[str, Any], context: Any) -> dict[str, int]:
    entrance = wiring.entrance(
        settings, lambda: datetime.now(UTC), lambda: context.get_remaining_time_in_millis() / 1000
    )
    tally = entrance.enter(published.walking(), published.version)
    count_runs(tally)
    entered = {f"{trigger}.{outcome}": count for (trigger, outcome), count in tally.items()}
    looks = sum(count for (_, what), count in tally.items() if what == "looked_at")
    metrics.add_metric("people.looked_at", MetricUnit.Count, looks)
    logger.info("people.entered", extra={"runs": entered})
    return entered
