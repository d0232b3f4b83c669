"""Passes events from the bus on to SendQueue."""

from __future__ import annotations

import os
from typing import Any

import boto3

sqs = boto3.client("sqs")


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    for record in event["Records"]:
        sqs.send_message(QueueUrl=os.environ["SEND_QUEUE_URL"], MessageBody=record["body"])
    print("passed on")
    return {"batchItemFailures": []}
