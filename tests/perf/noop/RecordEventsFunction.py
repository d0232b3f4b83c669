"""Passes messages on to EventsTable."""

from __future__ import annotations

import os
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    for record in event["Records"]:
        item = {"pk": {"S": "noop"}, "sk": {"S": f"E#{record['messageId']}"}, "body": {"S": record["body"]}}
        dynamodb.put_item(TableName=os.environ["EVENTS_TABLE"], Item=item)
    print("passed on")
    return {"batchItemFailures": []}
