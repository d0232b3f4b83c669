"""The local cloud for tests: one MiniStack on a free loopback port, ended by pid when the session ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("ESPIAL_CLOUD_PYTHON", ROOT / ".local/venv/cloud/bin/python"))
REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cloud:
    """A running MiniStack: `url`, boto3 clients, and `reset` to forget everything in it."""

    def __init__(self, state: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (state / "cloud.log").open("wb")
        environment = {
            **os.environ,
            **CREDENTIALS,
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "0",
            "STATE_DIR": str(state),
            "MINISTACK_REGION": REGION,
        }
        self.process = subprocess.Popen(
            [str(PYTHON), "-m", "ministack"],
            env=environment,
            cwd=state,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the local cloud ended at once, see {self._log.name}")
            try:
                self.get("/_ministack/health")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError("the local cloud did not come up in 60 s")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def client(self, service: str) -> Any:
        config = Config(retries={"max_attempts": 2, "mode": "standard"}, connect_timeout=2, read_timeout=30)
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )

    def reset(self) -> None:
        request = urllib.request.Request(self.url + "/_ministack/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._log.close()


@pytest.fixture(scope="session")
def cloud_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One local cloud for the whole test run."""
    if not PYTHON.exists():
        message = f"no local cloud: {PYTHON.relative_to(ROOT)} is missing, `make setup` makes it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    yield cloud
    cloud.stop()


@pytest.fixture
def cloud(cloud_process: Cloud) -> Cloud:
    """The local cloud, empty."""
    cloud_process.reset()
    return cloud_process
