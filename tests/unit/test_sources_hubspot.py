"""HubSpot: its three ways of signing, judged by its own library, and what its subscription events mean."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hubspot.utils.signature import Signature  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from espial import sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from espial.sources.hubspot import OLDER, V3
from espial.verify import Scheme
from tests import samples

HUBSPOT = sources.load("hubspot")
CASE = samples.case("hubspot", "contacts")
BASE: dict[str, Any] = samples.case("hubspot", "opt-out").items[0]
URL = "https://hooks.example.com/in/hubspot/main"
SECRET = "client-secret"
OLD = {"signature_versions": ["v1", "v2"]}
BODIES = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3), max_size=3)


def read(**changes: Any) -> Event:
    return normalise(HUBSPOT, {**BASE, **changes}, CASE.arrival).event


def delivery(body: bytes, **changes: Any) -> Any:
    return replace(CASE.delivery, body=body, url=URL, headers={}, **changes)


@settings(max_examples=50)
@given(st.text(max_size=100), st.sampled_from(["", "?a=1&b=%20x", "?q=ä"]), st.sampled_from(["POST", "GET"]))
def test_hubspots_library_accepts_what_we_sign(body: str, query: str, method: str) -> None:
    """Version 3, over method, URL, body and milliseconds, at its own clock."""
    sent = replace(delivery(body.encode(), method=method), url=URL + query)
    signed = HUBSPOT.verify.sign(SECRET.encode(), sent, datetime.now(UTC))
    assert Signature.is_valid(
        signature=signed.headers["x-hubspot-signature-v3"],
        client_secret=SECRET,
        request_body=body,
        http_uri=URL + query,
        http_method=method,
        signature_version="v3",
        timestamp=signed.headers["x-hubspot-request-timestamp"],
    )


ENCODED, PLAIN = "?to=https%3A%2F%2Fapp.example.com%2f%3Fx", "?to=https://app.example.com/?x"


@settings(max_examples=50)
@given(
    st.text(max_size=100),
    st.sampled_from([("", ""), ("?a=1", "?a=1"), ("?a=%20b", "?a=%20b"), (ENCODED, ENCODED), (ENCODED, PLAIN)]),
)
def test_we_accept_what_hubspots_library_signs(body: str, queries: tuple[str, str]) -> None:
    """With the URL as it was called, and with the characters decoded that HubSpot says are."""
    called, signed = queries
    stamp = str(int(CASE.now.timestamp() * 1000))
    code = Signature.get_signature(SECRET, body, "v3", URL + signed, "POST", stamp)
    headers = {"x-hubspot-signature-v3": code, "x-hubspot-request-timestamp": stamp}
    sent = replace(delivery(body.encode()), url=URL + called, headers=headers)
    HUBSPOT.verify(sent, (b"other", SECRET.encode()), CASE.now)
    for changed in ({"method": "PUT"}, {"url": URL + "?b"}, {"body": body.encode() + b" "}):
        with pytest.raises(SignatureError):
            HUBSPOT.verify(replace(sent, **changed), (SECRET.encode(),), CASE.now)


@settings(max_examples=50)
@given(BODIES, st.sampled_from(["v1", "v2"]))
def test_older_versions_agree_both_ways_and_count_only_where_wanted(body: list[Any], version: str) -> None:
    """A plain hash of secret and message; no connection takes it unless its settings list it."""
    raw = json.dumps(body)
    sent = delivery(raw.encode())
    code = Signature.get_signature(SECRET, raw, version, URL, "POST")
    signed = OLDER[version].sign(SECRET.encode(), sent, CASE.now)
    assert code == signed.headers["x-hubspot-signature"]
    HUBSPOT.verify(signed, (SECRET.encode(),), CASE.now, settings=OLD)
    for refused in ({}, {"signature_versions": "v1 v2"}, {"signature_versions": ["v3"]}, {"signature_versions": 2}):
        with pytest.raises(SignatureError):
            HUBSPOT.verify(signed, (SECRET.encode(),), CASE.now, settings=refused)
    with pytest.raises(SignatureError):
        HUBSPOT.verify(replace(signed, body=raw.encode() + b" "), (SECRET.encode(),), CASE.now, settings=OLD)


def test_a_continued_hash_is_not_taken_for_a_body() -> None:
    """A plain hash can be continued without the secret; what is appended to it is never part of a JSON document."""
    scheme: Scheme = OLDER["v1"]
    sent = delivery(b"[]\x80" + b"\x00" * 40 + b"[]")
    with pytest.raises(SignatureError, match="not JSON"):
        scheme.verify(scheme.sign(SECRET.encode(), sent, CASE.now), (SECRET.encode(),), CASE.now)


@given(st.floats(-3000, 3000).filter(lambda off: abs(abs(off) - 300) > 0.01))
def test_milliseconds_are_fresh_for_five_minutes(off: float) -> None:
    """Either way; HubSpot signs each attempt afresh."""
    signed = V3.sign(SECRET.encode(), delivery(b"[]"), CASE.now + timedelta(seconds=off))
    if abs(off) < 300:
        HUBSPOT.verify(signed, (SECRET.encode(),), CASE.now)
    else:
        with pytest.raises(SignatureError):
            HUBSPOT.verify(signed, (SECRET.encode(),), CASE.now)


@given(st.randoms(use_true_random=False), st.integers(1, 9))
def test_an_attempt_changes_neither_identity_nor_content(chance: random.Random, attempt: int) -> None:
    """Retried batches may be grouped otherwise and count their attempts."""
    again = [{**item, "attemptNumber": attempt} for item in CASE.items]
    chance.shuffle(again)
    first = {record.event.event_id: record.event for record in CASE.recordables}
    second = [normalise(HUBSPOT, item, CASE.arrival).event for item in again]
    assert first == {event.event_id: event for event in second}


@pytest.mark.parametrize(
    "changed", [{"portalId": 1}, {"subscriptionId": 2}, {"eventId": 3}, {"occurredAt": 1768471237001}, {"objectId": 4}]
)
def test_an_event_id_counts_within_its_subscription(changed: dict[str, int]) -> None:
    """And is not unique for sure, so account, subscription, time and object go with it."""
    assert read().event_id != read(**changed).event_id


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hs_email_optout", "true", ("unsubscribed", None)),
        ("hs_email_optout", True, ("unsubscribed", None)),
        ("hs_email_optout", "false", ("subscribed", None)),
        ("hs_email_optout", "", ("subscribed", None)),
        ("hs_email_optout_555", "true", ("unsubscribed", "555")),
        ("hs_email_optout_555", "false", ("subscribed", "555")),
        ("hs_lead_status", "OPEN", ("lead_status_changed", None)),
        ("hubspotscore", "12", ("lead_score_changed", None)),
        ("firstname", "Ada", ("profile_updated", None)),
    ],
)
def test_a_property_says_what_its_change_means(name: str, value: Any, expected: tuple[str, str | None]) -> None:
    """Consent is a property of the contact, of all e-mail or of one subscription type."""
    event = read(propertyName=name, propertyValue=value)
    assert expected == (event.type, event.properties.get("topic"))


def test_a_contacts_new_address_is_the_persons() -> None:
    """Events name contacts by id; this one links the id to an address."""
    event = read(propertyName="email", propertyValue=" Ada@Example.com")
    assert ("123", "ada@example.com") == (event.person.source_contact_id, event.person.email)


def test_only_what_changed_becomes_the_profiles() -> None:
    """Account numbers and sources are facts of the report, not traits of a person."""
    assert {"city": "Exampleton"} == read(propertyName="city", propertyValue="Exampleton").properties["traits"]
    assert {} == read(subscriptionType="contact.deletion", propertyName=None).properties["traits"]


@pytest.mark.parametrize(("kind", "expected"), [("0-1", "123"), ("0-3", None), (None, None)])
def test_an_object_is_a_contact_by_its_type(kind: str | None, expected: str | None) -> None:
    """The general kind `object.` covers deals and tickets too, which are nobody."""
    event = read(subscriptionType="object.propertyChange", objectTypeId=kind, propertyName="name")
    assert expected == event.person.source_contact_id
    assert ("profile_updated" if expected else "custom") == event.type
