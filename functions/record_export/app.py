"""ChunkQueue -> EventsTable: the rows of an export file's chunk, recorded like webhooks, resumable."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.exports.files import Chunk
from espial.logs import logger, metrics
from espial.reporting import count_outcomes, log_failures
from espial.settings import RecordExportSettings

tracer = Tracer()
settings = RecordExportSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    recorder = wiring.chunk_recorder(settings, datetime.now(UTC), context.get_remaining_time_in_millis)
    failures: dict[str, Exception] = {}
    for record in event["Records"]:
        try:
            done = recorder.record(chunk := Chunk.from_json(record["body"]))
        except Exception as exc:  # noqa: BLE001  this chunk comes again, from its checkpoint
            failures[record["messageId"]] = exc
            continue
        count_outcomes(done.tally)
        about = {"key": chunk.file.key, "chunk": chunk.number, "reason": done.reason, **done.counts._asdict()}
        logger.info(f"chunk.{done.outcome}", extra=about)
        if ended := done.completed:
            logger.info(f"export.{ended.state}", extra={"key": chunk.file.key, **ended.counts._asdict()})
    metrics.add_metric("chunk.retried", MetricUnit.Count, len(failures))
    log_failures("chunk.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}
