"""Adobe I/O Events: two ways of proof, keys that lie at Adobe, the two handshakes, and whose events they are."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import Connection, RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.gateway import Request
from espial.normalise import normalise
from espial.services.receive_webhook import receive_webhook
from tests import samples
from tests.fakes import FakeConnections, FakeDeliveryQueue, FakeOutside

ADOBE = sources.load("adobe")
CASE = samples.case("adobe", "journey-optimizer")
SENT = CASE.items[0]
KEYS = CASE.keys
OURS = {"client_id": "CLIENT1"}
PATH = "/prod/keys/pub-key-0f6c1c2e-0000-4000-8000-000000000001.pem"
PEM = load_der_public_key(b64decode(KEYS.accepted)).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def delivery(body: Any, **headers: str) -> RawDelivery:
    """Signed by Adobe, with more headers on top."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    found = signing.signed(KEYS.signing, replace(CASE.delivery, body=raw, headers={}), CASE.now)
    return replace(
        found, headers={**found.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )


def by_client_secret(body: bytes, secret: bytes) -> RawDelivery:
    code = b64encode(hmac.digest(secret, body, "sha256")).decode()
    return replace(CASE.delivery, body=body, headers={"x-adobe-signature": code})


def verify(given_: RawDelivery, *secrets: bytes, settings: Mapping[str, Any] = OURS) -> None:
    ADOBE.verify(given_, secrets, CASE.now, settings=settings)


def event(item: dict[str, Any]) -> Event:
    return normalise(ADOBE, item, CASE.arrival).event


def test_the_older_signature_is_a_code_under_the_client_secret() -> None:
    """A known value."""
    expected = "nRyToU8E1uUfivG1P+Rof+RDHnXTp3uWZqTLMivQ+dI="
    given_ = by_client_secret(b'{"a":1}', b"client-secret")
    assert expected == given_.headers["x-adobe-signature"]
    verify(given_, b"old", b"client-secret", settings={})


@given(st.binary(max_size=100))
def test_a_public_key_never_opens_as_if_it_were_a_client_secret(body: bytes) -> None:
    """Everybody knows it, and could sign with its bytes."""
    for known in (PEM, PEM.strip(), KEYS.accepted):
        with pytest.raises(SignatureError):
            verify(by_client_secret(body, known), known)


def test_one_valid_signature_of_two_suffices() -> None:
    """Adobe signs with an old and a new key while it changes them."""
    good = delivery([SENT]).headers["x-adobe-digital-signature-1"]
    wrong = delivery([]).headers["x-adobe-digital-signature-1"]
    for one, two in ((good, wrong), (wrong, good), ("", good)):
        verify(delivery([SENT], x_adobe_digital_signature_1=one, x_adobe_digital_signature_2=two), PEM)
    with pytest.raises(SignatureError):
        verify(delivery([SENT], x_adobe_digital_signature_1=wrong, x_adobe_digital_signature_2=wrong), PEM)


@pytest.mark.parametrize(
    "path",
    [
        "/prod/keys/../pub-key-1.pem",
        "/prod/keys/pub-key-1.pem?x=1",
        "/prod/keys/pub-key-1.pem#",
        "/prod/keys/pub-key-/1.pem",
        "/prod/keys/pub-key-1\n.pem",
        "@evil.example.net/prod/keys/pub-key-1.pem",
        ".evil.example.net/prod/keys/pub-key-1.pem",
        "https://evil.example.net/prod/keys/pub-key-1.pem",
        "/prod/keys/pub-key-\u0661.pem",
        "/stage/keys/pub-key-1.pem",
    ],
)
def test_keys_lie_at_adobe_alone(path: str) -> None:
    """Whoever could name the key could sign."""
    with pytest.raises(SignatureError):
        ADOBE.verify.key_urls(delivery([SENT], x_adobe_public_key2_path=path))


def test_both_keys_are_fetched() -> None:
    """As the delivery names them; one that names none needs a secret."""
    expected = ("https://static.adobeioevents.com" + PATH, "https://static.adobeioevents.com" + PATH)
    both = delivery([SENT], x_adobe_public_key1_path=PATH, x_adobe_public_key2_path=PATH)
    assert expected == ADOBE.verify.key_urls(both)
    assert () == ADOBE.verify.key_urls(by_client_secret(b"[]", b"client-secret"))


@pytest.mark.parametrize(
    "body",
    [
        [SENT, {**SENT, "recipientclientid": "CLIENT2"}],
        [{**SENT, "recipientclientid": ["CLIENT1"]}],
        [{name: value for name, value in SENT.items() if name != "recipientclientid"}],
        [SENT, "text"],
        {**SENT, "recipientclientid": "client1"},
        b"[{",
        b'"CLIENT1"',
    ],
)
def test_what_adobe_signs_must_be_meant_for_us(body: Any) -> None:
    """Every customer of Adobe's gets the same signature: each item of a batch has to name our client."""
    with pytest.raises(SignatureError):
        verify(delivery(body), PEM)


@pytest.mark.parametrize("settings", [{}, {"client_id": ""}, {"client_id": 1}])
def test_without_our_client_id_nothing_adobe_signs_is_believed(settings: dict[str, Any]) -> None:
    """And a definition without it is refused when it is applied."""
    with pytest.raises(SignatureError, match="client_id"):
        verify(delivery([SENT]), PEM, settings=settings)
    if settings:
        connection = Connection(name="a", platform="adobe", settings=settings)
        with pytest.raises(ValueError, match="client_id"):
            sources.of(connection)


def test_the_older_name_of_the_recipient_counts_too() -> None:
    """It stands beside `event` in the older shape, until the end of 2026."""
    verify(delivery({"recipient_client_id": "CLIENT1", "event": {"@type": "xdmCreated"}}), PEM)


@pytest.mark.parametrize(
    ("method", "query", "expected"),
    [
        ("GET", "challenge=8ec8d794-0000-4000-8000-000000000001", "8ec8d794-0000-4000-8000-000000000001"),
        ("GET", "challenge=<script>", None),
        ("GET", "challenge=", None),
        ("GET", "", None),
        ("POST", "challenge=8ec8d794", None),
    ],
)
def test_the_challenge_is_answered_with_its_value(method: str, query: str, expected: str | None) -> None:
    """As text, and nothing but plain words."""
    assert ADOBE.handshake is not None
    reply = ADOBE.handshake(
        replace(CASE.delivery, method=method, url=f"https://hooks.example.com/in/adobe/a?{query}"), ()
    )
    assert expected == (reply.body if reply else None)
    if reply:
        assert (200, {"content-type": "text/plain"}) == (reply.status, reply.headers)


@pytest.mark.parametrize(
    "url",
    [
        "http://csm.adobe.io/validate?id=1",
        "https://csm.adobe.io.example.net/validate",
        "https://csm.adobe.io@example.net/validate",
        "https://example.net/csm.adobe.io",
        "https://csm.adobe.io:8443/validate",
        "https://[csm.adobe.io/validate",
        "",
    ],
)
def test_a_validation_leads_to_adobe_alone(url: str) -> None:
    """The address comes with the request: it may not lead anywhere else."""
    assert ADOBE.confirm is not None
    with pytest.raises(SignatureError):
        ADOBE.confirm(delivery({"validationUrl": url}), OURS)


def received(given_: RawDelivery, pages: Mapping[str, bytes]) -> tuple[int, str, FakeOutside, FakeDeliveryQueue]:
    connection = Connection(name="acme", platform="adobe", account="acme", settings=OURS)
    outside, queue = FakeOutside(**pages), FakeDeliveryQueue()
    request = Request(
        id="r-1",
        method="POST",
        path={"platform": "adobe", "connection": "acme"},
        query="",
        headers=given_.headers,
        body=given_.body,
    )
    outcome = receive_webhook(
        request, FakeConnections(connection), queue, outside, public_url="https://hooks.example.com", now=CASE.now
    )
    return outcome.reply.status, outcome.reason, outside, queue


def test_keys_are_fetched_and_a_validation_is_followed_only_when_it_is_signed() -> None:
    """Through the receiver, whose connection has no secrets: the keys at Adobe prove."""
    page = "https://csm.adobe.io/csm/registrations/validate?id=1&challenge=2"
    named = delivery({"validationUrl": page}, x_adobe_public_key1_path=PATH)
    key = f"https://static.adobeioevents.com{PATH}"
    assert (200, "confirmed") == received(named, {key: PEM, page: b"ok"})[:2]
    status, reason, outside, queue = received(replace(named, headers={}), {key: PEM, page: b"ok"})
    assert (429, "bad_signature") == (status, reason)
    assert ([], []) == (outside.asked, queue.deliveries)


def test_events_through_the_receiver() -> None:
    """What Adobe signs with a key of its own is taken; the same with a key that lies there but does not fit is not."""
    key = f"https://static.adobeioevents.com{PATH}"
    whole = delivery([SENT], x_adobe_public_key1_path=PATH)
    assert (200, "accepted") == received(whole, {key: PEM})[:2]
    assert (429, "bad_signature") == received(whole, {key: samples.secret("ses").accepted})[:2]


def test_the_same_feedback_from_its_dataset_is_the_same_event() -> None:
    """The experience event's own id counts, whichever envelope it came in."""
    other = {**SENT, "id": "another", "eventid": "another", "time": "2026-01-15T10:03:00Z"}
    assert event(SENT).event_id == event(other).event_id
    changed = orjson.loads(orjson.dumps(SENT))
    changed["data"]["_id"] = "another"
    assert event(SENT).event_id != event(changed).event_id


def test_what_another_product_tells_is_identified_by_io() -> None:
    """`eventid` is I/O's own, the same over its retries."""
    item = samples.case("adobe", "unknown-type").items[0]
    assert event(item).event_id == event({**item, "id": "another"}).event_id
    assert event(item).event_id != event({**item, "eventid": "another"}).event_id


@pytest.mark.parametrize("place", ["data", "xdmEntity", "body", "event", "itself"])
def test_the_experience_event_is_found_where_it_may_stand(place: str) -> None:
    """Where exactly is not documented."""
    xdm = SENT["data"]
    wrapped: dict[str, dict[str, Any]] = {
        "data": {"data": xdm},
        "xdmEntity": {"data": {"xdmEntity": xdm}},
        "body": {"data": {"body": {"xdmEntity": xdm}}},
        "event": {"event": xdm},
        "itself": xdm,
    }
    assert event(SENT) == event(wrapped[place])


def test_a_form_answers_for_each_list_by_itself() -> None:
    """Joining one list must not hide that another was left."""
    form = next(item for item in orjson.loads(CASE.delivery.body) if "subscriptions" in str(item))
    found = {one.properties["topic"]: one.type.value for one in map(event, ADOBE.split(delivery([form])))}
    assert {"news": "subscribed", "offers": "unsubscribed", "beta": "unknown"} == found
