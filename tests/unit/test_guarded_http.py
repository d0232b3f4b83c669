"""Calls to other systems: what may be called, and what is known of a call that went wrong.

How addresses are checked is in tests/unit/test_outside.py, which fetches over the same client.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

import pytest

from espial.errors import AnswerLost, Refused, TryAgain
from espial.stores.guarded_http import GuardedHttp
from tests.loopback import Canned, loopback
from tests.unit.test_outside import Server, answer, authority  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("socket_enabled")
LOCAL = GuardedHttp("loopback")


def test_method_headers_body_and_query_arrive_as_given():
    """And the answer comes back whole, whatever its status."""
    with loopback(Canned(422, b'{"why": "no"}', {"X-Thing": "1"})) as server:
        got = LOCAL.request("PUT", f"{server.url}/a/b?c=d%20e", {"Authorization": "Bearer k"}, b'{"n": 1}')
    assert (422, b'{"why": "no"}', "1", False) == (got.status, got.body, got.headers["x-thing"], got.is_cut)
    (seen,) = server.seen
    assert ("PUT", "/a/b?c=d%20e", b'{"n": 1}') == (seen.method, seen.path, seen.body)
    assert "Bearer k" == seen.headers["authorization"]


def test_a_redirect_is_an_answer_like_any_other():
    """It could lead anywhere, past every check of the address."""
    with loopback(Canned(307, headers={"Location": "http://127.0.0.1:1/"})) as server:
        assert 307 == LOCAL.request("POST", server.url, body=b"{}").status
    assert 1 == len(server.seen)


def test_no_more_of_an_answer_is_read_than_asked_for():
    """A receiver cannot fill our memory; what was cut says so."""
    with loopback(Canned(200, b"x" * 100)) as server:
        got = GuardedHttp("loopback", largest=10).request("GET", server.url)
    assert (b"x" * 10, True) == (got.body, got.is_cut)


def test_a_connection_that_was_refused_was_surely_not_taken():
    """Nothing was sent: it may be repeated whatever it says."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TryAgain) as failed:
        LOCAL.request("POST", f"http://127.0.0.1:{port}/", body=b"{}")
    assert not isinstance(failed.value, AnswerLost)


def test_a_dropped_answer_may_have_been_taken():
    """The request arrived, the answer did not."""
    with loopback(Canned(drop=True)) as server, pytest.raises(AnswerLost):
        LOCAL.request("POST", server.url, body=b"{}")
    assert 1 == len(server.seen)


def test_a_silent_receiver_may_have_taken_it():
    """Its time is up, and nobody knows."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, pytest.raises(AnswerLost, match="Timeout"):
        LOCAL.request("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", body=b"{}", seconds=0.2)


def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(authority):
    """No word of ours reaches whoever is there."""
    serving, _ = authority
    server = Server(serving, (answer(),))
    try:
        with pytest.raises(TryAgain) as failed:
            GuardedHttp("loopback").request("POST", f"https://127.0.0.1:{server.port}/", body=b"{}")
    finally:
        server.close()
    assert not isinstance(failed.value, AnswerLost)
    assert isinstance(failed.value.__cause__, ssl.SSLCertVerificationError)
    assert [] == server.asked


@pytest.mark.parametrize(
    ("network", "url", "reason"),
    [
        ("public", "http://127.0.0.1/", "bad_address"),
        ("public", "https://127.0.0.1/", "address_not_public"),
        ("public", "https://169.254.169.254/latest", "address_not_public"),
        ("public", "https://user:word@example.com/", "bad_address"),
        ("loopback", "http://10.0.0.1/", "address_not_loopback"),
        ("loopback", "https://8.8.8.8/", "address_not_loopback"),
        ("loopback", "ftp://127.0.0.1/", "bad_address"),
    ],
)
def test_each_network_keeps_to_itself(network, url, reason, monkeypatch):
    """A stack on AWS calls nobody within, one on a laptop calls nobody outside; neither even connects."""

    def refused(*_, **__):
        raise AssertionError("asked for a connection")

    monkeypatch.setattr(socket, "create_connection", refused)
    with pytest.raises(Refused) as error:
        GuardedHttp(network).request("GET", url)
    assert reason == error.value.reason


def test_a_header_that_would_break_out_is_refused_and_not_repeated():
    """It may be a secret that was stored with a line end in it."""
    with loopback() as server, pytest.raises(Refused) as error:
        LOCAL.request("GET", server.url, {"Authorization": "Bearer s3cret\r\nX: y"})
    assert "bad_header" == error.value.reason
    assert "s3cret" not in str(error.value)


def test_another_network_is_a_mistake():
    """A template's typing error must not open anything."""
    with pytest.raises(ValueError, match="outgoing network"):
        GuardedHttp("everything")
