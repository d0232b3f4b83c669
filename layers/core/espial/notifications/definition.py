"""A destination as data: what `definitions/destinations/*.yaml` may say (B5, B6; goals 62 to 69).

A destination is one system that learns of events, by one process, when one of its triggers fires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator

from espial.definitions.fields import Definition, Name
from espial.definitions.problems import meant
from espial.notifications.mailed import EmailProcess
from espial.notifications.posted import HttpProcess
from espial.notifications.pulled import PullProcess
from espial.notifications.triggers import ASKABLE
from espial.triggers.definition import EventExpression

PROCESSES = ("email", "http", "pull")
"""Each is also the name of the block that sets it."""


def _trigger(value: str) -> str:
    if value not in ASKABLE:
        raise ValueError(f"no trigger or event type named {value!r}{meant(value, ASKABLE)}")
    return value


TriggerName = Annotated[str, AfterValidator(_trigger), WithJsonSchema({"type": "string", "enum": list(ASKABLE)})]
CustomFields = Annotated[
    Literal["*"] | tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
    BeforeValidator(lambda value: "*" if value == ["*"] else value),
]


class DestinationDefinition(Definition):
    """One system that learns of events."""

    process: Literal["email", "http", "pull"] = Field(
        description="http: each is posted to an address. email: they are mailed, each or as a digest. "
        "pull: its clients collect them, over SOAP or REST."
    )
    on: tuple[TriggerName, ...] = Field(
        json_schema_extra={"minItems": 1}, description="Triggers such as `OPEN`, or event types such as `opened`."
    )
    connections: tuple[Name, ...] = Field(default=(), description="Only what these report; default: all connections.")
    profile: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$", max_length=100)] = Field(
        default="", description="Whose events they are; default: the connection's name."
    )
    when: EventExpression = "true"
    custom_fields: CustomFields = Field(default="*", description="Which of a recipient's own fields go out.")
    subject: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$", max_length=200)] = Field(
        default="", description="Goes out as `notificationSubject`; of a mail it is the subject."
    )
    enabled: StrictBool = Field(default=True, description="false: nothing new is put for it, and nothing goes out.")
    several: StrictBool = Field(
        default=False, description="true: another destination may have the same profile and trigger."
    )
    email: EmailProcess | None = None
    http: HttpProcess | None = None
    pull: PullProcess | None = None

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        if not self.on:
            raise ValueError("on: at least one trigger is needed")
        for process in PROCESSES:
            if (getattr(self, process) is None) == (process == self.process):
                what = "is missing" if process == self.process else "belongs to another process"
                raise ValueError(f"{process}: {what}: the process is {self.process}")
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """Every secret that its process needs, each once."""
        if self.http:
            return self.http.references
        return (
            tuple(dict.fromkeys((*(user.secret for user in self.pull.users), *self.pull.tokens))) if self.pull else ()
        )

    @property
    def is_pushed(self) -> bool:
        """Whether its events are handed over to it; else its clients collect them."""
        return self.process != "pull"

    @property
    def at_once(self) -> bool:
        """Whether a worker is told as soon as something waits; a digest is made by the clock."""
        return self.is_pushed and (self.email is None or self.email.mode == "each")

    @property
    def in_order(self) -> bool:
        """Whether the older of each person's goes first."""
        return self.http is not None and self.http.order == "person"

    def hears(self, connection: str) -> bool:
        """Whether what the connection reports is for it."""
        return self.enabled and (not self.connections or connection in self.connections)


def rivals(destinations: Mapping[str, DestinationDefinition]) -> Iterator[tuple[str, str, str]]:
    """(name, other, trigger) of those that would tell of the same twice, without either saying that it may (B5)."""
    known = [one for _, one in sorted(destinations.items()) if one.enabled]
    for number, one in enumerate(known):
        for other in known[:number]:
            shared = [name for name in one.on if name in other.on]
            if shared and _meet(one, other) and not (one.several or other.several):
                yield one.name, other.name, shared[0]


def _meet(one: DestinationDefinition, other: DestinationDefinition) -> bool:
    """Whether some event belongs to both: of a profile, or of a connection."""
    if one.profile and other.profile and one.profile != other.profile:
        return False
    return not one.connections or not other.connections or bool({*one.connections} & {*other.connections})


def readable(contents: Mapping[str, Any]) -> tuple[list[DestinationDefinition], list[str]]:
    """Published destinations, and the names of those that this version cannot read."""
    found: list[DestinationDefinition] = []
    unreadable: list[str] = []
    for name, content in contents.items():
        try:
            found.append(DestinationDefinition.model_validate(content))
        except ValueError:
            unreadable.append(name)
    return found, unreadable
