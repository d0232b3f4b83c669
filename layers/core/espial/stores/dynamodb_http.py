"""DynamoDB's batch calls without the SDK, behind the SDK's own names and errors.

They are the hot path of every recording function, and through botocore most of its CPU
(docs/decisions/0007-what-an-event-costs.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from espial.stores.aws_http import AwsClient, AwsError


class LightDynamoDb:
    """Stands in for a boto3 DynamoDB client: the two batch calls go through `http`, whatever else through the SDK's.

    `sdk` makes (or hands out) that client, when something else is asked for the first time. Requests and answers have
    the SDK's shapes; what may pass is retried, and then raised as TryAgain.
    """

    def __init__(self, http: AwsClient, sdk: Callable[[], Any]) -> None:
        self._http = http
        self._sdk = sdk

    def batch_execute_statement(self, **request: Any) -> dict[str, Any]:
        """`Statements` -> `Responses`, one each. Raises TryAgain, ClientError."""
        return self._call("BatchExecuteStatement", request)

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        """`RequestItems` -> `Responses` by table. Raises TryAgain, ClientError."""
        return self._call("BatchGetItem", request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sdk(), name)

    def _call(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.call(f"DynamoDB_20120810.{action}", msgspec.json.encode(request))
        except AwsError as exc:
            said = {"Error": {"Code": exc.code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": exc.status}}
            raise ClientError(said, action) from exc
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found
