"""Compiling: Liquid survives MJML and CSS inlining, and what is wrong is named with file and line (goal 55)."""

# ruff: noqa: E501  tables of cases read best a case a line

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from espial.errors import InvalidDefinition
from espial.templates.compile import ALWAYS_KNOWN, compile_template
from espial.templates.render import render

YAML = """\
subject: "{{ name }}, hello"
category: transactional
variables:
  name: {fallback: you}
  items:
"""


def folder(tmp_path: Path, **files: str) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    for name, text in ({"template_yaml": YAML} | files).items():
        (made / name.replace("_", ".")).write_text(text)
    return made


def problems(tmp_path: Path, **files: str) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        compile_template(folder(tmp_path, **files))
    return [problem.removeprefix(f"{tmp_path}/hello/") for problem in caught.value.problems]


def mjml(inside: str) -> str:
    return f"<mjml><mj-body>{inside}</mj-body></mjml>"


def words(html: str) -> str:
    return " ".join(
        re.sub(
            r"<[^>]*>", " ", re.sub(r"<!--.*?-->|<style.*?</style>|<head.*?</head>", "", html, flags=re.DOTALL)
        ).split()
    )


SECTION = "<mj-section><mj-column><mj-text>{}</mj-text></mj-column></mj-section>"
PLACES = {
    "between sections": "{% for i in items %}" + SECTION.format("[{{ i.n }}]") + "{% endfor %}",
    "between columns": "<mj-section>{% for i in items %}<mj-column><mj-text>[{{ i.n }}]</mj-text></mj-column>{% endfor %}</mj-section>",
    "between a column's elements": "<mj-section><mj-column>{% for i in items %}<mj-text>[{{ i.n }}]</mj-text>{% endfor %}</mj-column></mj-section>",
    "between table rows": "<mj-section><mj-column><mj-table>{% for i in items %}<tr><td>[{{ i.n }}]</td></tr>{% endfor %}</mj-table></mj-column></mj-section>",
    "in text": SECTION.format("{% for i in items %}[{{ i.n }}]{% endfor %}"),
    "with comparisons": SECTION.format("{% for i in items %}{% if i.n < 9 and i.n > 0 %}[{{ i.n }}]{% endif %}{% endfor %}"),
    "in a group": "<mj-section><mj-group>{% for i in items %}<mj-column><mj-text>[{{ i.n }}]</mj-text></mj-column>{% endfor %}</mj-group></mj-section>",
}  # fmt: skip


@pytest.mark.parametrize("body", PLACES.values(), ids=PLACES)
def test_liquid_survives_mjml(tmp_path, body):
    """A loop wraps what it wrapped in the source, wherever it stands."""
    compiled = compile_template(folder(tmp_path, body_mjml=mjml(body)))
    html = render(compiled, {"items": [{"n": 1}, {"n": 2}]}).html
    assert "[1][2]" == words(html).replace(" ", "")
    assert html.count("<tr") == html.count("</tr>")


def test_liquid_survives_in_attributes(tmp_path):
    """Also with quotes of both kinds inside, and values are escaped for the attribute."""
    body = SECTION.format("""<a href='{{ name | default: "https://x.example.com" | url }}' title="{{ name }}">x</a>""")
    body += '<mj-section><mj-column><mj-image src="{{ items[0] | url }}" alt="{{ name }}" /></mj-column></mj-section>'
    compiled = compile_template(folder(tmp_path, body_mjml=mjml(body)))
    html = render(compiled, {"name": 'https://e.example.com/"', "items": ["https://i.example.com/1.png"]}).html
    assert 'href="https://e.example.com/%22"' in html.replace("'", '"')
    assert 'title="https://e.example.com/&#34;"' in html
    assert 'src="https://i.example.com/1.png"' in html


def test_what_mjml_would_lose_is_refused(tmp_path):
    """Directly inside a wrapper MJML puts content into comments for Outlook: named, not silently dropped."""
    body = f"<mj-wrapper>\n{{% if name %}}{SECTION.format('x')}{{% endif %}}</mj-wrapper>"
    (problem,) = problems(tmp_path, body_mjml=mjml(body))
    assert "body.mjml:2: {% if name %} cannot stand here: put it inside a section, column, text or table" == problem


def test_css_is_inlined_and_media_queries_stay(tmp_path):
    """Mail clients drop style sheets; what cannot be inlined is left for those that do not."""
    html = """<html><head><style>p { color: red } @media (prefers-color-scheme: dark) { p { color: white } }</style></head>
<body><table>{% for i in items %}<tr><td><p>{{ i }}</p></td></tr>{% endfor %}</table></body></html>"""
    compiled = compile_template(folder(tmp_path, body_html=html))
    rendered = render(compiled, {"items": ["a", "b"]}).html
    assert 2 == rendered.count('<p style="color: red;">')
    assert "@media (prefers-color-scheme: dark)" in rendered
    assert re.search(r"<tr.*?a.*?</tr><tr.*?b.*?</tr>", rendered, re.DOTALL)


def test_a_text_part_is_made_from_the_html(tmp_path):
    """Links are spelled out, the preheader and style sheets are not text, loops still loop."""
    html = """<html><head><style>p{}</style><title>no</title></head><body><h1>Hi {{ name }}</h1>
<ul>{% for i in items %}<li>{{ i }}</li>{% endfor %}</ul><p>See <a href="https://x.example.com/?a=1">the shop</a>.</p></body></html>"""
    yaml = YAML + "preheader: hidden words\n"
    compiled = compile_template(folder(tmp_path, body_html=html, template_yaml=yaml))
    text = render(compiled, {"items": ["a&b", "c"]}).text
    assert "Hi you|- a&b|- c|See the shop (https://x.example.com/?a=1)." == "|".join(filter(None, text.splitlines()))


def test_the_preheader_is_the_first_text_of_the_body(tmp_path):
    """What inboxes show beside the subject, unseen in the mail; its own words are escaped, its Liquid is not."""
    yaml = YAML + "preheader: 'A & B for {{ name }}'\n"
    html = render(compile_template(folder(tmp_path, body_mjml=mjml(SECTION.format("x")), template_yaml=yaml)), {}).html
    assert words(html).startswith("A &amp; B for you")


def test_equal_sources_compile_to_equal_templates(tmp_path):
    """The hash names the content, so applying twice changes nothing; it is plain JSON."""
    made = folder(tmp_path, body_mjml=mjml(SECTION.format("x")))
    compiled = compile_template(made)
    assert compiled == compile_template(made) == json.loads(json.dumps(compiled))
    (made / "body.mjml").write_text(mjml(SECTION.format("y")))
    assert compiled["sha"] != compile_template(made)["sha"]


def test_the_version_does_not_depend_on_where_the_template_lies(tmp_path):
    """Applied from another checkout, or by a build machine, it is the same template, warnings and all."""
    long = mjml(SECTION.format("long " * 21_000))
    made = folder(tmp_path, body_mjml=long)
    one, other = compile_template(made), compile_template(copytree(made, tmp_path / "there" / made.name))
    assert one["warnings"]
    assert one == other


BODY = SECTION.format("x")
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "an unknown variable": ({"body_mjml": mjml("\n\n" + SECTION.format("{{ nmae }}"))}, "body.mjml:3: unknown variable 'nmae'"),
    "an unknown variable in the subject": ({"template_yaml": 'category: transactional\nsubject: "{{ x }}"\n', "body_mjml": mjml(BODY)}, "template.yaml:2: subject: unknown variable 'x'"),
    "an unknown variable in the text": ({"body_mjml": mjml(BODY), "body_txt": "hi\n{{ x }}"}, "body.txt:2: unknown variable 'x'"),
    "a tag left open": ({"body_mjml": mjml("\n" + SECTION.format("{% if name %}x"))}, "body.mjml:"),
    "an unknown filter": ({"body_mjml": mjml("\n" + SECTION.format("{{ name | shout }}"))}, "body.mjml:2: Liquid: no filter named 'shout'"),
    "a file to include": ({"body_mjml": mjml("\n" + SECTION.format("{% include 'x' %}"))}, "body.mjml:2: Liquid:"),
    "an image without alt": ({"body_mjml": mjml("\n<mj-section><mj-column><mj-image src='https://x.example.com/1.png'/></mj-column></mj-section>")}, "body.mjml:2: image without alt"),
    "an insecure link": ({"body_mjml": mjml("\n" + SECTION.format('<a href="http://x.example.com">x</a>'))}, "body.mjml:2: href must be https://"),
    "an unchecked link": ({"body_mjml": mjml("\n" + SECTION.format('<a href="{{ name }}">x</a>'))}, "body.mjml:2: href takes a variable: add the `url` filter"),
    "a script for a link": ({"body_mjml": mjml("\n" + SECTION.format('<a href="JavaScript:alert(1)">x</a>'))}, "body.mjml:2: href must begin with https://"),
    "an empty link": ({"body_mjml": mjml("\n" + SECTION.format('<a href="">x</a>'))}, "body.mjml:2: href is empty"),
    "a link without its host": ({"body_mjml": mjml("\n" + SECTION.format('<a href="/cart">x</a>'))}, "body.mjml:2: href must begin with https://"),
    "a picture in the text": ({"body_mjml": mjml("\n" + SECTION.format('<img alt="" src="data:image/png;base64,x">'))}, "body.mjml:2: src must begin with https://"),
    "a placeholder of Salesforce's": ({"body_mjml": mjml("\n" + SECTION.format("Hello %%First Name%%"))}, "body.mjml:2: %%First Name%% is another platform's"),
    "a placeholder of Mailchimp's": ({"body_mjml": mjml("\n" + SECTION.format('<a href="https://x.example.com/?u=*|UNIQID|*">x</a>'))}, "body.mjml:2: *|UNIQID|* is another platform's"),
    "a placeholder of Mandrill's": ({"body_mjml": mjml("\n" + SECTION.format("[[name]]"))}, "body.mjml:2: [[name]] is another platform's"),
    "no way out": ({"template_yaml": YAML.replace("transactional", "marketing"), "body_mjml": mjml(BODY)}, "body.mjml:1: marketing mail needs a visible unsubscribe link"),
    "broken MJML": ({"body_mjml": "<mjml><mj-body><mj-section></mj-body></mjml>"}, "body.mjml:1: MJML:"),
    "an unknown element": ({"body_mjml": mjml("\n<mj-foo>x</mj-foo>")}, "body.mjml:2: MJML: no element mj-foo here"),
    "a file by MJML": ({"body_mjml": mjml('<mj-include path="/etc/hostname" />')}, "body.mjml:1: MJML:"),
    "two bodies": ({"body_mjml": mjml(BODY), "body_html": "x"}, "hello: needs exactly one of body.mjml and body.html"),
    "an unknown field": ({"template_yaml": YAML + "subjetc: x\n", "body_mjml": mjml(BODY)}, "template.yaml:6: subjetc: unknown field"),
    "no subject": ({"template_yaml": "category: transactional\n", "body_mjml": mjml(BODY)}, "template.yaml:1: subject: is missing"),
    "a stray file": ({"body_mjml": mjml(BODY), "notes_md": "x"}, "notes.md: stray file"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path, files, problem):
    """Before anything is applied, at the place to mend."""
    found = problems(tmp_path, **files)
    assert any(line.removeprefix(f"{tmp_path}/").startswith(problem) for line in found), found


def test_everything_wrong_is_found_at_once(tmp_path):
    """One mistake does not hide the next."""
    body = mjml(SECTION.format('{{ a }} <img src="https://x.example.com/1.png"> {{ b }}'))
    assert 3 == len(problems(tmp_path, body_mjml=body))


def test_a_mail_that_gmail_would_clip_warns(tmp_path):
    """Over 102 KB the end of the mail is cut off, and with it the way out."""
    compiled = compile_template(folder(tmp_path, body_mjml=mjml(SECTION.format("long " * 21_000))))
    assert "Gmail clips at 102 KB" in compiled["warnings"][0]


DARK = '<meta name="color-scheme" content="light dark">'
DOUBTFUL = {
    "a button without a link": ("\n<mj-section><mj-column><mj-button>Buy</mj-button></mj-column></mj-section>", "body.mjml:2: mj-button leads nowhere"),
    "a link to nowhere": ("\n\n" + SECTION.format('<a href="#">x</a>'), "body.mjml:3: a leads nowhere"),
    "words to be replaced": ("\n" + SECTION.format("Lorem ipsum dolor"), "body.mjml:2: 'Lorem ipsum' reads as if"),
    "something to be done": ("\n" + SECTION.format("TODO: price"), "body.mjml:2: 'TODO' reads as if"),
    "no dark mode": (BODY, 'body.mjml: no <meta name="color-scheme"'),
}  # fmt: skip


@pytest.mark.parametrize(("body", "warning"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_doubtful_is_told_with_its_line(tmp_path, body, warning):
    """It is applied all the same."""
    found = compile_template(folder(tmp_path, body_mjml=mjml(body)))["warnings"]
    assert any(one.startswith(warning) for one in found), found


def test_a_template_with_nothing_doubtful_has_no_warning(tmp_path):
    """Dark mode declared, every link leads somewhere; TODO in a style sheet, an attribute or Liquid is nobody's text."""
    body = f"<mjml><mj-head><mj-raw>{DARK}</mj-raw><mj-style>.todo {{ color: red }}</mj-style></mj-head><mj-body>"
    body += (
        SECTION.format('<a class="todo" href="https://x.example.com/#top">x</a><a name="top"></a>{{ name }}')
        + "</mj-body></mjml>"
    )
    assert [] == compile_template(folder(tmp_path, body_mjml=body))["warnings"]


def test_an_authors_comment_does_not_reach_the_reader(tmp_path):
    """Notes in the source stay there; Outlook's conditions stay in the mail."""
    compiled: dict[str, Any] = compile_template(folder(tmp_path, body_mjml=mjml("<!-- a note {{ x }} -->" + BODY)))
    assert "a note" not in compiled["html"]
    assert "<!--[if mso" in compiled["html"]


def test_what_every_mail_knows_need_not_be_declared(tmp_path):
    """`now` and `unsubscribe_url` are always there."""
    body = mjml(SECTION.format("".join(f"{{{{ {name} }}}}" for name in ALWAYS_KNOWN)))
    assert "transactional" == compile_template(folder(tmp_path, body_mjml=body))["category"]


def test_recommendations_are_known_where_they_are_declared(tmp_path):
    """With their defaults in what is published; a template without them stays the same to the byte."""
    body = mjml(SECTION.format("{% for one in recommendations %}{{ one.name }}{% endfor %}"))
    (tmp_path / "a").mkdir()
    assert "unknown variable 'recommendations" in problems(tmp_path / "a", body_mjml=body)[0]
    (tmp_path / "b").mkdir()
    declared = YAML + "recommendations: {catalogue: shop, fallback: [p-1], max_age: 36h}\n"
    compiled = compile_template(folder(tmp_path / "b", template_yaml=declared, body_mjml=body))
    wanted = {"catalogue": "shop", "count": 3, "fallback": ["p-1"], "max_age": "36h", "required": False}
    assert wanted == compiled["recommendations"]
    (tmp_path / "c").mkdir()
    assert "recommendations" not in compile_template(folder(tmp_path / "c", body_mjml=mjml(BODY)))
