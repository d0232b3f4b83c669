"""Human or machine: the rules, what they lean to, and a labelled set to hold them to it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.events import Client, Event, Link
from espial.machine import UNKNOWN, Verdict, judge, rescore
from espial.vocabulary import EventType
from tests.builders import an_event
from tests.clients import labelled

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"

PEOPLE = [
    PHONE,
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0",
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Microsoft Outlook 16.0.5)",
    "Mozilla/5.0 (Linux; Android 14; CUBOT_P80) Chrome/130.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; CUBOT) Chrome/130.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Opera/9.80 (Android; Opera Mini/36.2/119.132; U; id) Presto/2.12.423 Version/12.16",
    "Thunderbird/128.0",
    GMAIL,
    "YahooMailProxy; https://help.example.com/kb/yahoo-mail-proxy-SLN28749.html",
    "",
]
MACHINES = [
    "curl/8.5.0",
    "python-requests/2.32.3",
    "Go-http-client/1.1",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.example.com/bingbot.htm)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1) Chrome/130.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0 Safari/537.36",
    "Slackbot-LinkExpanding 1.0 (+https://api.example.com/robots)",
    "BarracudaCentral/1.0",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
    "facebookexternalhit/1.1",
    "Java/17.0.2",
    "Wget/1.21",
]


def engaged(
    type_: EventType = EventType.CLICKED, at: float = 0.0, *, url: str = "https://shop.example.com/1", **client: Any
) -> Event:
    return an_event(
        f"{type_} {at} {url}",
        type=type_,
        occurred_at=NOW + timedelta(seconds=at),
        send_key="m-1/ada@example.com",
        link=Link(url=url) if type_ is EventType.CLICKED else None,
        client=Client(**client) if client else None,
    )


@pytest.mark.parametrize("agent", PEOPLE)
@pytest.mark.parametrize("type_", [EventType.OPENED, EventType.CLICKED])
def test_people_are_never_called_machines(agent: str, type_: EventType) -> None:
    """The worse error: nothing that people use is flagged, not even a telephone named Cubot."""
    assert judge(type_, Client(user_agent=agent, ip="203.0.113.7")).machine is None


@pytest.mark.parametrize("agent", MACHINES)
@pytest.mark.parametrize("type_", [EventType.OPENED, EventType.CLICKED])
def test_tools_and_scanners_are_machines(agent: str, type_: EventType) -> None:
    """By name, with the rule as reason."""
    assert Verdict(True, "rule:tool_or_scanner") == judge(type_, Client(user_agent=agent))


@pytest.mark.parametrize(
    ("type_", "client", "expected"),
    [
        (EventType.OPENED, Client(user_agent="Mozilla/5.0"), Verdict(True, "rule:apple_mail_privacy")),
        (EventType.CLICKED, Client(user_agent="Mozilla/5.0"), UNKNOWN),
        (EventType.OPENED, Client(ip="17.58.0.1"), Verdict(True, "rule:apple_network")),
        (EventType.OPENED, Client(ip="2001:db8::1"), UNKNOWN),
        (EventType.OPENED, Client(ip="not an address"), UNKNOWN),
        (EventType.OPENED, Client(user_agent=GMAIL), Verdict(None, "rule:gmail_image_proxy")),
        (EventType.DELIVERED, Client(user_agent="curl/8.5.0"), UNKNOWN),
        (EventType.OPENED, Client(user_agent="curl/8", machine=False, machine_reason="flag"), Verdict(False, "flag")),
        (EventType.OPENED, Client(user_agent=PHONE, machine=True, machine_reason="flag"), Verdict(True, "flag")),
    ],
)
def test_the_platforms_flag_decides_and_then_the_rules(type_: EventType, client: Client, expected: Verdict) -> None:
    """Apple's privacy proxy opens, it does not click; Gmail's proxy hides a person as often as not."""
    assert expected == judge(type_, client)


def test_of_a_labelled_set_almost_no_person_is_flagged_and_almost_nothing_else_is() -> None:
    """At most one person in two hundred; 98 of a hundred that are flagged are machines, and most machines are."""
    known = labelled()
    flagged = [one for one in known if judge(one.type, Client(user_agent=one.agent, ip=one.ip)).machine]
    people, machines = ([one for one in known if one.machine is kind] for kind in (False, True))
    wronged, caught = ([one for one in flagged if one.machine is kind] for kind in (False, True))
    assert (len(people) > 300, len(machines) > 150) == (True, True)
    assert len(wronged) <= 0.005 * len(people), [one.agent for one in wronged]
    assert len(caught) >= 0.98 * len(flagged)
    assert len(caught) >= 0.8 * len(machines), [one.agent for one in machines if one not in flagged]


def test_an_open_before_the_delivery_is_a_machines() -> None:
    """The scanner reads the mail before its server takes it; two seconds are left to differing clocks."""
    delivered = engaged(EventType.DELIVERED, 10)
    early, near = engaged(EventType.OPENED, 1), engaged(EventType.OPENED, 9)
    found = rescore([early, near, delivered])
    assert Verdict(True, "rule:before_delivery") == found[early.event_id]
    assert UNKNOWN == found[near.event_id]


def test_three_links_within_two_seconds_are_a_machines() -> None:
    """Two may be a double tap on neighbouring links; the same link thrice is an impatient person."""
    many = [engaged(at=at, url=f"https://shop.example.com/{at}", user_agent=PHONE) for at in (60, 61, 62)]
    assert {Verdict(True, "rule:many_links_at_once")} == {rescore(many)[one.event_id] for one in many[1:2]}
    few = [engaged(at=at, url=f"https://shop.example.com/{at}", user_agent=PHONE) for at in (60, 61)]
    assert {UNKNOWN} == set(rescore(few).values())
    again = [engaged(at=at, user_agent=PHONE) for at in (60, 60.5, 61)]
    assert {UNKNOWN} == set(rescore(again).values())


def test_who_fills_a_cart_after_the_click_is_a_person() -> None:
    """Within ten minutes; loading a page is no proof, scanners do."""
    click = engaged(at=60, user_agent=PHONE)
    bought = an_event("cart", type=EventType.CART_UPDATED, occurred_at=NOW + timedelta(minutes=5))
    viewed = an_event("page", type=EventType.PAGE_VIEWED, occurred_at=NOW + timedelta(minutes=5))
    late = an_event("cart", type=EventType.CART_UPDATED, occurred_at=NOW + timedelta(minutes=12))
    assert Verdict(False, "rule:acted_afterwards") == rescore([click, bought])[click.event_id]
    assert UNKNOWN == rescore([click, viewed])[click.event_id]
    assert UNKNOWN == rescore([click, late])[click.event_id]


def test_rescoring_replaces_a_rules_verdict_and_leaves_a_platforms() -> None:
    """Better rules may be asked later; the flag of a platform stays what it was."""
    ruled = engaged(user_agent=PHONE, machine=True, machine_reason="rule:an_old_rule")
    flagged = engaged(at=1, user_agent=PHONE, machine=True, machine_reason="sg_machine_open")
    found = rescore([ruled, flagged])
    assert UNKNOWN == found[ruled.event_id]
    assert Verdict(True, "sg_machine_open") == found[flagged.event_id]


TIMES = st.floats(-30, 900, allow_nan=False)
TYPES = st.sampled_from([EventType.OPENED, EventType.CLICKED, EventType.DELIVERED, EventType.CART_UPDATED])


@given(st.lists(st.tuples(TYPES, TIMES, st.integers(0, 4)), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_events_changes_no_verdict(drawn: list[Any], chance: random.Random) -> None:
    """Reports come late and out of order; who did it does not depend on that."""
    known = [engaged(type_, at, url=f"https://shop.example.com/{link}") for type_, at, link in drawn]
    shuffled = [*known, *known]
    chance.shuffle(shuffled)
    assert rescore(known) == rescore(shuffled)
