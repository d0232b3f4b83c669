"""Passes a request's body on to RawQueue."""

from __future__ import annotations

import os
from typing import Any

import boto3

sqs = boto3.client("sqs")


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    sqs.send_message(QueueUrl=os.environ["RAW_QUEUE_URL"], MessageBody=event["body"])
    print("passed on")
    return {"statusCode": 200, "body": '{"success":true}'}
