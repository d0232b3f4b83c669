"""The owner's API, to change: everything that the command line does to a running stack."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Tracer

from espial.api.app import answer, resolver
from espial.api.changing import routes
from espial.api.told import told
from espial.logs import logger, metrics
from espial.settings import ChangeStackSettings

tracer = Tracer()
settings = ChangeStackSettings.from_env()
api = resolver(settings, routes)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return told(event, answer(api, event, context))
