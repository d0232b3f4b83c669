"""`espial simulate-platform`: a platform to onboard recipients into, on this machine."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from enum import StrEnum
from ssl import SSLContext
from types import FrameType
from typing import Annotated

import typer

from espial.cli.output import say
from espial.cli.secrets import ONBOARDING, other_secret
from espial.cli.simulators.braze import FAULTS, Braze
from espial.cli.simulators.server import Server, Simulation


class Simulated(StrEnum):
    """The platforms that can be simulated."""

    BRAZE = "braze"


def simulate_platform(
    platform: Annotated[Simulated, typer.Argument(help="Which one.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 4610,
    key: Annotated[str, typer.Option(help="The API key it accepts.")] = "simulator-key",
    for_: Annotated[str, typer.Option("--for", help="Accept the local stack's key of this onboarding instead.")] = "",
    seed: Annotated[str, typer.Option(help="The same seed gives the same ids.")] = "0",
    rate_limit: Annotated[int, typer.Option(min=1, help="Requests to /users/track in three seconds.")] = 3000,
    faults: Annotated[str, typer.Option(help="For the first requests: `throttle=2,error=1,timeout=1,drop=1`.")] = "",
) -> None:
    """Speak as a platform does, on loopback, until interrupted. `/_simulator/users` shows what it was told."""
    braze = Braze(other_secret(ONBOARDING, for_) if for_ else key, time.time, seed=seed, rate_limit=rate_limit)
    braze.trouble(_faults(faults))
    listen(port, braze, platform)


def listen(port: int, simulated: Simulation, name: str, tls: SSLContext | None = None) -> None:
    """Serve until interrupted or terminated."""
    server = Server(port, simulated, tls)
    say(f"{name} listens at {server.url}")
    sys.stdout.flush()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with suppress(KeyboardInterrupt):
        server.serve_forever(0.1)
    server.server_close()


def _faults(ordered: str) -> dict[str, int]:
    found = {}
    for part in filter(None, ordered.split(",")):
        name, _, count = part.partition("=")
        if name.strip() not in FAULTS or not count.strip().isdigit():
            raise typer.BadParameter(f"{part!r} must be one of {', '.join(FAULTS)} and a number, such as `drop=1`")
        found[name.strip()] = int(count)
    return found
