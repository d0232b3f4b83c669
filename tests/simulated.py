"""A simulator as a process of its own, started and ended by pid, and what it can be asked."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local.cloud import ROOT


class Simulator:
    """Where a running one is reached."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, what: str) -> Any:
        """`users`, `requests` or `currents`; of what sends `requests`, `messages` or `events`; of a sink `requests`."""
        with urllib.request.urlopen(f"{self.url}/_simulator/{what}", timeout=10) as answer:
            return json.load(answer)

    def order(self, what: str, **said: Any) -> None:
        """`faults`, `campaigns` or `happen`."""
        self.post(f"/_simulator/{what}", said)

    def post(self, path: str, said: Any, key: str = "") -> Any:
        """As a caller of the platform."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        request = urllib.request.Request(self.url + path, json.dumps(said).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def simulator(*options: str, platform: str = "braze") -> Iterator[Simulator]:
    """`espial simulate-platform` for as long as a block takes."""
    with _running("simulate-platform", platform, "--port", "0", *options) as running:
        yield running


@contextmanager
def sink(*options: str, port: int = 0) -> Iterator[Simulator]:
    """`espial sink` for as long as a block takes."""
    with _running("sink", "--port", str(port), *options) as running:
        yield running


@contextmanager
def _running(*words: str) -> Iterator[Simulator]:
    command = [sys.executable, "-m", "espial.cli", *words]
    environment = {"PYTHONPATH": str(ROOT / "layers/core"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield Simulator(process.stdout.readline().split()[-1])
        finally:
            process.terminate()
