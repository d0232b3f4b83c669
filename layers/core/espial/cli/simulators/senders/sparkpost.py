"""SparkPost: `POST /api/v1/transmissions` (its API reference, Transmissions; extended error codes)."""

from __future__ import annotations

from typing import Any

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, bearer, is_address

LONGEST_CAMPAIGN = 64


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"errors": [{"message": message, "code": code}]})


def _people(told: Told) -> list[str]:
    return [one["address"]["email"] for one in told.said["recipients"]]


def _is_finished(told: Told) -> bool:
    """Without that, braces in the content would be substitutions."""
    content = told.said["content"]
    texts = (content["subject"], content.get("text", ""), content.get("html", ""))
    return told.said["options"].get("perform_substitutions") is False or not any("{{" in one for one in texts)


def _event(told: Told, known: str) -> dict[str, Any]:
    return {
        "type": "delivery",
        "event_id": f"91{known}",
        "timestamp": "1767225599",
        "transmission_id": known,
        "message_id": "0004aabbccdd00112233",
        "rcpt_to": _people(told)[0].lower(),
        "raw_rcpt_to": _people(told)[0],
        "campaign_id": told.said.get("campaign_id", ""),
        "rcpt_meta": told.said.get("metadata", {}),
        "rcpt_tags": [],
    }


PLUG = Plug(
    path="/api/v1/transmissions/?",
    proven=bearer("api_key", scheme=""),
    rules=(
        (lambda told: told.said["recipients"], _error(422, "1400", "recipients is a required field")),
        (lambda told: all(map(is_address, _people(told))), _error(400, "5002", "At least one valid recipient.")),
        (lambda told: is_address(told.said["content"]["from"]["email"]), _error(422, "1300", "from is not valid")),
        (lambda told: told.said["content"]["subject"], _error(422, "1400", "subject is a required field")),
        (
            lambda told: told.said["content"].get("text") or told.said["content"].get("html"),
            _error(422, "1400", "At least one of text or html is required"),
        ),
        (_is_finished, _error(422, "3000", "substitution language syntax error")),
        (lambda told: len(told.said.get("campaign_id", "")) <= LONGEST_CAMPAIGN, _error(422, "1300", "too long")),
    ),
    took=lambda told, known: Reply(
        200,
        {
            "results": {
                "total_rejected_recipients": 0,
                "total_accepted_recipients": len(_people(told)),
                "id": known,
            }
        },
    ),
    to=_people,
    event=_event,
    answers={
        "unauthorised": Reply(401, {"errors": [{"message": "Unauthorized."}]}),
        "throttle": Reply(429, {"errors": [{"message": "Too many requests"}]}, {"Retry-After": "7"}),
        "error": _error(500, "1500", "Failed to update database"),
        "busy": _error(503, "1900", "Message generation module not available"),
        "hourly": _error(420, "2101", "Exceed Sending Limit (hourly)"),
        "suppressed": _error(400, "1902", "Message generation rejected: ada@example.com"),
        "bad_recipient": _error(400, "5002", "No valid recipients in list"),
        "none_accepted": Reply(
            200,
            {"results": {"total_rejected_recipients": 1, "total_accepted_recipients": 0, "id": "70000000000000001"}},
        ),
        "bad_domain": _error(400, "7001", "Invalid Sending/Tracking Domain"),
        "bad_header": _error(422, "3002", "Invalid header"),
        "forbidden": _error(403, "1100", "permission denied"),
    },
    new_id=lambda digits: str(int(digits[:14], 16)),
)
