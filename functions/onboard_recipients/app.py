"""OnboardingQueue (S3 events, and what was handed back) -> a platform: new and changed recipients of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.errors import Refused
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.settings import OnboardRecipientsSettings

tracer = Tracer()
settings = OnboardRecipientsSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    onboarder = wiring.onboarder(settings, lambda: datetime.now(UTC), context.get_remaining_time_in_millis)
    failures: dict[str, Exception] = {}
    for record in event["Records"]:
        try:
            for outcome in onboarder.onboard_message(record["body"], record["messageId"]):
                metrics.add_metric("items.quarantined", MetricUnit.Count, outcome.refused)
                about = {**outcome._asdict(), "counts": outcome.counts._asdict()}
                logger.info(f"onboarding.{outcome.outcome}", extra=about)
        except Refused as exc:  # somebody has to mend something
            failures[record["messageId"]] = exc
            metrics.add_metric("onboarding.stopped", MetricUnit.Count, 1)
            logger.error("onboarding.stopped", extra={"id": record["messageId"], "reason": exc.reason})
        except Exception as exc:  # noqa: BLE001  this file comes again, from its checkpoint
            failures[record["messageId"]] = exc
            metrics.add_metric("onboarding.retried", MetricUnit.Count, 1)
            log_failures("onboarding.retried", {record["messageId"]: exc})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}
