"""Salesforce Marketing Cloud Engagement: `POST /messaging/v1/email/messages/{key}`, a send definition filled.

Source: Marketing Cloud's API reference (transactional messaging, its best practices; client credentials). The message
key is ours and may be used once within two days: what a repeat is told is not documented, so the message of the key is
looked up where a request is refused. The platform's notifications carry the key back.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espial.answers import Answer
from espial.errors import Refused, TryAgain
from espial.messages import Message, Receipt
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import BUSY, JSON, SECONDS, Request, as_json, inside
from espial.senders._by_token import TokenSender
from espial.senders._campaigns import OnlyCampaigns, campaign_of, flat


class SfmcSettings(OnlyCampaigns):
    """`campaign` is the definition's key; `account_id` (MID) chooses a business unit."""

    subdomain: Annotated[str, Field(pattern=r"^[a-z0-9-]{10,40}$")]
    client_id: Annotated[str, Field(min_length=1)]
    account_id: Annotated[str, Field(pattern=r"^\d*$")] = ""


class Sfmc(TokenSender):
    """One business unit."""

    features = EVERYTHING - {"also_to"}
    idempotent = True
    settings_model = SfmcSettings

    def address(self) -> str:
        """The tenant's own."""
        return super().address() or f"https://{self.settings.subdomain}.rest.marketingcloudapis.com"

    def token_request(self) -> Request:
        """At the tenant's own address for that."""
        at = super().address() or f"https://{self.settings.subdomain}.auth.marketingcloudapis.com"
        said = {
            "grant_type": "client_credentials",
            "client_id": self.settings.client_id,
            "client_secret": self.secret("client_secret"),
            "account_id": self.settings.account_id,
        }
        return Request(f"{at}/v2/token", JSON, as_json(said))

    def request(self, message: Message) -> Request:
        """Attributes are texts; the definition's content has to print them."""
        said = {
            "definitionKey": campaign_of(self.settings, message),
            "recipient": {
                "contactKey": message.external_id or message.to,
                "to": message.to,
                "attributes": flat(message),
            },
        }
        return Request(_path(message.send_key), self._headers(), as_json(said))

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `espial.ports.Sender.send`. A refusal may be of the second of two: then the first one is known."""
        try:
            return super().send(message, idempotency_key=idempotency_key)
        except Refused as exc:
            if exc.reason != "request_invalid" or not self._is_known(idempotency_key):
                raise
        return Receipt(provider=self.name, provider_message_id=idempotency_key, at=self._ways.clock())

    def taken(self, answer: Answer) -> str | None:
        """202 and the message key."""
        known = inside(answer, "responses", 0, "messageKey")
        return known if answer.status == 202 and isinstance(known, str) else None

    def _headers(self) -> dict[str, str]:
        return {**JSON, "Authorization": f"Bearer {self.token()}"}

    def _is_known(self, key: str) -> bool:
        """Whether there is a message of the key, whatever became of it. Raises TryAgain if nobody says."""
        answer = self._ways.http.request("GET", self.address() + _path(key), self._headers(), b"", SECONDS)
        if answer.status in BUSY or answer.status >= 500:
            raise TryAgain(f"HTTP {answer.status} instead of the message's status", after=15.0)
        return answer.status == 200 and isinstance(inside(answer, "eventCategoryType"), str)


def _path(key: str) -> str:
    return f"/messaging/v1/email/messages/{key}"


SENDER = Kind(title="Salesforce Marketing Cloud", open=Sfmc, secrets=("client_secret",), settings=SfmcSettings)
