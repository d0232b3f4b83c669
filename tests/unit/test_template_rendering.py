"""Rendering: strict, escaped, fenced (goals 54 and 55)."""

# ruff: noqa: E501  tables of cases read best a case a line

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial.errors import Refused
from espial.templates.compile import compile_template
from espial.templates.render import Rendered, render

ROOT = Path(__file__).parents[2]
CART_REMINDER = ROOT / "definitions/templates/cart-reminder"
GOLDEN = ROOT / "tests/unit/goldens/cart-reminder"


def template(html: str = "", *, text: str = "", subject: str = "Hi", **extra: Any) -> dict[str, Any]:
    parts = {"name": "t", "subject": subject, "from_name": "", "html": html, "text": text, "variables": {}} | extra
    return {**parts, "sha": json.dumps(parts, sort_keys=True)}


def html_of(source: str, **context: Any) -> str:
    return render(template(source), context).html


def refusal(source: str, **context: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        render(template(source), context)
    return caught.value


@pytest.fixture(scope="module")
def cart_reminder() -> dict[str, Any]:
    return compile_template(CART_REMINDER)


def sample() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((CART_REMINDER / "sample.json").read_text())
    return data


@pytest.mark.parametrize("part", ["html", "text"])
def test_the_cart_reminder_renders_to_its_golden(cart_reminder, part):
    """The mail people get, byte for byte; a change of it is seen in review."""
    golden = GOLDEN.with_suffix(f".{part}")
    assert golden.read_text() == getattr(render(cart_reminder, sample()), part)


def test_the_cart_reminder_says_what_is_in_the_cart(cart_reminder):
    """Subject, products, prices in the cart's currency, the way back and the way out are all there."""
    mail = render(cart_reminder, sample())
    assert "Ada, your cart is still here" == mail.subject
    assert "Juniper & Pine" == mail.from_name
    for part in (mail.html, mail.text):
        for words in ("Trail shoe Fjell", "€129.00", "€214.50", "/unsubscribe?m=s-0"):
            assert words in part
    assert "Merino socks &#34;Nord&#34; &lt;2 pairs&gt;" in mail.html
    assert 'Merino socks "Nord" <2 pairs>' in mail.text
    assert "{%" not in mail.html + mail.text
    assert "{{" not in mail.html + mail.text


def test_a_cart_without_pictures_totals_or_names_still_makes_a_mail(cart_reminder):
    """Only what nothing can replace is needed; a guest is greeted all the same."""
    cart = {"items": [{"name": "Socks"}], "url": "https://shop.example.com/cart/1"}
    mail = render(cart_reminder, {"cart": cart, "unsubscribe_url": "https://shop.example.com/u"})
    assert "Hello again, your cart is still here" == mail.subject
    assert "<img" not in mail.html
    assert "Total" not in mail.text


def test_a_missing_value_is_never_a_blank(cart_reminder):
    """Without the cart's address the mail leads nowhere: refused, and the reason names the variable."""
    data = sample()
    del data["cart"]["url"]
    with pytest.raises(Refused) as caught:
        render(cart_reminder, data)
    assert "template_variable_missing" == caught.value.reason
    assert "cart.url" in caught.value.detail


@pytest.mark.parametrize(
    "source",
    ["{{ x }}", "{{ x.y }}", "{{ x | upcase }}", "{{ x | money: 'EUR' }}", "{{ x | date: '%Y' }}", "{{ x | url }}",
     "{% for i in x %}{% endfor %}", "{{ known.nothing }}", "{{ null_value }}", "{{ empty | first }}"],
)  # fmt: skip
def test_undefined_and_null_are_refused_wherever_they_would_print(source):
    """Filters and loops do not turn what is missing into an empty string either."""
    assert "template_variable_missing" == refusal(source, known={}, null_value=None, empty=[]).reason


def test_a_template_may_ask_whether_something_is_there():
    """`if` and `default` are how a template says that a value is optional."""
    assert "no-" == html_of("{% if x %}yes{% else %}no{% endif %}{{ y | default: '-' }}")


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_fallback_takes_the_place_of_nothing(value):
    """Missing, null and blank are one to the reader."""
    compiled = template("Hi {{ person.name }}", variables={"person.name": {"fallback": "you"}})
    assert "Hi you" == render(compiled, {"person": {"name": value}}).html
    assert "Hi you" == render(compiled, {}).html


def test_rendering_leaves_the_given_values_alone():
    """The same person's data is rendered into several parts and mails."""
    person: dict[str, Any] = {"person": {}}
    render(template("{{ person.name }}", variables={"person.name": {"fallback": "you"}}), person)
    assert {"person": {}} == person


@given(st.text())
def test_no_value_can_add_a_header_line(name):
    """Whatever a shop's form took as a name, the subject is one line."""
    subject = render(template(subject="Hi {{ name }}!"), {"name": name}).subject
    assert 1 == len(subject.splitlines())


@given(st.text(alphabet="<>\"'&abc/= "))
def test_no_value_can_add_markup(value):
    """Values are escaped in HTML, also inside attributes."""
    assert f'<a title="{_escaped(value)}"></a>' == html_of('<a title="{{ v }}"></a>', v=value)


def _escaped(value: str) -> str:
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        value = value.replace(char, entity)
    return value


def test_an_empty_subject_is_refused():
    """A mail without a subject looks like spam and is filtered as such."""
    with pytest.raises(Refused, match="subject_empty"):
        render(template(subject="{% if x %}Hi{% endif %}"), {})


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(12.5, "EUR", "€12.50"), (1234567, "usd", "$1,234,567.00"), (12.345, "GBP", "£12.35"), (12.5, "JPY", "¥13"),
     (1.2345, "KWD", "KWD 1.235"), (-3, "CHF", "-CHF 3.00"), (0, "EUR", "€0.00"), ("19.99", "CAD", "CA$19.99")],
)  # fmt: skip
def test_money_follows_the_currency(amount, currency, shown):
    """Sign, minor units and thousands are the currency's own, halves rounded up as people expect."""
    assert shown == html_of("{{ a | money: c }}", a=amount, c=currency)


@pytest.mark.parametrize(("amount", "currency"), [("ten", "EUR"), (1, "EURO"), (1, ""), (float("nan"), "EUR")])
def test_a_price_that_is_none_is_refused(amount, currency):
    """No mail goes out with half a price."""
    assert "template_failed" == refusal("{{ a | money: c }}", a=amount, c=currency).reason


def test_dates_are_shown_in_the_given_zone():
    """An instant is shown as people at that place know it."""
    moment = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert "29 March 2026 01:30" == html_of("{{ t | date: '%d %B %Y %H:%M', 'Europe/Berlin' }}", t=moment)
    assert "2026-03-29" == html_of("{{ t | date: '%Y-%m-%d' }}", t="2026-03-29T00:30:00Z")


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", "//evil.example.net", "/cart", "https://a@b.example.com/", "x"]
)
def test_only_web_addresses_pass_as_links(link):
    """Cart links are written by browsers, so anything may stand in them."""
    assert "template_failed" == refusal('<a href="{{ l | url }}">', l=link).reason


def test_a_link_is_escaped_for_its_attribute():
    """A quote in an address does not end the attribute, and nothing is encoded twice."""
    assert "https://shop.example.com/a%20b?x=%22&amp;y=%20" == html_of(
        "{{ l | url }}", l='https://shop.example.com/a b?x="&y=%20'
    )


HOSTILE = {
    "endless loop": "{% for i in (1..1000000000) %}x{% endfor %}",
    "endless loop backwards": "{% for i in (1..1000000000) reversed %}x{% endfor %}",
    "endless loop by a value": "{% for i in (1..n) %}x{% endfor %}",
    "loop in a loop": "{% for i in (1..3000) %}{% for j in (1..3000) %}x{% endfor %}{% endfor %}",
    "loops of nothing": "{% for i in (1..9000) %}{% for j in (1..9000) %}{% if j == i %}{% endif %}{% endfor %}{% endfor %}",
    "doubling string": "{% assign s = 'aaaaaaaa' %}{% for i in (1..60) %}{% assign s = s | append: s %}{% endfor %}{{ s }}",
    "replace chain": "{{ 'aaaaaaaaaa'" + " | replace: 'a', 'aaaaaaaaaa'" * 12 + " }}",
    "join of a range": "{{ (1..1000000000) | join: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}",
    "huge range through a filter": "{{ (1..100000000000000000000000) | reverse | first }}",
    "growing number": "{% assign n = 99999999 %}{% for i in (1..60) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
    "much output": "{% for i in (1..2000) %}" + "y" * 2000 + "{% endfor %}",
    "much captured": "{% for i in (1..2000) %}{% capture x %}" + "y" * 2000 + "{% endcapture %}{% assign z = x | append: z %}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_stopped(source):
    """Whatever it tries, it ends at once, in a refusal, and within a small memory."""
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        render(template(source), {"n": 10**12, "z": ""})
    assert caught.value.reason in ("template_limit", "template_failed")
    assert 0.5 > time.process_time() - started


@pytest.mark.parametrize(
    "source",
    ["{% include '/etc/passwd' %}", "{% render '/etc/passwd' %}", "{% extends 'x' %}", "{% tablerow i in (1..9) %}{% endtablerow %}",
     "{{ 'x' | safe }}", "{{ x | base64_decode }}"],
)  # fmt: skip
def test_tags_and_filters_that_reach_out_do_not_exist(source):
    """No template opens a file or undoes the escaping."""
    assert refusal(source, x="eA==").reason in ("template_invalid", "template_failed")


@pytest.mark.parametrize(
    "source",
    ["{{ x.__class__ }}", "{{ x.__class__.__mro__ }}", "{{ x['__globals__'] }}", "{{ x.env }}", "{{ now.__class__ }}"],
)
def test_a_template_sees_values_not_objects(source):
    """No attribute of a Python object can be reached, so neither can the environment."""
    assert "template_variable_missing" == refusal(source, x="text", now=datetime.now(UTC)).reason


def test_the_clock_is_the_callers():
    """`now` is what the decision was made with, not the machine's."""
    assert "2020" == html_of("{{ now | date: '%Y' }}", now=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_refusal_shows_no_value():
    """Reasons go to logs and events; the person's data does not."""
    refused = refusal("{{ secret | money: 'EUR' }}", secret="ada@example.com")
    assert "ada@example.com" not in str(refused)


def test_three_hundred_products_are_rendered():
    """The fence is far from what a real mail needs."""
    source = (
        "{% for i in items %}{% if i.price %}{{ i.name | upcase }} {{ i.price | money: 'EUR' }}{% endif %}{% endfor %}"
    )
    items = [{"name": f"thing {n}", "price": n} for n in range(1, 301)]
    assert "THING 300 €300.00" in html_of(source, items=items)


def test_parts_are_rendered_from_one_context():
    """Text is not escaped, HTML is."""
    compiled = template("{{ v }}", text="{{ v }}", subject="{{ v }}", from_name="{{ v }}")
    assert Rendered("a & b", "a & b", "a &amp; b", "a & b") == render(compiled, {"v": "a & b"})
