"""NoticeQueue (S3 events) -> ChunkQueue: new export files, planned. Takes a bare S3 or EventBridge event as well."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.settings import SplitExportSettings

tracer = Tracer()
settings = SplitExportSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    splitter = wiring.splitter(settings, datetime.now(UTC))
    records = event.get("Records") or [{}]
    queued = records[0].get("eventSource") == "aws:sqs"
    messages = {r["messageId"]: r["body"] for r in records} if queued else {context.aws_request_id: event}
    failures: dict[str, Exception] = {}
    for message_id, message in messages.items():
        try:
            for notice, split in splitter.split_message(message, message_id):
                metrics.add_metric(f"export.{split.outcome}", MetricUnit.Count, 1)
                logger.info(f"export.{split.outcome}", extra={"key": notice.key, **split._asdict()})
        except Exception as exc:
            if not queued:
                raise
            failures[message_id] = exc
    metrics.add_metric("notice.retried", MetricUnit.Count, len(failures))
    log_failures("notice.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}
