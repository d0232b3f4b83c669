"""What a caller is told of an error: a problem as RFC 9457 has them, with a reason for programs and where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
    ResponseValidationError,
)

from espial import admin
from espial.errors import InvalidDefinition, Refused
from espial.gateway import Refusal
from espial.logs import logger

TYPE = "application/problem+json"
MOST_ERRORS = 100
_DEFINITION = re.compile(r"(?P<file>[^:]+):(?:(?P<line>\d+):)? ?(?:(?P<field>[\w.\[\]-]+): )?(?P<what>.*)", re.DOTALL)


def problem(exc: Exception) -> Response[str]:
    """The answer to an error; of ours nothing but that it is one, and where it was goes to the log."""
    reply = admin.refused(_meant(exc))
    title = HTTPStatus(reply.status).phrase
    content = {"status": reply.status, "title": title, **json.loads(reply.body)}
    if errors := list(_errors(exc)):
        content["errors"] = errors[:MOST_ERRORS]
    headers = {**reply.headers, "content-type": TYPE}
    return Response(reply.status, headers=headers, body=json.dumps(content, ensure_ascii=False))


def _meant(exc: Exception) -> Exception:
    """Errors of this API as those that have an answer already."""
    match exc:
        case Refused(reason=reason) if reason.startswith("bad_"):
            return Refusal(400, reason, exc.detail)
        case RequestUnsupportedContentType():
            return Refusal(415, "not_json", "the body must be application/json")
        case RequestValidationError() if any(one["type"] == "json_invalid" for one in exc.errors()):
            return Refusal(400, "not_json", "the body is no JSON")
        case RequestValidationError():
            told = "; ".join(f"{one['where']}: {one['what']}" for one in _errors(exc))
            return Refusal(422, "invalid_request", told[:1000])
        case InvalidDefinition():
            return Refusal(422, "invalid_definitions", f"{len(exc.problems)} problems: nothing was changed")
        case ResponseValidationError():  # what of our own answer is wrong, without its values
            fields = [(one["loc"], one["type"]) for one in exc.errors()]
            logger.error("api.bad_answer", extra={"detail": str(fields[:10])})
    return exc


def _errors(exc: Exception) -> Iterable[dict[str, Any]]:
    if isinstance(exc, InvalidDefinition):
        return map(located, exc.problems)
    if isinstance(exc, RequestValidationError):
        found = exc.errors()[:MOST_ERRORS]
        return ({"where": ".".join(str(part) for part in one["loc"]), "what": str(one["msg"])} for one in found)
    return ()


def located(said: str) -> dict[str, Any]:
    """A problem of a definition, `file:line: field: what`, in its parts; a part that is not said is left out."""
    parts = _DEFINITION.fullmatch(said)
    if parts is None:
        return {"what": said}
    found: dict[str, Any] = {name: value for name, value in parts.groupdict().items() if value}
    return found | {"line": int(found["line"])} if "line" in found else found
