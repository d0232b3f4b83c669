"""Twilio: `POST /2010-04-01/Accounts/{account}/Messages.json`, a form; text messages.

Source: Twilio's API reference (Messages resource, error and warning dictionary). There is no idempotency key. With
`status_callback` every status carries the send key back, as a parameter of its address.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from espial.answers import Answer
from espial.definitions.fields import https_url
from espial.messages import Message
from espial.senders import ApiSettings, Kind
from espial.senders._by_http import HttpSender, Request, basic, inside


class TwilioSettings(ApiSettings):
    """With a messaging service, that chooses the number; `api_key_sid` where the secret is an API key's."""

    account_sid: Annotated[str, Field(pattern=r"^AC[0-9a-fA-F]{32}$")]
    api_key_sid: Annotated[str, Field(pattern=r"^(SK[0-9a-fA-F]{32})?$")] = ""
    messaging_service_sid: Annotated[str, Field(pattern=r"^(MG[0-9a-fA-F]{32})?$")] = ""
    status_callback: Annotated[str, AfterValidator(https_url)] | None = Field(
        default=None, description="The webhook of the connection that hears of these messages."
    )


class Twilio(HttpSender):
    """One account or subaccount."""

    channel = "sms"
    features = frozenset({"tags"})
    host = "https://api.twilio.com"
    settings_model = TwilioSettings
    codes = {  # noqa: RUF012 - a constant
        "10001": "account_suspended",
        "20003": "unauthorised",
        "20005": "account_suspended",
        "21211": "recipient_invalid",
        "21212": "from_invalid",
        "21408": "recipient_not_allowed",  # the account may not write to that country
        "21602": "content_invalid",
        "21603": "from_invalid",
        "21604": "recipient_invalid",
        "21606": "from_not_verified",
        "21608": "recipient_not_allowed",  # a trial account
        "21610": "recipient_suppressed",
        "21611": 60.0,  # the number's queue is full
        "21612": "recipient_unreachable",
        "21614": "recipient_invalid",
        "21617": "message_too_large",
    }

    def request(self, message: Message) -> Request:
        """Tags have no place."""
        settings = self.settings
        service = settings.messaging_service_sid
        form = [
            ("To", message.to),
            ("MessagingServiceSid", service) if service else ("From", message.from_),
            ("Body", message.text),
        ]
        if settings.status_callback:
            form.append(("StatusCallback", with_key(settings.status_callback, message.send_key)))
        kind = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": basic(settings.api_key_sid or settings.account_sid, self.secret("auth_token")),
        }
        return Request(f"/2010-04-01/Accounts/{settings.account_sid}/Messages.json", kind, urlencode(form).encode())

    def taken(self, answer: Answer) -> str | None:
        """201 and the message's id."""
        known: Any = inside(answer, "sid")
        return known if isinstance(known, str) and known else None

    def code(self, answer: Answer) -> str:
        """The error code."""
        return str(inside(answer, "code") or "")


def with_key(address: str, key: str) -> str:
    """The address with the send key as one more parameter; what stands behind `#` is Twilio's."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(query=f"{parts.query}{'&' if parts.query else ''}send_key={key}"))


SENDER = Kind(title="Twilio", open=Twilio, secrets=("auth_token",), settings=TwilioSettings, channel="sms")
