"""A trigger as data: what `definitions/triggers/*.yaml` may say, and its JSON Schema (DESIGN 4, requirements E1-E32).

The same pydantic model is read by `espial apply` and by the two functions that decide. A second, lighter model
for them would repeat every field and rule; pydantic costs them about 80 ms once per cold start, off the
acknowledging path.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from espial.triggers import cel, durations
from espial.vocabulary import EventType

OURS = frozenset({EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED})
"""Events we make ourselves: they never start a run, so that no trigger can set itself off."""


def _length(value: object) -> object:
    return durations.parse(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_length),
    PlainSerializer(durations.text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": durations.PATTERN, "examples": ["30m", "1h", "7d", "PT36H"]}),
]
"""A length of time, from nothing to 366 days."""


def _expression(*variables: str) -> Callable[[str], str]:
    def check(source: str) -> str:
        cel.check(source, variables)
        return source

    return check


EventExpression = Annotated[str, AfterValidator(_expression("event")), Field(description="CEL over `event`")]
ExitExpression = Annotated[
    str, AfterValidator(_expression("event", "run")), Field(description="CEL over `event` (what happened) and `run`")
]
Expression = Annotated[
    str,
    AfterValidator(_expression("event", "person", "run", "now")),
    Field(description="CEL over `event` (what the run is about), `person`, `run` and `now`"),
]


def _starts(types: tuple[EventType, ...]) -> tuple[EventType, ...]:
    if not types:
        raise ValueError("at least one event type is needed")
    if OURS & set(types):
        raise ValueError(f"{', '.join(sorted(OURS))} are our own events and start nothing")
    return types


Starts = Annotated[tuple[EventType, ...], AfterValidator(_starts), Field(json_schema_extra={"minItems": 1})]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Channel = Literal["email", "sms", "push", "whatsapp", "inapp"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exit(_Model):
    """An event that ends the run unless it is older than the run; `name` becomes the reason."""

    name: Name = "exited"
    event: EventType
    when: ExitExpression = "true"


class Condition(_Model):
    """What must hold in the instant before sending."""

    name: Name
    when: Expression


class Limit(_Model):
    """At most `count` messages in any stretch of `within`.

    scope: `trigger` counts this trigger's messages to the person, `channel` all on its channel, `person` all.
    """

    name: Name
    count: int = Field(ge=1)
    within: Duration
    scope: Literal["person", "trigger", "channel"] = "trigger"


class Consent(_Model):
    """What the person must have agreed to; `opt_in: false` asks only that they have not refused."""

    channel: Channel = "email"
    topic: str = ""
    opt_in: bool = True


class Send(_Model):
    """The message: by which provider, from which template, to which address (CEL).

    unknown_outcome   what to do when nobody can tell whether the provider took it and its events stay silent:
                      `skip` risks that the person gets none, `resend` that they get two
    channel           what the provider sends, `email` or `sms`; left out, the channel of `consent`, else e-mail
    """

    provider: Name
    template: Name
    to: Expression = "person.email"
    unknown_outcome: Literal["skip", "resend"] = "skip"
    channel: Literal["email", "sms"] | None = None


class Trigger(_Model):
    """One trigger: an event happens, a wait runs out, and if everything still holds one message goes out.

    on           event types that start a run; `where` narrows them down
    key          what one run is about: one run per person and key. Null, empty or a missing field: no run
    wait         from the event to the message
    restart      a newer matching event moves the wait to its own time and takes its contents, and after the end
                 begins anew; without it a run happens once per person and key
    consent      left out, the message is transactional: only an address that bounced hard stops it
    stale_after  how late after it was due a message may still be sent
    """

    name: Name
    status: Literal["draft", "staging", "live", "paused"] = "draft"
    description: str = ""
    on: Starts
    where: EventExpression = "true"
    key: EventExpression
    wait: Duration = timedelta(0)
    restart: bool = False
    exit_on: tuple[Exit, ...] = ()
    conditions: tuple[Condition, ...] = ()
    limits: tuple[Limit, ...] = ()
    stale_after: Duration = timedelta(minutes=15)
    consent: Consent | None = None
    send: Send
    priority: int = Field(default=0, ge=-100, le=100)
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_from >= self.valid_to:
            raise ValueError("valid_from must be earlier than valid_to")
        for field, names in (
            ("conditions", [condition.name for condition in self.conditions]),
            ("limits", [limit.name for limit in self.limits]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{field}: every name may be used once")
        return self

    @property
    def channel(self) -> Channel:
        """The channel of its message."""
        return self.send.channel or (self.consent.channel if self.consent else "email")

    @property
    def watches(self) -> frozenset[EventType]:
        """Every event type it needs to see."""
        return frozenset(self.on) | {exit_.event for exit_ in self.exit_on}


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of a trigger file."""
    return Trigger.model_json_schema()
