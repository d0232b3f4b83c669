"""Passes inserted items on to EventBus."""

from __future__ import annotations

import os
from typing import Any

import boto3

events = boto3.client("events")


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    bus = {"EventBusName": os.environ["EVENT_BUS"], "Source": "espial", "DetailType": "cart_updated"}
    events.put_events(
        Entries=[{**bus, "Detail": record["dynamodb"]["NewImage"]["body"]["S"]} for record in event["Records"]]
    )
    print("passed on")
    return {"batchItemFailures": []}
