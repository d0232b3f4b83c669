"""What arrives: a raw delivery as bytes, and the arrival facts a source may need to read an item.

Standard library only: the acknowledging path imports this.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Item = dict[str, Any]
"""One report in the platform's own words."""

SECRET_PARAMETERS = frozenset({"key", "access_token"})
"""Parameters of a webhook's URL that may hold its secret, for platforms that can show none elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDelivery:
    """One HTTP request (or one tracking call) exactly as it came.

    `body` is the exact bytes that signatures cover; `headers` are lower-cased; `url` is the configured
    public URL of the connection with the request's raw query string, because some platforms sign it.
    """

    delivery_id: str
    platform: str
    connection: str
    transport: str
    body: bytes
    received_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    url: str = ""
    mode: str = "live"

    def plain(self) -> dict[str, Any]:
        """Every field as JSON has it, `body` in base64: how the archive and the quarantine keep a delivery."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            **fields,
            "body": b64encode(self.body).decode(),
            "received_at": self.received_at.isoformat(),
            "headers": dict(self.headers),
        }

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> RawDelivery:
        """Read `plain` back; whatever else is among the fields is left alone."""
        known = {name: fields[name] for name in cls.__slots__ if name in fields}
        known["body"] = b64decode(fields["body"])
        known["received_at"] = datetime.fromisoformat(fields["received_at"])
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One configured account of one platform, as `espial apply` published it (definitions/connections/).

    `secrets` are references (`secretsmanager:espial/NAME`, `ssm:/espial/NAME`), never values; any of them is
    accepted, so rotation has an overlap. `account` scopes identity: two connections of one workspace share it, so that
    its webhook and its bucket copy of one event are one. `settings` are the platform's own options.
    """

    name: str
    platform: str
    secrets: tuple[str, ...] = ()
    account: str = ""
    enabled: bool = True
    unsigned: bool = False
    public_url: str = ""
    dedupe_days: int = 60
    mode: str = "live"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Connection:
        """Read the published form."""
        return cls(
            **{**data, "secrets": tuple(data.get("secrets", ())), "account": data.get("account") or data["name"]}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How and when an item reached us: what `normalise` may use besides the item itself."""

    connection: Connection
    transport: str
    received_at: datetime
    mode: str = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a platform is answered. Exactly 200 unless its section says otherwise (DESIGN 4)."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
