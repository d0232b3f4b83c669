"""The block `http:` of a destination: where notifications are posted, how they are proven, how long it is tried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from espial.addresses import is_loopback, is_public
from espial.definitions.fields import SecretReference, https_url
from espial.triggers.fields import Duration

OURS = frozenset({"content-type", "content-length", "host", "connection", "authorization", "user-agent"})


def _url(value: str) -> str:
    """Never one that leads into a private network as it is written; what a name leads to is looked at when called."""
    parts = urlsplit(https_url(value))
    host = parts.hostname or ""
    if "@" in parts.netloc or parts.fragment or not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("must be a plain https:// address, without user and fragment")
    try:
        allowed = is_public(host) or is_loopback(host)
    except ValueError:
        if re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.rstrip(".").rpartition(".")[2]):
            raise ValueError("must name its host, or give the address in the usual form") from None
        return value
    if not allowed:
        raise ValueError("must be a public address")
    return value


def _header(value: str) -> str:
    if value.lower() in OURS or value.lower().startswith(("webhook-", "espial-", "x-notification-")):
        raise ValueError(f"{value} is filled in by Espial")
    return value


Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_header)]


class HttpProcess(BaseModel):
    """Where to, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_url), Field(max_length=2000)] = Field(description="https, and a public host.")
    format: Literal["json", "form"] = Field(
        default="json", description="json: the canonical event. form: fields as PureResponse posts them."
    )
    secrets: tuple[SecretReference, ...] = Field(
        default=(),
        max_length=5,
        description="References to signing secrets by Standard Webhooks, `whsec_…` or `whsk_…`; with several, each "
        "signs, so that one can be changed for another.",
    )
    token: SecretReference | None = Field(default=None, description="Reference to a bearer token.")
    headers: Mapping[Header, Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,500}$")]] = Field(
        default_factory=dict, description="More headers; nothing secret."
    )
    timeout: Duration = Field(default=timedelta(seconds=15), description="For one call, at most 30 seconds.")
    retry_for: Duration = Field(default=timedelta(days=3), description="How long it is tried, at most 10 days.")
    rate_limit: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(default=50, description="Calls a second at most.")
    concurrency: Annotated[StrictInt, Field(ge=1, le=16)] = Field(default=4, description="Calls at once at most.")
    order: Literal["none", "person"] = Field(
        default="none",
        description="person: of each person's the older is done with before the next is posted; one that fails holds "
        "back that person's others.",
    )
    batch: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=1, description="Notifications a call at most; more than one go as a JSON array."
    )

    @property
    def references(self) -> tuple[str, ...]:
        """Every secret that is needed for a call."""
        return (*self.secrets, *((self.token,) if self.token else ()))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.format == "json" and not self.secrets:
            raise ValueError("secrets: at least one is needed: nobody could tell our calls from anybody's")
        if self.format == "form" and self.batch > 1:
            raise ValueError("batch: only json can hold more than one")
        if self.order != "none" and self.batch > 1:
            raise ValueError("order: only with `batch: 1`: of a batch some may be taken and others not")
        if not timedelta(seconds=1) <= self.timeout <= timedelta(seconds=30):
            raise ValueError("timeout: must be from 1 to 30 seconds")
        if not timedelta(minutes=1) <= self.retry_for <= timedelta(days=10):
            raise ValueError("retry_for: must be from a minute to 10 days")
        return self
