"""Twilio: signatures over URL and parameters, statuses in any order, what its fields mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from espial import sources
from espial.deliveries import Arrival, RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

TWILIO = sources.load("twilio")
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
TOKEN = "twilio-auth-token-0001"
URL = "https://hooks.example.net/v1/in/twilio?tenant=t1"
FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
ARRIVAL = samples.case("twilio", "delivered").arrival
BASE = {"MessageSid": "SM1", "MessageStatus": "sent", "To": "+15555550101"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMETERS = st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=6)
URLS = st.sampled_from(
    [
        URL,
        "https://hooks.example.net:443/in/twilio/main",
        "https://hooks.example.net:8443/in/twilio/main?a=%2B1&b=",
        "http://hooks.example.net/in/twilio/main?x=a:80",
        "https://hooks.example.net/in/twilio/main?q=%C3%A9&q=2",
    ]
)


class Many(dict[str, list[str]]):
    """A form with repeated names, as web frameworks hold one."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


def delivery(body: bytes, url: str = URL, method: str = "POST", **headers: str) -> RawDelivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawDelivery(
        delivery_id="d",
        platform="twilio",
        connection="main",
        transport="webhook",
        body=body,
        received_at=NOW,
        headers={**(FORM if body else {}), **named},
        method=method,
        url=url,
    )


def accepted(given_: RawDelivery, token: str = TOKEN) -> bool:
    try:
        TWILIO.verify(given_, (token.encode(),), NOW)
    except SignatureError:
        return False
    return True


def read(**changes: Any) -> Event:
    return normalise(TWILIO, {**BASE, **changes}, ARRIVAL).event


def test_a_vector_made_elsewhere_is_accepted_and_any_change_refused() -> None:
    """URL, then names and values in order of name; a form's order of fields does not count."""
    parameters = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+15005550006", "AccountSid": "AC1"}
    signature = "QKXSGU9LTPaxhZwktPGKvSgMfhc="
    body = urlencode(parameters).encode()
    assert accepted(delivery(body, x_twilio_signature=signature))
    assert not accepted(delivery(body.replace(b"%2B", b"+"), x_twilio_signature=signature))
    assert not accepted(delivery(body, URL + "x", x_twilio_signature=signature))
    assert not accepted(delivery(body, x_twilio_signature=signature), "another tenant's")
    assert not accepted(delivery(body[:-1], x_twilio_signature=signature))


@settings(max_examples=50)
@given(PARAMETERS, URLS, st.sampled_from([None, "HMAC_SHA1", "HMAC_SHA256"]))
def test_what_twilios_library_signs_is_accepted(parameters: dict[str, str], url: str, algorithm: str | None) -> None:
    """Its own signer, on random forms, by token and by shared key."""
    signature = RequestValidator(TOKEN).compute_signature(url, parameters, algorithm)
    named = {"x_twilio_webhooks_signature_settings": f"key=webhooks_1,algorithm={algorithm}"} if algorithm else {}
    assert accepted(delivery(urlencode(parameters).encode(), url, x_twilio_signature=signature, **named))


@settings(max_examples=50)
@given(PARAMETERS, URLS)
def test_what_is_signed_here_twilios_library_accepts(parameters: dict[str, str], url: str) -> None:
    """The samples are signed as Twilio does."""
    signed = TWILIO.verify.sign(TOKEN.encode(), delivery(urlencode(parameters).encode(), url), NOW)
    assert RequestValidator(TOKEN).validate(signed.url, parameters, signed.headers["x-twilio-signature"])


@settings(max_examples=50)
@given(st.dictionaries(TEXTS.filter(bool), st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_repeated_names_are_signed_once_for_each_value(form: dict[str, list[str]]) -> None:
    """As the library does for frameworks that keep every value."""
    signature = RequestValidator(TOKEN).compute_signature(URL, Many(form))
    assert accepted(delivery(urlencode(form, doseq=True).encode(), x_twilio_signature=signature))


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_json_body_is_covered_by_its_hash_in_the_url(body: str) -> None:
    """Both ways with the library; a changed body keeps the URL's signature and is refused all the same."""
    judge = RequestValidator(TOKEN)
    plain = delivery(body.encode(), content_type="application/json")
    signed = TWILIO.verify.sign(TOKEN.encode(), plain, NOW)
    assert judge.validate(signed.url, body, signed.headers["x-twilio-signature"])
    assert accepted(signed)
    assert not accepted(replace(signed, body=signed.body + b" "))


def test_json_without_a_hash_in_the_url_is_refused() -> None:
    """Nothing would cover the body."""
    signature = RequestValidator(TOKEN).compute_signature(URL, {})
    assert not accepted(delivery(b'{"a":1}', content_type="application/json", x_twilio_signature=signature))


@pytest.mark.parametrize("called", ["https://hooks.example.net/in", "https://hooks.example.net:443/in"])
@pytest.mark.parametrize("configured", ["https://hooks.example.net/in", "https://hooks.example.net:443/in"])
def test_the_default_port_may_stand_in_the_url_or_not(called: str, configured: str) -> None:
    """Twilio is not consistent about it."""
    signature = RequestValidator(TOKEN).compute_signature(called, BASE)
    assert accepted(delivery(urlencode(BASE).encode(), configured, x_twilio_signature=signature))


def test_the_fragment_of_a_callback_url_is_not_signed() -> None:
    """It holds options for Twilio itself."""
    signature = RequestValidator(TOKEN).compute_signature(URL, BASE)
    assert accepted(delivery(urlencode(BASE).encode(), URL + "#rc=3&rp=all", x_twilio_signature=signature))


def test_blank_parameters_are_signed() -> None:
    """Dropping them while parsing would refuse every inbound message."""
    parameters = {**BASE, "FromCity": "", "FromZip": ""}
    signature = RequestValidator(TOKEN).compute_signature(URL, parameters)
    body = urlencode(parameters).encode()
    assert accepted(delivery(body, x_twilio_signature=signature))
    assert not accepted(delivery(body.replace(b"&FromZip=", b""), x_twilio_signature=signature))


def test_a_get_is_covered_by_its_url() -> None:
    """The status lies in the query, and the query is signed."""
    url = f"{URL}&{urlencode(BASE)}"
    signature = RequestValidator(TOKEN).compute_signature(url, {})
    assert accepted(delivery(b"", url, "GET", x_twilio_signature=signature))
    assert not accepted(delivery(b"", url.replace("sent", "read"), "GET", x_twilio_signature=signature))


@pytest.mark.parametrize("algorithm", ["HMAC_MD5", "none", "key=1"])
def test_an_algorithm_that_is_not_known_is_refused(algorithm: str) -> None:
    """The header chooses among two, and no other."""
    signed = TWILIO.verify.sign(TOKEN.encode(), delivery(urlencode(BASE).encode()), NOW)
    named = {**signed.headers, "x-twilio-webhooks-signature-settings": f"key=k,algorithm={algorithm}"}
    assert not accepted(replace(signed, headers=named))


@given(st.binary(max_size=60), TEXTS, TEXTS, st.sampled_from(["GET", "POST"]), st.booleans())
def test_whatever_arrives_only_a_signature_error_comes_out(
    body: bytes, signature: str, query: str, method: str, is_form: bool
) -> None:
    """Hostile bytes in body, header and query."""
    kind = FORM["content-type"] if is_form else "application/json"
    hostile = delivery(body, f"{URL}&bodySHA256={query}", method, x_twilio_signature=signature, content_type=kind)
    assert not accepted(hostile)
    assert not accepted(replace(hostile, headers={**hostile.headers, "x-twilio-signature": "AAAA"}))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("undelivered", "30003", "soft_bounced"),
        ("undelivered", "30004", "blocked"),
        ("undelivered", "30005", "bounced"),
        ("undelivered", "30006", "bounced"),
        ("failed", "30007", "blocked"),
        ("undelivered", "30008", "soft_bounced"),
        ("failed", "21610", "dropped"),
        ("undelivered", "30001", "failed"),
        ("failed", None, "failed"),
        ("delivered", "30005", "delivered"),
    ],
)
def test_what_was_not_delivered_is_classed_by_its_error_code(status: str, code: str | None, expected: str) -> None:
    """Only an unknown number or a landline condemns the number; a code beside another status says nothing."""
    assert expected == read(MessageStatus=status, ErrorCode=code).type


def orders() -> Iterator[tuple[str, ...]]:
    return permutations(["queued", "sent", "delivered", "read"])


def test_statuses_in_any_order_are_the_same_events() -> None:
    """One event a status, whichever came first: a late `sent` cannot take back `delivered`."""
    seen = [frozenset(read(MessageStatus=one).event_id for one in order) for order in orders()]
    assert 1 == len(set(seen))
    assert 4 == len(seen[0])
    assert 1 == len({read(MessageStatus=one).send_key for one in ("queued", "sent", "delivered", "read")})


def test_an_event_is_dated_by_its_receipt_and_says_so() -> None:
    """Twilio tells no time; the carrier's clock, in a zone unknown, is a property."""
    event = read(RawDlrDoneDate="2601010000")
    assert (ARRIVAL.received_at, True) == (event.occurred_at, event.time_uncertain)
    assert {"RawDlrDoneDate": "2601010000"} == event.properties
    later = Arrival(
        connection=ARRIVAL.connection,
        transport="webhook",
        received_at=ARRIVAL.received_at + timedelta(milliseconds=900),
    )
    assert event.event_id == normalise(TWILIO, {**BASE, "RawDlrDoneDate": "2601010000"}, later).event.event_id


def test_a_received_message_is_about_its_sender_and_ties_to_no_send() -> None:
    """`From` is the person there, and its id is the reply's own."""
    event = read(MessageStatus=None, SmsStatus="received", From="+15555550109", To="+15555550102", Body="hi")
    assert ("replied", "+15555550109", None) == (event.type, event.person.phone, event.send_key)
    assert {"Body": "hi", "To": "+15555550102"} == event.properties


def test_every_status_is_read_as_it_is_posted() -> None:
    """A form in, JSON of the same fields in: the same event."""
    form = TWILIO.split(delivery(urlencode(BASE).encode()))
    assert [BASE] == form == TWILIO.split(delivery(json.dumps(BASE).encode(), content_type="application/json"))
