"""sweep_exports on the local cloud: a file whose notification was lost is planned, by its handler."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial.services import sweep_exports
from espial.services.ledger import note_deliveries
from espial.services.recorder import Outcome, Tally
from espial.stores.ledger_table import LedgerTable
from tests.builders import CONTEXT, a_delivery
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
    assert {"listed": 1, "complete": True, "outcomes": {}, "unbalanced": []} == app.handler({}, CONTEXT)
    monkeypatch.setattr(sweep_exports, "GRACE", timedelta(hours=-1))
    assert {"queued": 1} == app.handler({"days": 1}, CONTEXT)["outcomes"]
    assert 1 == len(world.chunks())


def test_what_does_not_balance_is_counted_for_the_alarm(
    world: Cloud,
    cloud: Any,
    load_app: LoadApp,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    """And named in the log; an hour without a difference says zero, so that the alarm ends."""
    app = load_app("sweep_exports", **world.environment())
    app.handler({}, CONTEXT)
    received_at = datetime.now(UTC) - timedelta(hours=3)
    ledger = LedgerTable(cloud.client("dynamodb"), app.settings.events_table)
    tally = Tally(received=Counter({"delivery-1": 1}))
    tally.count("delivery-1", Outcome("sendgrid", "main", "new", "opened"), "01LOST")
    note_deliveries(ledger, [a_delivery(received_at=received_at)], tally, received_at)
    assert ["sendgrid/main"] == app.handler({}, CONTEXT)["unbalanced"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[0.0], [1.0]] == [line["ledger.unbalanced"] for line in lines if "ledger.unbalanced" in line]
    (said,) = [vars(record) for record in caplog.records if record.message == "ledger.unbalanced"]
    assert ("ERROR", "sendgrid/main") == (said["levelname"], said["source"])
    assert [{"kind": "unpublished", "count": 1, "ids": ["01LOST"]}] == said["differences"]
