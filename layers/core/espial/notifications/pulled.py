"""Destinations whose events clients collect: the block `pull:` of a destination, and those in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from espial.definitions.fields import SecretReference

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


def in_force(active: Mapping[str, Any]) -> dict[str, PullDestination]:
    """The destinations of an active bundle that are collected from, by name."""
    found = {}
    for name, content in active.get("destinations", {}).items():
        block = content.get("pull")
        if content.get("process") != "pull" or not content.get("enabled", True) or not block:
            continue
        fields = content.get("custom_fields", "*")
        found[name] = PullDestination(
            name=name,
            profile=content.get("profile") or "",
            users=tuple((user["name"], user["secret"]) for user in block.get("users", ())),
            tokens=tuple(block.get("tokens", ())),
            custom_fields=None if fields in ("*", ["*"]) else tuple(fields),
        )
    return found
