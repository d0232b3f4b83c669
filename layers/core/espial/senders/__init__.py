"""Senders: one module per provider, each exporting `open_sender`; adding one adds a file and a name here.

A sender translates one `Message` into one provider call. It decides nothing: consent, caps, claims and
repetition belong to `espial.services.deliver`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from espial.errors import Refused
from espial.ports import Sender

NAMES = ("ses",)
"""Every provider kind, by module name: the `kind` of a file under definitions/providers/."""


Client = Callable[[str], Any]
"""Service name -> AWS client, for the senders that need one."""

OpenSender = Callable[[str, Mapping[str, Any], Client], Sender]
"""(provider's name, its settings, client) -> sender. Raises Refused("provider_invalid") on unusable settings."""


@cache
def load(kind: str) -> OpenSender:
    """The provider kind's constructor, imported on first use. Raises Refused for a kind not in NAMES."""
    if kind not in NAMES:
        raise Refused("unknown_provider_kind", kind)
    opener: OpenSender = import_module(f"espial.senders.{kind}").open_sender
    return opener
