"""YAML to data with positions: what is read, what is refused, and where it is said to stand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espial.definitions import reading
from espial.definitions.reading import Mark
from espial.errors import InvalidDefinition


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(InvalidDefinition) as refused:
        reading.read(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"), "f.yaml")
    return refused.value.problems


def verdict(data: bytes) -> dict[str, Any] | list[str]:
    """The data or the problems; whatever else is raised fails the test."""
    try:
        return reading.read(data, "f.yaml").data
    except InvalidDefinition as exc:
        return exc.problems


def test_only_json_types_are_anything_but_text():
    """A file means what it looks like: `on`, `no` and `21:00` are words, as they are in a trigger."""
    document = reading.read(b"on: [no, 21:00, 0x1f, 2026-01-01, <<]\nn: [1, -2.5, 1e3, true, null, ~, '7']\n", "f.yaml")
    expected = {
        "on": ["no", "21:00", "0x1f", "2026-01-01", "<<"],
        "n": [1, -2.5, 1000.0, True, None, None, "7"],
    }
    assert expected == document.data


def test_every_field_knows_its_line():
    """A problem is shown where the field stands, or where it ought to."""
    document = reading.read(b"a: 1\nb:\n  - x: 1\n  -\n    y: 2\n", "f.yaml")
    assert Mark("f.yaml", 3) == document.mark(("b", 0, "x"))
    assert Mark("f.yaml", 5) == document.mark(("b", 1, "y"))
    assert Mark("f.yaml", 3) == document.mark(("b", 0, "missing"))
    assert "f.yaml:5: b[1].y: wrong" == document.problem(("b", 1, "y"), "wrong")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: given twice, first on line 1; keep one"),
        ("a:\n\tb: 1\n", "f.yaml:2: not YAML: a tab where only spaces may indent"),
        ("a: 1\nb: !!python/object/apply:os.getcwd []\n", "f.yaml:2: b: tags are not read, remove !!python/object"),
        ("a: !!int five\n", "f.yaml:1: a: tags are not read, remove !!int"),
        ("a: !secret x\n", "f.yaml:1: a: tags are not read, remove !secret"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not YAML: one definition a file"),
        ("a: *b\n", "f.yaml:1: not YAML: an alias (`*name`) without its anchor"),
        ("a: &x [*x]\n", "f.yaml:1: too much in one file, at most 40 levels"),
        ("a: {" * 3000, "f.yaml:1: nested too deeply, at most 40 levels"),
        ("a: 1e999\n", "f.yaml:1: a: the number is too large"),
        (f"a: {'9' * 5000}\n", "f.yaml:1: a: the number is too large"),
        ("a: 1\nb: \x07\n", "f.yaml:2: the character #x0007 may not stand in a file"),
        ('a: "\\ud800"\n', "f.yaml:1: a: half of a surrogate pair is not text"),
        ('a: "\\UFFFFFFFF"\n', "f.yaml:1: not YAML: an escape that names no character"),
        ("? [a, b]\n: 1\n", "f.yaml:1: a field's name must be plain text"),
        ("- a\n", "f.yaml:1: the file must be a mapping of `field: value` lines"),
        ("# nothing\n", "f.yaml:1: the file is empty"),
        (b"a: 1\nb: \xff\n", "f.yaml:2: the file is not UTF-8 text"),
        (b"#" * 300_000, "f.yaml:1: the file is larger than 256 KB"),
    ],
)
def test_what_yaml_allows_and_we_do_not(text, expected):
    """Each is one problem at its line, in words that say what to change."""
    found = problems(text)
    assert 1 == len(found)
    assert found[0].startswith(expected), found


def test_aliases_cannot_swell_a_file():
    """Nine lines that stand for a billion values are refused, fast."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    found = problems(bomb)
    assert 1 == len(found)
    assert found[0].endswith("too much in one file, at most 20000 values")


def test_problems_gather():
    """One mistake does not hide the next."""
    assert 3 == len(problems("a: !!int x\nb: 1\nb: 2\nc: 1e999\n"))


def test_an_overlay_merges_mappings_and_replaces_the_rest():
    """What a stage says wins, field by field, and problems then point at the stage's file."""
    base = reading.read(b"name: t\nsend:\n  provider: ses\n  to: a\non: [x, y]\n", "base.yaml")
    stage = reading.read(b"triggers:\n  t:\n    send:\n      to: b\n    on: [z]\n", "stage.yaml")
    merged = reading.overlaid(base, stage, ("triggers", "t"))
    assert {"name": "t", "send": {"provider": "ses", "to": "b"}, "on": ["z"]} == merged.data
    assert Mark("stage.yaml", 4) == merged.mark(("send", "to"))
    assert Mark("base.yaml", 3) == merged.mark(("send", "provider"))
    assert Mark("stage.yaml", 5) == merged.mark(("on", 1))


yaml_like = st.text(st.sampled_from(list("ab:-[]{}&*!|>'\"%#,?~<\\\n\t 0123.eExuU\x00\ufeff\u2028é")), max_size=60)


@given(st.one_of(yaml_like, st.text(max_size=60)).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"%YAML 99999999999999999999.1\n---\na: 1")
@example(b"&a [*a]")
@example(b"? |\n : >")
def test_whatever_the_text_only_invalid_definition_is_raised(text):
    """Hostile or half-written files end in a problem with a file and a line, never in a traceback."""
    found = verdict(text)
    assert isinstance(found, dict) or all(line.startswith("f.yaml:") and line.isprintable() for line in found)
    assert isinstance(found, dict) or found


@given(st.binary(max_size=40))
def test_whatever_the_bytes_only_invalid_definition_is_raised(data):
    """A file need not be text at all."""
    assert isinstance(verdict(data), dict | list)
