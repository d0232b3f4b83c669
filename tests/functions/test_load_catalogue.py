"""load_catalogue against a cloud: a file dropped in the bucket is what mails recommend from then on."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from espial.logs import logger
from espial.stores.catalogue_table import CatalogueTable
from tests.builders import CONTEXT
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.contract.test_ports import a_bucket, events_table

pytestmark = pytest.mark.cloud
CSV = "id,name,price,url,stock\nP-1,Pine,{price},https://shop.example.com/1,{stock}\n"


class Shop:
    """The function, its bucket and its table."""

    def __init__(self, cloud: Any, load_app: Any) -> None:
        events_table(cloud, "catalogues")
        self.s3 = a_bucket(cloud)
        self.table = CatalogueTable(cloud.client("dynamodb"), "catalogues")
        environment = {"AWS_ENDPOINT_URL": cloud.url, "CATALOGUE_TABLE": "catalogues", "STORE_BUCKET": "store"}
        self.log = io.StringIO()
        self._handler = load_app("load_catalogue", **environment).handler

    def drops(self, key: str, body: str | bytes) -> list[Any]:
        """Put a file there and tell of it; returns what has to come again."""
        self.s3.put_object(Bucket="store", Key=key, Body=body)
        return self.told(key)

    def told(self, key: str) -> list[Any]:
        about = {"bucket": {"name": "store"}, "object": {"key": key}}
        body = json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": about}]})
        failures: list[Any] = self._handler({"Records": [{"messageId": "m", "body": body}]}, CONTEXT)[
            "batchItemFailures"
        ]
        return failures


@pytest.fixture
def shop(cloud, load_app, monkeypatch) -> Shop:
    made = Shop(cloud, load_app)
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", made.log)
    return made


def test_a_dropped_file_is_the_catalogue(shop):
    """And the next one what changed; told again it changes nothing."""
    assert [] == shop.drops("catalogue/shop/monday.csv", CSV.format(price="19.90", stock=3))
    assert 19.9 == shop.table.products("shop", ["P-1"])["P-1"].price
    assert [] == shop.drops("catalogue/shop/tuesday.csv", CSV.format(price="15", stock=0))
    assert (15.0, 0) == ((found := shop.table.products("shop", ["P-1"])["P-1"]).price, found.stock)
    assert [] == shop.told("catalogue/shop/tuesday.csv")
    lines = [json.loads(line) for line in shop.log.getvalue().splitlines()]
    assert [("shop", 1, 1), ("shop", 1, 2), ("shop", 1, 0)] == [
        (line["catalogue"], line["products"], line["changes"])
        for line in lines
        if line["message"] == "catalogue.loaded"
    ]


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("catalogue/shop/x.csv", "a,b\n1,2\n", "catalogue_unreadable"),
        ("catalogue/shop/x.csv", b"\xff\xfe", "catalogue_unreadable"),
        ("catalogue/shop/x.ndjson", "", "catalogue_empty"),
        ("catalogue/shop/x.parquet", "", "catalogue_kind"),
        ("catalogue/x.csv", "", "catalogue_unnamed"),
    ],
)
def test_a_file_that_is_none_changes_nothing_and_is_told_of(shop, key, body, reason):
    """It does not come again by itself; the log says why."""
    shop.drops("catalogue/shop/good.csv", CSV.format(price="19.90", stock=3))
    assert [] == shop.drops(key, body)
    assert 19.9 == shop.table.products("shop", ["P-1"])["P-1"].price
    assert reason == json.loads(shop.log.getvalue().splitlines()[-1])["reason"]


def test_a_file_that_is_gone_is_let_go(shop):
    """Whoever removed it will drop another."""
    assert [] == shop.told("catalogue/shop/none.csv")
    assert "object_gone" == json.loads(shop.log.getvalue().splitlines()[-1])["reason"]


def test_a_table_that_is_away_is_tried_again(shop, cloud):
    """The message comes back."""
    cloud.client("dynamodb").delete_table(TableName="catalogues")
    assert [{"itemIdentifier": "m"}] == shop.drops("catalogue/shop/x.csv", CSV.format(price="1", stock=1))
