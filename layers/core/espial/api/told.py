"""What is counted and logged of an answer: the route and the status, nobody's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from espial.logs import logger, metrics


def told(event: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, once it is told of."""
    metrics.add_metric(f"api.{answer['statusCode'] // 100}xx", MetricUnit.Count, 1)
    logger.info("api.answered", extra={"route": event["routeKey"], "status": answer["statusCode"]})
    return answer
