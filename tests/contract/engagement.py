"""What the contract of senders (`test_senders.py`) has to know of text message and engagement platforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCOUNT = f"AC{'0123456789abcdef' * 2}"

CAMPAIGN = {"mode": "campaign"}

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "twilio": {"account_sid": ACCOUNT, "status_callback": "https://api.example.com/webhooks/twilio/main?x=1#rc=3"},
    "vonage": {"api_key": "abcd1234"},
    "klaviyo": {"campaign": "Message for you"},
    "braze": {"instance": "fra-01", "app_id": "a5f1"},
    "sfmc": {"subdomain": "mc0123456789", "client_id": "client-1", "account_id": "1447", "campaign": "cart-reminder"},
    "iterable": {"campaign": "900001"},
    "hubspot": {"campaign": "4126643122"},
    "airship": {"app_key": "app-key-0123456789"},
    "mparticle": {"api_key": "us1-abc", "campaign": "Message due"},
    "cheetah": {"base_url": "https://api.example.com"},
    "adobe": {"organization": "shop", "client_id": "client-1", "campaign": "EVTcartReminder"},
}
"""Settings that a provider of this sender cannot do without, or without which nothing is reported."""

ALSO: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "twilio by a service": (
        "twilio",
        {**NEEDED["twilio"], "messaging_service_sid": f"MG{'0123456789abcdef' * 2}", "api_key_sid": f"SK{'0' * 32}"},
    ),
    "braze campaign": ("braze", {"instance": "iad-05", **CAMPAIGN, "campaign": "7b1f0c88"}),
    "customerio campaign": ("customerio", {**CAMPAIGN, "campaign": "cart_reminder", "region": "eu"}),
    "airship campaign": ("airship", {**NEEDED["airship"], **CAMPAIGN, "campaign": "t-1", "message_type": "commercial"}),
    "mparticle with content": ("mparticle", {**NEEDED["mparticle"], "content": True, "environment": "development"}),
    "adobe without context": ("adobe", {**NEEDED["adobe"], "context": "", "api": "mcshop-stage"}),
    "cheetah campaign": ("cheetah", {**CAMPAIGN, "campaign": "c-1", "campaigns": {"cart reminder, v2": "c-77"}}),
}
"""Other ways of sending than by `NEEDED`: what they are called -> sender and settings."""

MARKETING = {"airship": "airship campaign"}
"""How they send marketing mail, where a message as it is cannot have the headers that this needs."""

UNNUMBERED = frozenset({"klaviyo", "iterable", "mparticle"})
"""They answer without an id of the message."""

SILENT = frozenset({"hubspot"})
"""Nothing that they report has a place for the send key; they take a key once, so nothing stays unknown."""

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
    "klaviyo": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "scope": "forbidden",
        "bad_recipient": "recipient_invalid",
        "bad_request": "request_invalid",
    },
    "braze": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "unavailable": None,
        "bad_campaign": "campaign_unknown",
        "no_variant": "campaign_unknown",
        "bad_request": "request_invalid",
        "inactive": "forbidden",
        "too_large": "message_too_large",
    },
    "sfmc": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "scope": "forbidden",
        "no_definition": "endpoint_refused",
        "inactive": "request_invalid",
    },
    "customerio": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_request": "request_invalid",
        "unknown_template": "endpoint_refused",
        "too_large": "message_too_large",
    },
    "iterable": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_recipient": "recipient_invalid",
        "forgotten": "recipient_suppressed",
        "bad_request": "request_invalid",
        "unsure": None,
    },
    "hubspot": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "scope": "forbidden",
        "bad_request": "request_invalid",
        "bad_recipient": "recipient_invalid",
        "bounced_before": "recipient_suppressed",
        "suspended": "account_suspended",
    },
    "airship": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "forbidden": "forbidden",
        "bad_request": "request_invalid",
        "too_large": "message_too_large",
    },
    "mparticle": {
        "unauthorised": "unauthorised",
        "wrong_key": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "unavailable": 1.0,
        "bad_request": "request_invalid",
    },
    "adobe": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "forbidden": "forbidden",
        "unknown_event": "endpoint_refused",
        "bad_request": "request_invalid",
    },
    "cheetah": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_request": "request_invalid",
    },
}
"""As in the contract."""
