"""The light DynamoDB client over a loopback server: it asks, answers and refuses as the SDK does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from espial.errors import TryAgain
from espial.stores.aws_http import AwsClient
from espial.stores.dynamodb_http import LightDynamoDb
from tests.loopback import Canned, Loopback, loopback

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
STATEMENTS = {"Statements": [{"Statement": "INSERT", "Parameters": [{"S": "\u00e9\u2028"}, {"SS": ["a"]}]}]}
KEYS = {"RequestItems": {"Events": {"Keys": [{"pk": {"S": "a"}, "sk": {"S": "b"}}], "ConsistentRead": True}}}


@contextmanager
def clients(*answers: Canned) -> Iterator[tuple[Loopback, LightDynamoDb, Any]]:
    """A server that answers so, the light client and the SDK's."""
    with loopback(*answers) as server:
        http = AwsClient("dynamodb", "eu-west-1", server.url, sleep=lambda _: None)
        sdk = boto3.client("dynamodb", endpoint_url=server.url)
        yield server, LightDynamoDb(http, lambda: sdk), sdk
        http.close()
        sdk.close()


@pytest.mark.parametrize(("call", "request_"), [("batch_execute_statement", STATEMENTS), ("batch_get_item", KEYS)])
def test_it_asks_what_the_sdk_asks(call: str, request_: dict[str, Any]) -> None:
    """Only the time it takes differs (`make bench`): target, content type and content are the same."""
    with clients(Canned()) as (server, *both):
        for one in both:
            getattr(one, call)(**request_)
    light, heavy = (
        (seen.method, seen.path, seen.headers["x-amz-target"], seen.headers["content-type"], json.loads(seen.body))
        for seen in server.seen
    )
    assert heavy == light


def failing(code: str) -> Canned:
    return Canned(400, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "m"}).encode())


def test_it_words_a_refusal_as_the_sdk_does() -> None:
    """Code and status where the table looks for them; asked once."""
    with clients(failing("AccessDeniedException")) as (server, light, sdk):
        with pytest.raises(ClientError) as ours:
            light.batch_execute_statement(**STATEMENTS)
        assert 1 == len(server.seen)
        with pytest.raises(ClientError) as theirs:
            sdk.batch_execute_statement(**STATEMENTS)
    for part, name in (("Error", "Code"), ("ResponseMetadata", "HTTPStatusCode")):
        assert theirs.value.response[part][name] == ours.value.response[part][name]


@pytest.mark.parametrize(
    "answer",
    [
        failing("ProvisionedThroughputExceededException"),
        failing("ThrottlingException"),
        Canned(500, b""),
        Canned(drop=True),
    ],
    ids=["throughput", "throttling", "500", "dropped"],
)
def test_what_may_pass_is_tried_again_and_then_left_to_the_caller(answer: Canned) -> None:
    """Four attempts like the SDK's, then TryAgain; one that succeeds in between is the answer."""
    with clients(answer) as (server, light, _), pytest.raises(TryAgain):
        light.batch_execute_statement(**STATEMENTS)
    assert 4 == len(server.seen)
    with clients(answer, Canned(body=b'{"Responses":[{}]}')) as (server, light, _):
        assert {"Responses": [{}]} == light.batch_execute_statement(**STATEMENTS)


def test_everything_else_is_the_sdks() -> None:
    """Queries, scans and single items are not worth an own client; the SDK's is made when one is asked for."""
    made: list[str] = []

    def sdk() -> str:
        made.append("sdk")
        return made[-1]

    light = LightDynamoDb(AwsClient("dynamodb", "eu-west-1", "http://127.0.0.1:9"), sdk)
    assert [] == made
    assert "SDK" == light.upper()
    assert ["sdk"] == made
