"""Ways into a trigger besides an event: a schedule, a date of the person's, a segment, a call (goal 31).

Each makes one of our own events, `trigger_entered`, for each person that it is about, and that event starts the run as
any other does. Its id is that of (trigger, person, occasion), so that whoever looks how often, and however a walk over
all people is cut off, each person enters once an occasion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from espial.catalogue import News, Product
from espial.definitions.fields import Zone
from espial.events import Event
from espial.people import PersonView
from espial.triggers import cel
from espial.triggers.fields import Duration, expression
from espial.vocabulary import EventType

KEY = "event.properties.occasion"
"""What a run is about where nothing else is said: the occasion."""

STALE_AFTER = timedelta(days=1)
"""A walk over many people takes its time."""


def _cron(written: str) -> str:
    try:
        CronSim(written, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as exc:
        raise ValueError(f"{written!r} is no cron expression such as `0 9 * * MON`: {exc}") from None
    return written


About = Annotated[
    str, AfterValidator(expression("person", "now")), Field(description="CEL over `person`, its timeline and `now`.")
]


class Occasion(NamedTuple):
    """What people enter for, and the instant of it."""

    name: str
    at: datetime


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Model):
    """At a time, or again and again, for everybody whom `audience` is true of."""

    at: AwareDatetime | None = Field(default=None, description="Once, then.")
    cron: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None, description="`minute hour day month weekday`."
    )
    zone: Zone = "UTC"
    audience: About

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at is None) == (self.cron is None):
            raise ValueError("at: one of `at` and `cron` is needed")
        return self

    def latest(self, now: datetime) -> Occasion | None:
        """The last occasion until now."""
        if self.at is not None:
            return Occasion(_text(self.at), self.at) if self.at <= now else None
        at = next(CronSim(self.cron or "", now.astimezone(ZoneInfo(self.zone)) + timedelta(seconds=1), reverse=True))
        return Occasion(_text(at), at)

    def about(self, view: PersonView, _occasion: Occasion, now: datetime) -> Mapping[str, Any] | None:
        """What the person enters with; None: not at all."""
        return {} if holds(self.audience, view, now) else None


class DateField(_Model):
    """On a date that the person has, such as a birthday or the end of a contract.

    Somebody of the 29th of February has it on the 28th where there is none.
    """

    attribute: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="Holds `2001-03-31`, or a time.")
    every: Literal["year", "once"] = Field(default="year", description="once: only on that very day.")
    days_before: Annotated[int, Field(ge=-366, le=366)] = Field(default=0, description="Negative: days after.")
    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "09:00"
    zone: Zone = "UTC"
    audience: About = "true"

    def latest(self, now: datetime) -> Occasion | None:
        """The last time of day until now: every day is one."""
        zone = ZoneInfo(self.zone)
        day = now.astimezone(zone).date()
        clock = time.fromisoformat(self.at)
        while (at := datetime.combine(day, clock, zone)) > now:
            day -= timedelta(days=1)
        return Occasion(day.isoformat(), at.astimezone(UTC))

    def about(self, view: PersonView, occasion: Occasion, now: datetime) -> Mapping[str, Any] | None:
        """See `Schedule.about`."""
        stated = _date(view.attributes.get(self.attribute))
        wanted = date.fromisoformat(occasion.name) + timedelta(days=self.days_before)
        if stated is None or _in_year(stated, wanted.year if self.every == "year" else stated.year) != wanted:
            return None
        return {"date": wanted.isoformat()} if holds(self.audience, view, now) else None


class Segment(_Model):
    """When something becomes true of a person (`enter`), or is no longer (`exit`).

    It is looked at with each of the person's events, and for what time alone changes every so often. Whom it is true of
    when it is first looked at has not become so, unless `existing` says that these enter too.
    """

    when: About
    on: Literal["enter", "exit"] = "enter"
    every: Duration = Field(default=timedelta(hours=1), description="From a minute to a day.")
    existing: bool = False

    @model_validator(mode="after")
    def _often(self) -> Self:
        if not timedelta(minutes=1) <= self.every <= timedelta(days=1):
            raise ValueError("every: must be from a minute to a day")
        return self

    def latest(self, now: datetime) -> Occasion:
        """The last time that all people are looked at; one that is not over is gone on with."""
        seconds = self.every.total_seconds()
        at = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
        return Occasion(_text(at), at)


class CatalogueNews(_Model):
    """When a product that the person looked at, or had in the cart, costs less or can be bought again.

    Once a file of the catalogue; of several products it is the one that they saw last.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    on: Literal["price_dropped", "back_in_stock"]
    least: Annotated[int, Field(ge=0, le=99)] = Field(default=0, description="By how many percent it must cost less.")
    seen: Duration = Field(default=timedelta(days=30), description="How long ago they saw it, at most.")
    audience: About = "true"

    def about(self, view: PersonView, news: News, products: Mapping[str, Product], now: datetime) -> str | None:
        """The product that the person is told of, if any: one that is there, and that they did not buy since."""
        bought: set[str] = set()
        for event in reversed(view.events):
            if event.occurred_at < now - self.seen:
                break
            if event.type is EventType.ORDER_COMPLETED:
                bought |= _seen(event)
            elif event.type in (EventType.PRODUCT_VIEWED, EventType.CART_UPDATED):
                told = sorted(id_ for id_ in _seen(event) - bought if self._tells(news, products.get(id_)))
                if told:
                    return told[0] if holds(self.audience, view, now) else None
        return None

    def _tells(self, news: News, product: Product | None) -> bool:
        if product is None or not product.available:
            return False
        if self.on == "back_in_stock":
            return product.id in news.back
        before = news.dropped.get(product.id)
        return before is not None and product.price <= before * (1 - self.least / 100) and product.price < before

    def ids(self, news: News) -> Collection[str]:
        """Whom of it the news may be."""
        return news.back if self.on == "back_in_stock" else news.dropped


def _seen(event: Event) -> set[str]:
    return {one.id for one in event.products if one.id}


class Entry(_Model):
    """One way in."""

    schedule: Schedule | None = None
    date: DateField | None = None
    segment: Segment | None = None
    catalogue: CatalogueNews | None = None
    call: Literal[True] | None = Field(default=None, description="By the API, with a request id of the caller's.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError(f"one of {', '.join(type(self).model_fields)} is needed")
        return self

    @property
    def timed(self) -> Schedule | DateField | None:
        """What has occasions for all people."""
        return self.schedule or self.date


def holds(condition: str, view: PersonView, now: datetime) -> bool:
    """Whether it is true of the person; what cannot be evaluated is not."""
    return condition == "true" or bool(
        cel.Scope((condition,), {"person": view.facts, "now": now}, cel.timeline(view.times, view.of_type, now))
        .holds(condition)
        .value
    )


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _date(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _in_year(day: date, year: int) -> date:
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 2, 28)
