"""The plain-text part of a mail whose author wrote none: what the HTML says, links spelled out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = frozenset({"p", "div", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "section", "header"})
_UNSEEN = frozenset({"style", "script", "title", "head", "noscript"})


def plain_text(html: str) -> str:
    """Text of an HTML page: blocks on lines of their own, `text (link)`, unseen parts left out, comments kept."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    text = "".join(reader.parts)
    text = re.sub(r"[ \t\xa0]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen: list[str] = []
        self._link = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        hidden = "display:none" in (attributes.get("style") or "").replace(" ", "")
        if tag in _UNSEEN or (hidden and tag == "div") or self._unseen:
            if tag not in ("meta", "link", "img", "br", "hr", "input"):
                self._unseen.append(tag)
        elif tag == "a":
            self._link = attributes.get("href") or ""
        elif tag == "br":
            self.parts.append("\n")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag in self._unseen:
                while self._unseen.pop() != tag:
                    pass
        elif tag == "a" and self._link:
            self.parts.append(f" ({self._link})")
            self._link = ""
        elif tag in _BLOCKS or tag == "li":
            self.parts.append("\n")

    def handle_comment(self, data: str) -> None:
        if not self._unseen and not data.startswith("[if"):
            self.parts.append(f"<!--{data}-->")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(re.sub(r"\s+", " ", data))
