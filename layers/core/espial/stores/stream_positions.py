"""How far each stream was read, in EventsTable: pk `S#<platform>/<connection>`, sk `POSITION`, one item each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from secrets import token_hex
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.streams import Position


class StreamPositions:
    """The table behind `streams.Positions`. AWS permissions: dynamodb:UpdateItem on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def take(self, stream: str, *, now: datetime, until: datetime) -> Position | None:
        """See `Positions.take`. One whose answer was lost stands until its time is over."""
        holder = token_hex(16)
        item = self._update(
            stream,
            "SET holder = :holder, held_until = :until",
            "attribute_not_exists(pk) OR held_until <= :now",
            {":holder": {"S": holder}, ":until": _number(until), ":now": _number(now)},
        )
        return None if item is None else Position(stream, holder, item.get("read_to", {}).get("S", ""))

    def keep(self, position: Position, offset: str) -> bool:
        """See `Positions.keep`."""
        update, values = "SET read_to = :offset", {":offset": {"S": offset}}
        return self._held(position, update, values) is not None

    def release(self, position: Position) -> None:
        """See `Positions.release`."""
        self._held(position, "SET held_until = :nothing", {":nothing": {"N": "0"}})

    def _held(self, position: Position, update: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return self._update(position.stream, update, "holder = :holder", {":holder": {"S": position.holder}, **values})

    def _update(self, stream: str, update: str, condition: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The item as it is now; None, changing nothing, if the condition does not hold."""
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"S#{stream}"}, "sk": {"S": "POSITION"}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                return None
            raise TryAgain(f"the position of a stream cannot be written: {code}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"the position of a stream cannot be written: {type(exc).__name__}") from exc
        item: Mapping[str, Any] = answer["Attributes"]
        return item


def _number(moment: datetime) -> dict[str, str]:
    """Milliseconds since the epoch."""
    return {"N": str(round(moment.timestamp() * 1000))}
