"""What definitions of every kind are made of: the base of their models, and the fields that several of them have."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
REFERENCE = re.compile(r"(?:secretsmanager:espial/[A-Za-z0-9/_+=.@-]{1,505}|ssm:/espial/[A-Za-z0-9/_.-]{1,1003})")
"""The functions may read these names only, so any other would answer platforms 503 for ever."""


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("must be lower-case letters, digits, - and _, at most 64 of them, such as `shop-main`")
    return value


def _reference(value: str) -> str:
    """Never repeats the value: what is refused here may be the secret itself."""
    if not REFERENCE.fullmatch(value):
        raise ValueError(
            "must be a reference, `secretsmanager:espial/NAME` or `ssm:/espial/NAME`, never the secret itself: "
            "store the value in AWS Secrets Manager and write `secretsmanager:espial/<connection>` here"
        )
    return value


def https_url(value: str) -> str:
    """An address with https, or with http on this machine. Raises ValueError for any other."""
    parts = urlsplit(value)
    local = parts.hostname in {"localhost", "127.0.0.1"}
    if not parts.hostname or (parts.scheme != "https" and not (local and parts.scheme == "http")):
        raise ValueError("must be an https:// address")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # not there, no name at all, or a folder of zones
        raise ValueError(f"no time zone {value!r}: one such as UTC or Europe/London is expected") from None
    return value


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
SecretReference = Annotated[
    str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": f"^{REFERENCE.pattern}$"})
]


Zone = Annotated[str, AfterValidator(_zone), Field(description="IANA time zone, such as Europe/London.")]


class Definition(BaseModel):
    """What every kind has: a name, which is the file's, and words for the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Name = Field(description="Same as the file's name; may be left out.")
    description: str = Field(default="", description="For people; changes nothing.")

    def published(self) -> dict[str, Any]:
        """What the functions read: plain JSON without the words for people."""
        return self.model_dump(mode="json", exclude={"description"})
