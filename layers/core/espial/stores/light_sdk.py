"""The everyday calls of the functions behind the queues without the SDK, behind the SDK's own names and errors.

Through botocore they are most of those functions' CPU, and of a mail's way (docs/decisions/0007-what-an-event-costs.md
and 0008-fewer-calls-to-a-mail.md have the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
from botocore.exceptions import ClientError

from espial.stores.aws_http import AwsClient, AwsError


class Service(NamedTuple):
    """How a service is asked: the prefix of its targets, its JSON protocol's version, and which calls go this way."""

    target: str
    version: str
    calls: Mapping[str, str]


SERVICES = {
    "dynamodb": Service(
        "DynamoDB_20120810",
        "1.0",
        {
            "batch_execute_statement": "BatchExecuteStatement",
            "batch_get_item": "BatchGetItem",
            "batch_write_item": "BatchWriteItem",
            "get_item": "GetItem",
            "put_item": "PutItem",
            "query": "Query",
            "transact_write_items": "TransactWriteItems",
            "update_item": "UpdateItem",
        },
    ),
    "events": Service("AWSEvents", "1.1", {"put_events": "PutEvents"}),
    "sqs": Service("AmazonSQS", "1.0", {"send_message": "SendMessage"}),
}


class LightClient:
    """Stands in for a boto3 client of one of `SERVICES`: its calls go through `http`, whatever else through the SDK's.

    `sdk` makes (or hands out) that client, when something else is asked for the first time. Requests and answers have
    the SDK's shapes, with times as epoch seconds; what may pass is retried, and then raised as TryAgain.
    """

    def __init__(self, http: AwsClient, sdk: Callable[[], Any]) -> None:
        self._http = http
        self._sdk = sdk
        self._service = SERVICES[http.service]

    def __getattr__(self, name: str) -> Any:
        """A call, which raises TryAgain or ClientError."""
        action = self._service.calls.get(name)
        return partial(self._call, action) if action else getattr(self._sdk(), name)

    def _call(self, action: str, /, **request: Any) -> dict[str, Any]:
        with _errors_of(action):
            target = f"{self._service.target}.{action}"
            answer = self._http.call(target, msgspec.json.encode(request), self._service.version)
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found


class LightS3:
    """Stands in for a boto3 S3 client in the same way: `put_object` without the SDK."""

    def __init__(self, http: AwsClient, sdk: Callable[[], Any]) -> None:
        self._http = http
        self._sdk = sdk

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str, ContentEncoding: str = "") -> None:  # noqa: N803
        """Returns once it is durable. Raises TryAgain, ClientError."""
        with _errors_of("PutObject"):
            self._http.put(Bucket, Key, Body, ContentType, ContentEncoding)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sdk(), name)


@contextmanager
def _errors_of(action: str) -> Iterator[None]:
    """A refusal as the SDK words it."""
    try:
        yield
    except AwsError as exc:
        said = {"Error": {"Code": exc.code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": exc.status}}
        raise ClientError(said, action) from exc
