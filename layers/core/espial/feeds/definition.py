"""A feed as data: what `definitions/feeds/*.yaml` and `definitions/layouts/*.yaml` may say (A13, A20, A26, A.c.1 to 9).

A *layout* says which columns the rows of one kind of record have and where each column comes from; a *feed* says which
layouts are written for which connections, how files look and rotate, and which sinks get them. The layouts that ship
with Espial lie in `espial/feeds/layouts/`; one of the same name under definitions/ takes its place.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from espial.definitions.fields import Definition, Name, SecretReference, https_url
from espial.feeds import paths
from espial.feeds.dispositions import DISPOSITIONS
from espial.feeds.schedule import Schedule
from espial.triggers.fields import Duration
from espial.vocabulary import EventType

HOST = r"[A-Za-z0-9.:-]{1,253}"
LONGEST_ROTATION = timedelta(hours=12)
"""What is in no file yet lies in the table's stream, which forgets after 24 hours."""

BUILT_IN = Path(__file__).parent / "layouts"

Record = Literal[
    "campaign_event",
    "response_event",
    "contact_authorization",
    "offer_history",
    "offer_history_meta",
    "offer_history_states",
    "offer_history_details",
    "event",
    "extension",
]
"""What a row is about. A `campaign_event` is a send or an onboarding, a `response_event` what came of a send, an
`event` any event by itself."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


SourcePath = Annotated[str, AfterValidator(paths.check)]
SourcePaths = Annotated[
    tuple[SourcePath, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One path, or several of which the first that leads to something counts."""


class Column(_Model):
    """One column: the first of `from` that is not empty, else `value`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
    type: Literal["text", "integer", "number", "datetime", "date", "flag"] = "text"
    length: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Characters at most; none for no limit."
    )
    required: StrictBool = False
    from_: SourcePaths = Field(default=(), alias="from", description="Where its value comes from, the first first.")
    value: str = ""


class LayoutDefinition(Definition):
    """The columns of one kind of row. `profiles` name the columns of narrower files, or how many of the first."""

    version: Annotated[StrictInt, Field(ge=1)] = 1
    of: Record
    key: tuple[str, ...] = Field(description="The columns that make a row unique.")
    columns: tuple[Column, ...] = Field(json_schema_extra={"minItems": 1})
    profiles: Mapping[str, StrictInt | tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.columns:
            raise ValueError("columns: at least one is needed")
        if not self.key:
            raise ValueError("key: at least one column is needed")
        names = [column.name for column in self.columns]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"columns.{number}.name: {name!r} is there twice")
        if unknown := [name for name in self.key if name not in names]:
            raise ValueError(f"key: no column {unknown[0]!r}")
        must = {*self.key, *(column.name for column in self.columns if column.required)}
        for profile, chosen in self.profiles.items():
            if isinstance(chosen, int) and not 1 <= chosen <= len(names):
                raise ValueError(f"profiles.{profile}: there are {len(names)} columns, not {chosen}")
            kept = self.columns_of(profile)
            if unknown := [name for name in kept if name not in names]:
                raise ValueError(f"profiles.{profile}: no column {unknown[0]!r}")
            if self.of != "extension" and (left := sorted(must - {*kept})) and self._always(left):
                raise ValueError(f"profiles.{profile}: leaves out {left[0]!r}, which is a key or required")
        return self

    def _always(self, left: list[str]) -> bool:
        """Whether one of them is a key column: what is only required may be left out of a narrow file."""
        return bool({*left} & {*self.key})

    def published(self) -> dict[str, Any]:
        """With `from` under its own name."""
        return self.model_dump(mode="json", by_alias=True, exclude={"description"})

    def columns_of(self, profile: str) -> tuple[str, ...]:
        """The names of a profile's columns, in order; a profile that the layout does not have is all of them."""
        chosen = self.profiles.get(profile, len(self.columns))
        if isinstance(chosen, int):
            return tuple(column.name for column in self.columns[:chosen])
        return chosen


class Rotation(_Model):
    """When a file is closed: so many rows, or so much time after the last one, whichever comes first."""

    rows: Annotated[StrictInt, Field(ge=1, le=100_000)] = 15_000
    after: Duration = timedelta(minutes=5)


class _Sink(_Model):
    """What every sink may say."""

    schedule: Schedule | None = Field(default=None, description="When it is given files; default: as they are closed.")
    collect: Literal["day"] | None = Field(
        default=None, description="`day`: an event log in one file a day (UTC), when the day is over."
    )


class BucketSink(_Sink):
    """A folder of the feeds bucket."""

    kind: Literal["bucket"]
    name: Name = "bucket"
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.=-]+/)*$")] = Field(
        default="", description="Under `feeds/` of the feeds bucket; default the feed's name."
    )


class SftpSink(_Sink):
    """A directory of an SFTP server."""

    kind: Literal["sftp"]
    name: Name = "sftp"
    host: Annotated[str, Field(pattern=f"^{HOST}$")]
    port: Annotated[StrictInt, Field(ge=1, le=65_535)] = 22
    user: Annotated[str, Field(min_length=1, max_length=128)]
    secret: SecretReference = Field(description="Reference to the password, or to a private key in OpenSSH's form.")
    host_key: Annotated[str, Field(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/=]+$")] = Field(
        description="The server's public key, as in known_hosts: `ssh-ed25519 AAAA…`."
    )
    directory: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,512}$")] = "."


def _ftp_host(value: str) -> str:
    """Raises ValueError for an address with a scheme, and what is no name or number of a host."""
    if value.lower().startswith("sftp:"):
        raise ValueError("this is SFTP, which is no FTP: write `kind: sftp`, and the host's name alone")
    if not re.fullmatch(HOST, value):
        raise ValueError("must be a host's name alone, such as ftp.example.com")
    return value


def _certificate(value: str) -> str:
    """Raises ValueError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
    except (ValueError, OSError) as exc:
        raise ValueError("must be a certificate in PEM form, `-----BEGIN CERTIFICATE-----` and so on") from exc
    return value


class FtpSink(_Sink):
    """A directory of an FTP server, over TLS unless `tls: none` is written out."""

    kind: Literal["ftp"]
    name: Name = "ftp"
    host: Annotated[str, AfterValidator(_ftp_host), WithJsonSchema({"type": "string", "pattern": f"^{HOST}$"})]
    port: Annotated[StrictInt, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="Default 21; with `tls: implicit` 990."
    )
    user: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,128}$")]
    secret: SecretReference = Field(description="Reference to the password.")
    tls: Literal["explicit", "implicit", "none"] = Field(
        default="explicit", description="`none`: password and files can be read on their way."
    )
    certificate: Annotated[str, AfterValidator(_certificate)] | None = Field(
        default=None, description="PEM of the server's certificate or of who signed it; default: the known authorities."
    )
    directory: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,512}$")] = "."

    @model_validator(mode="after")
    def _certificate_is_of_use(self) -> Self:
        if self.certificate and self.tls == "none":
            raise ValueError("certificate: there is none without TLS; leave `tls: none` out")
        return self


class HttpSink(_Sink):
    """An address that takes each file by PUT or POST."""

    kind: Literal["http"]
    name: Name = "http"
    url: Annotated[str, AfterValidator(https_url)] = Field(description="`{name}` in it becomes the file's name.")
    method: Literal["PUT", "POST"] = "PUT"
    secret: SecretReference | None = Field(default=None, description="Reference to a bearer token.")


Sink = Annotated[BucketSink | SftpSink | FtpSink | HttpSink, Field(discriminator="kind")]

Code = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,50}$")]


class FeedDefinition(Definition):
    """One feed: files of some layouts, for some connections, to some sinks."""

    connections: tuple[Name, ...] = Field(default=(), description="Only what these report; default: all connections.")
    layouts: tuple[Name, ...] = Field(
        default=("campaign_event_nonrpi", "response_event"), description="Of Espial's own or under layouts/."
    )
    profile: Name = Field(default="extended", description="Of each layout, such as `strict12`.")
    extensions: StrictBool = Field(default=False, description="Also `<layout>_ext`: what the profile leaves out.")
    extension_fields: tuple[SourcePath, ...] = Field(default=(), description="More fields for the extension files.")
    format: Literal["csv", "jsonl", "parquet", "log"] = "csv"
    delimiter: Literal[",", "|", "\t", ";"] = ","
    rotate: Rotation = Rotation()
    systems: Mapping[Name, Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict, description="Connection -> `sor_name`; default: its platform's name."
    )
    business_units: Mapping[Name, Code] = Field(default_factory=dict, description="Connection -> business unit code.")
    campaign_code_from: Literal["id", "name"] = Field(
        default="id", description="Where there is none: what else the platform tells, such as a template or tag."
    )
    default_campaign_code: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{0,50}$")] = Field(
        default="", description="Of sends that name nothing of the kind; none: they are rejected."
    )
    dispositions: Mapping[EventType, Code | None] = Field(
        default_factory=dict, description="Event type -> disposition code where it differs; null leaves the type out."
    )
    sends: Mapping[Name, EventType | Literal["none"]] = Field(
        default_factory=dict,
        description="Connection -> its report of a send where that is not the platform's; `none`: the first response "
        "stands for the send.",
    )
    attribution_window: Duration = timedelta(days=30)
    wait: Duration = Field(default=timedelta(hours=72), description="How long a response waits for its send.")
    unmatched: Literal["file", "synthesise"] = "file"
    machine: Literal["keep", "flag", "drop"] = Field(default="flag", description="Opens and clicks by machines.")
    over_length: Literal["truncate", "reject"] = Field(
        default="truncate", description="Of what is neither key nor required; those are rejected."
    )
    late_after: Duration = Field(default=timedelta(days=2), description="Older events go into correction files.")
    sinks: tuple[Sink, ...] = Field(default=(BucketSink(kind="bucket"),), description="Where finished files go.")

    @model_validator(mode="after")
    def _sinks_have_names(self) -> Self:
        for needed in ("layouts", "sinks"):
            if not getattr(self, needed):
                raise ValueError(f"{needed}: at least one is needed")
        names = [sink.name for sink in self.sinks]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"sinks.{number}.name: two sinks are called {name!r}; give one another name")
        return self

    def disposition(self, kind: EventType) -> str | None:
        """The code of a response of this type; None if the feed leaves it out."""
        return self.dispositions[kind] if kind in self.dispositions else DISPOSITIONS.get(kind.value)


@cache
def built_in() -> Mapping[str, LayoutDefinition]:
    """The layouts that ship with Espial, by name."""
    return {
        path.stem: LayoutDefinition.model_validate({"name": path.stem, **yaml.safe_load(path.read_text())})
        for path in sorted(BUILT_IN.glob("*.yaml"))
    }


def extension_of(layout: LayoutDefinition) -> LayoutDefinition:
    """The layout of a layout's extension file: its key, then one field of the row by name and value."""
    first = [column for column in layout.columns if column.name in ("sor_name", *layout.key)]
    more = (
        Column(name="custom_field_name", length=100, required=True, from_=("feed.field_name",)),
        Column(name="custom_field_value", length=4000, from_=("feed.field_value",)),
    )
    return LayoutDefinition(
        name=f"{layout.name}_ext",
        version=layout.version,
        of="extension",
        key=(*layout.key, "custom_field_name"),
        columns=(*first, *more),
    )
