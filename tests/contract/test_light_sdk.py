"""The light clients over a loopback server: they ask, answer and refuse as the SDK does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from espial.errors import TryAgain
from espial.stores.aws_http import AwsClient
from espial.stores.light_sdk import SERVICES, LightClient, LightS3
from tests.loopback import Canned, Loopback, loopback

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
STATEMENTS = {"Statements": [{"Statement": "INSERT", "Parameters": [{"S": "\u00e9\u2028"}, {"SS": ["a"]}]}]}
KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
UPDATE = {"UpdateExpression": "SET #n = :n", "ExpressionAttributeNames": {"#n": "n"}, "ReturnValues": "ALL_NEW"}
CALLS = [
    ("dynamodb", "batch_execute_statement", STATEMENTS),
    ("dynamodb", "batch_get_item", {"RequestItems": {"Events": {"Keys": [KEY], "ConsistentRead": True}}}),
    ("dynamodb", "batch_write_item", {"RequestItems": {"Events": [{"PutRequest": {"Item": KEY}}]}}),
    ("dynamodb", "get_item", {"TableName": "Events", "Key": KEY, "ConsistentRead": True}),
    ("dynamodb", "put_item", {"TableName": "Events", "Item": KEY, "ConditionExpression": "attribute_not_exists(pk)"}),
    ("dynamodb", "query", {"TableName": "Events", "KeyConditionExpression": "pk = :pk", "ScanIndexForward": False}),
    (
        "dynamodb",
        "transact_write_items",
        {"TransactItems": [{"Put": {"TableName": "Events", "Item": KEY}}], "ClientRequestToken": "t"},
    ),
    ("dynamodb", "update_item", {"TableName": "Events", "Key": KEY, **UPDATE}),
    ("events", "put_events", {"Entries": [{"Source": "espial", "Time": 1795226400.5, "Detail": "{}"}]}),
    ("sqs", "send_message", {"QueueUrl": "http://127.0.0.1/q", "MessageBody": "{}", "DelaySeconds": 3}),
]


@contextmanager
def clients(*answers: Canned, service: str = "dynamodb") -> Iterator[tuple[Loopback, LightClient, Any]]:
    """A server that answers so, the light client and the SDK's."""
    with loopback(*answers) as server:
        http = AwsClient(service, "eu-west-1", server.url, sleep=lambda _: None)
        sdk = boto3.client(service, endpoint_url=server.url)
        yield server, LightClient(http, lambda: sdk), sdk
        http.close()
        sdk.close()


@pytest.mark.parametrize(("service", "call", "request_"), CALLS, ids=[call for _, call, _ in CALLS])
def test_it_asks_what_the_sdk_asks(service: str, call: str, request_: dict[str, Any]) -> None:
    """Only the time it takes differs (`make bench`): target, content type and content are the same."""
    with clients(Canned(), service=service) as (server, *both):
        for one in both:
            getattr(one, call)(**request_)
    light, heavy = (
        (seen.method, seen.path, seen.headers["x-amz-target"], seen.headers["content-type"], json.loads(seen.body))
        for seen in server.seen
    )
    assert heavy == light


def test_each_call_of_each_service_is_compared() -> None:
    """A call added to the light client is added above."""
    assert {(name, call) for name, service in SERVICES.items() for call in service.calls} == {
        (service, call) for service, call, _ in CALLS
    }


def test_an_object_is_put_as_the_sdk_puts_it() -> None:
    """Path, body, type and encoding; what else is asked of S3 is the SDK's."""
    with loopback(Canned(body=b"")) as server:
        http = AwsClient("s3", "eu-west-1", server.url)
        sdk = boto3.client("s3", endpoint_url=server.url, config=Config(s3={"addressing_style": "path"}))
        light = LightS3(http, lambda: sdk)
        for one in (light, sdk):
            one.put_object(Bucket="b", Key="raw/a b", Body=b"x", ContentType="text/plain", ContentEncoding="gzip")
        http.close()
        sdk.close()
    names = ("content-type", "content-encoding")
    ours, theirs = ((seen.method, seen.path, *(seen.headers[name] for name in names)) for seen in server.seen)
    assert theirs == ours
    assert b"x" == server.seen[0].body
    assert light.meta is sdk.meta


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
    """Scans and whatever else is rare is not worth an own client; the SDK's is made when one is asked for."""
    made: list[str] = []

    def sdk() -> str:
        made.append("sdk")
        return made[-1]

    light = LightClient(AwsClient("dynamodb", "eu-west-1", "http://127.0.0.1:9"), sdk)
    assert [] == made
    assert "SDK" == light.upper()
    assert ["sdk"] == made
