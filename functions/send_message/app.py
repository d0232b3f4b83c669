"""SendQueue -> decided again, claimed, rendered, handed to the provider once, booked."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools import Tracer, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.settings import SendMessageSettings

tracer = Tracer()
deliverer = wiring.deliverer(SendMessageSettings.from_env())


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    failures: dict[str, Exception] = {}
    for record in event["Records"]:
        try:
            outcome = deliverer.deliver(json.loads(record["body"]))
        except Exception as exc:  # noqa: BLE001  each message stands for itself; this one comes again
            failures[record["messageId"]] = exc
            continue
        with single_metric(
            name=f"message.{outcome.what}", unit=MetricUnit.Count, value=1, namespace="Espial"
        ) as metric:
            metric.add_dimension("trigger", outcome.trigger)
            metric.add_dimension("reason", outcome.reason)
        logger.info("message.handled", extra=outcome.log_fields())
    metrics.add_metric("messages.handled", MetricUnit.Count, len(event["Records"]) - len(failures))
    log_failures("message.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failures]}
