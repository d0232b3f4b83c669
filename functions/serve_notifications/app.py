"""Clients collect their events: SOAP at /_bus/request.soap with its descriptions, REST at /pull/{destination}."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.gateway import read
from espial.logs import logger, metrics
from espial.pulling import respond
from espial.settings import ServeNotificationsSettings

tracer = Tracer()
settings = ServeNotificationsSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    response = respond(read(event), event["rawPath"], wiring.pull(settings), settings.public_url)
    metrics.add_metric(f"pull.{response['statusCode'] // 100}xx", MetricUnit.Count, 1)
    logger.info("pull.answered", extra={"route": event["routeKey"], "status": response["statusCode"]})
    return response
