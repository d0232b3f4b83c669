"""When a sink is given its files: at times of the day rather than at once."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from espial.definitions.fields import Zone

_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


TimeOfDay = Annotated[str, Field(pattern=_TIME)]
Times = Annotated[
    tuple[TimeOfDay, ...],
    Field(min_length=1, max_length=48),
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _TIME},
                {"type": "array", "items": {"type": "string", "pattern": _TIME}, "minItems": 1, "maxItems": 48},
            ],
            "examples": ["00:15", ["06:00", "18:00"]],
        }
    ),
]


class Schedule(BaseModel):
    """Times of the day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Times = Field(description="A time, or several.")
    zone: Zone = "UTC"

    def first(self, since: datetime) -> datetime:
        """The first of the times from this instant on."""
        zone = ZoneInfo(self.zone)
        day = since.astimezone(zone).date()
        found = (
            datetime.combine(day + timedelta(days=days), time.fromisoformat(at), zone).astimezone(UTC)
            for days in (0, 1, 2)  # where clocks are put back, the day's last time may be before `since`
            for at in self.at
        )
        return min(at for at in found if at >= since)
