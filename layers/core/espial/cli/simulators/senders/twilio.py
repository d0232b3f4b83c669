"""Twilio: `POST /2010-04-01/Accounts/{account}/Messages.json` (its API reference, Messages resource and errors)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from espial.cli.simulators.braze import Reply
from espial.cli.simulators.platform import Plug, Told, basic
from espial.cli.simulators.senders._shared import user_of

LONGEST_BODY = 1600


def _error(status: int, code: int, message: str) -> Reply:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return Reply(status, {"code": code, "message": message, "more_info": more, "status": status})


def _proven(told: Told, secrets: Mapping[str, str]) -> bool:
    """By the account, or by one of its API keys."""
    user = user_of(told)
    is_known = user == told.path.split("/")[3] or re.fullmatch(r"SK[0-9a-f]{32}", user)
    return bool(is_known) and basic(told, user, secrets["auth_token"])


def _is_origin(told: Told) -> bool:
    said = told.said
    if "MessagingServiceSid" in said:
        return re.fullmatch(r"MG[0-9a-f]{32}", said["MessagingServiceSid"][0]) is not None
    return re.fullmatch(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|[A-Za-z0-9 ]{1,11}", said["From"][0]) is not None


def _is_callback(told: Told) -> bool:
    """Its host may have no underscores."""
    parts = urlsplit(told.said.get("StatusCallback", ["https://example.com/"])[0])
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "_" not in str(parts.hostname)


def _took(told: Told, known: str) -> Reply:
    said = told.said
    facts = {
        "sid": known,
        "account_sid": told.path.split("/")[3],
        "to": said["To"][0],
        "from": said.get("From", [None])[0],
        "messaging_service_sid": said.get("MessagingServiceSid", [None])[0],
        "body": said["Body"][0],
        "status": "queued",
        "error_code": None,
        "error_message": None,
    }
    return Reply(201, facts)


def _event(told: Told, known: str) -> dict[str, Any]:
    """The parameters of the status callback, those of its address among them."""
    address = urlsplit(told.said.get("StatusCallback", [""])[0])
    return {
        **{name: values[0] for name, values in parse_qs(address.query).items()},
        "MessageSid": known,
        "SmsSid": known,
        "MessageStatus": "delivered",
        "SmsStatus": "delivered",
        "To": told.said["To"][0],
        "AccountSid": told.path.split("/")[3],
        "ApiVersion": "2010-04-01",
    }


PLUG = Plug(
    path=r"/2010-04-01/Accounts/AC[0-9a-f]{32}/Messages\.json",
    form=True,
    proven=_proven,
    rules=(
        (lambda told: len(told.said["To"]) == 1, _error(400, 21604, "A 'To' phone number is required.")),
        (
            lambda told: re.fullmatch(r"\+[1-9][0-9]{6,14}", told.said["To"][0]),
            _error(400, 21211, "The 'To' number is not a valid phone number."),
        ),
        (_is_origin, _error(400, 21212, "The 'From' number is not a valid phone number, shortcode, or sender ID.")),
        (lambda told: told.said["Body"][0], _error(400, 21602, "Message body is required.")),
        (
            lambda told: len(told.said["Body"][0]) <= LONGEST_BODY,
            _error(400, 21617, "The concatenated message body exceeds the 1600 character limit"),
        ),
        (_is_callback, _error(400, 21609, "The 'StatusCallback' URL is not a valid URL.")),
    ),
    took=_took,
    to=lambda told: told.said["To"],
    event=_event,
    answers={
        "unauthorised": _error(401, 20003, "Authenticate"),
        "throttle": Reply(429, {"code": 20429, "message": "Too Many Requests", "status": 429}, {"Retry-After": "7"}),
        "error": _error(500, 20500, "Internal Server Error"),
        "suspended": _error(403, 20005, "Account not active"),
        "bad_recipient": _error(400, 21211, "The 'To' number +15550100123 is not a valid phone number."),
        "landline": _error(400, 21614, "'To' number is not a valid mobile number"),
        "stopped": _error(400, 21610, "Attempt to send to unsubscribed recipient"),
        "bad_sender": _error(400, 21606, "The 'From' phone number is not a valid, SMS-capable number"),
        "no_country": _error(400, 21408, "Permission to send an SMS has not been enabled for the region"),
        "no_route": _error(400, 21612, "The 'To' phone number is not currently reachable via SMS"),
        "queue_full": _error(429, 21611, "This 'From' number has exceeded the maximum number of queued messages"),
        "too_long": _error(400, 21617, "The concatenated message body exceeds the 1600 character limit"),
    },
    new_id=lambda digits: f"SM{digits[:32]}",
)
