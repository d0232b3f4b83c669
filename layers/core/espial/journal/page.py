"""The page: one HTML file with everything in it, for a screen of any width, for paper and for a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from espial.journal.lanes import MOST_MARKS, NARROW, WIDE, diagram, marks
from espial.journal.markup import Element, element, render
from espial.journal.table import Journal, Row

_STYLE = Path(__file__).with_name("page.css")
_COLUMNS = ("No.", "Time (UTC)", "Activity", "Logged in", "Loaded into the CDP", "Tied to its send", "Record ids")
_KINDS = {"id": "external id", "email": "email", "phone": "phone", "contact": "contact id", "session": "session"}


def page(journal: Journal) -> str:
    """The journal as a page that needs nothing from elsewhere and runs no script; what is said in it is text only."""
    title = f"Timeline of {journal.person.value}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("title", title),
        element("style", _STYLE.read_text(encoding="utf-8")),
    )
    body = element(
        "body",
        element("main", _header(journal), _drawing(journal), _table(journal), element("footer", _closing(journal))),
    )
    return f"<!doctype html>\n{render(element('html', head, body, lang='en'))}\n"


def _header(journal: Journal) -> Element:
    keys = (
        element("li", element("span", _KINDS[key.kind], class_="kind"), " ", element("b", key.value))
        for key in journal.keys
    )
    kinds = [row.kind for row in journal.rows]
    figures = {
        "Onboardings": sum(row.type == "recipient_onboarded" for row in journal.rows),
        "Sends": kinds.count("send"),
        "Responses": kinds.count("response"),
        "No send known": sum(row.unmatched for row in journal.rows),
    }
    return element(
        "header",
        element("p", "Espial", class_="brand"),
        element("h1", "Timeline of ", element("span", journal.person.value)),
        element("ul", *keys, class_="keys", aria_label="Known by"),
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", f"{count:,}")) for name, count in figures.items()),
            class_="figures",
        ),
    )


def _drawing(journal: Journal) -> Element:
    drawn = marks(journal.rows)
    fewer = len(drawn) == MOST_MARKS and drawn[0].row.number > journal.rows[0].number
    note = f"The newest {MOST_MARKS} marks; the table has everything." if fewer else None
    return element(
        "section",
        element("h2", "Who handed what to whom", id="lanes"),
        _legend(),
        element("p", note, class_="note") if note else None,
        diagram(journal.rows, WIDE),
        diagram(journal.rows, NARROW),
        aria_labelledby="lanes",
    )


def _legend() -> Element:
    signs = {
        "recipient data": ("onboarding", element("circle", class_="sign", cx=8, cy=8, r=4)),
        "send": ("send", element("circle", class_="sign", cx=8, cy=8, r=6)),
        "response": ("response", element("circle", class_="sign", cx=8, cy=8, r=5)),
        "its send": ("", element("path", class_="tie t0", d="M2 14H4Q12 14 12 8T4 2H2")),
        "no send known yet": ("response none", element("circle", class_="sign", cx=8, cy=8, r=5)),
    }
    return element("ul", *(_explained(name, *sign) for name, sign in signs.items()), class_="legend")


def _explained(name: str, kind: str, sign: Element) -> Element:
    drawn = element("g", sign, class_=f"mark {kind}".strip())
    return element("li", element("svg", drawn, viewBox="0 0 16 16", aria_hidden="true"), name)


def _table(journal: Journal) -> Element:
    caption = f"What happened, oldest first: {len(journal.rows):,} rows."
    if journal.earlier:
        caption += f" {journal.earlier:,} earlier ones are not shown."
    # Rows become cards on a narrow screen, which takes their roles away unless they are said.
    return element(
        "section",
        element("h2", "Table of events", id="table"),
        element(
            "table",
            element("caption", caption),
            element(
                "thead",
                element(
                    "tr", *(element("th", name, scope="col", role="columnheader") for name in _COLUMNS), role="row"
                ),
                role="rowgroup",
            ),
            element("tbody", *map(_line, journal.rows), role="rowgroup"),
            role="table",
        ),
        aria_labelledby="table",
    )


def _line(row: Row) -> Element:
    ended = "" if row.until == row.at else f" to {row.until:%H:%M:%S}"
    cells: tuple[list[str | Element], ...] = (
        [element("time", f"{row.at:%Y-%m-%d %H:%M:%S}", datetime=row.at.isoformat()), ended],
        [element("b", row.activity), *([element("span", row.detail, class_="detail")] if row.detail else [])],
        [row.logged],
        [row.automation],
        [*_tie(row)],
        [element("dl", *_ids(row))],
    )
    return element(
        "tr",
        element("th", f"{row.number}", scope="row", role="rowheader"),
        *(
            element("td", *inside, role="cell", data_label=name)
            for name, inside in zip(_COLUMNS[1:], cells, strict=True)
        ),
        role="row",
        class_=f"{row.kind}{' none' if row.unmatched else ''}",
    )


def _tie(row: Row) -> Iterator[str | Element]:
    if row.send:
        yield element("span", f"No. {row.send}", class_="tied")
        yield " "
    if row.correlation:
        yield row.correlation


def _ids(row: Row) -> Iterator[Element]:
    first, *others = row.events
    named = {"event": first, "campaign event": row.campaign_event_id, "response event": row.response_event_id}
    for name, identifier in named.items():
        if identifier:
            yield element("dt", name)
            yield element("dd", element("code", identifier))
    if others:
        yield element("dt", "and")
        yield element("dd", f"{len(others)} more")


def _closing(journal: Journal) -> str:
    events = sum(len(row.events) for row in journal.rows)
    return f"{events:,} events. Times are UTC. A response event's id is the id of the event it is made of."
