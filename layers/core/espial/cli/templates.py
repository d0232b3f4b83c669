"""`espial preview` and `espial template`: a template as the person will see it, and a test of it in a mailbox."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer

from espial import senders
from espial.cli import stores
from espial.cli.output import plain, say
from espial.cli.stack import Failed, Stack
from espial.definitions.load import load
from espial.events import Event, PersonKey
from espial.messages import Message, address, check, mailbox
from espial.people import PersonView
from espial.services.compose import context, one_click
from espial.services.recommend_products import Recommender
from espial.templates.compile import compile_template
from espial.templates.render import Rendered, render
from espial.triggers.definition import Trigger
from espial.triggers.run import Run

app = typer.Typer(help="Templates: see them, test them.", no_args_is_help=True)

NOWHERE = "https://unsubscribe.invalid/"
"""Where the way out leads in previews and tests: nowhere, so that nobody is unsubscribed by trying."""

Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Its name, or its folder.")]
Data = Annotated[
    Path | None, typer.Option("--data", "--as", help="JSON to fill it with. Default: the template's sample.json.")
]
PersonOption = Annotated[
    str | None, typer.Option("--person", metavar="KEY", help="Fill it with a person's data and newest fitting event.")
]
Directory = Annotated[Path, typer.Option("--dir", help="The folder of definitions.")]


@app.command()
def preview(  # noqa: PLR0917 - options of a command
    ctx: typer.Context,
    template: Template,
    data: Data = None,
    person: PersonOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the HTML here, text and .eml beside it. Default: under .local/preview/."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    directory: Directory = Path("definitions"),
) -> None:
    """Write a template as the person will see it.

    Compiled and filled, as HTML, as text and as a mail with its headers. Without --person no AWS is needed.
    """
    folder, compiled, rendered = _filled(ctx.obj, template, directory, data, person)
    page = out or Path(".local/preview") / f"{folder.name}.html"
    _write(page, rendered, compiled)
    say(f"Subject: {plain(rendered.subject)}")
    if rendered.from_name:
        say(f"From: {plain(rendered.from_name)}")
    say(f"HTML: {page} ({len(rendered.html.encode()):,} bytes)")
    say(f"Text: {page.with_suffix('.txt')}")
    say(f"Mail: {page.with_suffix('.eml')}")
    for warning in compiled["warnings"]:
        say(f"warning: {warning}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


@app.command("send-test")
def send_test(  # noqa: PLR0917 - options of a command
    ctx: typer.Context,
    template: Template,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="One mailbox: a colleague's.")],
    provider: Annotated[str, typer.Option("--provider", help="The provider to send by, of the definitions.")],
    data: Data = None,
    person: PersonOption = None,
    stage: Annotated[str | None, typer.Option(help="Lay stages/<STAGE>.yaml over the definitions.")] = None,
    directory: Directory = Path("definitions"),
) -> None:
    """Send a template to a mailbox, marked [Test].

    It belongs to no run and no person: it is claimed by nothing, counts in no limit, and its unsubscribe link leads
    nowhere. Sent once; what is not answered is not sent again.
    """
    stack: Stack = ctx.obj
    settings = _provider(provider, directory, stage)
    folder, _, rendered = _filled(stack, template, directory, data, person)
    kind = senders.load(settings["sender"])
    if kind.channel != "email":
        raise Failed(f"provider {provider} sends {kind.channel}, not e-mail")
    sender = kind.open(provider, settings, stores.ways(stack))
    name, bare = parseaddr(settings["from"])
    message = Message(
        to=address(to),
        from_=mailbox(rendered.from_name or name, bare),
        reply_to=settings.get("reply_to", ""),
        subject=f"[Test] {rendered.subject}",
        html=rendered.html,
        text=rendered.text,
        send_key=f"t-{token_hex(16)}",
        headers={"X-Espial-Test": "true"},
        tags={"template": folder.name, "test": "true"},
    )
    check(message, sender.features)
    receipt = sender.send(message, idempotency_key=message.send_key)
    say(f"sent by {provider}: {receipt.provider_message_id}")


def _provider(name: str, directory: Path, stage: str | None) -> Mapping[str, Any]:
    known = load(directory, stage).providers
    if name not in known:
        raise Failed(f"no provider {name!r} under {directory / 'providers'} (known: {', '.join(known) or 'none'})")
    return known[name].published()


def _filled(
    stack: Stack, template: str, directory: Path, data: Path | None, person: str | None
) -> tuple[Path, Mapping[str, Any], Rendered]:
    """The template's folder, itself compiled, and what it says to whom it is filled for."""
    if data and person:
        raise Failed("fill it with --data or with --person, not with both")
    folder = _folder(template, directory)
    compiled = compile_template(folder)
    if person:
        values = _of_person(stack, person, compiled, load(directory).triggers)
    else:
        values = {"unsubscribe_url": NOWHERE, "now": datetime.now(UTC), **_data(data or folder / "sample.json")}
        if "recommendations" in compiled:
            values.setdefault("recommendations", [])
    return folder, compiled, render(compiled, values)


def _of_person(
    stack: Stack, person: str, compiled: Mapping[str, Any], triggers: Mapping[str, Trigger]
) -> dict[str, Any]:
    """What the mail would be filled with now, had the person's newest fitting event just become due."""
    key = PersonKey.parse(person)
    view = stores.people(stack).load(key)
    now = datetime.now(UTC)
    trigger, event = _newest(view, compiled["name"], triggers)
    run = Run(
        trigger=trigger,
        person=str(key),
        key="preview",
        version=event.event_id,
        started_at=event.occurred_at,
        due_at=now,
        event=event,
    )
    values = context(run, view, unsubscribe_url=NOWHERE, now=now)
    if wanted := compiled.get("recommendations"):
        values["recommendations"] = Recommender(stores.catalogues(stack)).products(wanted, run, view, now)
    return values


def _newest(view: PersonView, template: str, triggers: Mapping[str, Trigger]) -> tuple[str, Event]:
    """The person's last event of a type that starts a trigger with this template; the trigger's name with it."""
    using = {kind: name for name, one in triggers.items() if one.send.template == template for kind in one.on}
    fitting = [event for event in view.events if event.type in using]
    if not fitting:
        wanted = ", ".join(sorted(kind.value for kind in using)) or "any type: no trigger uses this template"
        raise Failed(f"nothing is recorded of this person that the template could be about ({wanted})")
    return using[fitting[-1].type], fitting[-1]


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


def _write(page: Path, rendered: Rendered, compiled: Mapping[str, Any]) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(rendered.html, encoding="utf-8")
        page.with_suffix(".txt").write_text(rendered.text, encoding="utf-8")
        page.with_suffix(".eml").write_bytes(_mail(rendered, compiled).as_bytes())
    except OSError as exc:
        raise Failed(f"{page}: cannot be written: {exc.strerror}") from exc


def _mail(rendered: Rendered, compiled: Mapping[str, Any]) -> EmailMessage:
    """As mail programs open it, without a network."""
    mail = EmailMessage()
    mail["From"] = mailbox(rendered.from_name or "Preview", "preview@example.com")
    mail["To"] = "reader@example.com"
    mail["Subject"] = rendered.subject
    if compiled["category"] == "marketing":
        for name, value in one_click(NOWHERE).items():
            mail[name] = value
    mail.set_content(rendered.text)
    mail.add_alternative(rendered.html, subtype="html")
    return mail
