"""ANY /{page}/{token}: what readers of our mails ask for: preferences, unsubscribing, tracked links and pixels."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.gateway import read
from espial.logs import logger, metrics
from espial.services.serve_pages import answer
from espial.settings import ServePagesSettings

tracer = Tracer()
settings = ServePagesSettings.from_env()
pages = wiring.pages(settings)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    outcome = pages.serve(read(event))
    metrics.add_metric(f"pages.{outcome.reason}", MetricUnit.Count, 1)
    logger.info("pages.answered", extra=outcome.log_fields())
    return answer(outcome)
