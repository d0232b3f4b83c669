"""The ledger's table and its fake: sheets come back as they were noted, once each."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from espial.errors import TryAgain
from espial.ledger import KEPT, Entry, Ledger, Sheet, hour_of
from espial.services.ledger import IDS_A_SHEET, PUBLISH, of_events
from espial.stores.aws_http import AwsClient
from espial.stores.ledger_table import LedgerTable
from espial.stores.light_sdk import LightClient
from tests.builders import NOON, an_event
from tests.contract.test_ports import events_table
from tests.fakes import FakeLedger

pytestmark = pytest.mark.cloud
HOUR = hour_of(NOON)


@pytest.fixture(params=["fake", "sdk", "light"])
def ledger(request: pytest.FixtureRequest, cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake, and the table through both clients that it is given."""
    if request.param == "fake":
        yield FakeLedger()
        return
    events_table(cloud)
    sdk = cloud.client("dynamodb")
    if request.param == "sdk":
        yield LedgerTable(sdk, "Events-table")
        return
    for name, value in {**cloud.environment, "AWS_ENDPOINT_URL": cloud.url}.items():
        monkeypatch.setenv(name, value)
    http = AwsClient("dynamodb", "eu-west-1")
    yield LedgerTable(LightClient(http, lambda: sdk), "Events-table")
    http.close()


def a_sheet(unit: str = "d-1", **fields: Any) -> Sheet:
    """Of one delivery."""
    entry = Entry(source="sendgrid/main", unit=unit, received=1, counts={"new": 1}, ids={"new": [f"id of {unit}"]})
    return Sheet(**{"hour": HOUR, "stage": "record", "noted_at": NOON, "entries": [entry], **fields})


def by_name(ledger: Ledger) -> list[Sheet]:
    return sorted(ledger.sheets(HOUR), key=lambda sheet: sheet.name)


def test_sheets_come_back_as_they_were_noted(ledger):
    """From every partition, and those of the hour only."""
    sheets = [a_sheet(f"d-{number}") for number in range(30)] + [a_sheet(stage="publish")]
    ledger.note([*sheets, a_sheet(hour=HOUR + timedelta(hours=1))])
    assert sorted(sheets, key=lambda sheet: sheet.name) == by_name(ledger)
    assert [] == list(ledger.sheets(HOUR - timedelta(hours=1)))


def test_a_sheet_noted_again_is_one(ledger):
    """The later time stands, for it says which word is the last."""
    for seconds in (0, 60):
        ledger.note([a_sheet(noted_at=NOON + timedelta(seconds=seconds))])
    assert [NOON + timedelta(minutes=1)] == [sheet.noted_at for sheet in ledger.sheets(HOUR)]


def test_the_largest_sheet_is_taken(ledger):
    """10,000 ids that have little in common stay under an item's 400 KB."""
    chance = random.Random(1)
    events = [
        (an_event(str(number), occurred_at=NOON - timedelta(seconds=chance.randrange(10**7))), "published")
        for number in range(IDS_A_SHEET)
    ]
    (sheet,) = of_events(PUBLISH, events, NOON)
    ledger.note([sheet])
    assert [sheet] == list(ledger.sheets(HOUR))


def test_a_sheet_expires(cloud):
    """When nothing can come again that it tells of."""
    events_table(cloud)
    LedgerTable(cloud.client("dynamodb"), "Events-table").note([a_sheet()])
    (item,) = cloud.client("dynamodb").scan(TableName="Events-table")["Items"]
    assert str(int((NOON + KEPT).timestamp())) == item["ttl"]["N"]


@pytest.mark.parametrize(
    "error",
    [EndpointConnectionError(endpoint_url="http://db"), ClientError({"Error": {"Code": "AccessDenied"}}, "PutItem")],
    ids=["away", "forbidden"],
)
def test_what_cannot_be_noted_has_to_come_again(error):
    """Whatever the reason: without its sheet a batch is not done."""

    class Table:
        def put_item(self, **_request: Any) -> None:
            raise error

    with pytest.raises(TryAgain, match="the ledger cannot be written"):
        LedgerTable(Table(), "Events-table").note([a_sheet()])
