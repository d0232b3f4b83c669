"""Bird: three products under one name, four proofs, and what their reports mean."""

from __future__ import annotations

import json
import warnings
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messagebird.error import ValidationError
from messagebird.request_validator import RequestValidator

from espial import sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from espial.sources.bird import CHANNELS_SIGNATURE, QUERY_SIGNATURE, TOKEN_SIGNATURE
from tests import samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from messagebird.signed_request import SignedRequest

BIRD = sources.load("bird")
KEY = "bird-signing-key-0001" * 4
NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://hooks.example.net/v1/in/bird"
CASE = samples.case("bird", "email-delivered")
BASE = json.loads(CASE.body)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda one: one not in ("key", "access_token")
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
QUERIES = st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=2), max_size=4)
BODIES = st.binary(max_size=40)


def delivery(body: bytes = b"", url: str = URL, **headers: str) -> RawDelivery:
    return RawDelivery(
        delivery_id="d",
        platform="bird",
        connection="main",
        transport="webhook",
        body=body,
        received_at=NOW,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        method="POST" if body else "GET",
        url=url,
    )


def accepted(given_: RawDelivery, now: datetime = NOW, key: str = KEY) -> bool:
    try:
        BIRD.verify(given_, (key.encode(),), now)
    except SignatureError:
        return False
    return True


def read(item: dict[str, Any] = BASE, **payload: Any) -> Event:
    changed = {**item, "payload": {**item["payload"], **payload}}
    (found,) = BIRD.split(replace(CASE.delivery, body=json.dumps(changed).encode()))
    return normalise(BIRD, found, CASE.arrival).event


def test_a_vector_made_elsewhere_is_accepted_and_any_change_refused() -> None:
    """Timestamp, whole URL and the body's hash as bytes, by lines; five minutes each way."""
    key = "bird-signing-key-0001"
    body = b'{"service":"channels","event":"email.outbound"}'
    proof = {
        "messagebird_request_timestamp": "1767225600",
        "messagebird_signature": "wdwefnzCbsXtTT+WZPn4vzf5BaGZQiqYuBeriXC+uaI=",
    }
    assert accepted(delivery(body, **proof), key=key)
    assert not accepted(delivery(body, URL + "?", **proof), key=key)
    assert not accepted(delivery(body + b" ", **proof), key=key)
    assert not accepted(delivery(body, **proof), key=KEY)
    assert not accepted(delivery(body, **{**proof, "messagebird_request_timestamp": "1767225601"}), key=key)
    for seconds, expected in ((300, True), (301, False), (-301, False)):
        assert expected == accepted(delivery(body, **proof), NOW + timedelta(seconds=seconds), key)


def older(signed: RawDelivery, parameters: dict[str, list[str]]) -> bool:
    """What MessageBird's own, older checker says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        shown = (signed.headers["messagebird-signature"], signed.headers["messagebird-request-timestamp"])
        return bool(SignedRequest(*shown, signed.body.decode("latin-1"), parameters).verify(KEY))


@settings(max_examples=50)
@given(BODIES, QUERIES)
def test_the_older_signature_is_as_messagebirds_library_checks_it(
    body: bytes, parameters: dict[str, list[str]]
) -> None:
    """Over the query in order of name, whatever the order it came in; a code the library makes is accepted too."""
    plain = delivery(body, f"{URL}?{urlencode(parameters, doseq=True)}")
    signed = QUERY_SIGNATURE.sign(KEY.encode(), plain, NOW)
    assert older(signed, parameters)
    assert accepted(signed)
    assert not older(replace(signed, body=body + b"x"), parameters)
    assert not accepted(replace(signed, body=body + b"x"))


@settings(max_examples=50, deadline=None)
@given(BODIES, QUERIES)
def test_a_token_made_here_is_accepted_by_messagebirds_library(body: bytes, parameters: dict[str, list[str]]) -> None:
    """Its claims cover URL and body; the library looks at the clock itself."""
    now = datetime.now(UTC)
    plain = delivery(body, f"{URL}?{urlencode(parameters, doseq=True)}")
    signed = TOKEN_SIGNATURE.sign(KEY.encode(), plain, now)
    judge = RequestValidator(KEY)
    token = signed.headers["messagebird-signature-jwt"]
    judge.validate_signature(token, signed.url, signed.body)
    assert accepted(signed, now)
    for url, changed in ((signed.url + "x", body), (signed.url, body + b"x")):
        with pytest.raises(ValidationError):
            judge.validate_signature(token, url, changed)
        assert not accepted(replace(signed, url=url, body=changed), now)


def claims(body: bytes, **changes: Any) -> dict[str, Any]:
    at = int(NOW.timestamp())
    made = {
        "iss": "MessageBird",
        "nbf": at,
        "exp": at + 60,
        "jti": "1",
        "url_hash": sha256(URL.encode()).hexdigest(),
        "payload_hash": sha256(body).hexdigest() if body else None,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize("body", [b"", b"{}"])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_made_elsewhere_is_accepted_in_three_algorithms(body: bytes, algorithm: str) -> None:
    """With and without a body."""
    token = jwt.encode(claims(body), KEY, algorithm=algorithm)
    assert accepted(delivery(body, messagebird_signature_jwt=token))
    assert not accepted(delivery(body, messagebird_signature_jwt=token), key=KEY + "x")


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (b"{}", {"iss": "Somebody"}),
        (b"{}", {"exp": None}),
        (b"{}", {"nbf": None}),
        (b"{}", {"url_hash": None}),
        (b"{}", {"payload_hash": None}),
        (b"", {"payload_hash": "00"}),
        (b"{}", {"exp": int(NOW.timestamp()) - 61}),
        (b"{}", {"nbf": int(NOW.timestamp()) + 61}),
        (b"{}", {"nbf": int(NOW.timestamp()) - 301}),
    ],
)
def test_every_claim_of_a_token_counts(body: bytes, change: dict[str, Any]) -> None:
    """A right signature over the wrong delivery, time or sender."""
    token = jwt.encode(claims(body, **change), KEY, algorithm="HS256")
    assert not accepted(delivery(body, messagebird_signature_jwt=token))


def test_a_token_without_a_signature_is_refused() -> None:
    """The algorithm `none`."""
    token = jwt.encode(claims(b"{}"), "", algorithm="none")
    assert not accepted(delivery(b"{}", messagebird_signature_jwt=token))


def test_each_product_is_signed_as_it_signs() -> None:
    """E-mail shows a secret, channels sign, SMS reports carry a token; each is accepted."""
    secret = KEY.encode()
    signed = {
        "authorization": BIRD.verify.sign(secret, delivery(b'[{"msys":{}}]'), NOW),
        "messagebird-signature": BIRD.verify.sign(secret, delivery(b'{"service":"channels"}'), NOW),
        "messagebird-signature-jwt": BIRD.verify.sign(secret, delivery(), NOW),
    }
    for header, one in signed.items():
        assert header in one.headers
        assert accepted(one)
        assert not accepted(one, key="another")
    assert f"Basic {b64encode(secret).decode()}" == signed["authorization"].headers["authorization"]
    assert "messagebird-request-timestamp" in CHANNELS_SIGNATURE.sign(secret, delivery(b"{}"), NOW).headers


@given(BODIES, TEXTS, TEXTS, TEXTS)
def test_whatever_arrives_only_a_signature_error_comes_out(body: bytes, code: str, stamp: str, query: str) -> None:
    """Hostile headers, tokens and queries."""
    headers = {"messagebird_signature": code, "messagebird_request_timestamp": stamp}
    token = f"{code}.{stamp}.{query}"
    assert not accepted(
        delivery(body, f"{URL}?{query}", **headers, messagebird_signature_jwt=token, authorization=code)
    )
    stamped = {**headers, "messagebird_request_timestamp": str(int(NOW.timestamp()))}
    assert not accepted(delivery(body, f"{URL}?%ff={query}", **stamped, messagebird_signature_jwt="e30.e30.AAAA"))


def test_e_mail_events_come_out_as_sparkposts() -> None:
    """One format, one reading: only the platform's name differs."""
    case = samples.case("sparkpost", "all-types")
    ours = [normalise(BIRD, item, case.arrival).event for item in BIRD.split(case.delivery)]
    theirs = [record.event for record in case.recordables]
    assert len(theirs) == len(ours)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.type, one.person, one.send_key, one.properties) == (
            other.type,
            other.person,
            other.send_key,
            other.properties,
        )


def test_statuses_in_any_order_and_again_are_the_same_events() -> None:
    """Message, status and recipient make the event, whatever else changes."""
    assert read().event_id == read(meta={"note": "later"}).event_id
    assert read().event_id != read(status="sent").event_id
    assert read().send_key == read(status="sent").send_key


def test_the_time_of_a_status_is_its_own() -> None:
    """Of what Bird tells, the latest that concerns the status."""
    assert datetime(2026, 1, 15, 10, 0, 37, 101000, tzinfo=UTC) == read().occurred_at
    assert (
        datetime(2026, 1, 15, 10, 0, 36, tzinfo=UTC)
        == read(lastStatusAt=None, updatedAt="2026-01-15T10:00:36Z").occurred_at
    )
    assert datetime(2026, 1, 15, 10, 0, 30, tzinfo=UTC) == read(lastStatusAt=None).occurred_at


def test_the_clicks_of_one_person_on_two_links_are_two_events() -> None:
    """The link is part of what makes a click."""
    click = json.loads(samples.case("bird", "clicked").body)
    links = [read(click, metadata={"link": f"https://shop.example.net/{page}"}) for page in "ab"]
    assert 2 == len({event.event_id for event in links})
    assert {"dddddddd-0000-4000-8000-000000000001/ada@example.net"} == {event.send_key for event in links}
