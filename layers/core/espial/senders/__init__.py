"""Senders: one module per platform, found by its name, each saying in `SENDER` what it is; adding one adds a file.

A sender translates one `Message` into one call of a platform. It decides nothing: consent, caps, claims and
repetition belong to `espial.services.deliver`. Its simulator lies under `espial.cli.simulators.senders`, by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from email.header import decode_header, make_header
from email.utils import parseaddr
from functools import cache
from importlib import import_module
from pathlib import Path
from socket import socket
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from espial.answers import Http
from espial.definitions.fields import https_url
from espial.errors import Refused
from espial.ports import Sender

NAMES = tuple(sorted(path.stem for path in Path(__path__[0]).glob("*.py") if not path.stem.startswith("_")))
"""Every kind of sender, by module name: the `sender` of a file under definitions/providers/."""


EVERYTHING = frozenset({"headers", "tags", "reply_to", "also_to"})
"""All features that an e-mail may need."""


class Ways(NamedTuple):
    """The ways out that a sender may take; each uses what it needs.

    client  service name -> AWS client that never retries by itself: a repeated call could be a second message
    http    calls of addresses that definitions name
    dial    (host, port, seconds) -> connection to such an address; raises as `GuardedHttp.dial` does
    secret  reference -> the secret as it is now; raises TryAgain if it cannot be read
    clock   now, with a zone
    """

    client: Callable[[str], Any]
    http: Http
    dial: Callable[[str, int, float], socket]
    secret: Callable[[str], bytes]
    clock: Callable[[], datetime]


class Settings(BaseModel):
    """What a provider's `settings` may say; each kind of sender has its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiSettings(Settings):
    """Of every sender that speaks HTTP."""

    base_url: Annotated[str, AfterValidator(https_url)] | None = Field(
        default=None, description="Where the API is instead of the platform's own address; a simulator, or a proxy."
    )


OpenSender = Callable[[str, Mapping[str, Any], Ways], Sender]
"""(provider's name, what was published of it, ways) -> sender. Raises Refused("provider_invalid")."""


class Kind(NamedTuple):
    """What a sender's module says of itself.

    secrets   the names under which a provider has to give references to secrets; `optional` are those that it may
    settings  the model of its settings
    """

    title: str
    open: OpenSender
    secrets: tuple[str, ...] = ()
    settings: type[Settings] = Settings
    channel: Literal["email", "sms", "any"] = "email"
    optional: tuple[str, ...] = ()


@cache
def load(name: str) -> Kind:
    """The kind of sender, imported on first use. Raises Refused for one not in NAMES."""
    if name not in NAMES:
        raise Refused("unknown_provider_kind", name)
    kind: Kind = import_module(f"espial.senders.{name}").SENDER
    return kind


def problem(kind: Kind, secrets: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """What is wrong with a provider's `secrets` or `settings`, opening with the field to blame; "" if nothing is."""
    if missing := [name for name in kind.secrets if name not in secrets]:
        return f"secrets: {missing[0]} is missing: name where the platform's {missing[0]} is kept"
    allowed = (*kind.secrets, *kind.optional)
    if strange := [name for name in secrets if name not in allowed]:
        return f"secrets.{strange[0]}: {kind.title} has no such secret (known: {', '.join(allowed) or 'none'})"
    try:
        kind.settings.model_validate(settings)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        place = ".".join(("settings", *map(str, error["loc"])))
        known = ", ".join(kind.settings.model_fields) or "none"
        words = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if error["type"] == "missing":
            return f"settings: {error['loc'][0]} is missing"
        return f"{place}: " + (f"unknown setting (known: {known})" if error["type"] == "extra_forbidden" else words)
    return ""


def named(mailbox: str) -> tuple[str, str]:
    """The display name as it is read, and the address, of a header-safe `name <address>`."""
    name, address = parseaddr(mailbox)
    return str(make_header(decode_header(name))), address
