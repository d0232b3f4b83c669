"""The resolver that both functions answer with, and its OpenAPI document."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.models import Tag

from espial.api.problems import TYPE, problem
from espial.gateway import Refusal

Routes = Callable[[APIGatewayHttpResolver, Any], None]

LARGEST = 6_000_000
"""Characters of an answer as Lambda hands it over, in ASCII; it refuses more than 6 MB (of 1,048,576 bytes)."""

PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
TITLE = "Espial: the owner's API"
ABOUT = (
    "Everything the command line does with a stack. Every call is signed (AWS Signature Version 4, service "
    "`execute-api`) by somebody whom IAM lets call it. `GET` changes nothing; the other methods do. What cannot be "
    "answered is a problem (RFC 9457) with a `reason` for programs and a `detail` for people. Keys, ids and cursors in "
    "a query are percent-encoded."
)
TAGS = ("definitions", "destinations", "events", "exports", "feeds", "onboarding", "quarantine")

_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "description": "Why something cannot be answered, or not now.",
    "required": ["status", "title", "reason", "detail"],
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "reason": {"type": "string", "description": "snake_case, for programs."},
        "detail": {"type": "string", "description": "For people."},
        "errors": {
            "type": "array",
            "description": "Each field or definition that is wrong.",
            "items": {
                "type": "object",
                "required": ["what"],
                "properties": {
                    "what": {"type": "string"},
                    "where": {"type": "string", "description": "Of a request: `query.limit`, `body.ids`."},
                    "file": {"type": "string"},
                    "line": {"type": "integer"},
                    "field": {"type": "string"},
                },
            },
        },
    },
    "examples": [
        {"status": 404, "title": "Not Found", "reason": "unknown_feed", "detail": "no feed named cdp was applied"}
    ],
}
_SIGNED = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "description": "AWS Signature Version 4, service `execute-api`.",
    "x-amazon-apigateway-authtype": "awsSigv4",
}


def resolver(settings: Any, *routes: Routes) -> APIGatewayHttpResolver:
    """What answers the routes, with the stores that the settings name behind them."""
    api = APIGatewayHttpResolver(enable_validation=True, json_body_deserializer=orjson.loads)
    api.use([_private])
    api.exception_handler(Exception)(problem)
    for add in routes:
        add(api, settings)
    return api


def answer(api: APIGatewayHttpResolver, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The answer to a Lambda event, whatever is in it."""
    try:
        body = event.get("body") or ""
        (b64decode(body) if event.get("isBase64Encoded") else body.encode()).decode()
    except (UnicodeError, NotBase64):
        return _refused(Refusal(400, "not_utf8", "the body is not UTF-8"))
    found = api.resolve(dict(event), context)
    if len(found["body"]) > LARGEST or len(json.dumps(found)) > LARGEST:
        return _refused(Refusal(413, "answer_too_large", "the answer is over 6 MB: ask for less of it, with limit"))
    return found


def _refused(why: Refusal) -> dict[str, Any]:
    said = problem(why)
    return {"statusCode": said.status_code, "headers": dict(said.headers), "body": said.body}


def document(api: APIGatewayHttpResolver) -> dict[str, Any]:
    """The OpenAPI document of the routes."""
    found: dict[str, Any] = orjson.loads(
        api.get_openapi_json_schema(title=TITLE, version="1", description=ABOUT, tags=[Tag(name=one) for one in TAGS])
    )
    found["security"] = [{"sigv4": []}]
    components = found.setdefault("components", {})
    components["securitySchemes"] = {"sigv4": _SIGNED}
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problems = {"description": "Why not.", "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = problems
    return found


def _private(api: APIGatewayHttpResolver, following: NextMiddleware) -> Response[Any]:
    said: Response[Any] = following(api)
    said.headers.update({name: value for name, value in PRIVATE.items() if name not in said.headers})
    return said
