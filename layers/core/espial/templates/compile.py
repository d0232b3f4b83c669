"""A template folder to what `espial.templates.render` runs. Runs when definitions are applied, never per send.

A folder holds template.yaml (`TemplateDefinition`), body.mjml or body.html, and perhaps body.txt, sample.json and
a README.md. MJML is compiled and, for plain HTML, style sheets are inlined once, here; Liquid goes through both
unharmed because each tag travels as a placeholder (`espial.templates.hidden`). Everything wrong is found at once and
named with file and line (goals 54 and 55).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Literal

from liquid import BoundTemplate, Environment
from liquid.exceptions import LiquidError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from espial.definitions import reading
from espial.definitions.problems import problems_of
from espial.errors import InvalidDefinition
from espial.templates import lint
from espial.templates.hidden import Hidden, SourceFile
from espial.templates.plain import plain_text
from espial.templates.render import HTML, TEXT
from espial.triggers.fields import Duration

ALWAYS_KNOWN = ("unsubscribe_url", "now")
"""Variables every mail has, whatever its trigger."""

CLIPPED_ABOVE = 102_400
"""Gmail cuts off what is longer, the unsubscribe link with it."""

MAX_SOURCE = 400_000
FILES = frozenset({"template.yaml", "body.mjml", "body.html", "body.txt", "sample.json", "README.md"})


class Variable(BaseModel):
    """A value the template prints. Without a fallback its absence skips the mail, with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fallback: str | int | float | None = Field(default=None, description="Printed when missing, null or blank.")
    description: str = Field(default="", description="For people; changes nothing.")


class Recommendations(BaseModel):
    """Products beside what the mail is about: `recommendations`, a list that the template loops over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalogue: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="As `espial catalogue load` was told to call it."
    )
    count: int = Field(default=3, ge=1, le=12, description="At most so many.")
    fallback: tuple[str, ...] = Field(
        default=(), max_length=50, description="Product ids for people of whom nothing is known."
    )
    max_age: Duration = Field(
        default=timedelta(days=7), description="A catalogue that was loaded longer ago is not believed."
    )
    required: bool = Field(default=False, description="true: without any the mail is skipped, `no_recommendations`.")


class TemplateDefinition(BaseModel):
    """template.yaml: the header lines of the mail and what its body may print."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", description="Same as the folder's name; may be left out.")
    description: str = Field(default="", description="For people; changes nothing.")
    subject: str = Field(min_length=1, max_length=500, description="Liquid.")
    from_name: str = Field(default="", max_length=200, description="Liquid; default: the provider's own.")
    category: Literal["marketing", "transactional"] = Field(
        default="marketing", description="marketing needs consent and carries one-click unsubscribe (RFC 8058)."
    )
    preheader: str = Field(default="", max_length=500, description="Liquid; what inboxes show beside the subject.")
    variables: Mapping[str, Variable] = Field(
        default_factory=dict, description="Dotted path of every value the template prints: what it is, its fallback."
    )
    recommendations: Recommendations | None = Field(
        default=None, description="Products that the template recommends, and from where."
    )


def compile_template(folder: Path) -> dict[str, Any]:
    """Compile and check one template.

    Returns plain JSON: name, category, subject, from_name, html, text (Liquid), variables {path: {"fallback": …}},
    recommendations (only where the template has some), warnings (list of text, `file: what` or `file:line: what` with
    the file's name in the folder), sha (of all the rest, so that the same template has the same wherever it lies).
    Raises InvalidDefinition with every problem, `file:line: what`.
    """
    return _Compiling(folder).run()


@dataclass
class _Compiling:
    folder: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        for path in sorted(self.folder.iterdir()):
            if path.name not in FILES and not path.name.startswith("."):
                self.problems.append(f"{path}: stray file: a template holds {', '.join(sorted(FILES))}")
        document, definition = self._definition()
        body = self._body()
        text = self._file("body.txt")
        if definition and body and document:
            self._check(document, definition, body, text)
        if self.problems or not definition or not body:
            raise InvalidDefinition(self.problems)
        return self._compiled(definition, body, text)

    # -- reading

    def _file(self, name: str) -> SourceFile | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self.problems.append(f"{path}:1: the file cannot be read as UTF-8 text")
            return None
        if len(text) > MAX_SOURCE:
            self.problems.append(f"{path}:1: larger than {MAX_SOURCE:,} characters")
            return None
        return SourceFile(str(path), text)

    def _body(self) -> SourceFile | None:
        bodies = [file for name in ("body.mjml", "body.html") if (file := self._file(name))]
        if len(bodies) != 1 and not any("body." in problem for problem in self.problems):
            self.problems.append(f"{self.folder}: needs exactly one of body.mjml and body.html")
        return SourceFile(bodies[0].shown, _uncommented(bodies[0].text)) if len(bodies) == 1 else None

    def _definition(self) -> tuple[reading.Document | None, TemplateDefinition | None]:
        path = self.folder / "template.yaml"
        if not path.is_file():
            self.problems.append(f"{self.folder}: template.yaml is missing")
            return None, None
        try:
            document = reading.read(path.read_bytes(), str(path))
        except InvalidDefinition as exc:
            self.problems += exc.problems
            return None, None
        _nulls_are_empty(document.data)
        try:
            definition = TemplateDefinition.model_validate(document.data)
        except ValidationError as exc:
            self.problems += problems_of(document, TemplateDefinition, exc)
            return document, None
        if definition.name not in ("", self.folder.name):
            self.problems.append(document.problem(("name",), f"must be {self.folder.name!r}, as the folder is called"))
        return document, definition

    # -- checking

    def _check(
        self, document: reading.Document, definition: TemplateDefinition, body: SourceFile, text: SourceFile | None
    ) -> None:
        known = [*ALWAYS_KNOWN, *definition.variables, *(["recommendations"] if definition.recommendations else [])]
        for name in ("subject", "from_name", "preheader"):
            for _, what in _liquid_problems(TEXT, getattr(definition, name), known):
                self.problems.append(document.problem((name,), what))
        for environment, file in ((HTML, body), (TEXT, text)):
            if file:
                self.problems += [
                    file.at(index, what) for index, what in _liquid_problems(environment, file.text, known)
                ]
        self.problems += [body.at(index, what) for index, what in lint.problems(body.text)]
        if definition.category == "marketing":
            for file in filter(None, (body, text)):
                if "unsubscribe_url" not in file.text:
                    what = "marketing mail needs a visible unsubscribe link: print {{ unsubscribe_url }}"
                    self.problems.append(f"{file.shown}:1: {what}")

    # -- compiling

    def _compiled(self, definition: TemplateDefinition, body: SourceFile, text: SourceFile | None) -> dict[str, Any]:
        html = _from_mjml(body, definition.preheader) if body.shown.endswith(".mjml") else _from_html(body, definition)
        if len(html.encode()) > CLIPPED_ABOVE:
            self.warnings.append(
                f"{Path(body.shown).name}: compiles to {len(html.encode()):,} bytes; Gmail clips at 102 KB"
            )
        named = SourceFile(Path(body.shown).name, body.text)
        self.warnings += [named.at(index, what) for index, what in lint.warnings(body.text)]
        if not lint.has_dark_mode(html):
            what = 'no <meta name="color-scheme" content="light dark">: clients recolour it in dark mode as they like'
            self.warnings.append(f"{named.shown}: {what}")
        compiled = {
            "name": self.folder.name,
            "category": definition.category,
            "subject": definition.subject,
            "from_name": definition.from_name,
            "html": html,
            "text": _without_tag_lines(text.text) if text else _plain(html),
            "variables": {
                path: variable.model_dump(include={"fallback"}, exclude_none=True)
                for path, variable in definition.variables.items()
            },
            "warnings": self.warnings,
        }
        if definition.recommendations:
            compiled["recommendations"] = definition.recommendations.model_dump(mode="json")
        for name, environment, source in (("html", HTML, html), ("text", TEXT, str(compiled["text"]))):
            for _, what in _liquid_problems(environment, source, None):
                raise InvalidDefinition([f"{body.shown}:1: does not survive compiling to {name}: {what}"])
        return {**compiled, "sha": sha256(json.dumps(compiled, sort_keys=True).encode()).hexdigest()}


def _nulls_are_empty(data: dict[str, Any]) -> None:
    """`cart.items:` with nothing behind it declares a variable without a fallback."""
    variables = data.get("variables")
    if isinstance(variables, dict):
        data["variables"] = {path: {} if value is None else value for path, value in variables.items()}


def _liquid_problems(environment: Environment, source: str, known: list[str] | None) -> Iterator[tuple[int, str]]:
    """(index, what) of a syntax error, or of every filter and variable that is not known."""
    try:
        template = environment.from_string(source)
    except LiquidError as exc:
        yield max(exc.token.start_index, 0) if exc.token else 0, f"Liquid: {exc.message}"
        return
    analysis = template.analyze()
    for name, spans in analysis.filters.items():
        if name not in environment.filters:
            for span in spans:
                yield span.index, f"Liquid: no filter named {name!r}"
    if known is not None:
        yield from _unknown_variables(template, known)


def _unknown_variables(template: BoundTemplate, known: list[str]) -> Iterator[tuple[int, str]]:
    for variables in template.analyze().globals.values():
        for variable in variables:
            path = ".".join(str(part) for part in variable.segments if isinstance(part, str))
            if not any(f"{path}.".startswith(f"{name}.") or f"{name}.".startswith(f"{path}.") for name in known):
                yield variable.span.index, f"unknown variable {path!r}: declare it under `variables` in template.yaml"


# -- MJML and CSS

_OWN_COMMENT = re.compile(r"<!--(?!\[)(?!.*?\]-->).*?-->", re.DOTALL)
_BARE_TABLE = re.compile(r"(<table\b[^>]*>)(?!\s*<(?:tbody|thead|tfoot|caption|col))", re.IGNORECASE)
"""A table whose rows stand in no tbody: HTML would begin one inside a loop over its rows."""


def _uncommented(source: str) -> str:
    """Without the author's comments, lines kept."""
    return _OWN_COMMENT.sub(lambda match: "\n" * match[0].count("\n"), source)


def _from_mjml(body: SourceFile, preheader: str) -> str:
    import mrml  # noqa: PLC0415  only where definitions are applied

    hidden = Hidden(body.text)
    try:
        output = mrml.to_html(
            hidden.source,
            parser_options=mrml.ParserOptions(include_loader=mrml.noop_loader()),
            render_options=mrml.RenderOptions(fonts={}),
        )
    except OSError as exc:
        place = re.search(r"position (\d+)", str(exc))
        raise InvalidDefinition([body.at(int(place[1]) if place else 0, f"MJML: {exc}")]) from exc
    unknown = re.search(r"<(mj-[\w-]+)", output.content)
    if unknown:
        raise InvalidDefinition([body.at(body.text.find(f"<{unknown[1]}"), f"MJML: no element {unknown[1]} here")])
    return _with_preheader(hidden.restore(output.content, body), preheader)


def _from_html(body: SourceFile, definition: TemplateDefinition) -> str:
    import css_inline  # noqa: PLC0415  only where definitions are applied

    hidden = Hidden(body.text)
    inliner = css_inline.CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)
    try:
        inlined = inliner.inline(_BARE_TABLE.sub(r"\1<tbody>", hidden.source))
    except (css_inline.InlineError, ValueError) as exc:
        raise InvalidDefinition([f"{body.shown}:1: CSS: {exc}"]) from exc
    return _with_preheader(hidden.restore(inlined, body), definition.preheader)


_HIDDEN_STYLE = "display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;opacity:0;overflow:hidden"


def _with_preheader(html: str, preheader: str) -> str:
    """The preheader as the first text of the body, unseen there."""
    if not preheader:
        return html
    shown = "".join(
        part if part.startswith(("{{", "{%")) else escape(part)
        for part in re.split(r"(\{\{.*?\}\}|\{%.*?%\})", preheader)
    )
    hidden = f'<div style="{_HIDDEN_STYLE}">{shown}</div>'
    return re.sub(r"(<body\b[^>]*>)", lambda match: match[1] + hidden, html, count=1)


def _plain(html: str) -> str:
    hidden = Hidden(html)
    return _without_tag_lines(hidden.show(plain_text(hidden.source)))


def _without_tag_lines(text: str) -> str:
    """A line that holds nothing but a `{% tag %}` leaves no empty line behind."""
    return re.sub(r"(?m)^[ \t]*(\{%.*?%\})[ \t]*\n", r"\1", text)
