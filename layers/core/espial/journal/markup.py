"""HTML and SVG as trees, so that whatever text goes in comes out as text."""

from __future__ import annotations

from xml.etree import ElementTree as ET

Element = ET.Element


def element(tag: str, *inside: str | Element | None, **attributes: str | float) -> Element:
    """An element with text and elements in it, in order; None is left out.

    `class_` and `aria_label` are the attributes `class` and `aria-label`; numbers lose needless digits.
    """
    made = Element(tag, {_name(name): _text(value) for name, value in attributes.items()})
    for part in inside:
        if isinstance(part, str):
            _append_text(made, _text(part))
        elif part is not None:
            made.append(part)
    return made


def render(root: Element) -> str:
    """The tree as HTML, with SVG in it as HTML has it."""
    return ET.tostring(root, encoding="unicode", method="html")


def _append_text(made: Element, text: str) -> None:
    if len(made):
        made[-1].tail = (made[-1].tail or "") + text
    else:
        made.text = (made.text or "") + text


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: str | float) -> str:
    """Without what steers a terminal or turns the direction of writing."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c == "\n" else "�" for c in value)
    return f"{value:g}"
