"""Unisender Go: what its fields mean, and the proof in its body."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import RawDelivery, Reply
from espial.errors import SignatureError
from espial.normalise import normalise
from tests import samples

UNISENDER = sources.load("unisender_go")
CASE = samples.case("unisender_go", "all-types")
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
KEY = b"unigo-api-key-0002"
BASE = {
    "event_name": "transactional_email_status",
    "job_id": "1xYzAb-0000Cd-Q1",
    "email": "ada@example.com",
    "status": "clicked",
    "event_time": "2026-01-15 10:00:00",
    "url": "https://shop.example.com/a",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


def posted(body: bytes) -> RawDelivery:
    return replace(CASE.delivery, body=body)


def accepted(body: bytes, *keys: bytes) -> bool:
    try:
        UNISENDER.verify(posted(body), keys, NOW)
    except SignatureError:
        return False
    return True


@given(st.dictionaries(st.text(max_size=9).filter(lambda name: name != "auth"), JSON, max_size=4), st.booleans())
def test_the_proof_is_the_hash_of_the_body_with_the_key_in_its_place(rest: dict[str, Any], last: bool) -> None:
    """As documented, wherever `auth` stands among the fields."""
    template = {**rest, "auth": "@@"} if last else {"auth": "@@", **rest}
    before, _, after = orjson.dumps(template).partition(b'"@@"')
    code = md5(before + b'"' + KEY + b'"' + after, usedforsecurity=False).hexdigest().encode()
    body = before + b'"' + code + b'"' + after
    assert accepted(body, KEY)
    assert accepted(body, b"the next", KEY)
    assert not accepted(body, b"another tenant's")
    assert not accepted(body + b" ", KEY)


@given(st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_what_we_sign_is_accepted(found: dict[str, Any]) -> None:
    """Any object can be signed: one without `auth` gets it."""
    unsigned = {name: value for name, value in found.items() if name != "auth"}
    delivery = signing.signed(KEY, posted(orjson.dumps(unsigned)), NOW)
    assert accepted(delivery.body, KEY)
    assert unsigned == {name: value for name, value in orjson.loads(delivery.body).items() if name != "auth"}


def test_nothing_can_be_appended_to_a_seen_hash() -> None:
    """MD5 can be continued without the key; what is appended is no JSON, and is refused before it is hashed."""
    body = signing.signed(KEY, posted(b'{"auth":"00","events_by_user":[]}'), NOW).body
    assert accepted(body, KEY)
    for appended in (b"\x80\x00", b"{}", b"\x00"):
        with pytest.raises(SignatureError, match="not JSON"):
            UNISENDER.verify(posted(body + appended), [KEY], NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b'{"auth":""}',
        b'{"auth":7}',
        b'{"auth":"zz"}',
        b'{"auth":" "}',
        b'{"auth":"\\u0061a"}',
        b"\xff",
    ],
)
def test_an_odd_auth_is_no_proof(body: bytes) -> None:
    """Nothing but SignatureError, whatever the bytes."""
    assert not accepted(body, KEY)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_probe_is_answered_before_there_is_a_proof(method: str) -> None:
    """Activation is a GET without a body; a post is no probe."""
    assert UNISENDER.handshake
    assert Reply() == UNISENDER.handshake(replace(CASE.delivery, method=method, body=b""), ())
    assert UNISENDER.handshake(CASE.delivery, ()) is None


def test_a_batched_event_and_a_single_one_are_the_same() -> None:
    """The webhook's setting changes the shape, not the event."""
    data = {name: value for name, value in BASE.items() if name != "event_name"}
    user = {"user_id": 7, "project_id": "9"}
    batch = {
        "auth": "0",
        "events_by_user": [{**user, "events": [{"event_name": BASE["event_name"], "event_data": data}]}],
    }
    single = {"auth": "0", **user, **BASE}
    (one,), (other,) = (UNISENDER.split(posted(orjson.dumps(shape))) for shape in (batch, single))
    assert normalise(UNISENDER, one, CASE.arrival) == normalise(UNISENDER, other, CASE.arrival)


def test_a_retry_with_another_id_header_is_the_same_event() -> None:
    """`ID` differs on every call."""
    first, again = (samples.case("unisender_go", name) for name in ("first-try", "another-try"))
    assert first.headers["id"] != again.headers["id"]
    assert [one.event.event_id for one in first.recordables] == [one.event.event_id for one in again.recordables]


@given(st.permutations(list(BASE)))
def test_identity_rests_on_what_a_retry_repeats(names: list[str]) -> None:
    """Order says nothing; another link is another click."""
    assert UNISENDER.identity(BASE) == UNISENDER.identity({name: BASE[name] for name in names})
    assert UNISENDER.identity(BASE) != UNISENDER.identity({**BASE, "url": "https://shop.example.com/b"})
