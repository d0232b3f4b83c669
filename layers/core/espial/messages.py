"""What we send: one message to one person, what a sender answers, and the key that makes it happen once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from espial.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One rendered e-mail: `to`, `also_to` and `from_` are header-safe (see `address` and `mailbox`).

    `send_key` names the occasion (see `send_key`); `tags` are short labels a provider may report back with its
    events; `headers` are added to the e-mail as they are. Without `html` it is a plain text.

    Or a text message (`channel` is `sms`): `to` is a number (see `phone`), `from_` a number or a sender's name, and
    it has a `text` and tags, nothing else.

    `external_id` is how the shop's own systems name the recipient, for platforms that know people by it.

    Or what a webhook is to say: `facts` for its placeholders, and nothing that is rendered.
    """

    to: str
    from_: str
    subject: str
    html: str
    text: str
    send_key: str
    reply_to: str = ""
    also_to: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    channel: str = "email"
    external_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A provider's word that it took the message."""

    provider: str
    provider_message_id: str
    at: datetime


def check(message: Message, features: frozenset[str]) -> None:
    """Refuse what a provider with these `features` cannot express, before anything is sent."""
    needed = {name for name in ("headers", "tags", "reply_to", "also_to") if getattr(message, name)}
    if missing := needed - features:
        raise Refused("provider_lacks_feature", ", ".join(sorted(missing)))


def send_key(*, trigger: str, person: str, key: str, version: str, stage: int = 0) -> str:
    """One mail per trigger, person, run key, version and stage, whatever code sends it and however often (goal 38).

    Opaque and safe in a header, a tag, a URL and a table key, so the provider's own events can carry it back.
    """
    occasion = "\x1f".join((trigger, person, key, version, *([str(stage)] if stage else [])))
    return f"s-{blake2b(occasion.encode(), digest_size=16).hexdigest()}"


_OURS = re.compile(r"[ns]-[0-9a-f]{32}")


def is_ours(key: object) -> bool:
    """Whether a platform's event that carries it is about a message of ours, sent under this key."""
    return type(key) is str and _OURS.fullmatch(key) is not None


OWN_KEY = "own_key"
"""The property of an event that is evidence of a message of ours, whose reports are tied together by another key."""

KEY_HEADER = "X-Espial-Send-Key"
"""The header that carries the send key where nothing else of a message does."""

_NOTIFICATION = re.compile(r"n-[0-9a-f]{32}")


def notification_key(destination: str, identity: str) -> str:
    """The key of a mail that tells a destination of events, where others have a `send_key`: told apart by its look."""
    mail = f"{destination}\x1f{identity}"
    return f"n-{blake2b(mail.encode(), digest_size=16).hexdigest()}"


def is_notification(key: str | None) -> bool:
    """Whether what bears this key is about a notification mail: such an event must not be notified of in turn."""
    return key is not None and _NOTIFICATION.fullmatch(key) is not None


_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]{1,64}@([^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]{1,253})")


def address(value: str) -> str:
    """A bare address that cannot add a header or a second recipient; international domains in ASCII.

    Raises Refused("address_invalid"), without the address: the reason is logged.
    """
    match = _ADDRESS.fullmatch(value.strip())
    if not match:
        raise Refused("address_invalid")
    domain = match[1]
    if domain.isascii():
        return match[0]
    try:
        return f"{match[0][: match.start(1)]}{domain.encode('idna').decode()}"
    except UnicodeError as exc:
        raise Refused("address_invalid") from exc


_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")


def phone(value: str) -> str:
    """A number as E.164, without the spaces and signs it may be written with. Raises Refused("phone_invalid")."""
    number = re.sub(r"[ ().\-\u00a0]", "", value)
    if not _PHONE.fullmatch(number):
        raise Refused("phone_invalid")
    return number


def recipient(channel: str, value: str) -> str:
    """An address or a number, as the channel has it, or an id. Raises Refused like `address` and `phone`."""
    if channel in ("email", "sms"):
        return phone(value) if channel == "sms" else address(value)
    return one_line(value)


def mailbox(name: str, bare: str) -> str:
    """`name <address>` with the name quoted or encoded as RFC 2047 asks. Raises Refused like `address`."""
    from email.utils import formataddr  # noqa: PLC0415  only where a display name is made

    return formataddr((one_line(name), address(bare)))


def one_line(text: str) -> str:
    """The text as a header value: every run of white space and control characters is one space."""
    return re.sub(r"[\s\x00-\x1f\x7f\u2028\u2029]+", " ", text).strip()
