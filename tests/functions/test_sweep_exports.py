"""sweep_exports on the local cloud: a file whose notification was lost is planned, by its handler."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from espial.services import sweep_exports
from tests.builders import CONTEXT
from tests.functions.conftest import LoadApp
from tests.functions.test_split_export import Cloud, a_sample

pytestmark = pytest.mark.cloud


@pytest.fixture
def world(cloud: Any) -> Cloud:
    return Cloud(cloud)


def test_a_lost_notification_is_found(world: Cloud, load_app: LoadApp, monkeypatch: pytest.MonkeyPatch):
    """An object nobody told of is left alone while its notification may still come, then planned once."""
    world.drop(a_sample())
    app = load_app("sweep_exports", **world.environment())
    assert {"listed": 1, "complete": True, "outcomes": {}} == app.handler({}, CONTEXT)
    monkeypatch.setattr(sweep_exports, "GRACE", timedelta(hours=-1))
    assert {"queued": 1} == app.handler({"days": 1}, CONTEXT)["outcomes"]
    assert 1 == len(world.chunks())
