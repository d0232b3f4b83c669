"""TriggerQueue (events from the bus) -> person state, runs, timers on the SendQueue."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from aws_lambda_powertools import Tracer

from espial import wiring
from espial.events import Event
from espial.logs import logger, metrics
from espial.reporting import count_handled, count_runs, log_failures
from espial.services.ledger import note_arrived
from espial.settings import RunTriggersSettings

tracer = Tracer()
settings = RunTriggersSettings.from_env()
runner = wiring.trigger_runner(settings)
published = wiring.published(settings.store_bucket)


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    failures: dict[str, Exception] = {}
    handled: dict[str, Event] = {}
    for record in event["Records"]:
        try:
            handled[record["messageId"]] = _run(record)
        except Exception as exc:  # noqa: BLE001  each message stands for itself; this one comes again
            failures[record["messageId"]] = exc
    now = datetime.now(UTC)
    failures |= note_arrived(wiring.ledger(settings.events_table), "run_triggers", handled, now)
    count_handled([happened for message, happened in handled.items() if message not in failures], now)
    log_failures("event.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failures]}


def _run(record: dict[str, Any]) -> Event:
    happened = msgspec.convert(json.loads(record["body"])["detail"], Event)
    tally = runner.on_event(happened, published, datetime.now(UTC))
    count_runs(tally)
    runs = {".".join(ran): count for ran, count in tally.items()}
    logger.info("event.handled", extra={"event_id": happened.event_id, "type": happened.type.value, "runs": runs})
    return happened
