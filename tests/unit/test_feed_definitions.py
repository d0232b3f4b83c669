"""Feeds and layouts as files: what is accepted, and how each mistake is named."""

from __future__ import annotations

from datetime import timedelta

import pytest

from espial.definitions.load import load
from espial.definitions.publish import bundle
from espial.events import Campaign, Cart, Client, Commerce, Failure, Link, Order, Person, Product
from espial.feeds import paths
from espial.feeds.definition import Column, FeedDefinition, LayoutDefinition, built_in, extension_of
from espial.feeds.dispositions import DISPOSITIONS
from espial.feeds.paths import Facts, Reading
from espial.feeds.published import Feeds
from espial.feeds.rows import RowMaker
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.unit.test_definitions_load import problems, write

FEED = "layouts: [campaign_event_nonrpi, response_event]\nsystems:\n  esp: SendGrid\n"
LAYOUT = "of: response_event\nkey: [id]\ncolumns:\n  - {name: id, from: feed.response_event_id}\n"


def test_a_feed_is_published_with_the_layouts_it_uses(tmp_path):
    made = load(write(tmp_path, {"feeds/cdp.yaml": FEED}))
    active = bundle(made).active
    assert sorted(active["layouts"]) == ["campaign_event_nonrpi", "response_event"]
    ((feed, layouts),) = Feeds(active).feeds()
    assert feed == made.feeds["cdp"]
    assert {name: layout.columns for name, layout in layouts.items()} == {
        name: built_in()[name].columns for name in active["layouts"]
    }


def test_a_layout_of_ones_own_takes_the_place_of_one_that_ships(tmp_path):
    made = load(write(tmp_path, {"feeds/cdp.yaml": FEED, "layouts/response_event.yaml": LAYOUT}))
    ((_, layouts),) = Feeds(bundle(made).active).feeds()
    assert [column.name for column in layouts["response_event"].columns] == ["id"]


BAD_LAYOUTS = [
    ("key: [id]\ncolumns: []\n", "layouts/own.yaml:1: of: is missing"),
    ("of: nonsense\nkey: [id]\ncolumns: [{name: id}]\n", "layouts/own.yaml:1: of: "),
    (LAYOUT.replace("key: [id]", "key: []"), "layouts/own.yaml:2: key: at least one column is needed"),
    (LAYOUT.replace("key: [id]", "key: [uid]"), "layouts/own.yaml:2: key: no column 'uid'"),
    (LAYOUT.replace("feed.response_event_id", "feed.nothing"), "layouts/own.yaml:4: columns[0].from[0]"),
    (LAYOUT.replace("feed.response_event_id", "person.shoe_size"), "layouts/own.yaml:4: columns[0].from[0]"),
    (LAYOUT + "  - {name: id}\n", "layouts/own.yaml:5: columns[1].name: 'id' is there twice"),
    (LAYOUT + "  - {name: 'a,b'}\n", "layouts/own.yaml:5: columns[1].name: "),
    (LAYOUT + "  - {name: a, typ: date}\n", "layouts/own.yaml:5: columns[1].typ: unknown field"),
    (LAYOUT + "profiles:\n  narrow: 2\n", "layouts/own.yaml:6: profiles.narrow: there are 1 columns, not 2"),
    (LAYOUT + "  - {name: a}\nprofiles:\n  narrow: [a]\n", "layouts/own.yaml:7: profiles.narrow: leaves out 'id'"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_LAYOUTS)
def test_a_wrong_layout_names_file_line_and_field(tmp_path, text, expected):
    found = problems(tmp_path, {"layouts/own.yaml": text})
    assert any(problem.startswith(expected) for problem in found), found


BAD_FEEDS = [
    ("layouts: [event_log, response_event]\n", "feeds/cdp.yaml:1: layouts: 'event_log' has every event as it is"),
    ("layouts: [response_evnt]\n", "feeds/cdp.yaml:1: layouts[0]: no layout named 'response_evnt' (did you mean"),
    ("connections: [epsilon]\n", "feeds/cdp.yaml:1: connections: no connection or onboarding named 'epsilon'"),
    ("systems:\n  nobody: X\n", "feeds/cdp.yaml:1: systems: no connection or onboarding named 'nobody'"),
    ("rotate:\n  rows: 0\n", "feeds/cdp.yaml:2: rotate.rows: "),
    ("rotate:\n  after: soon\n", "feeds/cdp.yaml:2: rotate.after: a duration such as"),
    ("rotate:\n  after: 12h1s\n", "feeds/cdp.yaml:2: rotate.after: at most 12h"),
    ("sinks:\n  - {kind: bucket, collect: day}\n", "feeds/cdp.yaml:2: sinks[0].collect: a day in one file is for"),
    (
        "layouts: [event_log]\nformat: parquet\nsinks:\n  - {kind: bucket, collect: day}\n",
        "feeds/cdp.yaml:4: sinks[0].collect: a day in one file is for",
    ),
    *(
        (f"sinks:\n  - {{kind: bucket, schedule: {{{field}}}}}\n", f"feeds/cdp.yaml:2: sinks[0].schedule.{says}")
        for field, says in [
            ("at: '24:00'", "at"),
            ("at: 6 pm", "at"),
            ("at: []", "at"),
            ("at: '06:00', zone: Mars", "zone: no time zone 'Mars'"),
            ("zone: UTC", "at: is missing"),
        ]
    ),
    ("dispositions:\n  opend: x\n", "feeds/cdp.yaml:2: dispositions.opend"),
    ("format: xml\n", "feeds/cdp.yaml:1: format: "),
    ("sinks:\n  - {kind: gopher}\n", "feeds/cdp.yaml:2: sinks[0]"),
    ("sinks:\n  - {kind: bucket, prefix: ../x/}\n  - {kind: bucket}\n", "feeds/cdp.yaml:3: sinks[1].name: two sinks"),
    (
        "sinks:\n  - {kind: sftp, host: a, user: b, secret: hunter2, host_key: ssh-ed25519 AAAA}\n",
        "feeds/cdp.yaml:2: sinks[0].secret: must be a reference",
    ),
    *(
        (
            f"sinks:\n  - {{kind: ftp, user: b, secret: 'ssm:/espial/x', {field}}}\n",
            f"feeds/cdp.yaml:2: sinks[0].{says}",
        )
        for field, says in [
            ("host: 'sftp://a'", "host: this is SFTP, which is no FTP: write `kind: sftp`"),
            ("host: 'ftp://a'", "host: must be a host's name alone"),
            ("host: a, tls: maybe", "tls: "),
            ("host: a, tls: none, certificate: ''", "certificate: must be a certificate in PEM form"),
            ("host: a, port: 0", "port: "),
            ('host: a, directory: "in\\r\\nDELE x"', "directory: "),
        ]
    ),
    (
        "sinks:\n  - {kind: http, url: 'http://cdp.example.com/'}\n",
        "feeds/cdp.yaml:2: sinks[0].url: must be an https",
    ),
]


TWO_OF_ONE = {
    "connections/web.yaml": "platform: braze\naccount: workspace\nsecrets: []\n",
    "connections/bucket.yaml": "platform: braze\naccount: workspace\nsecrets: []\n",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "connections: [web]\n",
            "feeds/cdp.yaml:1: connections: 'bucket' is left out, which is of one account with 'web'",
        ),
        (
            "systems:\n  web: Braze\n",
            "feeds/cdp.yaml:1: systems: 'bucket', 'web' are of one account: give them one name",
        ),
    ],
)
def test_the_connections_of_one_account_go_together(tmp_path, text, expected):
    """An event that both report is recorded as the first one's, and nobody knows which that will be."""
    assert expected in problems(tmp_path, {**TWO_OF_ONE, "feeds/cdp.yaml": text})
    both = "connections: [web, bucket]\nsystems:\n  web: Braze\n  bucket: Braze\n"
    assert load(write(tmp_path, {**TWO_OF_ONE, "feeds/cdp.yaml": both})).feeds["cdp"].connections == ("web", "bucket")


def test_a_feed_has_one_layout_of_a_kind(tmp_path):
    files = {"layouts/own.yaml": LAYOUT, "feeds/cdp.yaml": "layouts: [response_event, own]\n"}
    (said,) = problems(tmp_path, files)
    assert said.startswith("feeds/cdp.yaml:1: layouts[1]: 'own' and 'response_event' are both of response_event")
    extension = {"layouts/own.yaml": LAYOUT.replace("of: response_event", "of: extension")}
    assert "is of extensions" in problems(tmp_path, {**extension, "feeds/cdp.yaml": "layouts: [own]\n"})[0]


@pytest.mark.parametrize(("text", "expected"), BAD_FEEDS)
def test_a_wrong_feed_names_file_line_and_field(tmp_path, text, expected):
    found = problems(tmp_path, {"feeds/cdp.yaml": text})
    assert any(problem.startswith(expected) for problem in found), found
    assert "hunter2" not in "".join(found)


def test_the_layouts_that_ship_are_the_published_ones():
    """The first twelve columns are the public layouts, in the public order (A.c.1, A.c.2)."""
    campaign, response = built_in()["campaign_event_nonrpi"], built_in()["response_event"]
    assert len(campaign.columns_of("strict12")) == len(response.columns_of("strict12")) == 12
    assert campaign.columns_of("strict12")[:3] == ("sor_name", "client_campaign_event_id", "campaign_event_datetime")
    assert len(campaign.columns) == 27
    assert {layout.of for layout in built_in().values()} == {
        *("campaign_event", "response_event", "contact_authorization", "event"),
        *("offer_history", "offer_history_meta", "offer_history_states", "offer_history_details"),
    }
    assert extension_of(response).columns_of("") == (
        *("sor_name", "client_campaign_event_id", "client_response_event_id"),
        *("custom_field_name", "custom_field_value"),
    )


def test_every_type_with_a_code_can_be_replaced_and_left_out():
    feed = FeedDefinition(name="cdp", dispositions={EventType.OPENED: None, EventType.DEFERRED: "deferred"})
    assert feed.disposition(EventType.OPENED) is None
    assert feed.disposition(EventType.DEFERRED) == "deferred"
    assert feed.disposition(EventType.CLICKED) == "click_through"
    assert {EventType(name) for name in DISPOSITIONS}


# -- what a path reads

EVERYTHING = an_event(
    "all",
    person=Person(external_id="P-1", email="ada@example.com", phone="+15550100"),
    campaign=Campaign(id="c1", name="Spring"),
    link=Link(url="https://shop.example.com/"),
    client=Client(machine=True),
    failure=Failure(class_="hard", code="550"),
    commerce=Commerce(cart=Cart(id="k1", total=12.5), order=Order(id="o1"), product=Product(sku="s1")),
    properties={"a": 1, "b": {"c": [True, None]}, "t": "x\0y", "d": {"e": {"f": "deep"}}},
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("person.email", "ada@example.com"),
        ("campaign.name", "Spring"),
        ("campaign.journey_id", ""),
        ("client.machine", "true"),
        ("failure.class", "hard"),
        ("commerce.cart.total", "12.5"),
        ("commerce.order.id", "o1"),
        ("commerce.product.sku", "s1"),
        ("occurred_at", "2026-11-20 12:00:00"),
        ("type", "opened"),
        ("properties.a", "1"),
        ("properties.b", '{"c":[true,null]}'),
        ("properties.b.c", "[true,null]"),
        ("properties.d.e.f", "deep"),
        ("properties.a.b.c", ""),
        ('properties.it\'s "odd"', ""),
        ("feed.system", "Braze"),
    ],
)
def test_a_path_reads_what_it_says_and_nothing_of_what_is_not_there(path, expected):
    read = paths.readers([Reading((path,))])
    assert read(EVERYTHING, Facts(system="Braze")) == ([expected], False)
    assert read(an_event("bare", person=Person(), properties={}), Facts())[0][0] in (
        "",
        "2026-11-20 12:00:00",
        "opened",
    )


def test_the_first_text_that_is_there_counts_then_the_default():
    read = paths.readers([Reading(("campaign.id", "properties.id"), "none", needed=True)])
    assert read(an_event(campaign=Campaign(id="c")), Facts()) == (["c"], False)
    assert read(an_event(campaign=Campaign(), properties={"id": "p"}), Facts()) == (["p"], False)
    assert read(an_event(campaign=None), Facts()) == (["none"], False)


def a_maker(*columns: Column, truncate: bool = True) -> RowMaker:
    layout = LayoutDefinition(name="own", of="response_event", key=(columns[0].name,), columns=columns)
    return RowMaker(layout, "", truncate=truncate)


ID = Column(name="id", length=26, from_=("event_id",))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", "700001", "700001"),
        ("integer", 7.0, "7"),
        ("integer", "7 apples", ""),
        ("integer", 2**70, ""),
        ("number", "1.50", "1.5"),
        ("number", "much", ""),
        ("number", "nan", ""),
        ("number", "1e400", ""),
        ("datetime", "9999-12-31T23:59:59-05:00", ""),
        ("date", "9999-12-31T23:59:59-05:00", ""),
        ("date", "2026-02-30", ""),
        ("date", "2026-01-15", "2026-01-15"),
        ("date", "2026-01-15T23:30:00-02:00", "2026-01-16"),
        ("date", "tomorrow", ""),
        ("datetime", "2026-01-15T10:00:00Z", "2026-01-15 10:00:00"),
        ("datetime", "now", ""),
        ("flag", True, "Y"),
        ("flag", "N", "N"),
        ("flag", "perhaps", ""),
        ("text", "a\0b", "ab"),
    ],
)
def test_a_value_is_written_as_its_columns_type_or_left_blank_and_counted(kind, value, expected):
    maker = a_maker(ID, Column(name="v", type=kind, from_=("properties.v",)))
    values, refusal = maker.row(an_event(properties={"v": value}), Facts())
    assert (values[1], refusal) == (expected, None)
    assert maker.blanked == (expected == "" and value != "")


def test_what_is_needed_and_bad_missing_or_too_long_is_refused_by_its_column():
    maker = a_maker(ID, Column(name="n", type="integer", required=True, from_=("properties.n",)))
    assert maker.row(an_event(properties={"n": "x"}), Facts())[1].code == "bad_value:n"
    assert maker.row(an_event(properties={}), Facts())[1].code == "missing_required:n"
    short = a_maker(Column(name="id", length=5, from_=("event_id",)))
    assert short.row(an_event(), Facts())[1].code == "too_long:id"


def test_what_is_too_long_is_cut_or_refused_as_the_feed_says():
    column = Column(name="v", length=3, from_=("properties.v",))
    maker = a_maker(ID, column)
    assert maker.row(an_event(properties={"v": "abcde"}), Facts()) == ([an_event().event_id, "abc"], None)
    assert maker.cut == 1
    strict = a_maker(ID, column, truncate=False)
    assert strict.row(an_event(properties={"v": "abcde"}), Facts())[1].code == "too_long:v"


def test_defaults_are_those_of_the_documents():
    feed = FeedDefinition(name="cdp")
    assert (feed.rotate.rows, feed.rotate.after) == (15_000, timedelta(minutes=5))
    assert (feed.attribution_window, feed.wait) == (timedelta(days=30), timedelta(hours=72))
    assert NOON.tzinfo
