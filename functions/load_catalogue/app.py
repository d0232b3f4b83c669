"""CatalogueQueue (S3 events) -> CatalogueTable: the products of a shop's newest file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.metrics import MetricUnit

from espial import wiring
from espial.errors import Malformed, Refused
from espial.exports.files import Unavailable
from espial.logs import logger, metrics
from espial.reporting import log_failures
from espial.settings import LoadCatalogueSettings

tracer = Tracer()
settings = LoadCatalogueSettings.from_env()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    loader = wiring.catalogue_loader(settings)
    failures: dict[str, Exception] = {}
    for record in event["Records"]:
        try:
            for name, loaded in loader.load_message(record["body"], datetime.now(UTC)):
                metrics.add_metric("catalogue.bad_rows", MetricUnit.Count, len(loaded.bad))
                told = {"products": loaded.products, "changes": len(loaded.changes), "bad_rows": loaded.bad[:20]}
                logger.info("catalogue.loaded", extra={"catalogue": name, **told})
        except (Refused, Unavailable, Malformed) as exc:  # the file stays where it is; the catalogue what it was
            metrics.add_metric("catalogue.refused", MetricUnit.Count, 1)
            logger.error("catalogue.refused", extra={"reason": exc.reason, "detail": str(exc)})
        except Exception as exc:  # noqa: BLE001  it comes again
            failures[record["messageId"]] = exc
    metrics.add_metric("catalogue.retried", MetricUnit.Count, len(failures))
    log_failures("catalogue.retried", failures)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}
