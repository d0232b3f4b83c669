"""A campaign as data: `definitions/campaigns/*.yaml`, and the payloads and variants that its messages are made of.

It is compiled into triggers (`espial.campaigns.compiling`): what a campaign can do is what a trigger can, and nothing
runs it but what runs triggers. What is only half said may be applied, as long as it is not live.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)

from espial.campaigns.outcomes import Outcome
from espial.campaigns.webhook import Filled
from espial.definitions.fields import Definition, Name, Zone
from espial.triggers import entries
from espial.triggers.definition import Consent, EventExpression, QuietHours
from espial.triggers.entries import About
from espial.triggers.fields import Duration
from espial.vocabulary import OWN_TYPES, EventType

PURCHASES = (EventType.TRANSACTION, EventType.ORDER_COMPLETED)
KNOWN_FOR = timedelta(days=60)
"""How far back a person's events are known."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


def _heard(kind: EventType) -> EventType:
    if kind in OWN_TYPES:
        raise ValueError(f"{kind.value} is an event of our own and starts nothing")
    return kind


class Audience(_Part):
    """Whom it is for: all, those of whom a CEL expression over `person` and their timeline is true, or a list."""

    all: Literal[True] | None = None
    segment: About | None = None
    people: Annotated[tuple[str, ...], Field(max_length=1000)] | None = Field(default=None, description="External ids.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError("one of `all`, `segment` and `people` is needed")
        return self


class Schedule(_Part):
    """Once, `at` an instant, or by `cron` in the campaign's zone (`minute hour day month weekday`)."""

    at: AwareDatetime | None = None
    cron: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at is None) == (self.cron is None):
            raise ValueError("at: one of `at` and `cron` is needed")
        return self

    def entry(self, audience: str, zone: str) -> dict[str, Any]:
        """The trigger's way in."""
        return {**self.model_dump(mode="json", exclude_none=True), "audience": audience, "zone": zone}

    @model_validator(mode="after")
    def _as_an_entry(self) -> Self:
        try:
            entries.Schedule.model_validate(self.entry("true", "UTC"))
        except ValidationError as exc:
            raise ValueError(exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc
        return self


class Heard(_Part):
    """An event that a rule listens for.

    class       `purchase`: a transaction or a completed order; `custom`: by its `name`, a `type` of ours, or both
    filters     CEL over `event`, all of which must be true
    min_value   of a purchase its total; `items`: any of these is in it; `min_items`: so many items
    min_count   how many of that type the person had `within` that time, this one among them
    """

    class_: Literal["purchase", "custom"] = Field(alias="class")
    name: Annotated[str, Field(max_length=200)] = ""
    type: Annotated[EventType, AfterValidator(_heard)] | None = None
    filters: tuple[EventExpression, ...] = ()
    min_value: Annotated[float, Field(ge=0)] | None = None
    items: tuple[str, ...] = ()
    min_items: Annotated[StrictInt, Field(ge=1)] | None = None
    min_count: Annotated[StrictInt, Field(ge=2)] | None = None
    within: Duration = KNOWN_FOR

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        bought = self.min_value is not None or self.min_items is not None or self.items
        if self.class_ == "purchase" and (self.name or self.type):
            raise ValueError("a purchase has no `name` and no `type`")
        if self.class_ == "custom" and not (self.name or self.type):
            raise ValueError("name: is missing; or give a `type`")
        if self.class_ == "custom" and bought:
            raise ValueError("`min_value`, `items` and `min_items` are of purchases")
        if self.min_count and self.name:
            raise ValueError("min_count: events are counted by type, not by name")
        if not timedelta(0) < self.within <= KNOWN_FOR:
            raise ValueError("within: must be some time, at most 60 days")
        return self

    @property
    def types(self) -> tuple[EventType, ...]:
        """The canonical types that it may come as."""
        return PURCHASES if self.class_ == "purchase" else (self.type or EventType.CUSTOM,)


class Rule(_Part):
    """One or more events, any of which meets it."""

    events: Annotated[tuple[Heard, ...], Field(min_length=1)]


class Behaviour(_Part):
    """What people do. `match: all`: the one event has to meet every rule."""

    name: Name
    match: Literal["any", "all"] = "any"
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    outcomes: tuple[Outcome, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.match == "all" and not set.intersection(*(_types(rule) for rule in self.rules)):
            raise ValueError("match: no event can meet rules about different events; `any` is one of them")
        return self

    @property
    def listens(self) -> tuple[EventType, ...]:
        """Every type it listens for."""
        return tuple(sorted(set.union(*(_types(rule) for rule in self.rules))))

    @property
    def buys(self) -> bool:
        """Whether every event it listens for has a transaction."""
        return set(self.listens) <= set(PURCHASES)


def _types(rule: Rule) -> set[EventType]:
    return {kind for heard in rule.events for kind in heard.types}


class Limit(_Part):
    """At most `count` of its messages to a person, or of its awards where it has none, in any stretch of `within`."""

    count: Annotated[StrictInt, Field(ge=1)]
    within: Duration

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not timedelta(0) < self.within <= KNOWN_FOR:
            raise ValueError("within: must be some time, at most 60 days")
        return self


class Limits(_Part):
    """How often. `per_customer_total: 1` is the first time that somebody behaves so, ever."""

    per_customer_total: Literal[1] | None = None
    per_customer_per_period: tuple[Limit, ...] = ()


class CampaignMessage(_Part):
    """An external message, so long after what it is about; several variants are shares of one test, by weight."""

    id: Name = "message"
    variants: Annotated[tuple[Name, ...], Field(min_length=1)]
    delay: Duration = timedelta(0)
    quiet_hours: QuietHours | None = None


class CampaignDefinition(Definition):
    """One campaign (C3, C9, C14, C18, C20 to C23)."""

    type: Literal["messaging", "promotional"] = "messaging"
    status: Literal["draft", "pending", "live", "paused", "ended", "archived"] = "draft"
    start_at: AwareDatetime | None = Field(default=None, description="Needed when live.")
    end_at: AwareDatetime | None = Field(default=None, description="Needed when live.")
    zone: Zone = Field(default="UTC", description="IANA time zone of the schedule.")
    audience: Audience | None = None
    mode: Literal["triggered", "scheduled"]
    schedule: Schedule | None = None
    behaviours: tuple[Behaviour, ...] = ()
    limits: Limits = Limits()
    outcomes: tuple[Outcome, ...] = Field(default=(), description="Of a scheduled campaign.")
    messages: Annotated[tuple[CampaignMessage, ...], Field(max_length=5)] = ()
    consent: Consent | None = Field(default=None, description="Left out, the messages are transactional.")
    advanced_settings: Mapping[str, Any] = Field(
        default_factory=dict, description="`{{campaign.settings.braze_campaign_id}}` in payloads."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.start_at and self.end_at and self.start_at >= self.end_at:
            raise ValueError("end_at: must be later than start_at")
        if self.mode == "triggered" and (self.schedule or self.outcomes):
            raise ValueError("mode: a triggered campaign has no `schedule`, and its outcomes are its behaviours'")
        if self.mode == "scheduled" and self.behaviours:
            raise ValueError("mode: a scheduled campaign listens for no behaviours")
        for name, given in (
            ("behaviours", [one.name for one in self.behaviours]),
            ("messages", [one.id for one in self.messages]),
        ):
            if len({*given}) < len(given):
                raise ValueError(f"{name}: every name may be used once")
        return self

    def published(self) -> dict[str, Any]:
        """Plain JSON as it was written."""
        return self.model_dump(mode="json", exclude={"description"}, exclude_defaults=True)


class PayloadDefinition(Definition):
    """What a platform is told: JSON with placeholders."""

    channel: Literal["email", "sms", "push", "inapp", "whatsapp"] = "email"
    missing: Literal["fail", "empty"] = Field(
        default="fail", description="What a missing attribute without default is."
    )
    body: Filled = Field(description="`{{group.path|default}}`; a placeholder alone keeps the type of its value.")

    @model_validator(mode="after")
    def _an_object(self) -> Self:
        if not isinstance(self.body, dict | list):
            raise ValueError("body: must be an object or a list")  # noqa: TRY004 - as for every wrong field
        return self


class VariantDefinition(Definition):
    """A provider, a template and a webhook that belong together, and a share of those who get it.

    With a webhook the template is a payload; without one the provider sends the template of templates/ by itself.
    """

    provider: Name
    template: Name | None = None
    webhook: Name | None = None
    locale: Annotated[str, Field(max_length=20)] | None = Field(
        default=None, description="For people whose attribute `locale` begins so; of a message's variants these first."
    )
    weight: Annotated[StrictInt, Field(ge=1, le=100)] = 1
    static_values: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict, description="By path (`offer.name`): win over defaults, yield to what is known."
    )
    status: Literal["active", "disabled"] = "active"
