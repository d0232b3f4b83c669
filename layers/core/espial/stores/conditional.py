"""Consistent reads and conditional writes of a DynamoDB table, for stores whose every change is conditional."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain

Item = dict[str, Any]

_UNMET = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})


class Unmet(Exception):
    """The condition of a write does not hold, or (of several writes together) another write came in between."""


class ConditionalTable:
    """The table, called `noun` where it is away. Every method raises TryAgain then."""

    def __init__(self, dynamodb: Any, table: str, noun: str) -> None:
        self._dynamodb = dynamodb
        self._noun = noun
        self.name = table

    def get(self, key: Item) -> Item:
        """An item, read consistently; empty if there is none."""
        item: Item = self.call("get_item", TableName=self.name, Key=key, ConsistentRead=True).get("Item") or {}
        return item

    def query(self, **arguments: Any) -> Iterator[Item]:
        """Every item that a query finds, read consistently, page after page."""
        more: Item = {}
        while True:
            answer = self.call("query", TableName=self.name, ConsistentRead=True, **arguments, **more)
            yield from answer["Items"]
            if not answer.get("LastEvaluatedKey"):
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def update(self, key: Item, update: str, condition: str, values: Item, names: Mapping[str, str]) -> Item:
        """One conditional update; returns the whole item afterwards. `names`: stand-in -> attribute. Raises Unmet."""
        answer = self.call(
            "update_item",
            TableName=self.name,
            Key=key,
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
            **({"ExpressionAttributeNames": names} if names else {}),
        )
        item: Item = answer["Attributes"]
        return item

    def call(self, operation: str, **arguments: Any) -> Item:
        """Any operation of the client. Raises Unmet."""
        try:
            answer: Item = getattr(self._dynamodb, operation)(**arguments)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in _UNMET:
                raise Unmet from exc
            raise TryAgain(f"{self._noun} cannot be reached: {code}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"{self._noun} cannot be reached: {type(exc).__name__}") from exc
        return answer
