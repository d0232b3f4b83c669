"""What a connection, a provider and a stage say: the models their files are checked against.

Triggers and templates have their models beside the code that runs them (`espial.triggers.definition`,
`espial.templates.compile`). Every model is frozen and refuses fields it does not know.
A validator over several fields opens its message with the field to blame: `secrets: is missing`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from espial import senders, sources
from espial.definitions.fields import REFERENCE, Definition, SecretReference, https_url
from espial.deliveries import Connection

TRACKING = "segment"
"""The platform whose calls come to `/v1/<call>` from sites and apps, each with its connection's write key."""

_SECRET_SETTING = re.compile(
    r"(?!.*_header$).*(?:secret|password|token|(?:api|write|private|signing)_?key)", re.IGNORECASE
)


def _platform(value: str) -> str:
    if value not in sources.NAMES:
        raise ValueError(f"no such platform, must be one of {', '.join(sources.NAMES)}")
    return value


def _is_origin(value: object) -> bool:
    """As browsers write them: scheme, host in lower case and perhaps a port, nothing behind."""
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return (
        parts.scheme in ("http", "https") and value == f"{parts.scheme}://{parts.netloc.lower()}" and value[-1] != "/"
    )


def _sender(value: str) -> str:
    if value not in senders.NAMES:
        raise ValueError(f"no such sender, must be one of {', '.join(senders.NAMES)}")
    return value


def _per_message(value: str) -> str:
    if "{message}" not in https_url(value):
        raise ValueError("must hold `{message}`, so that the page knows whose wish it is")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}", value):
        raise ValueError("must be a number such as `+15550100123`, a short code, or a name of up to 11 letters")
    return value


def _mailbox(value: str) -> str:
    local, at, domain = parseaddr(value)[1].rpartition("@")
    if not at or not local or "." not in domain or not value.isprintable():
        raise ValueError("must be an address, `shop@example.com` or `The shop <shop@example.com>`")
    return value


Platform = Annotated[str, AfterValidator(_platform), WithJsonSchema({"type": "string", "enum": list(sources.NAMES)})]
Sender = Annotated[str, AfterValidator(_sender), WithJsonSchema({"type": "string", "enum": list(senders.NAMES)})]
Mailbox = Annotated[str, AfterValidator(_mailbox)]


class ConnectionDefinition(Definition):
    """One account of one platform: who may post to `/in/<platform>/<name>`, whose files lie under `export_prefix`."""

    platform: Platform = Field(description="The platform's name in Espial.")
    secrets: tuple[SecretReference, ...] = Field(
        default=(), description="References to every secret accepted now; two while one is being rotated."
    )
    account: str = Field(
        default="",
        description="Scope of event identity; connections to one workspace share it. Default: the connection's name.",
    )
    enabled: StrictBool = Field(default=True, description="false: requests are answered 404, files are left alone.")
    unsigned: StrictBool = Field(default=False, description="true: accept reports that prove nothing. No secrets then.")
    public_url: Annotated[str, AfterValidator(https_url)] | None = Field(
        default=None, description="The URL the platform was given, where its signature covers it."
    )
    dedupe_days: Annotated[StrictInt, Field(ge=1, le=366)] = Field(
        default=60, description="How long an event is kept and its duplicates are recognised, in days."
    )
    mode: Literal["live", "backfill"] = Field(default="live", description="backfill: record, but trigger nothing.")
    settings: Mapping[str, Any] = Field(default_factory=dict, description="The platform's own options.")

    @property
    def export_prefix(self) -> str:
        """Where in the exports bucket the platform is to drop its files."""
        return f"exports/{self.platform}/{self.name}/"

    @property
    def path(self) -> str:
        """Where the platform posts to, under the API's URL. Tracking calls name their connection by its write key."""
        return "/v1/batch" if self.platform == TRACKING else f"/in/{self.platform}/{self.name}"

    @model_validator(mode="after")
    def _secrets_or_unsigned(self) -> Self:
        if self.unsigned and self.secrets:
            raise ValueError("unsigned: contradicts `secrets`; keep one of them")
        if not self.unsigned and "secrets" not in self.model_fields_set:
            raise ValueError(
                "secrets: is missing: name where the platform's secret is kept, or write `secrets: []` for a "
                "connection without a webhook, or `unsigned: true` to accept reports that prove nothing"
            )
        return self

    @model_validator(mode="after")
    def _no_secret_among_settings(self) -> Self:
        for key, value in self.settings.items():
            if _SECRET_SETTING.match(key) and not (isinstance(value, str) and REFERENCE.fullmatch(value)):
                raise ValueError(f"settings.{key}: reads like a secret; put its reference under `secrets`")
        return self

    @model_validator(mode="after")
    def _settings_that_refuse_requests(self) -> Self:
        """A wrong one would have every request refused, or none."""
        age = self.settings.get("max_age_seconds", 1)
        if isinstance(age, bool) or not isinstance(age, int | float) or age <= 0:
            raise ValueError("settings.max_age_seconds: must be a number of seconds")
        origins = self.settings.get("allowed_origins", [])
        if not isinstance(origins, list) or not all(map(_is_origin, origins)):
            raise ValueError("settings.allowed_origins: must be a list of origins such as `https://shop.example.com`")
        return self

    @model_validator(mode="after")
    def _settings_that_shape_the_source(self) -> Self:
        try:
            sources.of(Connection(name=self.name, platform=self.platform, settings=self.settings))
        except ValueError as exc:
            raise ValueError(f"settings: {exc}") from exc
        return self

    def published(self) -> dict[str, Any]:
        """The dict of `espial.deliveries.Connection`."""
        return super().published() | {"account": self.account or self.name, "public_url": self.public_url or ""}


class ProviderDefinition(Definition):
    """One way to hand messages over, and the address they come from."""

    sender: Sender = Field(description="The sender that speaks to it.")
    from_: str = Field(
        default="",
        alias="from",
        description="`The shop <shop@example.com>`: the visible sender. Of text messages: a number or a name.",
    )
    reply_to: Mailbox | None = Field(default=None, description="Where replies go, when not to `from`.")
    unsubscribe_url: Annotated[str, AfterValidator(_per_message)] | None = Field(
        default=None,
        description="Your page that takes people off; `{message}` becomes the message's key. Default: our own page.",
    )
    configuration_set: str | None = Field(default=None, description="The SES configuration set to send under.")
    secrets: Mapping[str, SecretReference] = Field(
        default_factory=dict, description="References to the secrets that the sender needs, by their names."
    )
    settings: Mapping[str, Any] = Field(default_factory=dict, description="The sender's own options.")

    @property
    def channel(self) -> str:
        """What it sends: `email`, `sms` or `any`."""
        return senders.load(self.sender).channel

    @model_validator(mode="after")
    def _as_the_sender_needs_it(self) -> Self:
        kind = senders.load(self.sender)
        if not self.from_ and kind.channel != "any":
            raise ValueError("from: is missing")
        try:
            if kind.channel != "any":
                (_mailbox if kind.channel == "email" else _origin)(self.from_)
        except ValueError as exc:
            raise ValueError(f"from: {exc}") from exc
        if self.configuration_set is not None and self.sender != "ses":
            raise ValueError("configuration_set: is for the sender ses only")
        if wrong := senders.problem(kind, self.secrets, self.settings):
            raise ValueError(wrong)
        return self

    def published(self) -> dict[str, Any]:
        """With `from` under its own name, and nothing that is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude={"description"}, exclude_none=True)
