"""`espial preview`: a template as the person will see it, without AWS."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from espial.cli.output import plain, say
from espial.cli.stack import Failed
from espial.templates.compile import compile_template
from espial.templates.render import Rendered, render


def preview(
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="Its name, or its folder.")],
    data: Annotated[
        Path | None, typer.Option(help="JSON to fill it with. Default: the template's sample.json.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the HTML here and the text beside it. Default: under .local/preview/.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    directory: Annotated[Path, typer.Option("--dir", help="The folder of definitions.")] = Path("definitions"),
) -> None:
    """Write a template as the person will see it.

    Compiled and filled, as HTML and as text, without AWS.
    """
    folder = _folder(template, directory)
    compiled = compile_template(folder)
    rendered = render(compiled, _data(data or folder / "sample.json"))
    page = out or Path(".local/preview") / f"{folder.name}.html"
    _write(page, rendered)
    say(f"Subject: {plain(rendered.subject)}")
    if rendered.from_name:
        say(f"From: {plain(rendered.from_name)}")
    say(f"HTML: {page} ({len(rendered.html.encode()):,} bytes)")
    say(f"Text: {page.with_suffix('.txt')}")
    for warning in compiled.get("warnings", ()):
        say(f"warning: {warning}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


def _folder(template: str, directory: Path) -> Path:
    for folder in (directory / "templates" / template, Path(template)):
        if (folder / "template.yaml").is_file():
            return folder.resolve() if folder == Path() else folder
    known = sorted(path.parent.name for path in (directory / "templates").glob("*/template.yaml"))
    raise Failed(f"no template {template!r} under {directory / 'templates'} (known: {', '.join(known) or 'none'})")


def _data(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as exc:
        raise Failed(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise Failed(f"{path}: not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise Failed(f"{path}: must be a JSON object of the template's variables")
    return values


def _write(page: Path, rendered: Rendered) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(rendered.html, encoding="utf-8")
        page.with_suffix(".txt").write_text(rendered.text, encoding="utf-8")
    except OSError as exc:
        raise Failed(f"{page}: cannot be written: {exc.strerror}") from exc
