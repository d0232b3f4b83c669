"""The ledger's sheets in EventsTable: pk `B#<hour>#<0 to 7>`, sk `<stage>#<hash of the content>`, body compressed JSON.

Eight partitions an hour, because one takes 1,000 writes a second. A sheet noted again overwrites itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.ledger import KEPT, Sheet

PARTITIONS = 8


class LedgerTable:
    """The table behind `ledger.Ledger`. AWS permissions: dynamodb:PutItem to note, dynamodb:Query to read."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def note(self, sheets: Iterable[Sheet]) -> None:
        """See `Ledger.note`."""
        for sheet in sheets:
            name = sheet.name
            item = {
                "pk": {"S": _partition(sheet.hour, int(name[-1], 16) % PARTITIONS)},
                "sk": {"S": name},
                "body": {"B": zlib.compress(msgspec.json.encode(sheet), 1)},
                "ttl": {"N": str(int((sheet.noted_at + KEPT).timestamp()))},
            }
            try:
                self._dynamodb.put_item(TableName=self._table, Item=item)
            except ClientError as exc:
                raise TryAgain(f"the ledger cannot be written: {exc.response['Error']['Code']}") from exc
            except BotoCoreError as exc:
                raise TryAgain(f"the ledger cannot be written: {type(exc).__name__}") from exc

    def sheets(self, hour: datetime) -> Iterator[Sheet]:
        """See `Ledger.sheets`."""
        for partition in range(PARTITIONS):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": _partition(hour, partition)}},
            )
            for page in pages:
                for item in page["Items"]:
                    yield msgspec.json.decode(zlib.decompress(item["body"]["B"]), type=Sheet)


def _partition(hour: datetime, number: int) -> str:
    return f"B#{hour:%Y-%m-%dT%H}#{number}"
