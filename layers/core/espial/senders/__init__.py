"""Senders: one module per provider, each exporting `open_sender`; adding one adds a file and a name here.

A sender translates one `Message` into one provider call. It decides nothing: consent, caps, claims and
repetition belong to `espial.services.deliver`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from espial.errors import Refused
from espial.messages import Message, Receipt

NAMES = ("ses",)
"""Every provider kind, by module name: the `kind` of a file under definitions/providers/."""


class Sender(Protocol):
    """One configured provider.

    features     what it can express beyond subject, HTML and text: `headers`, `tags`, `reply_to`. A message that
                 needs more is refused before it is sent.
    idempotent   whether the provider itself takes one idempotency key once; then an unknown outcome is simply
                 repeated with the same key.
    """

    name: str
    features: frozenset[str]
    idempotent: bool

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """Hand the message over, once.

        Raises TryAgain if it surely was not taken and may be later, Refused if it never will be, OutcomeUnknown
        if nobody can tell; nothing else.
        """
        ...


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


def check(sender: Sender, message: Message) -> None:
    """Refuse what the provider cannot express, before anything is sent."""
    needed = {name for name in ("headers", "tags", "reply_to") if getattr(message, name)}
    if missing := needed - sender.features:
        raise Refused("provider_lacks_feature", ", ".join(sorted(missing)))
