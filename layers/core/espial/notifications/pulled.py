"""Destinations whose events clients collect: the block `pull:` of a destination, and those in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from espial.definitions.fields import SecretReference

if TYPE_CHECKING:
    from espial.notifications.definition import DestinationDefinition

UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$")]


class PullUser(BaseModel):
    """Who may log in over SOAP; names of PureResponse's API users end in `.sys`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: UserName = Field(description="Of several destinations: `switchRole` goes from one to the other.")
    secret: SecretReference = Field(description="Reference to the password.")


class PullProcess(BaseModel):
    """How a client proves who it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: tuple[PullUser, ...] = Field(default=(), max_length=100, description="Who may log in over SOAP.")
    tokens: tuple[SecretReference, ...] = Field(
        default=(),
        max_length=10,
        description="References to the bearer tokens of the REST interface; any of them will do.",
    )

    @model_validator(mode="after")
    def _somebody(self) -> PullProcess:
        if not self.users and not self.tokens:
            raise ValueError("needs users (SOAP) or tokens (REST): else nobody can collect")
        if len({user.name for user in self.users}) < len(self.users):
            raise ValueError("names a user twice")
        return self


class PullDestination(NamedTuple):
    """What the pull knows of a destination. `users` and `tokens` are as in `PullProcess`; a secret is a reference."""

    name: str
    profile: str
    users: tuple[tuple[str, str], ...] = ()
    tokens: tuple[str, ...] = ()
    custom_fields: tuple[str, ...] | None = None

    def gives(self, field: str) -> bool:
        """Whether that custom field may go out; None in `custom_fields` stands for all of them."""
        return self.custom_fields is None or field.lower() in map(str.lower, self.custom_fields)


def in_force(definitions: Iterable[DestinationDefinition]) -> dict[str, PullDestination]:
    """The destinations that are collected from, by name."""
    return {
        one.name: PullDestination(
            name=one.name,
            profile=one.profile,
            users=tuple((user.name, user.secret) for user in one.pull.users),
            tokens=one.pull.tokens,
            custom_fields=None if one.custom_fields == "*" else one.custom_fields,
        )
        for one in definitions
        if one.pull is not None and one.enabled
    }
