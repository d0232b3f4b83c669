"""Tracked mails: every web link leads by way of us to where it led, and nothing else of the mail changes."""

from __future__ import annotations

import re
from html import escape, unescape
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.mail_links import LONGEST_DESTINATION, MailLinks, Reader, reader_of, unseal
from espial.templates.tracked import hosts_in, tracked

SECRET = b"0123456789abcdef"
LINKS = MailLinks("https://pages.example.com", SECRET).to(Reader("id:1", "", "s-1"))
BOTH = ("links", "opens")
HOSTS = ("example.com", "a.example.com", "b.example.com", "c.example.com")


def led(html: str) -> list[str]:
    """Where the tracked links lead."""
    tokens = re.findall(r'href="https://pages\.example\.com/c/([^"]+)"', html)
    return [reader_of("c", unseal("c", unescape(token), (SECRET,)))[1] for token in tokens]


@given(st.lists(st.from_regex(r"https?://[a-z]{1,8}\.example\.com/[!-;=?-\[\]-~]{0,40}", fullmatch=True), max_size=5))
def test_every_link_leads_to_where_it_led(urls):
    """Whatever stands in it, in either quotes."""
    html = "".join(
        f"<p><a class=x href={quote}{escape(url)}{quote} data-x='1'>t</a></p>"
        for url, quote in zip(urls, '"\'"\'"', strict=False)
    )
    assert urls == led(tracked(html, LINKS, what=BOTH, hosts={urlsplit(url).netloc for url in urls}))


@pytest.mark.parametrize(
    "link",
    [
        "mailto:help@example.com",
        "tel:+15550100",
        "#top",
        "",
        "javascript:alert(1)",
        "https://example.com/u?m=1",
        "https://example.com/ü",
        "https://example.com/a b",
        "https://example.org/",
        "https://example.com@example.org/",
        "https://example.org\\@example.com/",
        "https://example.com.example.org/",
        "//example.com/",
        "https://[example.com/",
        "https://example.com/\r\nset-cookie: x",
        f"https://example.com/{'x' * LONGEST_DESTINATION}",
    ],
)
def test_what_cannot_or_must_not_be_tracked_stays(link):
    """Byte by byte."""
    html = f'<html><body><a href="{link}">x</a></body></html>'
    assert html == tracked(html, LINKS, what=("links",), hosts=HOSTS, keep={"https://example.com/u?m=1"})


def test_a_template_says_where_its_links_may_lead():
    """Hosts that are spelled out whole; what a value fills in counts for nothing."""
    template = """<a href="https://shop.example.com/{{ x }}"><a href='http://Blog.example.com'>
        <a href="{{ cart.url | url }}"><a href="https://{{ person.shop }}.example.com/">
        <a href="https://example.com{{ x }}"><a href=https://a.example.com>"""
    assert {"shop.example.com", "blog.example.com", "a.example.com"} == hosts_in(template)


def test_only_links_are_rewritten():
    """Not pictures, style sheets, forms or text."""
    html = '<link href="https://a.example.com/"><img src="https://b.example.com/"><p>href="https://c.example.com/"</p>'
    assert html == tracked(html, LINKS, what=("links",), hosts=HOSTS)


def test_the_pixel_stands_at_the_end_of_the_body():
    """Once, and behind everything where there is no body."""
    page = tracked("<html><body><p>x</p></BODY></html>", LINKS, what=("opens",), hosts=HOSTS)
    assert re.search(r'<p>x</p><img src="https://pages\.example\.com/o/[^"]+\.gif"[^>]+></BODY></html>$', page)
    assert tracked("<p>x</p>", LINKS, what=("opens",), hosts=HOSTS).startswith("<p>x</p><img")


def test_nothing_asked_nothing_changed():
    """The mail as it was rendered."""
    html = '<a href="https://example.com/">x</a>'
    assert html == tracked(html, LINKS, what=(), hosts=HOSTS)
