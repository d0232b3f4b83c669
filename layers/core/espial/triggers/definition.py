"""A trigger as data: what `definitions/triggers/*.yaml` may say, and its JSON Schema (DESIGN 4, requirements E1-E32).

The same pydantic model is read by `espial apply` and by the two functions that decide. A second, lighter model
for them would repeat every field and rule; pydantic costs them about 80 ms once per cold start, off the
acknowledging path.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from espial.triggers.entries import KEY, STALE_AFTER, Entry
from espial.triggers.fields import Duration, expression
from espial.vocabulary import EventType

OURS = frozenset({EventType.MESSAGE_REQUESTED, EventType.MESSAGE_SKIPPED})
"""Events we make ourselves: they never start a run, so that no trigger can set itself off."""


EventExpression = Annotated[str, AfterValidator(expression("event")), Field(description="CEL over `event`")]
ExitExpression = Annotated[
    str, AfterValidator(expression("event", "run")), Field(description="CEL over `event` (what happened) and `run`")
]
Expression = Annotated[
    str,
    AfterValidator(expression("event", "person", "run", "now")),
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


class Fallback(_Model):
    """All people are looked at every so often; what a recorded event should have started, and did not, is started then.

    For outages on the way from the table to the trigger. A message keeps its key, so an event that arrives after all
    starts nothing twice; whether it is too late is for `stale_after` to say.
    """

    every: Duration = timedelta(minutes=15)
    back: Duration = Field(default=timedelta(days=1), description="How old the events may be.")

    @model_validator(mode="after")
    def _often(self) -> Self:
        if not timedelta(minutes=1) <= self.every <= timedelta(days=1):
            raise ValueError("every: must be from a minute to a day")
        return self


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
    entry        instead of `on`: a schedule, a date of the person's, a segment or a call (`espial.triggers.entries`)
    fallback     look for what an event should have started and did not, every so often
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
    entry: Entry | None = None
    fallback: Fallback | None = None
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

    @model_validator(mode="before")
    @classmethod
    def _entered(cls, written: Any) -> Any:
        """What an entry makes of the fields that are left out."""
        if not isinstance(written, dict) or written.get("entry") is None:
            return written
        return {"on": [EventType.TRIGGER_ENTERED], "key": KEY, "stale_after": STALE_AFTER, **written}

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (EventType.TRIGGER_ENTERED in self.on) != (self.entry is not None) or (self.entry and len(self.on) > 1):
            raise ValueError("on: a trigger has either event types or an `entry`")
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
