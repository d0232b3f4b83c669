"""Payloads with placeholders: `{{group.path}}`, `{{group.path|default}}`, `{{$guid}}`, `{{name}}` (C11, C26).

A placeholder that is a whole JSON value keeps the type of what it stands for; inside a longer text it is text. What it
stands for is looked up in the facts, then among the static values, then it is the default; without any of them the
attribute is missing. A null is missing too. What a value says is never read as a placeholder again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from espial.errors import Refused

Write = Callable[[str], str]
"""How a value is written inside a text: as it is, or escaped for an address."""

GUID = "$guid"
_placeholder = re.compile(r"\{\{\s*([^{}|\s]+)\s*(?:\|([^{}]*))?\}\}")
_name = re.compile(r"\$guid|[A-Za-z_]\w*(?:\.[A-Za-z0-9_-]+)*")


class Placeholder(NamedTuple):
    """One, as it is written; `default` is None where there is none."""

    path: str
    default: str | None

    @property
    def group(self) -> str:
        """The first part of the path."""
        return self.path.partition(".")[0]


def found(value: Any) -> Iterator[Placeholder]:
    """Every placeholder in a JSON value, names of members among it."""
    for text in _texts(value):
        for match in _placeholder.finditer(text):
            yield Placeholder(match[1], match[2])


def problem(value: Any) -> str:
    """What is wrong with the placeholders of a JSON value; "" if nothing is."""
    for one in found(value):
        if not _name.fullmatch(one.path):
            return f"{{{{{one.path}}}}} is no placeholder such as {{{{user.first_name|there}}}}"
    for text in _texts(value):
        if "{{" in _placeholder.sub("", text) or "}}" in _placeholder.sub("", text):
            return f"a placeholder is not closed, or not opened, in {text[:60]!r}"
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(name)
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


class Facts:
    """What placeholders stand for.

    facts    group -> what is known; nested maps and lists (`items.0.id`)
    static   path -> value, where the facts say nothing
    guid     makes the next UUID
    missing  `fail` or `empty`: what becomes of an attribute that nothing is known of and that has no default
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        static: Mapping[str, Any] | None = None,
        *,
        guid: Callable[[], str],
        missing: str = "fail",
    ) -> None:
        self._facts = facts
        self._static = static or {}
        self._guid = guid
        self._missing = missing

    def rendered(self, value: Any, write: Write = str) -> Any:
        """The JSON value with everything filled in. Raises Refused("missing_attribute"), naming it."""
        if isinstance(value, str):
            return self._text(value, write)
        if isinstance(value, Mapping):
            return {str(self._text(name, write)): self.rendered(one, write) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.rendered(one, write) for one in value]
        return value

    def _text(self, text: str, write: Write) -> Any:
        whole = _placeholder.fullmatch(text)
        if whole:
            value = self._value(Placeholder(whole[1], whole[2]))
            return write(value) if isinstance(value, str) else value
        return _placeholder.sub(lambda match: write(_written(self._value(Placeholder(match[1], match[2])))), text)

    def _value(self, one: Placeholder) -> Any:
        if one.path in (GUID, "system.guid"):
            return self._guid()
        value = inside(self._facts, one.path)
        if value is None:
            value = self._static.get(one.path, one.default)
        if value is None and self._missing == "fail":
            raise Refused("missing_attribute", one.path)
        return "" if value is None else value


def inside(facts: Any, path: str) -> Any:
    """What stands under a path such as `items.0.id`; None where nothing does."""
    for step in path.split("."):
        if isinstance(facts, Mapping):
            facts = facts.get(step)
        elif isinstance(facts, list | tuple) and step.isdecimal() and int(step) < len(facts):
            facts = facts[int(step)]
        else:
            return None
    return facts


def _written(value: Any) -> str:
    """A value inside a longer text: whole numbers without a point, everything that is no text as JSON."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def guids(seed: str) -> Callable[[], str]:
    """UUIDs that look random and are the same for the same seed, so that a repeat of a call says the same."""
    number = 0

    def following() -> str:
        nonlocal number
        number += 1
        digest = blake2b(f"{seed}\x1f{number}".encode(), digest_size=16).digest()
        return str(UUID(bytes=digest, version=4))

    return following


def resolved(text: str, variables: Mapping[str, str], guid: Callable[[], str]) -> str:
    """A setting with its variables filled in (C26). Raises ValueError naming every one that is unknown."""
    unknown = sorted({one.path for one in found(text)} - {GUID, *variables})
    if unknown:
        raise ValueError(f"unknown variable {', '.join(unknown)}; known: {', '.join(sorted(variables)) or 'none'}")
    return str(Facts(variables, guid=guid).rendered(text))
