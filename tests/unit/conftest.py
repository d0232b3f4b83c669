"""Unit tests reach nothing: no network, not even this machine's. A test that must says so with `socket_enabled`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    if "socket_enabled" not in request.fixturenames:
        disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
