"""Braze: `POST /messages/send` and `POST /campaigns/trigger/send` (its API reference; e-mail and recipients object).

Users are there for whoever names them: a recipient by external id or alias is somebody. What `/users/track` takes and
what becomes of a campaign, the workspace of `espial.cli.simulators.braze` plays.
"""

from __future__ import annotations

import json
import re
from typing import Any

from espial.cli.simulators.braze import MOST_SENT, Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address, is_mailbox
from espial.cli.simulators.senders._shared import is_finished

_EXTRA = re.compile(r"\{% message_extras :key (\w+) :value (\S+) %\}")
LONGEST_EXTRAS = 1000


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"message": message})


def _is_campaign(told: Told) -> bool:
    return told.path.startswith("/campaigns/")


def _people(told: Told) -> list[str]:
    said = told.said
    if _is_campaign(told):
        return [one.get("external_user_id") or one.get("email") for one in said["recipients"]]
    return [*said.get("external_user_ids", []), *(one["alias_name"] for one in said.get("user_aliases", []))]


def _is_addressed(told: Told) -> bool:
    """Each recipient of a campaign by one identifier, and by an address only with a word on who of several."""
    if not _is_campaign(told):
        return all(one["alias_label"] for one in told.said.get("user_aliases", []))
    kinds = ("external_user_id", "user_alias", "braze_id", "email")
    return all(
        sum(name in one for name in kinds) == 1 and ("email" not in one or (one["prioritization"]))
        for one in told.said["recipients"]
    )


def _is_email(told: Told) -> bool:
    if _is_campaign(told):
        return isinstance(told.said["campaign_id"], str) and "messages" not in told.said
    email = told.said["messages"]["email"]
    headers = email.get("headers", {})
    return all(
        (
            email["app_id"],
            is_mailbox(email["from"]),
            email["body"],
            "reply_to" not in email or is_address(email["reply_to"]) or email["reply_to"] == "NO_REPLY_TO",
            all(isinstance(value, str) and value.isprintable() for value in headers.values()),
        )
    )


def _extras(told: Told) -> dict[str, str]:
    """As the message's tags say, or a campaign's that passes the send key on."""
    if _is_campaign(told):
        return {"send_key": told.said["recipients"][0]["trigger_properties"]["send_key"]}
    return dict(_EXTRA.findall(told.said["messages"]["email"]["body"]))


def _is_liquid(told: Told) -> bool:
    """Whether nothing but literals and the tags that we know is left to interpret."""
    if _is_campaign(told):
        return True
    email = told.said["messages"]["email"]
    texts = (_EXTRA.sub("", email["body"]), email.get("subject", ""), email.get("plaintext_body", ""))
    return all(map(is_finished, texts))


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "event_type": "users.messages.email.Send",
        "id": f"0d8b6c1e-{known}",
        "time": 1768471202,
        "user": {"user_id": "65a1b2c3d4e5f60718293a4b", "external_user_id": _people(told)[0]},
        "properties": {
            "email_address": "ada@example.com",
            "dispatch_id": known,
            "message_extras": json.dumps(_extras(told)),
        },
    }


PLUG = Plug(
    path="/messages/send|/campaigns/trigger/send",
    proven=bearer("api_key"),
    rules=(
        (_is_email, _error(400, "Bad syntax")),
        (lambda told: _people(told) and all(_people(told)), _error(400, "No Recipients")),
        (
            lambda told: len(_people(told)) <= MOST_SENT,
            _error(400, "The max number of external_ids and aliases per request was exceeded"),
        ),
        (_is_addressed, _error(400, "Each recipient needs one identifier")),
        (_is_liquid, _error(400, "Liquid syntax error")),
        (lambda told: len(json.dumps(_extras(told))) <= LONGEST_EXTRAS, _error(400, "Max Input Length Exceeded")),
    ),
    took=lambda _told, known: Reply(201, {"dispatch_id": known, "message": "success"}),
    to=_people,
    event=_event,
    answers={
        "unauthorised": _error(401, "Invalid API key"),
        "throttle": Reply(429, {"message": "Rate Limited"}, {"X-RateLimit-Reset": "1768478407"}),
        "error": _error(500, "Internal Server Error"),
        "unavailable": _error(503, "Service Unavailable"),
        "bad_campaign": _error(400, "Invalid Campaign ID"),
        "no_variant": _error(400, "Message Variant Unspecified"),
        "bad_request": _error(400, "Bad syntax"),
        "inactive": _error(403, "The rate plan doesn't support, or account is otherwise inactivated"),
        "too_large": _error(400, "Max Input Length Exceeded"),
    },
    new_id=lambda digits: digits[:24],
)
