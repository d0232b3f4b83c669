"""Clouds for tests: the local cloud (MiniStack), and moto's server as a second opinion where it has the services."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from local import cloud as local_cloud
from local.cloud import Cloud


class MotoCloud(Cloud):
    """moto's server in this process."""

    def reset(self) -> None:
        request = urllib.request.Request(self.url + "/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture(scope="session")
def cloud_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One local cloud for the whole test run, ended by pid."""
    if not local_cloud.PYTHON.exists():
        message = "no local cloud: its environment is missing, `make setup` makes it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with local_cloud.running(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def cloud(cloud_process: Cloud) -> Cloud:
    """The local cloud, empty."""
    cloud_process.reset()
    return cloud_process


@pytest.fixture(scope="session")
def moto_process() -> Iterator[Cloud]:
    """One moto server for the whole test run."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=local_cloud.free_port(), verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield MotoCloud(port)
    server.stop()


@pytest.fixture(params=["ministack", "moto"])
def either_cloud(request: pytest.FixtureRequest) -> Cloud:
    """Both clouds, one after the other, empty: a module imports this as `cloud`."""
    cloud: Cloud = request.getfixturevalue("cloud_process" if request.param == "ministack" else "moto_process")
    cloud.reset()
    return cloud
