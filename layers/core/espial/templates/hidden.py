"""Liquid through compilers that do not know it: out of the way before MJML or CSS are compiled, and back in after."""

from __future__ import annotations

import re
from dataclasses import dataclass

from espial.errors import InvalidDefinition

TAG = re.compile(r"<(?!!)(/?)([A-Za-z][\w-]*)((?:\{\{.*?\}\}|\{%.*?%\}|\"[^\"]*\"|'[^']*'|[^>\"'])*)>", re.DOTALL)
"""An HTML or MJML tag: its slash, name and attributes, whatever Liquid stands among these."""

_LIQUID = re.compile(r"\{\{.*?\}\}|\{%-?\s*comment\s*-?%\}.*?\{%-?\s*endcomment\s*-?%\}|\{%.*?%\}", re.DOTALL)
_RAW_TEXT = re.compile(r"<(mj-title|mj-preview|mj-style|style|title|script)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_CONDITIONAL = re.compile(r"<!--\[if.*?<!\[endif\]-->", re.DOTALL)


@dataclass
class SourceFile:
    """A source file: what is in it and how it is shown."""

    shown: str
    text: str

    def at(self, index: int, what: str) -> str:
        """`file:line: what`, the line being that of the character at `index`."""
        return f"{self.shown}:{self.text.count(chr(10), 0, index) + 1}: {what}"


class Hidden:
    """Liquid out of the way of a compiler that does not know it.

    In markup (an attribute) and for what prints text the placeholder is a word; a `{% tag %}` between elements is
    a comment, the one thing that HTML keeps in its place even between table rows.
    """

    def __init__(self, source: str) -> None:
        self._tags: list[str] = []
        wordy = [match.span() for pattern in (TAG, _RAW_TEXT) for match in pattern.finditer(source)]

        def hide(match: re.Match[str]) -> str:
            self._tags.append(match[0])
            word = f"lqx{len(self._tags) - 1:04}x"
            within = any(start <= match.start() < end for start, end in wordy)
            return word if within or match[0].startswith("{{") else f"<!--{word}-->"

        self.source = _LIQUID.sub(hide, source)

    _PLACEHOLDER = re.compile(r"<!--\s*lqx(\d{4})x\s*-->|lqx(\d{4})x(?:=\"\")?")

    def restore(self, compiled: str, file: SourceFile) -> str:
        """Put the Liquid back. Raises InvalidDefinition naming what the compiler dropped, moved or hid in a comment."""
        order = list(dict.fromkeys(int(match[1] or match[2]) for match in self._PLACEHOLDER.finditer(compiled)))
        for conditional in _CONDITIONAL.finditer(compiled):
            for lost in re.finditer(r"<!--\s*lqx(\d{4})x", conditional[0][4:]):
                self._lost(int(lost[1]), file)
        blocks = [number for number in order if self._tags[number].startswith("{%")]
        for number, tag in enumerate(self._tags):
            if number not in order:
                self._lost(number, file)
            if tag.startswith("{%") and blocks and blocks.pop(0) != number:
                self._lost(number, file)
        return self.show(compiled)

    def show(self, compiled: str) -> str:
        """Put the Liquid back where its placeholders are."""
        return self._PLACEHOLDER.sub(lambda match: self._tags[int(match[1] or match[2])], compiled)

    def _lost(self, number: int, file: SourceFile) -> None:
        index = [match.start() for match in _LIQUID.finditer(file.text)][number]
        what = f"{self._tags[number]} cannot stand here: put it inside a section, column, text or table"
        raise InvalidDefinition([file.at(index, what)])
