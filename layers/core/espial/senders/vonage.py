"""Vonage: `POST /sms/json`, a form; text messages.

Source: Vonage's SMS API reference and its table of error codes. There is no idempotency key. Delivery receipts carry
`client-ref` back, which is the send key.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import AfterValidator, Field

from espial.answers import Answer
from espial.definitions.fields import https_url
from espial.messages import Message
from espial.senders import ApiSettings, Kind
from espial.senders._by_http import HttpSender, Request, inside

ALPHABET = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)
"""What a text message holds without being `unicode` (3GPP TS 23.038, the default alphabet and its extension)."""


class VonageSettings(ApiSettings):
    """`api_key` names the account; it is no secret."""

    api_key: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{4,64}$")]
    callback: Annotated[str, AfterValidator(https_url)] | None = Field(
        default=None, description="Where receipts go, if not to the account's webhook."
    )


class Vonage(HttpSender):
    """One account."""

    channel = "sms"
    features = frozenset({"tags"})
    host = "https://rest.nexmo.com"
    settings_model = VonageSettings
    codes = {  # noqa: RUF012 - a constant
        "1": 1.0,  # faster than the account may
        "2": "request_invalid",
        "3": "request_invalid",
        "4": "unauthorised",
        "6": "recipient_invalid",
        "7": "recipient_suppressed",
        "8": "account_suspended",
        "9": "account_suspended",  # no credit
        "10": 15.0,
        "11": "forbidden",
        "12": "message_too_large",
        "14": "unauthorised",
        "15": "from_invalid",
        "22": "request_invalid",
        "23": "request_invalid",
        "29": "recipient_not_allowed",  # a trial account
        "33": "recipient_not_allowed",
    }

    def request(self, message: Message) -> Request:
        """Numbers go without their plus. Tags have no place."""
        form = {
            "api_key": self.settings.api_key,
            "api_secret": self.secret("api_secret"),
            "to": message.to.removeprefix("+"),
            "from": message.from_.removeprefix("+"),
            "text": message.text,
            "type": "text" if ALPHABET.issuperset(message.text) else "unicode",
            "client-ref": message.send_key,
            **({"callback": self.settings.callback} if self.settings.callback else {}),
        }
        return Request("/sms/json", {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode())

    def taken(self, answer: Answer) -> str | None:
        """A long message has several parts; once one was taken, the message was."""
        parts: Any = inside(answer, "messages")
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and part.get("status") == "0" and isinstance(part.get("message-id"), str):
                return str(part["message-id"])
        return None

    def code(self, answer: Answer) -> str:
        """The status of the first part."""
        return str(inside(answer, "messages", 0, "status") or "")


SENDER = Kind(title="Vonage SMS", open=Vonage, secrets=("api_secret",), settings=VonageSettings, channel="sms")
