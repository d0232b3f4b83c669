"""A trigger as data: what `definitions/triggers/*.yaml` may say, and its JSON Schema (DESIGN 4, requirements E1-E32).

The same pydantic model is read by `espial apply` and by the two functions that decide. A second, lighter model
for them would repeat every field and rule; pydantic costs them about 80 ms once per cold start, off the
acknowledging path.
"""

from __future__ import annotations

import re
from datetime import time, timedelta
from functools import cached_property
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
    field_validator,
    model_validator,
)

from espial.definitions.fields import Zone
from espial.triggers import arms, clock, durations
from espial.triggers.entries import KEY, STALE_AFTER, Entry
from espial.triggers.fields import Duration, expression
from espial.triggers.run import Bid
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


def _clock_time(value: object) -> object:
    if not isinstance(value, time) and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", str(value)):
        raise ValueError(f'a time such as "21:00" is expected, in quotes, not {value!r}')
    return value


ClockTime = Annotated[
    time,
    BeforeValidator(_clock_time),
    PlainSerializer(lambda value: f"{value:%H:%M}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "examples": ["21:00"]}),
]
"""What a clock on a wall shows."""


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
    """At most `count` messages in any stretch of `within`, or `per` calendar day, week (from Monday) or month.

    scope: `trigger` counts this trigger's messages to the person, `channel` all on its channel, `category` all of
    triggers with its category, `person` all.
    """

    name: Name
    count: int = Field(ge=1)
    within: Duration | None = None
    per: clock.Calendar | None = None
    scope: Literal["person", "trigger", "channel", "category"] = "trigger"

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if (self.within is None) == (self.per is None):
            raise ValueError("give `within`, a time that rolls, or `per`, a day, week or month of the calendar")
        return self

    @property
    def window(self) -> str:
        """In words: `24h`, `calendar day`."""
        return durations.text(self.within) if self.within is not None else f"a calendar {self.per}"


class QuietHours(_Model):
    """When nothing is sent, by the wall's clock; from the evening to the morning they go past midnight.

    zone     whose: the `person`'s (attribute `timezone` or `time_zone`, else the trigger's zone), or always this one
    action   `defer`: the message is due when they are over; `skip`: it is not sent
    """

    from_: ClockTime = Field(alias="from")
    to: ClockTime
    zone: Literal["person"] | Zone = "person"
    action: Literal["defer", "skip"] = "defer"

    model_config = ConfigDict(serialize_by_alias=True)

    @model_validator(mode="after")
    def _not_always(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("to: is when they begin: nothing would ever be sent")
        return self


class Every(_Model):
    """A person may enter once in so long, counted from one beginning to the next."""

    every: Duration

    @field_validator("every")
    @classmethod
    def _remembered(cls, length: timedelta) -> timedelta:
        if not timedelta(0) < length <= timedelta(days=90):
            raise ValueError("must be longer than nothing and at most 90d, as long as ended runs are kept")
        return length


class Stage(_Model):
    """One message of a series, so long `after` the event that started the run or last restarted it.

    template        left out, that of `send`; `guest_template` is for people without an external id
    conditions      besides the trigger's own
    """

    after: Duration
    template: Name | None = None
    guest_template: Name | None = None
    conditions: tuple[Condition, ...] = ()


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

    guest_template    instead of `template` for people without an external id
    unknown_outcome   what to do when nobody can tell whether the provider took it and its events stay silent:
                      `skip` risks that the person gets none, `resend` that they get two
    channel           what the provider sends, `email` or `sms`; left out, the channel of `consent`, else e-mail
    track             `links`, `opens`: what readers do is told by our own links, unless the person refused tracking
    """

    provider: Name
    template: Name
    guest_template: Name | None = None
    to: Expression = "person.email"
    unknown_outcome: Literal["skip", "resend"] = "skip"
    channel: Literal["email", "sms"] | None = None
    track: tuple[Literal["links", "opens"], ...] = ()


class Goal(_Model):
    """What the message is for: an event, so long after it, and what it is worth (CEL that gives a number)."""

    event: EventType
    within: Duration = timedelta(days=7)
    where: EventExpression = "true"
    value: EventExpression = "0"


def _percent(value: object) -> float:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,2})?%", value):
        raise ValueError(f"a share such as 10% is expected, not {value!r}")
    return float(value[:-1])


Percent = Annotated[
    float,
    BeforeValidator(_percent),
    PlainSerializer(lambda value: f"{value:g}%", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,2}(\.[0-9]{1,2})?%$", "examples": ["10%"]}),
]
"""A share of people, less than all."""


class Variant(_Model):
    """One of several messages that people get by lot, `weight` parts of the sum of all weights.

    template   instead of that of `send`; where the trigger has stages, a list with one for each
    """

    name: Name
    weight: int = Field(default=1, ge=1, le=1_000_000)
    template: Name | tuple[Name, ...] | None = None

    @field_validator("name")
    @classmethod
    def _not_held_out(cls, name: str) -> str:
        if name == arms.HELD_OUT:
            raise ValueError(f"{name} is what those are called who get nothing (`holdout`)")
        return name

    @property
    def templates(self) -> tuple[str, ...]:
        """One for each stage; none where it names none."""
        return (self.template,) if isinstance(self.template, str) else self.template or ()


class Trigger(_Model):
    """One trigger: an event happens, a wait runs out, and if everything still holds one message goes out.

    on           event types that start a run; `where` narrows them down
    entry        instead of `on`: a schedule, a date of the person's, a segment or a call (`espial.triggers.entries`)
    fallback     look for what an event should have started and did not, every so often
    key          what one run is about: one run per person and key. Null, empty or a missing field: no run
    wait         from the event to the message
    stages       instead of `wait`: up to three messages; each is decided by itself, and an exit stops those to come
    restart      a newer matching event moves the wait to its own time and takes its contents, and after the end
                 begins anew; without it a run happens once per person and key
    reentry      whether a person who was in may begin again, with whichever key: `per_key` leaves that to `key` and
                 `restart`; `never`; `after_exit`, when no run of theirs waits; or once `every` so long
    hold         how long a message that is due is held back, in which one of higher `priority` to the person goes
                 instead, if a limit of this trigger counts it, whichever was due first; then this one has `yielded`
    variants     messages to choose among by lot, always the same for one person; `salt` draws the lots anew
    holdout      the share of people who get nothing though everything holds, skipped as `held_out`
    goal         what counts as success: nothing depends on it, it is only measured
    consent      left out, the message is transactional: only an address that bounced hard stops it
    stale_after  how late after it was due a message may still be sent; where that was in quiet hours, after their end
    zone         whose calendar days and quiet hours count for people whose own zone is not known
    category     what `limits` of that scope count together, such as `promotion`
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
    stages: Annotated[tuple[Stage, ...], Field(max_length=3)] = ()
    restart: bool = False
    reentry: Literal["per_key", "never", "after_exit"] | Every = "per_key"
    exit_on: tuple[Exit, ...] = ()
    conditions: tuple[Condition, ...] = ()
    limits: tuple[Limit, ...] = ()
    quiet_hours: QuietHours | None = None
    zone: Zone = "UTC"
    category: Name | None = None
    variants: tuple[Variant, ...] = ()
    holdout: Percent = 0.0
    salt: str = ""
    goal: Goal | None = None
    stale_after: Duration = timedelta(minutes=15)
    consent: Consent | None = None
    send: Send
    priority: int = Field(default=0, ge=-100, le=100)
    hold: Duration = timedelta(0)
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
        if self.stages and "wait" in self.model_fields_set and self.wait:
            raise ValueError("wait: contradicts `stages`, each of which says when it comes")
        if any(len(variant.templates) not in (0, len(self.plan)) for variant in self.variants):
            raise ValueError("variants: a variant that names templates names one for each stage")
        waits = [stage.after for stage in self.stages]
        if sorted(set(waits)) != waits:
            raise ValueError("stages: each must come after the one before it")
        if self.category is None and any(limit.scope == "category" for limit in self.limits):
            raise ValueError("category: is missing, and a limit is about it")
        if self.hold and all(limit.scope == "trigger" for limit in self.limits):
            raise ValueError("hold: needs a limit of scope channel, category or person, to tell what competes")
        own = _names(self.conditions)
        for field, names in (
            ("conditions", own),
            *((f"stages.{n}.conditions", [*own, *_names(stage.conditions)]) for n, stage in enumerate(self.stages)),
            ("limits", [limit.name for limit in self.limits]),
            ("variants", [variant.name for variant in self.variants]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{field}: every name may be used once")
        return self

    @cached_property
    def plan(self) -> tuple[Stage, ...]:
        """Its stages; a trigger that names none has one."""
        return self.stages or (Stage(after=self.wait),)

    def template(self, stage: int, *, guest: bool, variant: str = "") -> str:
        """The template of a stage's message: that of the variant, else the stage's, else that of `send`."""
        for arm in self.variants:
            if arm.name == variant and arm.templates:
                return arm.templates[stage]
        own = self.plan[stage]
        guests = own.guest_template or (None if own.template else self.send.guest_template)
        return (guests if guest else None) or own.template or self.send.template

    @property
    def templates(self) -> dict[tuple[str | int, ...], str]:
        """Every template it names, by the field that does."""
        named: dict[tuple[str | int, ...], str | None] = {}
        for at, part in ((("send",), self.send), *((("stages", n), stage) for n, stage in enumerate(self.stages))):
            named |= {(*at, field): getattr(part, field) for field in ("template", "guest_template")}
        for number, variant in enumerate(self.variants):
            listed = not isinstance(variant.template, str)
            named |= {
                ("variants", number, "template", *([n] if listed else [])): name
                for n, name in enumerate(variant.templates)
            }
        return {at: name for at, name in named.items() if name is not None}

    @property
    def channel(self) -> Channel:
        """The channel of its message."""
        return self.send.channel or (self.consent.channel if self.consent else "email")

    @property
    def labels(self) -> dict[str, str | int]:
        """What its sent messages say of it, for limits and for who competes with them."""
        said = {"category": self.category, "priority": self.priority}
        return {name: value for name, value in said.items() if value}

    @property
    def bid(self) -> Bid:
        """How its messages compete."""
        return Bid(self.priority, self.channel, self.category or "", self.hold)

    @property
    def watches(self) -> frozenset[EventType]:
        """Every event type it needs to see."""
        return frozenset(self.on) | {exit_.event for exit_ in self.exit_on}


def _names(conditions: tuple[Condition, ...]) -> list[str]:
    return [condition.name for condition in conditions]


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of a trigger file."""
    return Trigger.model_json_schema()
