"""An onboarding as data: what `definitions/onboardings/*.yaml` may say (A2, A4, A28, A.c.9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from espial.definitions.fields import Definition, SecretReference, https_url
from espial.exports import folded

_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,99}")
_TAKEN = frozenset({"user_alias", "braze_id", "push_tokens", "output_name"})
"""Names that mean something else to a platform, or that are filled in here."""


def _attribute(value: str) -> str:
    if not _ATTRIBUTE.fullmatch(value):
        raise ValueError("must be an attribute in snake_case, such as `home_city`")
    if value in _TAKEN or value.startswith("rpi_"):
        raise ValueError(f"{value} is filled in by Espial; give the column another name")
    return value


def _endpoint(value: str) -> str:
    parts = urlsplit(https_url(value))
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an address without user, query and fragment")
    return value.rstrip("/")


def _column(value: str) -> str:
    if not folded(value):
        raise ValueError("must be the name of a column")
    return value


Column = Annotated[str, AfterValidator(_column), Field(max_length=200)]
Attribute = Annotated[str, AfterValidator(_attribute)]
MetaName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Words = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$", max_length=500)]


class FromColumn(BaseModel):
    """What differs from row to row: the text of a column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: Column


EXECUTIONS_A_SERIES = 1_000_000
"""With ten million contacts each, all ids stay below 2^53, which JSON keeps exactly."""


class OnboardingDefinition(Definition):
    """One way of handing recipients to a platform: files under `onboarding/<name>/` of the exports bucket."""

    platform: Literal["braze", "generic"] = Field(description="Whom they are handed to.")
    endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        description="Its address; of Braze the REST endpoint, without `/users/track`."
    )
    secret: SecretReference = Field(description="Reference to its API key; Braze's needs the permission `users.track`.")
    mode: Literal["upsert", "append"] = Field(
        default="upsert", description="upsert: create or update. append: only those that the platform knows already."
    )
    system: Annotated[Words, Field(min_length=1, max_length=100)] = Field(
        default="RPI", description="The system that the file comes from."
    )
    series: Annotated[StrictInt, Field(ge=0, le=899)] = Field(
        default=0,
        description="Which millions its execution ids are of: onboardings for one `system` need one each, or two "
        "executions, and contacts, would have one id.",
    )
    key: Column = Field(description="The column that holds the external id (PID).")
    columns: Mapping[Column, Attribute] = Field(
        default_factory=dict,
        description="Column -> attribute: `email`, `phone`, `first_name`, `last_name`, `country`, `dob`, `gender`, "
        "`home_city`, or any other.",
    )
    unknown_columns: Literal["refuse", "ignore"] = Field(
        default="refuse", description="A file with a column that is not named here: refuse it, or leave the column."
    )
    meta: Mapping[MetaName, Annotated[Words, Field(min_length=1)] | FromColumn] = Field(
        default_factory=dict, description="`campaign_code`, `cell_code` …: texts, or `{column: NAME}`."
    )
    output: Words = Field(default="", description="Name of the audience output.")
    offer_code: Words = ""
    offer_name: Words = ""
    interaction: Words = ""
    resolution_level: Literal["individual", "household", "address"] = "individual"
    rate_limit: Annotated[StrictInt, Field(ge=1, le=50_000)] = Field(default=1000, description="Requests per minute.")
    batch_size: Annotated[StrictInt, Field(ge=1, le=50)] = Field(default=50, description="Recipients per request.")
    encoding: str = Field(default="", description="Of text, as Python names it; default: UTF-8, or by its mark.")
    delimiter: Annotated[str, Field(max_length=1)] = Field(default="", description="Default: the one that fits.")
    enabled: StrictBool = Field(default=True, description="false: files are refused, what is under way is stopped.")

    def channel_execution(self, number: int) -> int:
        """The id of an execution outside of Espial: no other onboarding for the same system has it."""
        return self.series * EXECUTIONS_A_SERIES + number

    @property
    def prefix(self) -> str:
        """Where its files are dropped in the exports bucket."""
        return f"onboarding/{self.name}/"

    @cached_property
    def named(self) -> dict[str, str]:
        """Every column that is used, as rows name it (`folded`) -> as it is written here."""
        of_meta = (value.column for value in self.meta.values() if isinstance(value, FromColumn))
        return {folded(column): column for column in (self.key, *self.columns, *of_meta)}

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Attribute by column as rows name it, the key among them."""
        return {folded(self.key): "external_id"} | {folded(name): value for name, value in self.columns.items()}

    @cached_property
    def meta_columns(self) -> dict[str, str]:
        """Column as rows name it, by the meta name that it fills."""
        return {name: folded(value.column) for name, value in self.meta.items() if isinstance(value, FromColumn)}

    @cached_property
    def meta_texts(self) -> dict[str, str]:
        """Meta that is the same for every recipient."""
        return {name: value for name, value in self.meta.items() if isinstance(value, str)}

    @model_validator(mode="after")
    def _each_column_and_attribute_once(self) -> Self:
        """Two columns of one name in a file, or for one attribute, would leave it to chance which one counts."""
        key = folded(self.key)
        seen: dict[str, str] = {}
        attributes = {"external_id": self.key}
        for column, attribute in self.columns.items():
            if column != (first := seen.setdefault(folded(column), column)):
                raise ValueError(f"columns.{column}: is the same column as {first!r}: case and signs do not count")
            if (folded(column) == key) != (attribute == "external_id"):
                raise ValueError(f"columns.{column}: the external id is the column {self.key!r} (`key`) and no other")
            if column != (first := attributes.setdefault(attribute, column)) and folded(column) != key:
                raise ValueError(f"columns.{column}: {first!r} is {attribute} already")
        return self

    @model_validator(mode="after")
    def _append_has_something_to_say(self) -> Self:
        if self.mode == "append" and not self.output:
            raise ValueError("output: is missing: it is all that append tells the platform")
        return self
