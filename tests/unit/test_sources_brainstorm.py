"""Brainstorm Automation: histories told again and again, eleven arrays of any length, and shortcodes."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espial import sources
from espial.deliveries import Connection, RawDelivery
from espial.errors import MalformedDelivery, MalformedItem
from espial.normalise import Recordable, normalise
from espial.people import of_event
from espial.ports import Recorded
from espial.sources import _brainstorm_shortcodes as shortcodes
from espial.sources._brainstorm_shortcodes import Field, fields_of, fill
from tests import samples
from tests.fakes import FakeEventStore

BRAINSTORM = sources.load("brainstorm")
CASE = samples.case("brainstorm", "golden")
CONTACT = {"id": "501", "email": "ann.lee@example.com"}
SECTIONS = (
    "campaigns-opened",
    "links-clicked",
    "pages-visited",
    "automation-triggered",
    "goals-reached",
    "webhooks-triggered",
    "lead-score",
    "lead-status",
)
ROWS = {
    "campaigns-opened": {"id": "#", "name": "Welcome", "open_date": "2023-11-20 21:26:36"},
    "links-clicked": {"url": "https://shop.example.com/#", "clicks": "1"},
    "pages-visited": {"page": "https://shop.example.com/#", "visit_date": "2023-11-20 21:26:36"},
    "automation-triggered": {"id": "#", "name": "Series", "trigger_date": "2023-11-20 21:26:36"},
    "goals-reached": {"id": "#", "name": "Order", "reach_date": "2023-11-20 21:26:36"},
    "webhooks-triggered": {"id": "#", "name": "CRM", "trigger_date": "2023-11-20 21:26:36"},
    "lead-score": {"id": "#", "name": "Opens", "score": "1", "score_date": "2023-11-20 21:26:36"},
    "lead-status": {"score": "#", "label": "Warm"},
}


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """The way PHP writes nested arrays into a form; empty ones leave nothing."""
    if isinstance(value, dict):
        return [pair for key, one in value.items() for pair in flat(one, f"{name}[{key}]" if name else str(key))]
    if isinstance(value, list):
        return flat({str(place): one for place, one in enumerate(value)}, name)
    return [(name, value)]


def posted(given: dict[str, Any], **changes: Any) -> RawDelivery:
    return replace(CASE.delivery, **{"body": urlencode(flat(given)).encode(), **changes})


def records(delivery: RawDelivery, later: timedelta = timedelta(), **settings: Any) -> list[Recordable]:
    connection = Connection(name="main", platform="brainstorm", settings=settings)
    source = sources.of(connection)
    arrival = replace(CASE.arrival, connection=connection, received_at=CASE.received_at + later)
    return [normalise(source, item, arrival) for item in source.split(delivery)]


def rows(section: str, count: int) -> list[dict[str, str]]:
    return [{name: value.replace("#", str(n)) for name, value in ROWS[section].items()} for n in range(count)]


def got(query: dict[str, str], **settings: Any) -> Recordable:
    url = f"{CASE.delivery.url}?{urlencode({'key': 'secret', **query})}"
    (record,) = records(replace(CASE.delivery, method="GET", body=b"", headers={}, url=url), **settings)
    return record


def test_the_golden_post_parses_into_all_eleven_arrays() -> None:
    """Seed D's post: what is left out is empty, a lone lead status is a list of one."""
    items = CASE.items
    assert ["contact", "campaigns-opened", *["links-clicked"] * 3, "lead-status"] == [one["section"] for one in items]
    assert [
        {"id": "2", "name": "EMAIL", "value": "ann.lee@example.com"},
        {"id": "3", "name": "City", "value": "New York"},
    ] == items[0]["fields"]
    assert [{"score": "40", "label": "Warm"}] == items[0]["status"]
    assert {"url": "https://shop.example.com/a?b=1&c=2", "clicks": "3"} == items[2]["row"]


def test_the_next_sync_gives_what_is_new_and_nothing_else() -> None:
    """The golden flow: 6 events, then none, then 2 clicks. On another day only the contact comes again."""
    store = FakeEventStore()
    fresh = []
    for name in ("golden", "golden-again", "golden-two-clicks-later"):
        verdicts = store.add(samples.case("brainstorm", name).recordables, transport="webhook", expires_days=60)
        assert {Recorded.NEW, Recorded.DUPLICATE} >= {*verdicts}
        fresh.append(verdicts.count(Recorded.NEW))
    assert [6, 0, 2] == fresh
    again = records(samples.case("brainstorm", "golden").delivery, timedelta(days=3))
    before = {record.event.event_id for record in records(CASE.delivery)}
    assert ["contact"] == [one.event.platform_type for one in again if one.event.event_id not in before]


@given(st.dictionaries(st.sampled_from(SECTIONS), st.integers(0, 5)), st.randoms(use_true_random=False))
def test_arrays_of_any_length_split_into_their_rows(lengths: dict[str, int], chance: random.Random) -> None:
    """Unequal, empty or missing; in a form, in JSON, and with the fields in any order: the same events."""
    history: dict[str, Any] = {section: rows(section, count) for section, count in lengths.items()}
    given = {"transactionid": "1", "contact": CONTACT, **history}
    found = records(posted(given))
    assert 1 + sum(lengths.values()) == len(found) == len({one.event.event_id for one in found})
    pairs = flat(given)
    chance.shuffle(pairs)
    shuffled = records(posted(given, body=urlencode(pairs).encode()))
    as_json = records(posted(given, body=orjson.dumps(given), headers={"content-type": "application/json"}))
    ids = sorted(one.event.event_id for one in found)
    assert ids == sorted(one.event.event_id for one in shuffled) == sorted(one.event.event_id for one in as_json)


@given(st.sampled_from(SECTIONS[:-1]), st.integers(1, 4), st.integers(0, 3))
def test_a_repeated_row_is_one_event(section: str, count: int, repeated: int) -> None:
    """Within a post as over posts: what tells the same happened once."""
    given = rows(section, count)
    found = records(posted({"contact": CONTACT, section: [*given, *given[:repeated]]}))
    assert 1 + count == len({one.event.event_id for one in found})


def test_a_repeated_field_counts_the_last_time() -> None:
    """As PHP reads it; the row stays one row."""
    pairs = [
        *flat({"contact": CONTACT, "goals-reached": rows("goals-reached", 1)}),
        ("goals-reached[0][name]", "Visit"),
    ]
    found = records(posted({}, body=urlencode(pairs).encode()))
    assert ["Visit"] == [one.event.properties["goal_name"] for one in found[1:]]


@pytest.mark.parametrize("section", SECTIONS)
def test_ten_thousand_rows_split_in_time(section: str) -> None:
    """A contact with a long past: no limit of fields cuts it, and it takes well under a second."""
    delivery = posted({"contact": CONTACT, section: rows(section, 10_000)})
    before = time.process_time()
    assert 10_001 == len(BRAINSTORM.split(delivery))
    assert time.process_time() - before < 5  # a quarter of a second; the rest is for a busy machine


@settings(max_examples=15)
@given(st.lists(st.integers(0, 999_999_999), min_size=1, max_size=30))
def test_counters_never_make_more_events_than_they_may(counters: list[int]) -> None:
    """A number in a post must not become a million events; of each link the newest clicks are told."""
    links = [{"url": f"https://shop.example.com/{n}", "clicks": str(clicks)} for n, clicks in enumerate(counters)]
    items = BRAINSTORM.split(posted({"contact": CONTACT, "links-clicked": links}))[1:]
    assert len(items) <= 10_000
    newest = {item["row"]["url"]: item["click"] for item in items}
    assert {link["url"]: int(link["clicks"]) for link in links if link["clicks"] != "0"} == newest


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5).map(sorted))
def test_growing_counters_add_up(counts: list[int]) -> None:
    """However many syncs there are, and in whatever order, each click is recorded once."""
    for order in (counts, counts[::-1]):
        ids = set()
        for day, clicks in enumerate(order):
            links = [{"url": "https://shop.example.com/a", "clicks": str(clicks)}]
            synced = records(posted({"contact": CONTACT, "links-clicked": links}), timedelta(days=day))
            ids |= {one.event.event_id for one in synced[1:]}
        assert max(counts) == len(ids)


def test_aggregated_counters_are_an_event_only_when_they_changed() -> None:
    """The setting for links that are clicked all the time."""

    def clicked(clicks: str, days: int) -> list[Recordable]:
        links = [{"url": "https://shop.example.com/a", "clicks": clicks}]
        return records(posted({"contact": CONTACT, "links-clicked": links}), timedelta(days=days), clicks="aggregate")[
            1:
        ]

    first, same, more = clicked("3", 0), clicked("3", 5), clicked("5", 6)
    assert [{"clicks": 3}, {"clicks": 5}] == [first[0].event.properties, more[0].event.properties]
    assert first[0].event.event_id == same[0].event.event_id != more[0].event.event_id


def test_a_lead_that_cools_down_and_warms_again_has_changed_each_time() -> None:
    """The scores' latest date tells a status that returns from one that stayed."""

    def status(score: str, scored: str) -> str:
        score_row = {"id": "1", "name": "Opens", "score": score, "score_date": scored}
        given = {"contact": CONTACT, "lead-score": [score_row], "lead-status": {"score": score, "label": "x"}}
        return records(posted(given))[-1].event.event_id

    ids = [
        status("40", "2023-11-01"),
        status("40", "2023-11-01"),
        status("10", "2023-11-02"),
        status("40", "2023-11-03"),
    ]
    assert ids[0] == ids[1]
    assert 3 == len(set(ids))


def test_a_contact_as_it_is_now_becomes_the_profile() -> None:
    """Custom fields by name, score and label: what templates and conditions see of the person."""
    (record, *_) = records(CASE.delivery)
    known = {name: stamped.value for name, stamped in of_event(record.event).attributes.items()}
    assert ("New York", 40, "Warm") == (known["City"], known["lead_score"], known["lead_label"])
    assert ("ann.lee@example.com", "+15550100100") == (known["email"], known["phone"])


@pytest.mark.parametrize(
    ("date", "settings", "expected"),
    [
        ("2023-11-20 21:26:36", {}, "2023-11-20T21:26:36+00:00"),
        ("2023-11-20 21:26", {}, "2023-11-20T21:26:00+00:00"),
        ("2023-11-20T21:26:36+02:00", {"time_zone": "Asia/Tokyo"}, "2023-11-20T19:26:36+00:00"),
        ("11/20/2023 09:26:36 PM", {}, "2023-11-20T21:26:36+00:00"),
        ("11/20/2023 12:05 AM", {}, "2023-11-20T00:05:00+00:00"),
        ("11/20/2023", {}, "2023-11-20T00:00:00+00:00"),
        ("05/06/2023 10:00", {}, "2023-05-06T10:00:00+00:00"),
        ("05/06/2023 10:00", {"day_first": True}, "2023-06-05T10:00:00+00:00"),
        ("2023-07-01 10:00:00", {"time_zone": "Europe/Berlin"}, "2023-07-01T08:00:00+00:00"),
        ("1700515596", {"time_zone": "Europe/Berlin"}, "2023-11-20T21:26:36+00:00"),
    ],
)
def test_dates_are_read_in_every_form(date: str, settings: dict[str, Any], expected: str) -> None:
    """None is published: ISO, American, Unix, in the connection's zone where they name none."""
    goals = [{"id": "6", "reach_date": date}]
    event = records(posted({"contact": CONTACT, "goals-reached": goals}), **settings)[1].event
    assert (expected, False) == (event.occurred_at.isoformat(), event.time_uncertain)


@pytest.mark.parametrize("date", ["", "some day", "13/13/2023", "0000-00-00 00:00:00", "9" * 30, "11/20/1999"])
def test_a_date_that_cannot_be_read_leaves_the_event_the_same_on_every_day(date: str) -> None:
    """The next sync tells the row again: it is dated by receipt, and must not be recorded twice."""
    given = {"contact": CONTACT, "goals-reached": [{"id": "6", "reach_date": date}]}
    first, later = records(posted(given))[1].event, records(posted(given), timedelta(days=9))[1].event
    assert first.event_id == later.event_id
    assert first.time_uncertain


def test_urls_may_carry_data_and_the_bodys_wins() -> None:
    """D10: contact information appended to the URL."""
    url = f"{CASE.delivery.url}?key=secret&contact%5Bid%5D=1&contact%5Bemail%5D=a%40example.com"
    (alone,) = records(posted({"fields": [{"id": "3", "name": "City", "value": "Rome"}]}, url=url))
    both = records(posted({"contact": CONTACT}, url=url))
    assert ("1", "501") == (alone.event.person.source_contact_id, both[0].event.person.source_contact_id)


@pytest.mark.parametrize("contact", [{}, {"profile_url": "https://app.example.com/c/1"}, {"id": ""}])
def test_a_history_of_nobody_is_quarantined_whole(contact: dict[str, str]) -> None:
    """One entry to look at, not one for each row."""
    with pytest.raises(MalformedDelivery) as caught:
        records(posted({"contact": contact, "pages-visited": rows("pages-visited", 3)}))
    assert ("missing_contact", "contact") == (caught.value.reason, caught.value.path)


def test_a_get_fills_the_profile_by_its_parameters() -> None:
    """D12-D15: any number of them; the key is none of them, and an unfilled shortcode is no value."""
    many = {f"field{n}": str(n) for n in range(500)}
    event = got({"Email": "A@example.com", "contact_id": "7", "city": "[#City#]", **many}).event
    assert ("a@example.com", "7", many) == (
        event.person.email,
        event.person.source_contact_id,
        event.properties["traits"],
    )


def test_a_get_is_read_by_the_url_of_its_action() -> None:
    """The same text that stands in the automation says what each parameter holds."""
    shaped = {
        "url_template": "https://hooks.example.com/in?key=s&e=[#EMAIL#]&n=[#PROPER First-Name/2#]&x=[#CUSTOMER_NO#]",
        "external_id_field": "Customer No",
    }
    event = got({"e": "a@example.com", "n": "Ann", "x": "P-1"}, **shaped).event
    assert ("P-1", "a@example.com") == (event.person.external_id, event.person.email)
    assert {"first_name": "Ann"} == event.properties["traits"]


def test_a_get_that_names_nobody_is_malformed_and_an_empty_one_is_nothing() -> None:
    """A visit by a browser or a monitor records nothing."""
    with pytest.raises(MalformedItem) as caught:
        got({"city": "Rome"})
    assert ("missing_person", "email") == (caught.value.reason, caught.value.path)
    assert [] == BRAINSTORM.split(replace(CASE.delivery, method="GET", body=b"", url=f"{CASE.delivery.url}?key=s"))


@pytest.mark.parametrize(
    "settings",
    [
        {"clicks": "all"},
        {"day_first": "yes"},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": 7},
        {"time_zone": "../../etc/passwd"},
        {"url_template": "https://hooks.example.com/in"},
        {"url_template": 7},
    ],
)
def test_settings_that_do_not_do_are_named(settings: dict[str, Any]) -> None:
    """`espial validate` says which one it is."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        sources.of(Connection(name="main", platform="brainstorm", settings=settings))


FIELDS = (
    Field("1", "NAME", "aNN LEE"),
    Field("2", "EMAIL", "ann.LEE@example.com"),
    Field("3", "First Name", "O'Neil & Søn"),
    Field("4", "Sizes", "S, M\nL"),
    Field("5", "Empty", ""),
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("?e=[#EMAIL#]", "?e=ann.LEE%40example.com"),
        ("?n=[#PROPER NAME#]", "?n=Ann%20Lee"),
        ("?e=[#PROPER EMAIL/2#]", "?e=Ann.lee%40example.com"),
        ("?c=[#City/unknown#]", "?c=unknown"),
        ("?c=[#Empty/unknown#]", "?c=unknown"),
        ("?c=[#Empty#]", "?c="),
        ("?x=[#FIRST-NAME#]&y=[#first_name#]", "?x=O%27Neil%20%26%20S%C3%B8n&y=O%27Neil%20%26%20S%C3%B8n"),
        ("?s=[#Sizes/2#]&t=[#Sizes/3#]&u=[#LOWER Sizes/9#]", "?s=M&t=L&u=s%2C%20m%0Al"),
        ("?n=[#UPPER NAME/7#]", "?n=ANN%20LEE"),
        ("?plain=a%20b", "?plain=a%20b"),
    ],
)
def test_shortcodes_are_filled_as_the_golden_table_says(template: str, expected: str) -> None:
    """Functions, names without regard to case and dashes, and what follows the slash."""
    assert (expected, []) == fill(template, FIELDS)


def test_a_plus_in_an_address_survives() -> None:
    """Percent-encoded, for a blank it would be otherwise."""
    assert "?e=a%2Bb%40example.com" == fill("?e=[#EMAIL#]", [Field("2", "EMAIL", "a+b@example.com")])[0]


def test_an_unknown_field_is_empty_and_told() -> None:
    """A misspelt shortcode must not go unnoticed."""
    assert ("?q=", ["[#NOPE#]"]) == fill("?q=[#NOPE#]", FIELDS)


@given(st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from(FIELDS[:3]), min_size=1))
def test_what_one_side_fills_the_other_side_reads(parameters: dict[str, Field]) -> None:
    """A template tells the listener the very fields that the automation puts in."""
    template = "https://hooks.example.com/in?" + "&".join(
        f"{name}=[#{field.name}#]" for name, field in parameters.items()
    )
    assert {name: shortcodes.told(field.name) for name, field in parameters.items()} == fields_of(template)
    filled, unknown = fill(template, FIELDS)
    assert [] == unknown
    items = BRAINSTORM.split(replace(CASE.delivery, method="GET", body=b"", url=filled))
    assert {name: field.value for name, field in parameters.items()} == items[0]["row"]


@given(st.text("[]/# aPROPER", max_size=40))
def test_what_is_no_shortcode_is_left_alone(text: str) -> None:
    """Brackets and slashes of any kind, in any order."""
    plain = text.replace("#", "")
    assert (plain, []) == fill(plain, FIELDS)
    assert not shortcodes.unfilled(plain)
