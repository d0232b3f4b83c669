"""A person's journal: the table of what happened, the diagram and the page."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import sources
from espial.events import (
    BEHAVIOUR_KEYS,
    MESSAGE_KEYS,
    Campaign,
    Cart,
    Client,
    Commerce,
    Failure,
    Link,
    Person,
    PersonKey,
    Product,
    encode,
    home_key,
)
from espial.feeds.published import Feeds
from espial.journal import table, words
from espial.journal.lanes import MOST_MARKS, NARROW, WIDE, diagram, marks
from espial.journal.markup import render
from espial.journal.page import page
from espial.journal.table import Journal
from espial.normalise import Recordable
from espial.ports import Stored
from espial.services.journal import journal
from espial.vocabulary import EventType
from tests.builders import NOON, an_event
from tests.fakes import FakeEventStore

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ADA = Person(external_id="cust-1001", email="ada@example.com", source_contact_id="b-1")
ADA_OF_THE_FILE = Person(external_id="cust-1001", email="ada@example.com")
KEYS = (PersonKey("email", "ada@example.com"), PersonKey("id", "cust-1001"))
WELCOME = Campaign(id="c-w", name="Welcome", dispatch_id="d-1")
NEWSLETTER = Campaign(id="c-n", name="Newsletter", dispatch_id="d-2")


def braze(kind, at, campaign, *via, **fields):
    """What Braze reports, tied to its send as Braze ties it."""
    said = {"platform": "braze", "connection": "braze-main", "person": ADA, "send_key": f"{campaign.dispatch_id}/b-1"}
    event = an_event(f"{kind} {at}", type=kind, occurred_at=at, campaign=campaign, **said | fields)
    return Stored(event, via or ("webhook",))


def onboarded(execution, at, kind=EventType.RECIPIENT_ONBOARDED, person=ADA_OF_THE_FILE, **said):
    """What became of a recipient of an onboarding."""
    properties = {"system": "RPI", "execution": execution, "contact": 700001, "destination": "braze", **said}
    about = {"platform": "espial", "connection": "braze-welcome", "channel": "none", "person": person}
    event = an_event(f"{kind} {execution}", type=kind, occurred_at=at, properties=properties, **about)
    return Stored(event, ("internal",))


def tracked(name, at, kind=EventType.PAGE_VIEWED, **fields):
    """What a site told."""
    said = {"platform": "segment", "connection": "shop", "channel": "web", "platform_type": "track", "person": ADA}
    return Stored(an_event(name, type=kind, occurred_at=at, **said | fields), ("tracking",))


def rows(recorded, **how):
    """The table, nothing being configured."""
    return table.rows(recorded, Feeds({}), **how)


SEED = [
    onboarded(9001, NOON),
    braze(EventType.SENT, NOON + HOUR, WELCOME, "export", "webhook"),
    braze(EventType.OPENED, NOON + 2 * HOUR, WELCOME),
    braze(EventType.SENT, NOON + 26 * HOUR, NEWSLETTER, "export"),
    braze(EventType.CLICKED, NOON + 27 * HOUR, NEWSLETTER, link=Link(url="https://shop.example.com/a")),
    onboarded(9002, NOON + 50 * HOUR),
]
"""The example sequence of onboarding, two campaigns and a second onboarding."""

UNMATCHED = braze(EventType.OPENED, NOON + 28 * HOUR, Campaign(id="c-x", name="Spring", dispatch_id="d-9"))

SEED_TABLE = """\
1 | Recipient data onboarded to Braze from RPI (inserted) | offer history and campaign event \
| fully automated: by Espial's onboarding | rpi-9001-700001 | - | -
2 | Welcome campaign sent out of Braze | Braze, exported by both, webhook and bucket file \
| a campaign event is generated from Braze's data | <welcome> | - | -
3 | Welcome campaign opened | Braze, exported by webhook \
| a response event is generated from Braze's data | <welcome> | <event> | by the message's id at Braze: certain
4 | Newsletter campaign sent out of Braze | Braze, exported by bucket file \
| a campaign event is generated from Braze's data | <newsletter> | - | -
5 | Newsletter campaign clicked | Braze, exported by webhook \
| a response event is generated from Braze's data | <newsletter> | <event> | by the message's id at Braze: certain
6 | Recipient data onboarded to Braze from RPI (updated) | offer history and campaign event \
| fully automated: by Espial's onboarding | rpi-9002-700001 | - | -"""


def test_the_example_sequence_is_its_table():
    """Six rows: what happened, where it is logged, what is made of it, under which ids, and how it was tied."""
    found = rows(SEED)
    ids = {found[1].campaign_event_id: "<welcome>", found[3].campaign_event_id: "<newsletter>"}
    assert 2 == len(ids)
    lines = [
        " | ".join(
            (
                *(str(row.number), row.activity, row.logged, row.automation),
                ids.get(row.campaign_event_id, row.campaign_event_id),
                "<event>" if (row.response_event_id,) == row.events else row.response_event_id or "-",
                row.correlation or "-",
            )
        )
        for row in found
    ]
    assert SEED_TABLE == "\n".join(lines)
    assert [None, None, 2, None, 4, None] == [row.send for row in found]
    assert [stored.event.occurred_at for stored in SEED] == [row.at for row in found]


EVERYTHING = [
    *SEED,
    UNMATCHED,
    braze(EventType.DELIVERED, NOON + HOUR, WELCOME),  # in the second of its send
    braze(EventType.SOFT_BOUNCED, NOON + HOUR, NEWSLETTER, failure=Failure(reason="452 mailbox full")),
    onboarded(9001, NOON, EventType.RECIPIENT_SELECTED),
    onboarded(9003, NOON + 51 * HOUR, EventType.RECIPIENT_REJECTED, reason="bad_address", detail="email"),
    *(tracked(f"page {number}", NOON + number * 5 * MINUTE) for number in range(6)),
    tracked("order", NOON + 12 * MINUTE, EventType.ORDER_COMPLETED),
]


@given(st.data())
def test_any_order_and_any_repeats_give_the_same_table(data):
    """What is shown does not depend on how events were read (guarantee 3)."""
    shuffled = data.draw(st.permutations(EVERYTHING))
    again = data.draw(st.lists(st.sampled_from(EVERYTHING)))
    assert rows(EVERYTHING) == rows([*shuffled, *again])


def test_a_selection_is_told_with_its_outcome():
    """One row for both, as long as there is an outcome; nothing is lost of the ids."""
    selected = onboarded(9001, NOON, EventType.RECIPIENT_SELECTED)
    (alone,) = rows([selected])
    assert "Recipient data of RPI identified to send or update in Braze" == alone.activity
    found = rows([*SEED, selected])
    assert [row.activity for row in rows(SEED)] == [row.activity for row in found]
    assert (SEED[0].event.event_id, selected.event.event_id) == found[0].events
    other = onboarded(9001, NOON, EventType.RECIPIENT_SELECTED, contact=2)
    assert 7 == len(rows([*SEED, other]))


def test_what_happened_in_one_second_is_told_in_its_natural_order():
    """A recipient is handed over before anything is sent, a message sent before it is delivered."""
    told = [row.activity for row in rows(EVERYTHING) if row.at in (NOON, NOON + HOUR) and row.kind != "activity"]
    assert [
        "Recipient data onboarded to Braze from RPI (inserted)",
        "Welcome campaign sent out of Braze",
        "Welcome campaign delivered",
        "Newsletter campaign soft-bounced",
    ] == told


def test_a_response_without_its_send_says_so_and_is_not_loaded():
    """It has its id, and no campaign event's; nothing is guessed."""
    (row,) = rows([UNMATCHED])
    assert row.unmatched
    assert ("no send is known yet", "", None) == (row.correlation, row.campaign_event_id, row.send)
    assert "not yet: a response event needs its campaign event's id" == row.automation
    assert row.events == (row.response_event_id,)


def test_a_guessed_tie_says_how_sure_it_is():
    """Campaign and address, of two sends the later one: likely."""
    campaign = Campaign(id="c-7", name="Spring")
    found = rows(
        [
            *(braze(EventType.SENT, NOON + hour * HOUR, campaign, send_key=None) for hour in (0, 1)),
            braze(EventType.OPENED, NOON + 2 * HOUR, campaign, send_key=None),
        ],
    )
    assert ("by campaign and address: likely (0.7)", 2, "campaign_email", 0.7) == (
        *(found[2].correlation, found[2].send),
        *(found[2].method, found[2].confidence),
    )


def test_connections_of_one_account_share_their_sends():
    """The webhook's connection and the bucket's; without a common account they are two workspaces."""
    opened = braze(EventType.OPENED, NOON + HOUR, WELCOME, connection="braze-bucket")
    recorded = [braze(EventType.SENT, NOON, WELCOME), opened]
    assert [False, True] == [row.unmatched for row in rows(recorded)]
    shared = Feeds({"connections": {name: {"account": "workspace"} for name in ("braze-main", "braze-bucket")}})
    assert [False, False] == [row.unmatched for row in table.rows(recorded, shared)]


def test_a_platform_that_reports_no_sends_has_its_responses_stand_for_them():
    """As the feeds have it: the first response makes the campaign event."""
    campaign = Campaign(id="d-77", name="Autumn")
    (row,) = rows([braze(EventType.OPENED, NOON, campaign, platform="pure360", connection="p", send_key=None)])
    assert not row.unmatched
    assert row.campaign_event_id
    assert "Pure360 reports no sends: the first response stands for one: certain" == row.correlation


def test_what_no_feed_takes_has_no_response_event():
    """A deferral is kept and no disposition."""
    recorded = [braze(EventType.SENT, NOON, WELCOME), braze(EventType.DEFERRED, NOON + MINUTE, WELCOME)]
    row = rows(recorded)[1]
    assert ("", 1, "no response event by default: not a disposition") == (
        *(row.response_event_id, row.send, row.automation),
    )


def test_looking_around_is_one_row_until_something_else_happens():
    """Pauses of half an hour end it, and so does an order; all of its events are named."""
    recorded = [
        tracked("1", NOON),
        tracked("2", NOON + 10 * MINUTE, EventType.PRODUCT_VIEWED),
        tracked("3", NOON + 20 * MINUTE),
        tracked("4", NOON + 21 * MINUTE, EventType.ORDER_COMPLETED),
        tracked("5", NOON + 22 * MINUTE),
        tracked("6", NOON + 53 * MINUTE),
    ]
    found = rows(recorded)
    assert ["Page viewed twice, product viewed", "Order completed", "Page viewed", "Page viewed"] == [
        row.activity for row in found
    ]
    assert (NOON, NOON + 20 * MINUTE, 3) == (found[0].at, found[0].until, len(found[0].events))
    assert "shop, by tracking call" == found[0].logged
    assert [] == rows(recorded, messages_only=True)


def test_a_cart_says_what_became_of_it():
    """Emptied is not updated."""
    emptied = tracked("c", NOON, EventType.CART_UPDATED, commerce=Commerce(cart=Cart(id="c-1")))
    filled = Commerce(cart=Cart(id="c-1", total=25, currency="EUR", items=(Product(id="p-1"),)))
    found = rows([emptied, tracked("d", NOON + HOUR, EventType.CART_UPDATED, commerce=filled)])
    assert [("Cart emptied", ""), ("Cart updated", "25.00 EUR")] == [(row.activity, row.detail) for row in found]


def test_our_own_decisions_are_rows():
    """Which trigger asked for a message, or why it did not."""
    said = {"platform": "espial", "connection": "espial", "channel": "email", "person": ADA, "send_key": "k"}
    asked = {"trigger": "cart-abandoned", "provider": "ses"}
    skipped = {"trigger": "cart-abandoned", "reason": "suppressed"}
    found = rows(
        [
            Stored(an_event("a", type=EventType.MESSAGE_REQUESTED, properties=asked, **said), ("internal",)),
            Stored(an_event("b", type=EventType.MESSAGE_SKIPPED, properties=skipped, **said), ("internal",)),
        ],
    )
    assert [
        "Message of trigger cart-abandoned handed to Amazon SES",
        "Message of trigger cart-abandoned not sent: suppressed",
    ] == [row.activity for row in found]
    assert {"fully automated: by trigger cart-abandoned"} == {row.automation for row in found}


def test_an_open_by_a_machine_says_so():
    """By the verdict of the rules over all of the person's events."""
    opened = braze(EventType.OPENED, NOON, WELCOME, client=Client(user_agent="Mozilla/5.0"))
    assert "by a machine (apple_mail_privacy)" == rows([opened])[0].detail


@pytest.mark.parametrize("name", sources.NAMES)
def test_every_platform_has_a_name_that_people_call_it_by(name):
    """Without what its title says of webhooks; of what many senders speak, the connection's."""
    called = words.called(name, "my-sender")
    assert called == "my-sender" or sources.load(name).docs.title.startswith(called)
    assert not re.search(r"webhook|Stream|event|\(", called)


# the service --------------------------------------------------------------------------------------------------------


def a_store(recorded):
    """Holds the events where the functions put them: recipient data under the id, mails' events under the address."""
    store = FakeEventStore()
    for stored in recorded:
        event = stored.event
        record = Recordable(
            event, encode(event), home_key(event, BEHAVIOUR_KEYS if "espial" in event.platform else MESSAGE_KEYS)
        )
        for transport in stored.via:
            store.add([record], transport=transport, expires_days=60)
    return store


def test_the_newest_rows_are_shown_with_their_numbers_and_sends():
    """What is left out is counted, and still there to be tied to."""
    bundle = {"connections": {"braze-main": {"account": "workspace"}, "shop": {}}}
    found = journal(a_store(SEED), KEYS, bundle, limit=2)
    assert ([5, 6], 4, 4) == ([row.number for row in found.rows], found.rows[0].send, found.earlier)
    assert KEYS[0] == found.person
    assert ([], 0) == (journal(FakeEventStore(), KEYS, None, limit=2).rows, 0)


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_only_the_events_join_are_one_person(key):
    """Recipient data lies under the id and mails under the address, and nobody else has joined the two."""
    found = journal(a_store(SEED), [key], None, limit=100)
    assert rows(SEED) == found.rows
    assert {*KEYS, PersonKey("contact", "braze/b-1")} == {*found.keys}


def test_an_address_of_two_people_joins_neither():
    """What was sent to the address is told of the address alone."""
    bo = Person(external_id="cust-2", email="ada@example.com")
    recorded = [
        *SEED,
        onboarded(9009, NOON + HOUR, contact=2, person=bo),
        braze(EventType.OPENED, NOON, WELCOME, person=bo),
    ]
    store = a_store(recorded)
    of_address, of_bo = (
        journal(store, [PersonKey.parse(key)], None, limit=100) for key in ("ada@example.com", "id:cust-2")
    )
    assert ([KEYS[0]], 5) == ([*of_address.keys], len(of_address.rows))
    assert ([PersonKey("id", "cust-2")], 1) == ([*of_bo.keys], len(of_bo.rows))


# diagram and page ---------------------------------------------------------------------------------------------------


class _Read(HTMLParser):
    """Tags that are open at the end, every start tag with its attributes, and the text."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def count(self, tag, **wanted):
        return sum(name == tag and wanted.items() <= attrs.items() for name, attrs in self.tags)


def a_page(recorded):
    return page(Journal(KEYS[0], KEYS, rows(recorded)))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere():
    """Well-formed; no script, no link, nothing that is loaded; the keys and every row's words are in it."""
    read = _Read(a_page(EVERYTHING))
    assert [] == read.open
    assert not {"script", "link", "img", "iframe", "a", "object"} & {tag for tag, _ in read.tags}
    assert not [attrs for _, attrs in read.tags if {"src", "href"} & attrs.keys()]
    assert "url(" not in a_page(EVERYTHING)
    assert "@import" not in a_page(EVERYTHING)
    text = "".join(read.text)
    for row in rows(EVERYTHING):
        assert row.activity in text
        assert row.logged in text
    for key in KEYS:
        assert key.value in text


def test_the_page_can_be_read_out():
    """A table with a caption and headers, drawings with a title and a description, a language."""
    read = _Read(a_page(EVERYTHING))
    count = len(rows(EVERYTHING))
    assert (1, 1, 7, count) == (
        *(read.count("table"), read.count("caption"), read.count("th", scope="col"), read.count("th", scope="row")),
    )
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = [attrs["aria-labelledby"] for _, attrs in read.tags if "aria-labelledby" in attrs]
    assert {name for names in named for name in names.split()} <= set(ids)
    assert 2 == read.count("svg", role="img")
    assert 1 == read.count("html", lang="en")
    assert "3 onboardings, 2 sends, 5 responses, 1 of them without a known send" in "".join(read.text)


HOSTILE = "</svg></title></style><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'\u202e\x00\x1b[2J"


def test_whatever_is_reported_is_text():
    """Markup in a campaign's name, a link, a key or a reason is shown, and is neither run nor hides anything."""
    campaign = Campaign(id="c", name=HOSTILE, dispatch_id="d")
    recorded = [
        braze(EventType.SENT, NOON, campaign),
        braze(EventType.CLICKED, NOON + HOUR, campaign, link=Link(url=f"javascript:{HOSTILE}")),
        braze(EventType.BOUNCED, NOON + HOUR, campaign, failure=Failure(reason=HOSTILE)),
        onboarded(HOSTILE, NOON, system=HOSTILE, destination=HOSTILE),
        tracked("x", NOON, EventType.CUSTOM, platform_type=HOSTILE, connection=HOSTILE),
    ]
    keys = (PersonKey("id", HOSTILE),)
    made = page(Journal(keys[0], keys, rows(recorded)))
    read = _Read(made)
    assert [] == read.open
    assert not {"script", "img"} & {tag for tag, _ in read.tags}
    assert not [name for _, attrs in read.tags for name in attrs if name.startswith("on")]
    assert not set("\u202e\x00\x1b") & set(made)
    assert "</svg></title></style><script>alert(1)</script>" in "".join(read.text)


@given(st.text(), st.text())
def test_any_words_give_a_page_that_shows_them(name, reason):
    """Whatever characters a platform reports."""
    campaign = Campaign(id="c", name=name, dispatch_id="d")
    bounced = braze(EventType.BOUNCED, NOON + HOUR, campaign, failure=Failure(reason=reason))
    made = rows([braze(EventType.SENT, NOON, campaign), bounced])
    read = _Read(page(Journal(KEYS[0], KEYS, made)))
    assert [] == read.open
    shown = "".join(read.text)
    assert all(shown.count(part) for part in re.findall(r"[^\W_]+", f"{made[0].activity} {made[1].detail}"))


def test_the_same_response_again_is_one_mark():
    """Twenty opens of one message in a row are one; one of another message in between makes it two."""
    sends = [braze(EventType.SENT, NOON, WELCOME), braze(EventType.SENT, NOON + MINUTE, NEWSLETTER)]
    opens = [braze(EventType.OPENED, NOON + (5 + number) * MINUTE, WELCOME) for number in range(20)]
    assert [1, 1, 20] == [mark.often for mark in marks(rows([*sends, *opens]))]
    other = braze(EventType.OPENED, NOON + 10 * MINUTE + MINUTE / 2, NEWSLETTER)
    assert [1, 1, 6, 1, 14] == [mark.often for mark in marks(rows([*sends, *opens, other]))]
    assert "Welcome campaign opened 20 times" in render(diagram(rows([*sends, *opens]), WIDE))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=lambda size: size.name)
def test_responses_hang_on_their_send_and_the_others_on_nothing(size):
    """A curve for each response with a send, a broken stub for each without."""
    drawn = _Read(render(diagram(rows([*SEED, UNMATCHED]), size)))
    curves = [attrs["class"] for tag, attrs in drawn.tags if tag == "path" and "tie" in attrs.get("class", "")]
    assert ["tie t0", "tie t0", "tie none"] == curves


def test_sends_that_overlap_have_tracks_of_their_own():
    """So that it shows which response belongs to which."""
    campaigns = [Campaign(id=f"c-{number}", name=f"No {number}", dispatch_id=f"d-{number}") for number in range(3)]
    recorded = [braze(EventType.SENT, NOON + number * MINUTE, one) for number, one in enumerate(campaigns)]
    recorded += [braze(EventType.OPENED, NOON + HOUR + number * MINUTE, one) for number, one in enumerate(campaigns)]
    drawn = render(diagram(rows(recorded), WIDE))
    assert ["0", "1", "2"] == re.findall(r'class="tie t(\d)"', drawn)


@pytest.mark.parametrize("count", [0, 1, MOST_MARKS + 30])
def test_few_and_many_are_drawn(count):
    """Nobody's page is empty but whole; of very many the newest are drawn and the page says so."""
    recorded = [
        braze(EventType.SENT, NOON + number * HOUR, Campaign(id="c", name=f"No {number}", dispatch_id=f"d-{number}"))
        for number in range(count)
    ]
    made = a_page(recorded)
    assert [] == _Read(made).open
    assert min(count, MOST_MARKS) == len(marks(rows(recorded)))
    assert (count > MOST_MARKS) == (f"The newest {MOST_MARKS} marks" in made)
