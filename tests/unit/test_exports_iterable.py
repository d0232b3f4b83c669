"""Iterable's exports: flat rows of one data type, which stands in the file's key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from espial import sources
from espial.exports import folded
from espial.normalise import normalise
from espial.sources import Export
from tests import samples

ITERABLE = sources.load("iterable")


def file(key: str = "emailClick-2026.csv", columns: tuple[str, ...] = (), **settings: Any) -> Export:
    names = {folded(name): name for name in columns}
    return Export(bucket="b", key=f"exports/iterable/prod/{key}", etag="e", columns=names, settings=settings)


def from_csv(facts: dict[str, str], key: str = "emailClick-2026.csv", **settings: Any) -> list[Any]:
    row = {folded(name): value for name, value in facts.items()}
    found: Any = ITERABLE.exports["csv"](row, file(key, tuple(facts), **settings))
    return list(found)


@pytest.mark.parametrize(
    ("key", "settings", "expected"),
    [
        ("2026-01-15/emailClick-2026-01-15.csv", {}, "emailClick"),
        ("emailSend/part-0001.csv", {}, "emailSend"),
        ("emailSend/EMAILOPEN_part-0001.csv", {}, "emailOpen"),
        ("project/customEvent.csv", {}, "customEvent"),
        ("part-0001.csv", {"data_type": "smsSend"}, "smsSend"),
        ("emailOpen.csv", {"data_type": "smsSend"}, "smsSend"),
        ("part-0001.csv", {}, None),
    ],
)
def test_the_type_stands_in_the_key_or_the_settings(key: str, settings: dict[str, Any], expected: str | None) -> None:
    """The setting first, then the last word of the key that is a data type."""
    (item,) = from_csv({"messageId": "m"}, key, **settings)
    assert expected == item["eventName"]


def test_the_rows_own_name_wins() -> None:
    """Custom events say their name in the row."""
    (item,) = from_csv({"eventName": "viewedBoots", "email": "ada@example.com"}, "customEvent.csv")
    assert "viewedBoots" == item["eventName"]


def test_a_rows_cells_become_the_webhooks_fields() -> None:
    """Dots nest, brackets are JSON, blank cells are none; names come back as the header writes them."""
    (item,) = from_csv(
        {
            "email": "Ada@example.com",
            "userId": "cust-1",
            "createdAt": "2026-01-15 10:00:05 +00:00",
            "smsProviderResponse.code": "30005",
            "labels": '["a","b"]',
            "experimentId": "",
            "isBot": "True",
            "note": "[not json",
        }
    )
    assert {
        "email": "Ada@example.com",
        "userId": "cust-1",
        "eventName": "emailClick",
        "dataFields": {
            "email": "Ada@example.com",
            "userId": "cust-1",
            "createdAt": "2026-01-15 10:00:05 +00:00",
            "smsProviderResponse": {"code": "30005"},
            "labels": ["a", "b"],
            "isBot": True,
            "note": "[not json",
        },
    } == item


@pytest.mark.parametrize("cell", ["[12,13]", "12,13", '["12", "13"]'])
def test_leaving_two_lists_is_two_events_as_by_webhook(cell: str) -> None:
    """However the file writes a list; each with the id that the webhook's has."""
    case = samples.case("iterable", "email-unsubscribe-lists")
    posted = case.items[0]
    facts = {**posted["dataFields"], "emailListIds": [12, 13], "messageTypeIds": []}
    body = orjson.dumps({**posted, "dataFields": facts})
    delivered = ITERABLE.split(replace(case.delivery, body=body))
    row = {name: str(value) for name, value in facts.items() if isinstance(value, str | int)} | {"emailListIds": cell}
    copied = from_csv({**row, "email": posted["email"]}, "emailUnSubscribe.csv")
    ids = [[normalise(ITERABLE, one, case.arrival).event.event_id for one in items] for items in (delivered, copied)]
    assert 2 == len(ids[0])
    assert ids[0] == ids[1]


def test_json_lines_are_flat_or_as_posted() -> None:
    """`data.json` holds the facts alone."""
    posted = samples.case("iterable", "email-send").items[0]
    flat = {**posted["dataFields"], "email": posted["email"]}
    arrival = samples.case("iterable", "email-send").arrival
    read: Any = ITERABLE.exports["ndjson"]
    ids = [
        normalise(ITERABLE, one, arrival).event.event_id
        for one in (posted, *read(posted, file("part.json")), *read(flat, file("emailSend/part.json")))
    ]
    assert 3 == len(ids)
    assert 1 == len(set(ids))


@pytest.mark.parametrize(
    ("key", "settings", "expected"),
    [("user-2026.csv", {}, True), ("emailSend.csv", {}, False), ("user.csv", {"data_type": "emailSend"}, False)],
)
def test_a_list_of_users_is_left_alone(key: str, settings: dict[str, Any], expected: bool) -> None:
    """It says who they are, not what they did."""
    assert expected == ITERABLE.layout(f"exports/iterable/prod/{key}", settings).skip


def test_a_data_type_is_text() -> None:
    """Said when the connection is applied."""
    assert ITERABLE.configured is not None
    with pytest.raises(ValueError, match="data_type"):
        ITERABLE.configured({"data_type": 7})
