"""The local cloud for tests: one for the whole run, emptied for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from local import cloud as local_cloud
from local.cloud import Cloud


@pytest.fixture(scope="session")
def cloud_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One local cloud for the whole test run, ended by pid."""
    if not local_cloud.PYTHON.exists():
        message = "no local cloud: its environment is missing, `make setup` makes it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    cloud, process = local_cloud.start(tmp_path_factory.mktemp("cloud"))
    yield cloud
    local_cloud.stop(process.pid)
    process.wait(10)


@pytest.fixture
def cloud(cloud_process: Cloud) -> Cloud:
    """The local cloud, empty."""
    cloud_process.reset()
    return cloud_process
