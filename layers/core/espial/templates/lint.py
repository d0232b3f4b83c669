"""What is wrong or doubtful about a template's body, as its author wrote it: links, images, placeholders left over.

Each finding is (index, what), so that it can be named with its line. A problem keeps a template from being applied, a
warning is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from espial.templates.hidden import TAG

_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(?:\"((?:\{\{.*?\}\}|\{%.*?%\}|[^\"])*)\"|'([^']*)')", re.DOTALL)
_OUTPUT = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_LIQUID = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_STYLE = re.compile(r"<(mj-style|style|script)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_OWN_LINKS = ("unsubscribe_url",)
_LINKS = ("href", "src", "background-url")
_CLICKED = frozenset({"a", "area", "mj-button", "mj-navbar-link"})
_ALLOWED = {"href": ("https://", "mailto:", "tel:", "sms:", "#", "{"), "src": ("https://", "cid:", "{")}
_FOREIGN = re.compile(r"%%[\w .:-]{1,60}%%|\*\|[\w:]{1,60}\|\*|\[\[[\w .:-]{1,60}\]\]|<%=?.{1,80}?%>|\$\{[\w.]{1,60}\}")
"""How other platforms write what they fill in: nobody would fill it in here."""
_UNFINISHED = re.compile(r"\blorem ipsum\b|\bTODO\b|\bTBD\b|\bFIXME\b", re.IGNORECASE)
_DARK = re.compile(r"""<meta\b[^>]*\bname\s*=\s*["']?(?:supported-)?color-schemes?\b""", re.IGNORECASE)

Finding = tuple[int, str]


def problems(source: str) -> Iterator[Finding]:
    """Images without a description, links that lead nowhere safe, and other platforms' placeholders."""
    for tag in TAG.finditer(source):
        name, attributes = tag[2].lower(), _attributes(tag[3])
        if name in ("img", "mj-image") and "alt" not in attributes:
            yield tag.start(), 'image without alt: describe it, or alt="" if it is decoration'
        for attribute in _LINKS:
            if attribute in attributes and (what := _wrong(attribute, attributes[attribute].strip())):
                yield tag.start(), what
    for found in _FOREIGN.finditer(_blanked(source, _STYLE, _LIQUID)):
        yield found.start(), f"{found[0]} is another platform's placeholder: nothing fills it in, use Liquid"


def _wrong(attribute: str, link: str) -> str:
    output = _OUTPUT.match(link)
    if output:
        known = output[1].rstrip().endswith("| url") or output[1].strip() in _OWN_LINKS
        return (
            "" if known else f"{attribute} takes a variable: add the `url` filter, {{{{{output[1].rstrip()} | url }}}}"
        )
    if not link:
        return f"{attribute} is empty"
    if link.startswith("http://"):
        return f"{attribute} must be https://"
    allowed = _ALLOWED["href" if attribute == "href" else "src"]
    if link.lower().startswith(allowed):
        return ""
    return f"{attribute} must begin with https://" + (", mailto: or tel:" if attribute == "href" else "")


def warnings(source: str) -> Iterator[Finding]:
    """Links and buttons that lead nowhere, words that somebody meant to replace."""
    for tag in TAG.finditer(source):
        if tag[1] or tag[2].lower() not in _CLICKED:
            continue
        attributes = _attributes(tag[3])
        if attributes.get("href", "").strip() == "#" or not attributes.keys() & {"href", "name", "id"}:
            yield tag.start(), f"{tag[2]} leads nowhere: give it an href"
    for found in _UNFINISHED.finditer(_blanked(source, _STYLE, _LIQUID, TAG)):
        yield found.start(), f"{found[0]!r} reads as if something was still to be written"


def has_dark_mode(html: str) -> bool:
    """Whether a compiled body says that it knows dark mode; else mail clients recolour it as they like."""
    return bool(_DARK.search(html))


def _attributes(text: str) -> Mapping[str, str]:
    return {match[1].lower(): match[2] if match[2] is not None else match[3] for match in _ATTRIBUTE.finditer(text)}


def _blanked(source: str, *patterns: re.Pattern[str]) -> str:
    """The source with what the patterns find as blanks, so that every index stays."""
    for pattern in patterns:
        source = pattern.sub(lambda match: " " * len(match[0]), source)
    return source
