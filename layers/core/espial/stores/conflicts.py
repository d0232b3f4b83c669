"""What other reports say than the recorded event of the same id (goal 19), for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from espial.events import PersonKey
from espial.ports import Others
from espial.stores.events_table import MORE


class ConflictsTable:
    """The `X#` items of EventsTable. AWS permissions: dynamodb:Query and dynamodb:Scan on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def of_person(self, key: PersonKey) -> dict[str, Others]:
        """Event id -> what its other reports say, under one key."""
        return _by_event(
            self._pages(
                "query",
                KeyConditionExpression="pk = :pk AND begins_with(sk, :conflict)",
                ExpressionAttributeValues={":pk": {"S": f"P#{key}"}, ":conflict": {"S": "X#"}},
            )
        )

    def of_campaign(self, campaign: str) -> dict[str, Others]:
        """As `of_person`, for every report that names the campaign. Reads the whole table."""
        named = msgspec.json.encode(campaign).decode()
        return _by_event(
            self._pages(
                "scan",
                FilterExpression="begins_with(sk, :conflict) AND contains(body, :campaign)",
                ExpressionAttributeValues={":conflict": {"S": "X#"}, ":campaign": {"S": named}},
            )
        )

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        pages = self._dynamodb.get_paginator(operation).paginate(TableName=self._table, **request)
        return (item for page in pages for item in page["Items"] if "body" in item)


def _by_event(items: Iterator[dict[str, Any]]) -> dict[str, Others]:
    found: dict[str, Others] = {}
    for item in items:
        said: dict[str, Any] = msgspec.json.decode(item["body"]["S"])
        said["via"] = sorted(item["via"]["SS"])
        others = found.get(said["event_id"], Others([], None))
        if item["sk"]["S"].endswith(f"#{MORE}"):
            others = others._replace(together=said)
        else:
            others.conflicts.append(said)
        found[said["event_id"]] = others
    return found
