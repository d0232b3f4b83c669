"""Adobe Campaign: `POST /{organization}/campaign/{api}/{event}`, a transactional event.

Source: Adobe's pages on managing transactional messages by REST and on OAuth server-to-server credentials. There is no
idempotency key. Logs that are exported carry the send key back where a column `send_key` holds the event's.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

from pydantic import Field

from espial.answers import Answer
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import Request, as_json, inside
from espial.senders._by_token import TokenSender
from espial.senders._campaigns import OnlyCampaigns, campaign_of, flat


class AdobeSettings(OnlyCampaigns):
    """`campaign` is the event's id (`EVT…`); `api` is where it is not `mc` and the organization."""

    organization: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    api: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    client_id: Annotated[str, Field(min_length=1)]
    scope: str = "openid,AdobeID,campaign_sdk,campaign_config_server_general,deliverability_service_general"
    context: Annotated[str, Field(pattern=r"^\w*$")] = Field(
        default="ctx", description="The field of the event that holds what a message says; empty: none, they are flat."
    )


class Adobe(TokenSender):
    """One instance."""

    features = EVERYTHING - {"also_to"}
    host = "https://mc.adobe.io"
    settings_model = AdobeSettings

    def token_request(self) -> Request:
        """At Adobe's identity service."""
        said = {
            "grant_type": "client_credentials",
            "client_id": self.settings.client_id,
            "client_secret": self.secret("client_secret"),
            "scope": self.settings.scope,
        }
        at = (self.settings.base_url or "https://ims-na1.adobelogin.com").rstrip("/")
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request(f"{at}/ims/token/v3", kind, urlencode(said).encode())

    def request(self, message: Message) -> Request:
        """The structure of an event is its definition's."""
        settings, said = self.settings, flat(message)
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "Accept": "application/json",
            "Cache-Control": "no-cache",
            "X-Api-Key": settings.client_id,
            "Authorization": f"Bearer {self.token()}",
        }
        api = settings.api or f"mc{settings.organization}"
        event = quote(campaign_of(settings, message), safe="")
        body = {"email": message.to, **({settings.context: said} if settings.context else said)}
        return Request(f"/{settings.organization}/campaign/{api}/{event}", headers, as_json(body))

    def taken(self, answer: Answer) -> str | None:
        """The event's primary key."""
        known = inside(answer, "PKey")
        return known if isinstance(known, str) and known else None


SENDER = Kind(title="Adobe Campaign", open=Adobe, secrets=("client_secret",), settings=AdobeSettings)
