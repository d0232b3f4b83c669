"""The block `email:` of a destination: who gets notifications by mail, how many, and over which provider."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from espial.definitions.fields import Name
from espial.errors import Refused
from espial.messages import address
from espial.triggers.fields import Duration


def _address(value: str) -> str:
    try:
        bare = address(value)
    except Refused:
        bare = ""
    if not bare.isascii() or not bare:
        raise ValueError("must be a plain address such as reports@example.com")
    return bare


class EmailProcess(BaseModel):
    """To whom, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], Field(min_length=1, max_length=10)] = Field(
        description="Addresses, 1 to 10: all stand in the same mail."
    )
    provider: Name = Field(description="A file of providers/: what sends the mail, and from which address.")
    mode: Literal["each", "digest"] = Field(default="each", description="each: a mail an event. digest: many in one.")
    every: Duration = Field(
        default=timedelta(hours=1), description="How long a digest collects, from 5 minutes to a day."
    )
    daily_cap: Annotated[StrictInt, Field(ge=1, le=10_000)] = Field(
        default=50, description="Mails a day (UTC) at most; what is left goes out the next day, as a digest."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len({one.lower() for one in self.to}) < len(self.to):
            raise ValueError("to: names an address twice")
        if not timedelta(minutes=5) <= self.every <= timedelta(days=1):
            raise ValueError("every: must be from 5 minutes to a day")
        return self
