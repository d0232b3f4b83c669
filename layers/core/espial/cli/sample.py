"""`espial send-sample`: a sample of a platform, signed afresh with the local stack's secret and posted to its API."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from espial import sources
from espial.cli.output import plain, say
from espial.cli.posting import post
from espial.cli.samples import Sample
from espial.cli.samples import samples as samples_in
from espial.cli.secrets import kept_file, signing_secrets
from espial.cli.stack import Failed, Stack
from espial.definitions import load
from espial.definitions.models import TRACKING, ConnectionDefinition

PREFERRED = "all-types"
"""The case to send when none is named, where the platform has it."""


def send_sample(  # noqa: PLR0917 - options of a command
    ctx: typer.Context,
    platform: Annotated[str, typer.Argument(metavar="PLATFORM", help=f"One of {', '.join(sources.NAMES)}.")],
    connection: Annotated[str | None, typer.Option(help="Default: the platform's first.")] = None,
    case: Annotated[str | None, typer.Option(help=f"The sample's name. Default: {PREFERRED}, else the first.")] = None,
    url: Annotated[str | None, typer.Option(help="Post here instead of to the stack's API.")] = None,
    samples: Annotated[Path, typer.Option(help="The sample library.")] = Path("events/sources"),
    directory: Annotated[Path, typer.Option("--dir", help="The folder of definitions.")] = Path("definitions"),
) -> None:
    """Post a sample as the platform would, signed now.

    A sample that is about a bad or missing signature keeps it.
    """
    stack: Stack = ctx.obj
    sample = _sample(samples / platform, case)
    target = _connection(list(load.load(directory).connections.values()), platform, connection)
    try:
        path = urlsplit(sample.meta.get("url", "")).path or target.path
    except ValueError as exc:
        raise Failed(str(exc)) from exc
    signer = _signer(target, sample)
    address = url or (stack.tracking_url if platform == TRACKING else stack.api_url) + path
    request = sample.request(target.name, target.public_url or address, signer, datetime.now(UTC))
    answer, milliseconds = post(request, address)
    say(f"{sample.name}: {len(sample.body):,} bytes to {path}")
    said = f": {plain(answer.text[:200])}" if answer.text else ""
    say(f"{answer.status_code} {answer.reason_phrase} in {milliseconds:.0f} ms{said}")
    if not answer.is_success:
        raise Failed("the sample was not accepted")


def _sample(folder: Path, case: str | None) -> Sample:
    known = samples_in(folder)
    if not known:
        raise Failed(f"no samples in {folder}")
    if case is None:
        return known.get(PREFERRED) or next(iter(known.values()))
    if case not in known:
        raise Failed(f"no sample {case!r} in {folder} (known: {', '.join(known)})")
    return known[case]


def _connection(known: list[ConnectionDefinition], platform: str, name: str | None) -> ConnectionDefinition:
    for connection in known:
        if connection.platform == platform and name in (None, connection.name):
            return connection
    names = ", ".join(connection.name for connection in known if connection.platform == platform)
    raise Failed(f"no {platform} connection{f' named {name!r}' if name else ''} is defined (known: {names or 'none'})")


def _signer(connection: ConnectionDefinition, sample: Sample) -> bytes | None:
    """What proves it, None where nothing is to. Raises Failed where only the platform can sign."""
    if sample.unsigned or connection.unsigned:
        return None
    kept = signing_secrets().get(connection.name)
    if kept is None:
        raise Failed(f"{kept_file()} has no secret of {connection.name}: run `espial local-secrets` first")
    return kept["signing"].encode()
