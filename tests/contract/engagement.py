"""What the contract of senders (`test_senders.py`) has to know of text message and engagement platforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCOUNT = f"AC{'0123456789abcdef' * 2}"

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "twilio": {"account_sid": ACCOUNT, "status_callback": "https://api.example.com/webhooks/twilio/main?x=1#rc=3"},
    "vonage": {"api_key": "abcd1234"},
}
"""Settings that a provider of this sender cannot do without, or without which nothing is reported."""

ALSO: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
"""Other ways of sending than by `NEEDED`: what they are called -> sender and settings."""

MEANINGS: Mapping[str, Mapping[str, str | float | None]] = {
    "twilio": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "suspended": "account_suspended",
        "bad_recipient": "recipient_invalid",
        "landline": "recipient_invalid",
        "stopped": "recipient_suppressed",
        "bad_sender": "from_not_verified",
        "no_country": "recipient_not_allowed",
        "no_route": "recipient_unreachable",
        "queue_full": 60.0,
        "too_long": "message_too_large",
    },
    "vonage": {
        "unauthorised": "unauthorised",
        "throttle": 1.0,
        "error": None,
        "unavailable": None,
        "missing": "request_invalid",
        "bad_recipient": "recipient_invalid",
        "barred": "recipient_suppressed",
        "suspended": "account_suspended",
        "no_credit": "account_suspended",
        "bad_sender": "from_invalid",
        "trial": "recipient_not_allowed",
    },
}
"""As in the contract."""
