"""The diagram: who hands what to whom, in order of time, and which send each response answers.

Lanes stand side by side and time runs down. A send and the responses to it hang on one track, as commits do on a
branch. Two sizes are drawn of the same marks: on a wide one the words stand beside the lanes, on a narrow one above
each arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

from espial.journal import words
from espial.journal.markup import Element, element
from espial.journal.table import Origin, Row

MOST_MARKS = 120
"""The newest this many are drawn; the table has them all."""

_TRACKS = 5
_RADIUS = 9.0


class Size(NamedTuple):
    """A drawing's measures: `row` is the height of a mark's row, `arrow` where in it the arrow is, `gap` a track's."""

    name: str
    width: float
    first: float
    last: float
    row: float
    arrow: float
    gap: float
    letters: float
    """About how wide a letter of a label is."""


WIDE = Size("wide", 1120, 120, 470, 42, 20, 13, 7.6)
NARROW = Size("narrow", 360, 36, 272, 54, 40, 12, 7.4)


class Mark(NamedTuple):
    """A row as it is drawn; the same response once more is no new mark, only counted."""

    row: Row
    often: int = 1


def marks(rows: Sequence[Row]) -> list[Mark]:
    """What is drawn, oldest first: the same response to the same send several times in a row is one."""
    found: list[Mark] = []
    for row in rows:
        if found and row.kind == "response" and _same(found[-1].row, row):
            found[-1] = found[-1]._replace(often=found[-1].often + 1)
        else:
            found.append(Mark(row))
    return found[-MOST_MARKS:]


def _same(before: Row, now: Row) -> bool:
    return (before.activity, before.campaign_event_id) == (now.activity, now.campaign_event_id)


def diagram(rows: Sequence[Row], size: Size) -> Element:
    """The drawing. Its title and description say in words what it shows."""
    drawn = marks(rows)
    return _Drawing(drawn, size).svg(rows)


class _Drawing:
    def __init__(self, drawn: Sequence[Mark], size: Size) -> None:
        self._size = size
        self._drawn = drawn
        self._lanes = _lanes([mark.row for mark in drawn])
        step = (size.last - size.first) / (len(self._lanes) - 1)
        self._x: dict[Origin, float] = {lane: size.first + step * n for n, lane in enumerate(self._lanes)}
        self._days: list[tuple[float, date]] = []
        self._y: list[float] = []
        y = 46.0
        for before, mark in zip((None, *drawn), drawn, strict=False):
            day = mark.row.at.date()
            if before is None or before.row.at.date() != day:
                self._days.append((y + 17, day))
                y += 28
            self._y.append(y + size.arrow)
            y += size.row
        self._height = y + 8
        self._track = _tracks(drawn)

    def svg(self, rows: Sequence[Row]) -> Element:
        size, name = self._size, self._size.name
        return element(
            "svg",
            element("title", "Who handed what to whom, in order of time", id=f"{name}-title"),
            element("desc", _summary(rows), id=f"{name}-desc"),
            *self._background(),
            *self._curves(),
            *(self._mark(number) for number in range(len(self._drawn))),
            class_=f"lanes {name}",
            viewBox=f"0 0 {size.width:g} {self._height:g}",
            role="img",
            aria_labelledby=f"{name}-title {name}-desc",
        )

    def _background(self) -> Iterator[Element]:
        for lane, heading in self._lanes.items():
            x = self._x[lane]
            yield element("path", class_="life", d=f"M{x:g} 34V{self._height - 4:g}")
            wide = max(58.0, min(104.0, 14 + 7.2 * len(heading)))
            left = max(1.0, x - wide / 2)
            yield element("rect", class_=f"head {lane}", x=left, y=6, width=wide, height=28, rx=14)
            fitted = _fit(heading, int((wide - 10) / 6.6))
            yield element("text", fitted, class_="lane", x=left + wide / 2, y=24.5)
        for y, day in self._days:
            yield element("path", class_="day", d=f"M0 {y + 5:g}H{self._size.width:g}")
            yield element("text", f"{day.day} {day:%B %Y}", class_="date", x=4, y=y - 1)

    def _curves(self) -> Iterator[Element]:
        """From every send to the responses to it; the stub of what has none."""
        x = self._x["platform"]
        sends = {mark.row.number: number for number, mark in enumerate(self._drawn) if mark.row.kind == "send"}
        for number, mark in enumerate(self._drawn):
            y, start = self._y[number], sends.get(mark.row.send or 0)
            if start is not None:
                track = self._track[start]
                out, top = x + 14 + self._size.gap * (track + 1), self._y[start]
                near = out - _RADIUS
                up = f"Q{out:g} {y:g} {out:g} {y - _RADIUS:g}V{top + _RADIUS:g}Q{out:g} {top:g} {near:g} {top:g}"
                yield element("path", class_=f"tie t{track}", d=f"M{x + 7:g} {y:g}H{near:g}{up}H{x + 7:g}")
            elif mark.row.unmatched:
                yield element("path", class_="tie none", d=f"M{x + 8:g} {y:g}h4q6 0 6 -6v-4")

    def _mark(self, number: int) -> Element:
        mark, y = self._drawn[number], self._y[number]
        row = mark.row
        at, to = self._x[row.origin], self._x[_goes_to(row)]
        style = f"mark {row.kind}{' none' if row.unmatched else ''}"
        parts: list[Element] = []
        if at != to:
            inward = 1 if to > at else -1
            end = to - 7 * inward
            parts.append(element("path", class_="arrow", d=f"M{at + 6 * inward:g} {y:g}H{end:g}"))
            parts.append(_cross(end, y) if row.type == "recipient_rejected" else _tip(end, y, inward))
        if row.kind == "onboarding" and row.type != "recipient_selected":
            parts.append(element("circle", class_="by", cx=self._x["espial"], cy=y, r=3))
        parts.append(_sign(row, at, y, self._track.get(number)))
        return element("g", element("title", _told(mark)), *parts, *self._words(mark, y), class_=style)

    def _words(self, mark: Mark, y: float) -> Iterator[Element]:
        row, size = mark.row, self._size
        said = f"{row.activity}{words.times(mark.often)}"
        time = f"{row.at:%H:%M:%S}"
        if size is NARROW:
            label = f"{row.number}  {row.at:%H:%M}  {said}"
            yield element("text", _fit(label, int(size.width / size.letters)), class_="words", x=4, y=y - 16)
            return
        x = self._x["platform"] + 26 + size.gap * (1 + max(self._track.values(), default=0)) + 8
        room = int((size.width - x) / size.letters)
        yield element("text", time, class_="time", x=8, y=y + 4)
        yield element("text", _fit(f"{row.number}  {said}", room), class_="words", x=x, y=y)
        yield element("text", _fit(row.correlation or row.logged, int(room * 1.12)), class_="less", x=x, y=y + 15)


def _lanes(rows: Sequence[Row]) -> dict[Origin, str]:
    """The lanes from left to right and their headings; that of sites only where they tell something."""
    platforms = {row.platform for row in rows if "platform" in (row.origin, _goes_to(row))}
    systems = {row.system for row in rows if row.system}
    sites: dict[Origin, str] = {"site": "Site, app"} if any(row.origin == "site" for row in rows) else {}
    return {
        **sites,
        "cdp": systems.pop() if len(systems) == 1 else "CDP",
        "espial": "Espial",
        "platform": platforms.pop() if len(platforms) == 1 else "Platforms",
    }


def _tracks(drawn: Sequence[Mark]) -> dict[int, int]:
    """Mark of a send -> its track: the innermost that is free from the send to the last response to it."""
    last = {mark.row.send: number for number, mark in enumerate(drawn) if mark.row.send}
    free_from = [0] * _TRACKS
    found = {}
    for number, mark in enumerate(drawn):
        if mark.row.kind == "send" and mark.row.number in last:
            track = min(range(_TRACKS), key=lambda one: (max(free_from[one], number), one))
            free_from[track] = last[mark.row.number] + 1
            found[number] = track
    return found


def _goes_to(row: Row) -> Origin:
    """Where a row's arrow ends; at its own lane if nothing is handed over."""
    if row.type == "message_requested" or (row.kind == "onboarding" and row.type != "recipient_selected"):
        return "platform"
    return "espial"


def _sign(row: Row, x: float, y: float, track: int | None) -> Element:
    """What stands on the lane: a disc for a send, a ring for a response, a square for a decision, else a dot.

    A response whose send is not known has a question mark in its ring.
    """
    if row.kind == "send":
        return element("circle", class_=f"sign{'' if track is None else f' t{track}'}", cx=x, cy=y, r=7)
    if row.unmatched:
        ring = element("circle", class_="sign", cx=x, cy=y, r=7.5)
        return element("g", ring, element("text", "?", class_="unknown", x=x, y=y + 3.7))
    if row.kind == "response":
        return element("circle", class_="sign", cx=x, cy=y, r=5.5)
    if row.kind == "ours":
        return element("rect", class_="sign", x=x - 5, y=y - 5, width=10, height=10, rx=2)
    return element("circle", class_="sign", cx=x, cy=y, r=4)


def _tip(x: float, y: float, inward: int) -> Element:
    return element(
        "path", class_="tip", d=f"M{x - 7 * inward:g} {y - 4:g}L{x + inward:g} {y:g}L{x - 7 * inward:g} {y + 4:g}z"
    )


def _cross(x: float, y: float) -> Element:
    return element("path", class_="cross", d=f"M{x - 5:g} {y - 5:g}l10 10m0 -10l-10 10")


def _told(mark: Mark) -> str:
    row = mark.row
    parts = (f"{row.number}. {row.at:%Y-%m-%d %H:%M:%S} UTC", f"{row.activity}{words.times(mark.often)}")
    return ": ".join(parts) + "".join(f"\n{more}" for more in (row.detail, row.correlation) if more)


def _summary(rows: Sequence[Row]) -> str:
    """Such as: 1 onboarding, 2 sends, 5 responses, 1 of them without a known send."""
    kinds = [row.kind for row in rows]
    counts = [
        (kinds.count("onboarding"), "onboarding"),
        (kinds.count("send"), "send"),
        (kinds.count("response"), "response"),
    ]
    said = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    unmatched = sum(row.unmatched for row in rows)
    return f"{said}, {unmatched} of them without a known send. The table below says the same in words."


def _fit(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"
