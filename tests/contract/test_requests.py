"""Request ids in S3: the first content stays, whoever comes later."""

from __future__ import annotations

import pytest

from espial.errors import TryAgain
from espial.ports import Requests
from espial.stores.aws_http import AwsClient, AwsError
from espial.stores.requests import S3Requests
from tests.fakes import FakeRequests
from tests.loopback import Canned, Loopback, loopback

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
TAKEN = Canned(412, b"<Error><Code>PreconditionFailed</Code></Error>")


@pytest.fixture
def stored(monkeypatch):
    """Makes the store on a server; its connections are closed."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    made: list[AwsClient] = []

    def make(server: Loopback) -> S3Requests:
        made.append(AwsClient("s3", "eu-west-1", server.url, sleep=lambda _: None))
        return S3Requests(made[-1], "store")

    yield make
    for one in made:
        one.close()


def test_a_new_id_is_kept_where_there_is_none(stored):
    """By a write that S3 refuses if there is one; nothing of the id itself is in the object's name."""
    with loopback(Canned(200)) as server:
        assert "c-1" == stored(server).first("loyalty", "r/1?", "c-1")
    (seen,) = server.seen
    assert ("PUT", "*", b"c-1") == (seen.method, seen.headers["if-none-match"], seen.body)
    assert seen.path.startswith("/store/spill/requests/loyalty/")
    assert "r/1" not in seen.path


def test_one_that_is_there_says_what_it_came_with(stored):
    """Read back, from the same place."""
    with loopback(TAKEN, Canned(200, b"c-1")) as server:
        assert "c-1" == stored(server).first("loyalty", "r-1", "c-2")
    put, get = server.seen
    assert ("GET", put.path) == (get.method, get.path)


def test_other_trouble_is_no_answer(stored):
    """What may pass is tried again; what may not is raised."""
    with loopback(Canned(503)) as server, pytest.raises(TryAgain):
        stored(server).first("loyalty", "r-1", "c-1")
    with loopback(Canned(403, b"<Error><Code>AccessDenied</Code></Error>")) as server, pytest.raises(AwsError):
        stored(server).first("loyalty", "r-1", "c-1")


def test_the_fake_does_the_same():
    """For those who use it."""
    fake: Requests = FakeRequests()
    assert ("a", "a", "b") == (fake.first("x", "1", "a"), fake.first("x", "1", "b"), fake.first("y", "1", "b"))
