"""The owner's API: GET /timeline/{person+}, GET /explain/{trigger}/{person+}, POST /onboarding/{name}."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.metrics import MetricUnit

from espial import admin, wiring
from espial.deliveries import Reply
from espial.gateway import read
from espial.logs import logger, metrics
from espial.settings import ServeApiSettings

tracer = Tracer()
settings = ServeApiSettings.from_env()
api = APIGatewayHttpResolver()


@metrics.log_metrics
@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    answer = api.resolve(event, context)
    metrics.add_metric(f"api.{answer['statusCode'] // 100}xx", MetricUnit.Count, 1)
    logger.info("api.answered", extra={"route": event["routeKey"], "status": answer["statusCode"]})
    return answer


@api.get("/timeline/.+")
def timeline() -> Response[str]:
    asked = admin.asked(read(api.current_event.raw_event))
    return _response(admin.answered(wiring.journal(settings)(asked), asked))


@api.get("/explain/[^/]+/.+")
def why() -> Response[str]:
    asked = admin.asked_why(read(api.current_event.raw_event))
    return _response(admin.explained(wiring.explanation(settings)(asked, datetime.now(UTC)), asked.person))


@api.post("/onboarding/<name>")
def onboarding(name: str) -> Response[str]:
    recipients = read(api.current_event.raw_event).body
    return _response(admin.taken(wiring.reception(settings)(recipients, name, now=datetime.now(UTC))))


@api.exception_handler(Exception)
def refused(exc: Exception) -> Response[str]:
    return _response(admin.refused(exc))


def _response(reply: Reply) -> Response[str]:
    return Response(reply.status, headers=dict(reply.headers), body=reply.body)
