"""Preferences and one-click unsubscribe: a GET changes nothing, a POST is enough, and every wish reaches consent."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import events
from espial.deliveries import Arrival, Connection
from espial.events import PersonKey
from espial.gateway import Request
from espial.mail_links import PLATFORM, MailLinks, Reader
from espial.normalise import normalise
from espial.people import NOTHING, PersonView, merge_profile
from espial.services.serve_pages import Pages, answer
from espial.sources.espial_pages import SOURCE
from espial.vocabulary import EventType
from tests.fakes import FakeConnections, FakeDeliveryQueue

SECRET = b"0123456789abcdef0123456789abcdef"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP = Connection(
    name="pages",
    platform=PLATFORM,
    account="pages",
    settings={"sender": "Juniper & Pine", "topics": {"offers": "Offers <sales>", "news": "News"}},
)
READER = Reader("id:cust-1", "ada@example.com", "s-1", "email", "offers")
LINKS = MailLinks("https://pages.example.com", SECRET).to(READER)
FORM = "application/x-www-form-urlencoded"
ONE_CLICK = "List-Unsubscribe=One-Click"


class World:
    """The pages, and recording behind their queue: what is put there changes the profile, when `records` is called."""

    def __init__(self, connection: Connection = SHOP) -> None:
        self.queue = FakeDeliveryQueue()
        self.profile = NOTHING
        self.now = START
        self.recorded: list[events.Event] = []
        self.calls = 0
        self.pages = Pages(
            connections=FakeConnections(connection, secrets={"pages": (SECRET,)}),
            queue=self.queue,
            people=self,  # type: ignore[arg-type]
            clock=lambda: self.now,
        )

    def load(self, key: PersonKey) -> PersonView:
        return PersonView(key=key, keys=(key,), profile=self.profile)

    def call(self, url: str, method: str = "GET", body: str | bytes = "", kind: str = FORM, **headers: str) -> Any:
        self.calls += 1
        self.now += timedelta(seconds=1)
        page, token = url.removeprefix("https://pages.example.com/").split("/")
        request = Request(
            id=f"request-{self.calls}",
            method=method,
            path={"page": page, "token": token},
            query="",
            headers={"content-type": kind, "user-agent": "Mozilla/5.0", "x-forwarded-for": "198.51.100.7", **headers},
            body=body.encode() if isinstance(body, str) else body,
        )
        return answer(self.pages.serve(request))

    def post(self, *fields: tuple[str, str], url: str = "") -> Any:
        return self.call(url or LINKS.unsubscribe(), "POST", urlencode(fields))

    def records(self) -> list[events.Event]:
        """What record_events and run_triggers make of it."""
        found = []
        for delivery in self.queue.deliveries:
            arrival = Arrival(connection=SHOP, transport=delivery.transport, received_at=delivery.received_at)
            found += [normalise(SOURCE, item, arrival).event for item in SOURCE.split(delivery)]
        self.queue.deliveries.clear()
        for event in found:
            self.profile = merge_profile(self.profile, event)
        self.recorded += found
        return found

    @property
    def consent(self) -> dict[str, bool]:
        return self.load(PersonKey("id", "cust-1")).consent


def checked(page: str) -> list[str]:
    return re.findall(r'value="(\w+)" checked', page)


def test_a_scanner_that_follows_every_link_changes_nothing():
    """100 GETs and as many HEADs: always the page, nothing told (RFC 8058, section 3.1)."""
    world = World()
    for _ in range(100):
        assert 200 == world.call(LINKS.unsubscribe())["statusCode"]
        assert "" == world.call(LINKS.unsubscribe(), "HEAD")["body"]
    assert [] == world.queue.deliveries


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, ONE_CLICK),
        ("", ONE_CLICK),
        (
            "multipart/form-data; boundary=xyz",
            '--xyz\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--xyz--\r\n',
        ),
    ],
)
def test_one_click_unsubscribes_however_it_is_encoded(kind, body):
    """Without a cookie, without a page before it: 200, and the mail's topic is refused."""
    world = World()
    assert 200 == world.call(LINKS.unsubscribe(), "POST", body, kind)["statusCode"]
    (event,) = world.records()
    assert (EventType.UNSUBSCRIBED, "s-1", "email") == (event.type, event.send_key, event.channel)
    assert ("cust-1", "ada@example.com") == (event.person.external_id, event.person.email)
    assert {"email/offers": False} == world.consent


def test_one_click_again_changes_nothing_more():
    """Mailbox providers repeat it: each time 200, the consent stays what it is."""
    world = World()
    for _ in range(5):
        assert 200 == world.call(LINKS.unsubscribe(), "POST", ONE_CLICK)["statusCode"]
        world.records()
        assert {"email/offers": False} == world.consent


def test_a_mail_of_no_topic_is_left_with_the_whole_channel():
    """What the mail does not narrow is refused as a whole."""
    world = World()
    url = LINKS.to(READER._replace(topic="")).unsubscribe()
    world.call(url, "POST", ONE_CLICK)
    world.records()
    assert {"email/": False} == world.consent


def test_the_last_wish_counts_in_any_order_of_words():
    """Out, in again, out again: three events, the last one holds."""
    world = World()
    for do, granted in (("leave", False), ("back", True), ("leave", False)):
        answered = world.post(("do", do))
        assert 200 == answered["statusCode"]
        world.records()
        assert {"email/offers": granted} == world.consent
        assert ("offers" in checked(answered["body"])) == granted
    assert 3 == len({event.event_id for event in world.recorded})


def test_the_form_saves_what_was_changed_and_only_that():
    """A box that nobody touched says nothing, so that no refusal is made up."""
    world = World()
    page = world.post(("do", "save"), ("topic", "news"))["body"]
    assert ["news"] == checked(page)
    assert [(EventType.SUBSCRIBED, "news")] == [(one.type, one.properties["topic"]) for one in world.records()]
    assert ["news"] == checked(world.call(LINKS.unsubscribe())["body"])
    world.post(("do", "save"), ("shown", "news"))
    assert [(EventType.UNSUBSCRIBED, "news")] == [(one.type, one.properties["topic"]) for one in world.records()]
    assert {"email/news": False} == world.consent


def test_a_choice_that_is_not_recorded_yet_is_not_lost():
    """Off, and on again from the page that the first answer showed, before the queue was read."""
    world = World()
    world.post(("do", "save"), ("topic", "news"))
    world.records()
    world.post(("do", "save"), ("shown", "news"))
    world.post(("do", "save"), ("topic", "news"))
    world.records()
    assert {"email/news": True} == world.consent


def test_everything_can_be_left():
    """The whole channel; a topic that was agreed to before is refused with it."""
    world = World()
    world.post(("do", "save"), ("topic", "news"))
    world.records()
    page = world.post(("do", "none"))["body"]
    world.records()
    view = world.load(PersonKey("id", "cust-1"))
    assert [] == checked(page)
    assert not view.choice("email", "news").granted


@given(st.data())
def test_a_changed_link_does_nothing(data):
    """Every byte counts: 400, a page that says what to do, nothing on the queue."""
    world = World()
    url = LINKS.unsubscribe()
    place = data.draw(st.integers(len("https://pages.example.com/u/"), len(url) - 1))
    other = data.draw(st.characters(exclude_characters="/"))
    changed = url[:place] + other + url[place + 1 :]
    if changed != url:
        for method in ("GET", "POST"):
            answered = world.call(changed, method, ONE_CLICK)
            assert 400 == answered["statusCode"]
            assert "Open it from the email again" in answered["body"]
    assert [] == world.queue.deliveries


@given(st.text(max_size=60), st.binary(max_size=300))
def test_whatever_is_posted_is_answered(kind, body):
    """Forms of any kind: a page, never an exception; and a wish only where one was said."""
    world = World()
    answered = world.call(LINKS.unsubscribe(), "POST", body, kind)
    assert answered["statusCode"] in (200, 400)
    assert bool(world.queue.deliveries) == (answered["statusCode"] == 200)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_nothing_written_elsewhere_is_markup_on_the_page(sender, title, email):
    """Names, titles and addresses are text, whatever is in them."""
    hostile = replace(SHOP, settings={"sender": f"<script>{sender}", "topics": {'"><img src=x>': title or "x"}})
    world = World(hostile)
    page = world.call(LINKS.to(READER._replace(email=f"<b>{email}@example.com")).unsubscribe())["body"]
    assert {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "form", "button"} | {
        "fieldset", "legend", "label", "input",
    } >= set(re.findall(r"<([a-z]\w*)", page))  # fmt: skip
    assert "http" not in page.replace("http-equiv", "")


def test_pages_may_load_nothing_and_are_kept_nowhere():
    """No script, no picture, no frame; the link, which is a key, is told nobody."""
    headers = World().call(LINKS.unsubscribe())["headers"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ("no-store", "no-referrer") == (headers["cache-control"], headers["referrer-policy"])


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("DELETE", LINKS.unsubscribe(), 405),
        ("POST", LINKS.click("https://shop.example.com/"), 405),
        ("GET", "https://pages.example.com/x/y", 404),
        ("GET", MailLinks("https://pages.example.com", b"another stack's").to(READER).unsubscribe(), 400),
    ],
)
def test_what_is_not_served(method, url, status):
    """Each with a page, and nothing told."""
    world = World()
    assert status == world.call(url, method)["statusCode"]
    assert [] == world.queue.deliveries


def test_a_form_that_is_too_large_is_refused():
    """Before it is read."""
    assert 413 == World().call(LINKS.unsubscribe(), "POST", "x=" + "y" * 70_000)["statusCode"]


def test_a_wish_that_cannot_be_kept_is_not_confirmed():
    """The queue is away: 503 and when to come again, never a promise."""
    world = World()
    world.queue.away = True
    answered = world.call(LINKS.unsubscribe(), "POST", ONE_CLICK)
    assert 503 == answered["statusCode"]
    assert int(answered["headers"]["retry-after"]) >= 1


def test_a_click_is_told_and_leads_on():
    """To what stood in the mail; a tool's click is a machine's, by the rules that hold for every platform."""
    world = World()
    url = LINKS.click("https://shop.example.com/cart?a=1&b=2")
    answered = world.call(url, **{"user-agent": "curl/8.5.0"})
    assert (302, "https://shop.example.com/cart?a=1&b=2") == (answered["statusCode"], answered["headers"]["location"])
    (event,) = world.records()
    assert (EventType.CLICKED, "s-1", True) == (event.type, event.send_key, event.client.machine)
    assert ("https://shop.example.com/cart?a=1&b=2", "198.51.100.7") == (event.link.url, event.client.ip)


def test_an_open_is_told_with_a_picture():
    """A GIF; a look by HEAD tells nothing, of clicks neither."""
    world = World()
    answered = world.call(LINKS.pixel())
    assert ("image/gif", True) == (answered["headers"]["content-type"], answered["isBase64Encoded"])
    assert [EventType.OPENED] == [event.type for event in world.records()]
    for url in (LINKS.pixel(), LINKS.click("https://shop.example.com/")):
        assert "" == world.call(url, "HEAD")["body"]
    assert [] == world.queue.deliveries


def test_a_click_leads_on_even_where_it_cannot_be_told():
    """Nobody stands before a closed door because our queue is away."""
    world = World()
    world.queue.away = True
    assert 302 == world.call(LINKS.click("https://shop.example.com/"))["statusCode"]


def test_a_changed_tracked_link_leads_nowhere():
    """No open redirect: a token for another destination cannot be made, nor one changed."""
    url = LINKS.click("https://shop.example.com/")
    for place in range(len("https://pages.example.com/c/"), len(url)):
        changed = url[:place] + ("A" if url[place] != "A" else "B") + url[place + 1 :]
        answered = World().call(changed)
        assert 400 == answered["statusCode"]
        assert "location" not in answered["headers"]


def test_a_contact_of_another_platform_is_named_by_the_address():
    """Its id would be somebody else's under our platform."""
    world = World()
    world.call(LINKS.to(READER._replace(person="contact:braze/b-1")).unsubscribe(), "POST", ONE_CLICK)
    (event,) = world.records()
    assert [PersonKey("email", "ada@example.com")] == events.person_keys(event)
