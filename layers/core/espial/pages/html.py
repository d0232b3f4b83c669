"""The preference page and its neighbours as HTML: small, without scripts, nothing fetched from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What the page shows. `topics` are titles by topic, `granted` those that are on, `this` the mail's own topic.

    said   what was just done, or "".
    left   whether the reader has left what the mail belongs to.
    """

    sender: str = ""
    address: str = ""
    this: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    granted: frozenset[str] = frozenset()
    left: bool = False
    said: str = ""


def preferences(shown: Preferences) -> str:
    """The preference page. Everything it can do is a POST of one of its forms to where it came from."""
    sender = f" from {escape(shown.sender)}" if shown.sender else ""
    what = escape(shown.topics.get(shown.this, shown.this)) if shown.this else f"all emails{sender}"
    parts = [f"<h1>Your emails{sender}</h1>"]
    if shown.address:
        parts.append(f'<p class="soft">For {escape(masked(shown.address))}</p>')
    if shown.said:
        parts.append(f'<p class="said" role="status">{escape(shown.said)}</p>')
    if shown.left:
        parts.append(_button("back", f"Subscribe again to {what}", "You no longer get these emails.", plain=True))
    else:
        parts.append(_button("leave", f"Unsubscribe from {what}", "One click is enough, and nothing else is needed."))
    if shown.topics:
        parts.append(_topics(shown))
    if shown.this and (shown.granted or not shown.left):
        parts.append(_button("none", f"Unsubscribe from all emails{sender}", "", plain=True))
    return _page(f"Your emails{sender}", "".join(parts))


def _topics(shown: Preferences) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" name="topic" value="{escape(topic)}"'
        f"{' checked' if topic in shown.granted else ''}> {escape(title)}</label>"
        for topic, title in shown.topics.items()
    )
    before = "".join(
        f'<input type="hidden" name="shown" value="{escape(topic)}">'
        for topic in shown.topics
        if topic in shown.granted
    )
    return (
        f'<form method="post"><fieldset><legend>What you would like to get</legend>{boxes}</fieldset>{before}'
        '<button class="plain" name="do" value="save">Save</button></form>'
    )


def _button(do: str, title: str, note: str, *, plain: bool = False) -> str:
    told = f"<p>{note}</p>" if note else ""
    style = ' class="plain"' if plain else ""
    return f'<form method="post">{told}<button{style} name="do" value="{do}">{title}</button></form>'


def notice(title: str, *paragraphs: str) -> str:
    """A page that only says something, such as why a link does not work."""
    said = "".join(f"<p>{escape(text)}</p>" for text in paragraphs)
    return _page(escape(title), f"<h1>{escape(title)}</h1>{said}")


def masked(address: str) -> str:
    """An address as its owner knows it, and others who see the page do not."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}{'•' * 3}{at}{domain}" if at else f"{address[:2]}•••"


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text("utf-8").replace("\n", "")


@cache
def policy() -> str:
    """The content security policy of every page: this style, these forms, nothing else."""
    style = b64encode(sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="robots" content="noindex">'
        f"<title>{title}</title><style>{_style()}</style></head><body><main>{body}</main></body></html>"
    )
