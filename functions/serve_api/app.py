"""The owner's API, to look: GET of anything that the command line shows, its OpenAPI document and its page."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Tracer

from espial.api.app import answer, resolver
from espial.api.document import whole
from espial.api.reading import about, routes
from espial.api.told import told
from espial.logs import logger, metrics
from espial.settings import ServeApiSettings

tracer = Tracer()
settings = ServeApiSettings.from_env()
api = resolver(settings, routes)
about(api, whole)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return told(event, answer(api, event, context))
