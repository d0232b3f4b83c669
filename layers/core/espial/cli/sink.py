"""`espial sink`: a receiver of notifications on this machine, to try what becomes of its answers."""

from __future__ import annotations

from typing import Annotated

import typer

from espial.cli.secrets import DESTINATION, other_secret
from espial.cli.simulate import listen
from espial.cli.simulators.certificates import Wrong, wrong
from espial.cli.simulators.receiver import Receiver, checked, step


def sink(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 4620,
    script: Annotated[
        str, typer.Option(help="Answers in turn, the last one for ever: `500,429:30,slow,hang,reset,200`.")
    ] = "200",
    secret: Annotated[str, typer.Option(help="Refuse what this does not prove (`whsec_…`).")] = "",
    destination: Annotated[
        str, typer.Option("--for", help="Refuse what the local secret of this destination does not prove.")
    ] = "",
    tls: Annotated[Wrong | None, typer.Option(help="Listen over TLS, with a certificate that is wrong.")] = None,
) -> None:
    """Receive notifications on loopback until interrupted. `/_simulator/requests` shows what came."""
    if destination:
        secret = other_secret(DESTINATION, destination)
    try:
        receiver = Receiver([step(word.strip()) for word in script.split(",")], checked(secret) if secret else "")
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    listen(port, receiver, "the sink", wrong(tls) if tls else None)
