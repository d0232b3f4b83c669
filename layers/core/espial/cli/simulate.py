"""`espial simulate-platform`: a platform to send by, or to onboard recipients into, on this machine."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from ssl import SSLContext
from types import FrameType
from typing import Annotated

import typer

from espial import senders
from espial.cli.output import say
from espial.cli.secrets import ONBOARDING, PROVIDER, other_secret
from espial.cli.simulators import senders as simulated
from espial.cli.simulators.braze import FAULTS, Braze
from espial.cli.simulators.platform import Platform
from espial.cli.simulators.server import Server, Simulation

BRAZE = "braze"
SENDING = {f"{name}-messages" if name == BRAZE else name: name for name in simulated.NAMES}
"""Platforms to send by, as they are asked for -> module. Braze has a whole workspace to onboard into beside that."""
Simulated = StrEnum(  # type: ignore[misc]
    "Simulated", {name.upper().replace("-", "_"): name for name in (BRAZE, *SENDING)}
)
"""The platforms that can be simulated."""


def simulate_platform(
    platform: Annotated[Simulated, typer.Argument(help="Which one.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 4610,
    key: Annotated[str, typer.Option(help="The API key it accepts.")] = "simulator-key",
    for_: Annotated[
        str, typer.Option("--for", help="Accept the local stack's keys of this onboarding or provider.")
    ] = "",
    seed: Annotated[str, typer.Option(help="The same seed gives the same ids.")] = "0",
    rate_limit: Annotated[int, typer.Option(min=1, help="Requests to /users/track in three seconds.")] = 3000,
    faults: Annotated[str, typer.Option(help="For the first requests: `throttle=2,error=1,drop=1`.")] = "",
) -> None:
    """Speak as a platform does, on loopback, until interrupted.

    `/_simulator/messages` shows what it was told to send, `/_simulator/users` whom Braze knows.
    """
    if platform != BRAZE:
        listen(port, _sending(SENDING[platform], key, for_, seed, faults), platform)
        return
    braze = Braze(other_secret(ONBOARDING, for_) if for_ else key, time.time, seed=seed, rate_limit=rate_limit)
    braze.trouble(_faults(faults, FAULTS))
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


def _sending(name: str, key: str, provider: str, seed: str, faults: str) -> Platform:
    """One that sends, which accepts the key as each of its secrets, or those made for the provider."""
    needed = senders.load(name).secrets
    secrets = {one: other_secret(PROVIDER, f"{provider}/{one}") if provider else key for one in needed}
    platform = Platform(plug=simulated.load(name), secrets=secrets, seed=seed)
    for fault, count in _faults(faults, platform.faults).items():
        platform.order(*[fault] * count)
    return platform


def _faults(ordered: str, known: Sequence[str]) -> dict[str, int]:
    found = {}
    for part in filter(None, ordered.split(",")):
        name, _, count = part.partition("=")
        if name.strip() not in known or not count.strip().isdigit():
            raise typer.BadParameter(f"{part!r} must be one of {', '.join(known)} and a number, such as `drop=1`")
        found[name.strip()] = int(count)
    return found
