"""One event over two transports is one event: Pure360's posts and the log of its FTP process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.errors import MalformedItem
from espial.sources import Export
from espial.sources.pure360 import from_log, layout
from tests import samples
from tests.rows import events, items

(LOG,) = samples.exports("pure360")
EXPORT = Export(bucket="b", key="exports/pure360/a/x.log", etag="e")
POSTED = ("deliverystart", "delivery", "open", "click", "bounce", "optin", "smsoptout")
TEXT = st.text(st.characters(blacklist_categories=["C", "Z"]) | st.just(" "), max_size=20).map(str.strip)


def line(pairs: list[tuple[str, str]]) -> str:
    """As PureResponse writes one."""
    return ",".join('"' + f"{name}:{value}".replace('"', '""') + '"' for name, value in pairs)


@pytest.mark.parametrize("name", POSTED)
def test_what_was_posted_is_in_the_log_as_the_same_event(name: str) -> None:
    """Equal id, home and send key, with marks missing, doubled, or none at the end."""
    case = samples.case("pure360", name)
    (posted,) = case.recordables
    (copy,) = [one for one in events(LOG, case.connection.settings) if one.event.event_id == posted.event.event_id]
    assert posted.home == copy.home
    assert posted.event.send_key == copy.event.send_key
    ours, theirs = posted.event, copy.event
    for field in ("type", "platform_type", "channel", "occurred_at", "person", "campaign", "link", "failure"):
        assert getattr(ours, field) == getattr(theirs, field), field


def test_a_line_holds_what_the_post_holds() -> None:
    """But for custom names, which lose their capitals, and what FTP leaves out."""
    by_type = {item["type"]: item for item in items(LOG)}
    for name in POSTED:
        (item,) = samples.case("pure360", name).items
        copy = by_type[item["type"]] if name != "open" else items(LOG)[2]
        left_out = {"user", "notificationsubject", "listnames", "custom"}
        mine, theirs = (
            {field: value for field, value in one.items() if value and field not in left_out} for one in (item, copy)
        )
        assert mine == theirs
        assert {one.lower() for one in item["custom"]} == copy["custom"].keys()


def test_quotation_within_a_value() -> None:
    """Marks in values are doubled; names and commas behind one of them part nothing."""
    item = items(LOG)[-1]
    assert ('He said "hi, you", twice', {"size": '5"'}) == (item["messagename"], item["custom"])


@given(st.lists(st.tuples(st.from_regex(r"[a-z][a-z ]{0,10}[a-z]", fullmatch=True), TEXT), max_size=6))
def test_a_sound_line_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    """Any values: with marks, commas and colons."""
    fields = [("type", "OPEN"), *((f"x {name}", value) for name, value in dict(pairs).items())]
    item = from_log({"line": line(fields)}, EXPORT)
    assert item is not None
    assert dict(fields[1:]) == item["custom"]


@given(st.text(max_size=200))
def test_any_line_with_a_type_is_an_item(given_line: str) -> None:
    """Total, whatever stands behind it; the mark that ends the type may be missing too."""
    item = from_log({"line": f'"type:OPEN","x:{given_line}'}, EXPORT)
    assert item is not None
    assert "OPEN" == item["type"]


def test_a_line_without_a_type_is_malformed_and_a_blank_one_is_none() -> None:
    """Nothing is guessed from the fields that are there."""
    assert from_log({"line": "  "}, EXPORT) is None
    with pytest.raises(MalformedItem):
        from_log({"line": '"message name:x"'}, EXPORT)


def test_a_line_is_one_field() -> None:
    """Whatever separates and quotes in it is told here; the encoding may be set."""
    found = layout("k", {"encoding": "latin-1"})
    assert (("line",), False, "latin-1") == (found.columns, found.quoted, found.encoding)
    assert sources.load("pure360").exports.keys() == {"csv"}


def test_every_trigger_has_its_line() -> None:
    """So that nothing above was compared with itself."""
    found: list[Any] = [one.event.platform_type for one in events(LOG)]
    assert ["DELIVERYSTART", "DELIVERY", "OPEN", "CLICK", "BOUNCE", "OPTIN", "SMSOPTOUT", "OPEN"] == found
