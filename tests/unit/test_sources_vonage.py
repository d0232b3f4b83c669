"""Vonage: signed parameters in five methods and a token, receipts that are repeated, what its fields mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vonage_http_client.auth import Auth
from vonage_jwt import verify_signature

from espial import sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

VONAGE = sources.load("vonage")
NOW = datetime(2026, 1, 15, 10, 5, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
SECRET = "vonage-sig-secret-0001"
LONG = SECRET * 4
"""Long enough for the keys of tokens, which their library would warn of else."""
URL = "https://hooks.example.net/in/vonage/main"
FORM = "application/x-www-form-urlencoded"
ARRIVAL = samples.case("vonage", "accepted").arrival
BASE = {
    "messageId": "m1",
    "msisdn": "15555550101",
    "status": "delivered",
    "scts": "2601151004",
    "err-code": "0",
    "message-timestamp": "2026-01-15 10:04:33",
}
HASHES = ["md5", "sha1", "sha256", "sha512"]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda one: one != "sig")
VALUES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("&="), max_size=8)
PARAMETERS = st.dictionaries(NAMES, VALUES, max_size=5)


def delivery(parameters: dict[str, str], how: str = "form", **headers: str) -> RawDelivery:
    body = {"form": urlencode(parameters), "json": json.dumps(parameters), "get": ""}[how]
    return RawDelivery(
        delivery_id="d",
        platform="vonage",
        connection="main",
        transport="webhook",
        body=body.encode(),
        received_at=NOW,
        headers={"content-type": "application/json" if how == "json" else FORM, **headers},
        method="GET" if how == "get" else "POST",
        url=f"{URL}?{urlencode(parameters)}" if how == "get" else URL,
    )


def accepted(given_: RawDelivery, method: str | None = None, secret: str = SECRET, **more: Any) -> bool:
    chosen = {"signature_method": method} if method else {}
    source = VONAGE.configured(chosen) if VONAGE.configured else VONAGE
    try:
        source.verify(given_, (secret.encode(),), NOW, settings={**chosen, **more})
    except SignatureError:
        return False
    return True


def judge(method: str) -> Auth:
    return Auth(api_key="abcd1234", signature_secret=SECRET, signature_method=method)


def read(**changes: Any) -> Event:
    return normalise(VONAGE, {**BASE, **changes}, ARRIVAL).event


def pinned(method: str) -> sources.Source:
    return sources.of(replace(samples.connection("vonage"), settings={"signature_method": method}))


@pytest.mark.parametrize("how", ["form", "json", "get"])
@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("md5hash", "2201a611a228e2fc3c22b9b25b6cd995"),
        ("sha256", "c0d96751815747585dece17e58d7074be99c65e670b39c843810bbecc8247d98"),
    ],
)
def test_vectors_made_elsewhere_are_accepted(how: str, method: str, code: str) -> None:
    """`&` in a value counts as `_`; the code in either case; by that method and by no other."""
    parameters = {
        "messageId": "0A1",
        "status": "delivered",
        "err-code": "0",
        "to": "VON&AGE",
        "timestamp": "1767225600",
    }
    for sig in (code, code.upper()):
        signed = delivery({**parameters, "sig": sig}, how)
        assert accepted(signed, method, max_age_seconds=10**8)
        assert accepted(signed, max_age_seconds=10**8)
        assert not accepted(signed, "md5", max_age_seconds=10**8)
        assert not accepted(signed, method, "another tenant's", max_age_seconds=10**8)
        assert not accepted(signed, method)
        assert not accepted(
            delivery({**parameters, "sig": sig, "status": "failed"}, how), method, max_age_seconds=10**8
        )


@settings(max_examples=50)
@given(PARAMETERS, st.sampled_from(HASHES), st.sampled_from(["form", "json", "get"]))
def test_what_vonages_library_signs_is_accepted(parameters: dict[str, str], method: str, how: str) -> None:
    """Its own signer, on random parameters with `&` and `=` in them."""
    stamped = {**parameters, "timestamp": STAMP}
    if how == "get":
        stamped = {name: value for name, value in stamped.items() if name not in ("key", "access_token")}
    sig = judge(method).sign_params(dict(stamped))
    assert accepted(delivery({**stamped, "sig": sig}, how), method)


@settings(max_examples=50)
@given(PARAMETERS, st.sampled_from(HASHES), st.sampled_from(["form", "json", "get"]))
def test_what_is_signed_here_vonages_library_accepts(parameters: dict[str, str], method: str, how: str) -> None:
    """The samples are signed as Vonage does, wherever the parameters stand."""
    signed = pinned(method).verify.sign(SECRET.encode(), delivery(parameters, how), NOW)
    (found,) = VONAGE.split(signed)
    assert judge(method).check_signature(found)


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=60))
def test_the_messages_apis_token_covers_the_body(body: bytes) -> None:
    """Both ways with Vonage's library and a token made by another; a changed body keeps its token in vain."""
    plain = replace(delivery(BASE, "json"), body=body)
    signed = pinned("jwt").verify.sign(LONG.encode(), plain, NOW)
    token = signed.headers["authorization"].removeprefix("Bearer ")
    assert verify_signature(token, LONG)
    claims = jwt.decode(token, LONG, algorithms=["HS256"], options={"verify_iat": False})
    theirs = jwt.encode(claims, LONG, algorithm="HS256")
    assert accepted(replace(plain, headers={**plain.headers, "authorization": f"Bearer {theirs}"}), "jwt", LONG)
    assert not accepted(replace(signed, body=body + b" "), "jwt", LONG)
    assert not accepted(replace(signed, body=body + b" "), secret=LONG)


@pytest.mark.parametrize(
    "change",
    [
        {"payload_hash": None},
        {"payload_hash": 7},
        {"payload_hash": "é"},
        {"iat": True},
        {"iat": "now"},
        {"iat": int(NOW.timestamp()) - 90_000},
        {"exp": int(NOW.timestamp()) - 61},
        {"nbf": int(NOW.timestamp()) + 61},
        {"exp": []},
    ],
)
def test_a_token_with_a_claim_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    """Right signature, wrong body, time or shape."""
    plain = delivery(BASE, "json")
    claims: dict[str, Any] = {"iat": int(NOW.timestamp()), "payload_hash": sha256(plain.body).hexdigest()}
    for right, found in ((True, claims), (False, {**claims, **change})):
        token = jwt.encode(found, LONG, algorithm="HS256")
        shown = replace(plain, headers={**plain.headers, "authorization": f"Bearer {token}"})
        assert right == accepted(shown, "jwt", LONG)


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_a_token_of_another_algorithm_is_refused(algorithm: str) -> None:
    """`none` above all."""
    plain = delivery(BASE, "json")
    claims = {"iat": int(NOW.timestamp()), "payload_hash": sha256(plain.body).hexdigest()}
    token = jwt.encode(claims, "" if algorithm == "none" else LONG, algorithm=algorithm)
    assert not accepted(replace(plain, headers={**plain.headers, "authorization": f"Bearer {token}"}), "jwt", LONG)


def test_without_a_method_set_a_secret_in_the_url_is_proof() -> None:
    """For accounts that do not sign; with a method set, nothing but that signature is."""
    keyed = replace(delivery(BASE), url=f"{URL}?key={SECRET}")
    assert accepted(keyed)
    assert not accepted(keyed, secret="another")
    assert not accepted(delivery(BASE))
    for method in [*HASHES, "md5hash", "jwt"]:
        assert not accepted(keyed, method)


@pytest.mark.parametrize("method", ["rot13", "", 7, ["md5"]])
def test_a_method_that_vonage_does_not_have_is_no_setting(method: Any) -> None:
    """Told when the definitions are applied, not by refused receipts."""
    with pytest.raises(ValueError, match="signature_method: must be one of md5hash, md5, sha1"):
        sources.of(replace(samples.connection("vonage"), settings={"signature_method": method}))


@given(st.binary(max_size=60), VALUES, VALUES, st.sampled_from(["form", "json", "get"]))
def test_whatever_arrives_only_a_signature_error_comes_out(body: bytes, value: str, token: str, how: str) -> None:
    """Hostile bytes in body, query and token."""
    shown = delivery({"sig": value, "timestamp": value}, how, authorization=f"Bearer {token}.{value}.{token}")
    assert not accepted(shown)
    assert not accepted(replace(shown, body=body))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("failed", "2", "soft_bounced"),
        ("failed", "3", "bounced"),
        ("failed", "4", "bounced"),
        ("failed", "5", "failed"),
        ("failed", "6", "blocked"),
        ("rejected", "9", "dropped"),
        ("failed", "10", "rejected"),
        ("failed", "12", "bounced"),
        ("failed", "54", "blocked"),
        ("failed", "99", "failed"),
        ("rejected", "99", "blocked"),
        ("accepted", "3", "sent"),
        ("buffered", "2", "deferred"),
        ("delivered", "3", "delivered"),
    ],
)
def test_a_failure_is_classed_by_its_error_code(status: str, code: str, expected: str) -> None:
    """Only where the status is one: `accepted` carries any code."""
    assert expected == read(status=status, **{"err-code": code}).type


def test_a_receipt_posted_again_is_the_same_event() -> None:
    """`message-timestamp` is when it was posted and changes; the carrier's minute does not."""
    first, again = read(), read(**{"message-timestamp": "2026-01-15 10:14:40"})
    assert first.event_id == again.event_id
    assert datetime(2026, 1, 15, 10, 4, 33, tzinfo=UTC) == first.occurred_at
    assert first.event_id != read(status="buffered").event_id
    assert first.event_id != read(messageId="m2").event_id


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"message-timestamp": None}, (datetime(2026, 1, 15, 10, 4, tzinfo=UTC), False)),
        ({"scts": "soon"}, (datetime(2026, 1, 15, 10, 4, 33, tzinfo=UTC), False)),
        ({"scts": "2613991004", "message-timestamp": ""}, (ARRIVAL.received_at, True)),
    ],
)
def test_the_time_is_what_is_told_of_it(times: dict[str, Any], expected: tuple[datetime, bool]) -> None:
    """Vonage's second, else the carrier's minute, else the receipt's, which says so."""
    event = read(**times)
    assert expected == (event.occurred_at, event.time_uncertain)


def test_msisdn_is_the_customer_whichever_way_the_message_went() -> None:
    """In E.164, which Vonage writes without the plus."""
    assert "+15555550101" == read().person.phone
    received = read(status=None, text="Hello", to="15555550102")
    assert ("replied", "+15555550101", None) == (received.type, received.person.phone, received.send_key)


def test_a_parameter_without_its_signature_is_not_a_property() -> None:
    """What proves the delivery is not what happened."""
    assert {"price": "0.1", "scts": "2601151004"} == read(sig="x", nonce="n", timestamp="1", price="0.1").properties
