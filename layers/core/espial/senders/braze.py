"""Braze: `POST /messages/send`, or `POST /campaigns/trigger/send` for a campaign of Braze's own.

Source: Braze's API reference (send endpoints, e-mail object, recipients object, errors) and its `message_extras` tag.
There is no idempotency key. The report that a message was sent carries the send key back in `message_extras`: the tag
is in the body of a message; the campaign's body has to have it. Whatever is sent is Liquid to Braze.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espial.answers import Answer
from espial.errors import Refused
from espial.messages import Message
from espial.senders import EVERYTHING, Kind
from espial.senders._by_http import JSON, HttpSender, Request, as_json, inside
from espial.senders._campaigns import CampaignSettings, campaign_of, liquid, merged


class BrazeSettings(CampaignSettings):
    """`instance` is that of the dashboard's address, such as `iad-05` or `fra-01`; `app_id` an app's API identifier.

    People are known by their external id; `alias_label` is for those without, whose alias is their address.
    """

    instance: Annotated[str, Field(pattern=r"^[a-z]{2,5}-\d{2}$")]
    app_id: str = ""
    alias_label: str = ""
    message_variation_id: str = ""
    recipient_subscription_state: Literal["all", "subscribed", "opted_in"] | None = None

    @model_validator(mode="after")
    def _has_an_app(self) -> Self:
        if self.mode == "message" and not self.app_id:
            raise ValueError("app_id is missing: Braze sends messages in the name of an app")
        return self


class Braze(HttpSender):
    """One workspace."""

    features = EVERYTHING - {"also_to"}
    settings_model = BrazeSettings
    codes = {  # noqa: RUF012 - a constant
        "invalid api key": "unauthorised",
        "invalid campaign id": "campaign_unknown",
        "message variant unspecified": "campaign_unknown",
        "invalid message variant": "campaign_unknown",
        "no recipients": "recipient_invalid",
        "max input length exceeded": "message_too_large",
    }

    def address(self) -> str:
        """By the instance; those in Frankfurt have a domain of their own."""
        instance = self.settings.instance
        return super().address() or f"https://rest.{instance}.braze.{'eu' if instance.startswith('fra') else 'com'}"

    def request(self, message: Message) -> Request:
        """By the mode."""
        path, said = self._campaign(message) if self.settings.mode == "campaign" else self._message(message)
        return Request(path, {**JSON, "Authorization": f"Bearer {self.secret('api_key')}"}, as_json(said))

    def _campaign(self, message: Message) -> tuple[str, dict[str, Any]]:
        person = (
            {"external_user_id": message.external_id}
            if message.external_id
            else {"email": message.to, "prioritization": ["most_recently_updated"]}
        )
        recipient = {**person, "trigger_properties": merged(message)}
        return "/campaigns/trigger/send", {
            "campaign_id": campaign_of(self.settings, message),
            "recipients": [recipient],
        }

    def _message(self, message: Message) -> tuple[str, dict[str, Any]]:
        settings, label = self.settings, self.settings.alias_label
        if not message.external_id and not label:
            raise Refused("no_external_id", "Braze knows people by it; alias_label is for those without")
        mark = f"{{% message_extras :key send_key :value {message.send_key} %}}"
        email = {
            "app_id": settings.app_id,
            "subject": liquid(message.subject),
            "from": message.from_,
            "reply_to": message.reply_to,
            "body": mark + liquid(message.html or _as_html(message.text)),
            "plaintext_body": liquid(message.text),
            "headers": dict(message.headers),
            "extras": {**message.tags, "send_key": message.send_key},
            "message_variation_id": settings.message_variation_id,
        }
        return "/messages/send", {
            "external_user_ids": [message.external_id] if message.external_id else None,
            "user_aliases": None if message.external_id else [{"alias_name": message.to, "alias_label": label}],
            "campaign_id": settings.campaign,
            "recipient_subscription_state": settings.recipient_subscription_state,
            "messages": {"email": {name: fact for name, fact in email.items() if fact}},
        }

    def taken(self, answer: Answer) -> str | None:
        """The transmission's id; its events have it too."""
        known = inside(answer, "dispatch_id")
        return known if isinstance(known, str) and inside(answer, "message") == "success" else None

    def code(self, answer: Answer) -> str:
        """Braze numbers no errors: its words, which are always the same."""
        return str(inside(answer, "message") or "").lower()


def _as_html(text: str) -> str:
    """A plain text as a body: Braze has none without HTML."""
    from html import escape  # noqa: PLC0415  only where there is no HTML

    return f'<div style="white-space:pre-wrap">{escape(text)}</div>'


SENDER = Kind(title="Braze", open=Braze, secrets=("api_key",), settings=BrazeSettings)
