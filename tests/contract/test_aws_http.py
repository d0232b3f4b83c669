"""The small AWS client over a loopback server: retries, stale connections, clocks, expired keys, addressing."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from espial.errors import EspialError, TryAgain
from espial.stores import credentials as credentials_module
from espial.stores.aws_http import AwsClient, AwsError, Limits, Stored, configured_endpoint
from espial.stores.credentials import ContainerCredentials, EnvironmentCredentials, find_credentials
from espial.stores.sigv4 import Credentials
from tests.loopback import Canned, loopback

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture
def client():
    """Makes clients without pauses and closes them."""
    made = []

    def make(server, service="sqs", **more):
        made.append(AwsClient(service, "eu-west-1", server.url, sleep=lambda _: None, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def failing(code, status=400, **headers):
    """An answer of the JSON protocol that names an error."""
    return Canned(status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "m"}).encode(), headers)


def test_a_json_call_is_posted_signed_to_its_target(client):
    """One POST to `/` with the protocol's headers; the answer's JSON comes back."""
    with loopback(Canned(body=b'{"MessageId":"1"}')) as server:
        answer = client(server).json("AmazonSQS.SendMessage", {"QueueUrl": "q"})
    (seen,) = server.seen
    assert {"MessageId": "1"} == answer
    assert ("POST", "/", {"QueueUrl": "q"}) == (seen.method, seen.path, json.loads(seen.body))
    assert ("AmazonSQS.SendMessage", "application/x-amz-json-1.0") == (
        seen.headers["x-amz-target"],
        seen.headers["content-type"],
    )
    assert "/eu-west-1/sqs/aws4_request" in seen.headers["authorization"]


@pytest.mark.parametrize(
    "first",
    [
        Canned(500, b""),
        Canned(503, b"<Error><Code>SlowDown</Code></Error>"),
        Canned(429, b""),
        failing("ThrottlingException"),
        failing("RequestThrottled"),
        Canned(drop=True),
    ],
    ids=["500", "503", "429", "throttling", "throttled", "dropped"],
)
def test_what_may_pass_is_tried_again(client, first):
    """A fault, a throttle and a lost connection are retried without the caller noticing."""
    with loopback(first, Canned(body=b'{"ok":1}')) as server:
        assert {"ok": 1} == client(server).json("A.B", {})
    assert 2 == len(server.seen)


def test_what_does_not_pass_in_four_attempts_is_for_the_caller(client):
    """TryAgain after four attempts, naming service, action and fault."""
    with loopback(Canned(503, b"")) as server, pytest.raises(TryAgain, match=r"sqs A\.B: HTTP503"):
        client(server).json("A.B", {})
    assert 4 == len(server.seen)


def test_pauses_grow_and_are_random(client):
    """Full jitter: every pause lies between nothing and a bound that doubles."""
    pauses: list[float] = []
    with loopback(Canned(503, b"")) as server:
        one = client(server)
        one._sleep = pauses.append
        for _ in range(20):
            with pytest.raises(TryAgain):
                one.json("A.B", {})
    bounds = [0.2, 0.4, 0.8] * 20
    assert all(0 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert 60 == len(set(pauses))


def test_a_refusal_is_not_retried_and_says_no_more_than_its_code(client):
    """AwsError at once, with the code only: AWS's message may repeat the signed request."""
    with loopback(failing("QueueDoesNotExist")) as server, pytest.raises(AwsError) as caught:
        client(server).json("AmazonSQS.SendMessage", {})
    assert "sqs AmazonSQS.SendMessage: QueueDoesNotExist (HTTP 400)" == str(caught.value)
    assert 1 == len(server.seen)


def test_one_connection_serves_many_calls(client):
    """Keep-alive: no second handshake."""
    with loopback() as server:
        one = client(server)
        for _ in range(3):
            one.json("A.B", {})
    assert 1 == len({seen.peer for seen in server.seen})


def test_a_connection_closed_meanwhile_is_replaced(client):
    """The server hangs up between two calls, as after a frozen Lambda: the second succeeds at its first attempt."""
    with loopback(Canned(hang_up=True), Canned(body=b'{"n":2}')) as server:
        one = client(server)
        one.json("A.B", {})
        time.sleep(0.05)
        one._sleep = lambda _: pytest.fail("this is no fault to wait for")
        assert {"n": 2} == one.json("A.B", {})
    assert 2 == len({seen.peer for seen in server.seen})


def test_a_connection_that_dies_in_use_is_replaced_at_once(client):
    """A kept-alive connection dropped under the request costs neither an attempt nor a pause."""
    with loopback(Canned(), Canned(drop=True), Canned(body=b'{"n":3}')) as server:
        one = client(server)
        one.json("A.B", {})
        one._sleep = lambda _: pytest.fail("this is no fault to wait for")
        assert {"n": 3} == one.json("A.B", {})


def test_a_long_unused_connection_is_not_trusted(client, monkeypatch):
    """After the idle limit a new one is opened, since the old one may lead nowhere."""
    monkeypatch.setattr("espial.stores.aws_http.IDLE_SECONDS", 0.0)
    with loopback() as server:
        one = client(server)
        one.json("A.B", {})
        one.json("A.B", {})
    assert 2 == len({seen.peer for seen in server.seen})


def test_a_silent_server_costs_no_more_than_the_budget(client):
    """The whole call, retries included, ends within its budget."""
    with loopback(Canned(503, b"")) as server:
        one = client(server, limits=Limits(call=0.4))
        one._sleep = lambda _: time.sleep(0.25)
        started = time.monotonic()
        with pytest.raises(TryAgain):
            one.json("A.B", {})
    assert 1.0 > time.monotonic() - started
    assert 2 == len(server.seen)


@pytest.mark.parametrize(("seconds", "arrives"), [(0.1, False), (10.0, True)])
def test_a_large_body_has_the_time_that_its_client_is_given(client, seconds, arrives):
    """Who takes it slowly is waited for that long."""
    body = bytes(20_000_000)  # more than the buffers between hold

    def take(listening: socket.socket) -> int:
        with listening.accept()[0] as taken:
            time.sleep(0.5)
            left = len(body)
            while left > 0 and (got := taken.recv(1 << 20)):
                left -= len(got)
            if left <= 0:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return left

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        left = pool.submit(take, listening)
        server = SimpleNamespace(url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        one = client(server, "s3", limits=Limits(seconds, seconds))
        with nullcontext() if arrives else pytest.raises(TryAgain, match="TimeoutError"):
            one.put("bucket", "large.csv", body)
        assert arrives == (left.result() <= 0)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "InvalidSignatureException"])
def test_a_wrong_clock_is_corrected_by_the_answers_date(client, code):
    """Our clock is an hour off: the second attempt is signed with AWS's time, and so is every later call."""
    theirs = datetime.now(UTC) + timedelta(hours=1)
    refusal = failing(code, 403, Date=format_datetime(theirs, usegmt=True))
    with loopback(refusal, Canned()) as server:
        one = client(server)
        one.json("A.B", {})
        one.json("A.B", {})
    stamps = [datetime.strptime(seen.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z") for seen in server.seen]
    assert [False, True, True] == [abs(stamp - theirs) < timedelta(minutes=1) for stamp in stamps]


def test_a_bad_signature_with_a_right_clock_is_final(client):
    """The Date agrees with ours, so the key is wrong; trying again would not help."""
    refusal = failing("InvalidSignatureException", 403, Date=format_datetime(datetime.now(UTC), usegmt=True))
    with loopback(refusal) as server, pytest.raises(AwsError, match="InvalidSignatureException"):
        client(server).json("A.B", {})
    assert 1 == len(server.seen)


def test_expired_credentials_are_renewed(client):
    """ExpiredToken: the next attempt is signed with fresh ones."""

    class Rotating:
        def __init__(self):
            self.renewed = 0

        def current(self):
            return Credentials(f"KEY{self.renewed}", "secret", "token")

        def renew(self):
            self.renewed += 1

    with loopback(failing("ExpiredTokenException", 403), Canned()) as server:
        client(server, credentials=Rotating()).json("A.B", {})
    assert ["KEY0", "KEY1"] == [seen.headers["authorization"].split("=")[1].split("/")[0] for seen in server.seen]


def test_s3_objects_are_read_with_revalidation(client):
    """The entity tag goes out as If-None-Match; 304 is None."""
    with loopback(Canned(200, b"one", {"ETag": '"e1"'}), Canned(304)) as server:
        one = client(server, "s3")
        assert Stored(b"one", '"e1"') == one.get("bucket", "definitions/active.json")
        assert one.get("bucket", "definitions/active.json", etag='"e1"') is None
    assert [None, '"e1"'] == [seen.headers.get("if-none-match") for seen in server.seen]
    assert {"/bucket/definitions/active.json"} == {seen.path for seen in server.seen}


def test_an_absent_object_is_named_so(client):
    """S3 words its errors in XML."""
    answer = Canned(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>")
    with loopback(answer) as server, pytest.raises(AwsError) as caught:
        client(server, "s3").get("bucket", "none")
    assert ("NoSuchKey", 404) == (caught.value.code, caught.value.status)


def test_keys_are_escaped_and_bodies_hashed(client):
    """A key with signs of its own arrives as one path; the body's hash is a header, as S3 demands."""
    with loopback() as server:
        client(server, "s3").put("bucket", "spill/2026-11-20/a=b c", b"body")
    (seen,) = server.seen
    assert ("PUT", "/bucket/spill/2026-11-20/a%3Db%20c", b"body") == (seen.method, seen.path, seen.body)
    assert "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5" == seen.headers["x-amz-content-sha256"]


@pytest.mark.parametrize(
    ("bucket", "place"),
    [
        ("store", ("https://store.s3.eu-west-1.amazonaws.com", "/k")),
        ("my.store", ("https://s3.eu-west-1.amazonaws.com", "/my.store/k")),
    ],
)
def test_buckets_are_hosts_of_their_own_on_aws(bucket, place):
    """Virtual-hosted addressing, except where AWS's certificate would not cover the name."""
    assert place == AwsClient("s3", "eu-west-1")._place(bucket, "k")


def test_the_environment_names_endpoints(monkeypatch):
    """AWS_ENDPOINT_URL for all, AWS_ENDPOINT_URL_<SERVICE> above it, AWS's own without either."""
    assert "" == configured_endpoint("sqs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:2")
    assert ["http://127.0.0.1:1", "http://127.0.0.1:2"] == [
        configured_endpoint(service) for service in ("sqs", "secretsmanager")
    ]


def container_answer(key, minutes):
    """What the credentials endpoint says."""
    expires = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": expires}
    return Canned(body=json.dumps(found).encode())


def container(server, **env):
    """The source of credentials over a loopback server."""
    return ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/creds?id=1", **env})


def test_container_credentials_are_fetched_with_the_token_and_kept(tmp_path):
    """One fetch while they last; the token comes from its file, which is rotated."""
    (tmp_path / "token").write_text("from-file\n")
    with loopback(container_answer("A", 60)) as server:
        source = container(server, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "token"))
        assert ["A", "A"] == [source.current().access_key for _ in range(2)]
    assert [("/creds?id=1", "from-file")] == [(seen.path, seen.headers["authorization"]) for seen in server.seen]


def test_container_credentials_are_refreshed_before_they_expire():
    """Under five minutes left: the next call has the new ones."""
    with loopback(container_answer("A", 4), container_answer("B", 60)) as server:
        source = container(server, AWS_CONTAINER_AUTHORIZATION_TOKEN="t")
        assert ["A", "B", "B"] == [source.current().access_key for _ in range(3)]


def test_a_failed_refresh_is_harmless_while_the_old_ones_last():
    """The endpoint is away shortly before expiry: the old ones serve; once expired it is TryAgain."""
    with loopback(container_answer("A", 4), Canned(500)) as server:
        source = container(server)
        assert ["A", "A"] == [source.current().access_key for _ in range(2)]
        source._held = source._held._replace(expires_at=time.time() - 1)
        with pytest.raises(TryAgain):
            source.current()


def test_credentials_are_not_fetched_from_strangers():
    """Plain HTTP is for loopback and the container agents only."""
    with pytest.raises(EspialError, match="must be https"):
        ContainerCredentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://203.0.113.9/creds"})


def test_where_credentials_come_from():
    """The environment's keys before the endpoint; neither is an error that says so."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/c"}
    assert isinstance(find_credentials(keys | uri), EnvironmentCredentials)
    assert isinstance(find_credentials(uri), credentials_module.ContainerCredentials)
    with pytest.raises(EspialError, match="no AWS credentials"):
        find_credentials({})
