"""The local cloud: one MiniStack process on loopback, started and ended by pid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".local/venv/cloud/bin/python"
REGION = "eu-west-1"
UNPACKED = "functions"
"""Where in its folder a cloud unpacks functions and layers: some 200 MB, left behind when it ends."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cloud:
    """A running MiniStack at `url`, whoever started it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._clients: dict[str, Any] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to use this cloud instead of AWS."""
        return {**CREDENTIALS, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def get(self, path: str) -> Any:
        """The JSON that the emulator's own pages (`/_ministack/…`) answer. Raises OSError when it is away."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 - loopback, our own process
            return json.load(answer)

    def client(self, service: str) -> Any:
        """The boto3 client of a service, made once: that costs more than most calls."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
                config=Config(retries={"max_attempts": 2, "mode": "standard"}, connect_timeout=2, read_timeout=60),
            )
        return self._clients[service]

    def reset(self) -> None:
        """Forget everything in it."""
        request = urllib.request.Request(self.url + "/_ministack/reset", method="POST")  # noqa: S310
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            self.get("/_ministack/health")
        except OSError:
            return False
        return True


def start(
    folder: Path, port: int | None = None, settings: Mapping[str, str] | None = None
) -> tuple[Cloud, subprocess.Popen[bytes]]:
    """Start a local cloud whose log and state lie in `folder`; `settings` are more of the emulator's own.

    Raises RuntimeError when it does not answer within a minute, naming its log.
    """
    cloud = Cloud(port or free_port())
    shutil.rmtree(folder / UNPACKED, ignore_errors=True)
    (folder / UNPACKED).mkdir(parents=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))},
        **CREDENTIALS,
        "GATEWAY_PORT": str(cloud.port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "STATE_DIR": str(folder),
        "TMPDIR": str(folder / UNPACKED),
        "MINISTACK_REGION": REGION,
        # Functions end with the cloud; a long life spares the demo its cold starts.
        "LAMBDA_WARM_TTL_SECONDS": "900",
        **(settings or {}),
    }
    log = folder / "cloud.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [str(PYTHON), str(ROOT / "local/ministack_gaps.py")],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the local cloud ended at once, see {log}")
        if cloud.is_up():
            return cloud, process
        time.sleep(0.1)
    stop(process.pid)
    raise RuntimeError(f"the local cloud did not come up within a minute, see {log}")


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Cloud]:
    """A local cloud for as long as a block takes; what it unpacked goes with it, its log stays in `folder`."""
    cloud, process = start(folder, settings=settings)
    try:
        yield cloud
    finally:
        stop(process.pid)
        process.wait(10)
        shutil.rmtree(folder / UNPACKED, ignore_errors=True)


def stop(pid: int, patience: float = 10.0) -> None:
    """End a local cloud and the functions it runs: its whole process group, first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):  # it may be another program's child
                os.waitpid(pid, os.WNOHANG)
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
