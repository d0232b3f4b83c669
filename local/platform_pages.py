"""The pages under docs/platforms/: one for each platform and the matrix of platforms and event types."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import yaml

from espial import sources
from espial.vocabulary import EventType
from local.markdown import code, page, table
from tests.samples import Case, cases

_ORDER = list(EventType)
GROUPS: Mapping[str, list[EventType]] = {
    "Messages": _ORDER[: _ORDER.index(EventType.OPENED)],
    "Recipients and campaigns": _ORDER[_ORDER.index(EventType.OPENED) : _ORDER.index(EventType.PAGE_VIEWED)],
    "Behaviour, contacts, loyalty": _ORDER[_ORDER.index(EventType.PAGE_VIEWED) : _ORDER.index(EventType.UNKNOWN)],
}
SHOWN_LINES = 60
"""A sample longer than this makes no good reading."""


def matrix() -> str:
    """Which platform reports what."""
    known = [sources.load(name) for name in sources.NAMES]
    found = {source.name: reported(source) for source in known}
    return page(
        "Platforms",
        [
            f"What each of the {len(known)} platforms reports, in Espial's words; its own page says how to connect it.",
            "A report of any other kind is kept and counted, never refused.",
            "For a platform that is not here: [standard_webhooks](standard_webhooks.md), [cloudevents](cloudevents.md)",
            "or, by a mapping of its fields, [custom_json](custom_json.md).",
            "",
        ],
        *(_group(title, kinds, known, found) for title, kinds in GROUPS.items()),
    )


def _group(
    title: str, kinds: list[EventType], known: list[sources.Source], found: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    told = [kind for kind in kinds if any(kind in one for one in found.values())]
    yield from (f"## {title}", "")
    yield from table(
        ["platform", *(f"`{kind}`" for kind in told)],
        (
            [
                f"[{source.docs.title}]({source.name}.md)",
                *("yes" if kind in found[source.name] else "" for kind in told),
            ]
            for source in known
        ),
        ":-:",
    )


def _link(source: sources.Source) -> str:
    return f"[{source.docs.title}]({source.name}.md)"


def reported(source: sources.Source) -> frozenset[str]:
    """Every type a platform's reports become: by name, and by their details, as the samples show."""
    samples = [outcome["event"]["type"] for one in cases(source.name) for outcome in one.expected if "event" in outcome]
    return frozenset([*source.event_types.values(), *samples])


def platform(name: str) -> str:
    """How one platform is connected, and what its reports become."""
    source = sources.load(name)
    docs = source.docs
    return page(
        docs.title,
        [_introduction(source), ""],
        ["## Connect it", "", *(f"{number}. {step}" for number, step in enumerate(docs.setup, start=1)), ""],
        _connection(source),
        ["## The secret", "", docs.secret, ""],
        ["## What it is answered", "", docs.answers, ""] if docs.answers else [],
        _words(source),
        _sample(name),
        ["## What to know", "", *(f"- {note}" for note in docs.notes)] if docs.notes else [],
    )


def _introduction(source: sources.Source) -> str:
    how = "tracking calls to `/v1/`" if source.name == "segment" else f"`/in/{source.name}/<connection>`"
    methods = "" if source.methods == {"POST"} else f" ({', '.join(sorted(source.methods))})"
    files = f" Export files: {', '.join(source.exports)}, under `exports/{source.name}/<connection>/`."
    return f"[The vendor's page]({source.docs.url}). Comes by {how}{methods}.{files if source.exports else ''}"


def _connection(source: sources.Source) -> Iterator[str]:
    """The least that a connection file says; a test holds that it validates."""
    name = f"{source.name}-main"
    said: dict[str, Any] = {
        "platform": source.name,
        "secrets": [] if source.docs.keyless else [f"secretsmanager:espial/{name}"],
    }
    if source.docs.settings:
        said["settings"] = dict(source.docs.settings)
    yield from ("The connection file, whose name is the connection's:", "")
    yield from (f"```yaml file=definitions/connections/{name}.yaml", yaml.safe_dump(said, sort_keys=False).rstrip())
    yield from ("```", "", "Where secrets are stored and what else it may say: [configure](../configure.md).", "")


def _words(source: sources.Source) -> Iterator[str]:
    becomes: dict[str, set[str]] = {theirs: {kind.value} for theirs, kind in source.event_types.items()}
    for one in cases(source.name):
        for outcome in one.expected:
            if "event" in outcome and outcome["event"]["platform_type"] in becomes:
                becomes[outcome["event"]["platform_type"]].add(outcome["event"]["type"])
    yield from ("## Its reports", "")
    yield from table(
        ["report", "becomes", "by its details also"],
        (
            [code([theirs]), code([usual.value]), code(sorted(becomes[theirs] - {usual.value}))]
            for theirs, usual in source.event_types.items()
        ),
    )


def _sample(name: str) -> Iterator[str]:
    """The shortest delivery that becomes an event, and its first event."""
    told = [one for one in cases(name) if one.expected and "event" in one.expected[0] and not one.meta.get("settings")]
    shown = sorted((text.count("\n"), len(text), one.name, kind, text) for one in told for kind, text in [_in(one)])
    if not shown or shown[0][0] > SHOWN_LINES:
        return
    _, _, case, kind, text = shown[0]
    event = next(one for one in told if one.name == case).expected[0]["event"]
    yield from ("## One of them, in and out", "", f"As it is posted (`events/sources/{name}/{case}.body`):", "")
    yield from (f"```{kind}", text, "```", "")
    yield from ("As it is kept, put on the bus and shown by `espial events --json`:", "")
    yield from ("```json", json.dumps(event, indent=2, ensure_ascii=False), "```", "")


def _in(one: Case) -> tuple[str, str]:
    """Language and text: JSON in order, a form or query field by field."""
    text = one.body.decode("utf-8", "replace").strip()
    if not text:
        return "text", "\n".join(f"{name}={value}" for name, value in parse_qsl(one.meta.get("query", "")))
    try:
        return "json", json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        pass
    pairs = parse_qsl(text, keep_blank_values=True) if "=" in text and "{" not in text[:1] else []
    return "text", "\n".join(f"{name}={value}" for name, value in pairs) or text


PAGES: Mapping[str, Callable[[], str]] = {
    "platforms/README.md": matrix,
    **{f"platforms/{name}.md": partial(platform, name) for name in sources.NAMES},
}
