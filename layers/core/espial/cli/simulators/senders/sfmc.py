"""Salesforce Marketing Cloud: `POST /messaging/v1/email/messages/{key}` (its API reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, is_address
from espial.cli.simulators.senders._shared import granted, is_granted

LONGEST_KEY = 100


def _error(status: int, message: str, code: int) -> Reply:
    return Reply(status, {"message": message, "errorcode": code, "documentation": ""})


def _key(told: Told) -> str:
    return told.path.rpartition("/")[2]


def _besides(told: Told, secrets: Mapping[str, str], messages: Sequence[tuple[str, Told]]) -> Reply | None:
    """A token, or the status of the message of a key."""
    if told.path == "/v2/token":
        return granted(told.said, secrets)
    if told.method != "GET" or not told.path.startswith("/messaging/v1/email/messages/"):
        return None
    if not is_granted(told, secrets):
        return PLUG.answers["unauthorised"]
    if _key(told) not in (_key(one) for _, one in messages):
        return _error(404, "The message key was not found", 30003)
    info = {"messageKey": _key(told)}
    return Reply(200, {"requestId": "1", "eventCategoryType": "TransactionalSendEvents.EmailQueued", "info": info})


def _event(told: Told, known: str) -> dict[str, Any]:
    to = told.said["recipient"]
    return {
        "eventCategoryType": "TransactionalSendEvents.EmailSent",
        "timestampUTC": 1768471202000,
        "compositeId": "d1.2001.44.41.1358",
        "definitionKey": told.said["definitionKey"],
        "mid": 1447,
        "eid": 1447,
        "composite": {"jobId": "2001", "batchId": "41", "listId": "44", "subscriberId": "1358", "emailId": known[:4]},
        "info": {"messageKey": _key(told), "subscriberKey": to["contactKey"], "to": to["to"], "renderedSubject": "Hi"},
    }


PLUG = Plug(
    path=rf"/messaging/v1/email/messages/[^/]{{1,{LONGEST_KEY}}}",
    proven=is_granted,
    rules=(
        (lambda told: told.said["definitionKey"], _error(400, "definitionKey is missing", 30001)),
        (lambda told: told.said["recipient"]["contactKey"], _error(400, "contactKey is missing", 30001)),
        (lambda told: is_address(told.said["recipient"]["to"]), _error(400, "The address is not valid", 30002)),
        (
            lambda told: all(isinstance(one, str) for one in told.said["recipient"]["attributes"].values()),
            _error(400, "Attributes are texts", 30001),
        ),
        (lambda told: "recipients" not in told.said, _error(400, "Either recipient or recipients", 30001)),
    ),
    took=lambda told, known: Reply(
        202, {"requestId": known, "errorcode": 0, "responses": [{"messageKey": _key(told)}]}
    ),
    to=lambda told: [told.said["recipient"]["to"]],
    event=_event,
    repeated=_key,
    duplicate=_error(400, "The message key is not unique", 30004),
    besides=_besides,
    answers={
        "unauthorised": _error(401, "Not Authorized", 0),
        "throttle": Reply(429, {"message": "Too Many Requests"}, {"Retry-After": "7"}),
        "error": _error(500, "Internal Server Error", 0),
        "scope": _error(403, "Insufficient Privileges", 0),
        "no_definition": _error(404, "The definition was not found", 30003),
        "inactive": _error(400, "The definition is not active", 30001),
    },
)
