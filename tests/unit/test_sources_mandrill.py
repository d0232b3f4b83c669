"""Mandrill: the URL in the signature, probes without proof, and events that are named in two ways."""

from __future__ import annotations

import hashlib
import hmac
import random
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.webhooks.mandrill import MandrillCombinedWebhookView
from django.conf import settings
from django.test import RequestFactory
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import RawDelivery, Reply
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

if not settings.configured:
    settings.configure(DEFAULT_CHARSET="utf-8", ALLOWED_HOSTS=["*"])

MANDRILL = sources.load("mandrill")
KEY = "mandrill-key-0002"
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
HEADER = "x-mandrill-signature"
ALL = samples.case("mandrill", "all-types")
ITEMS: dict[str, dict[str, Any]] = {item.get("event") or item["type"]: item for item in ALL.items}
URLS = st.sampled_from(
    [
        "https://hooks.example.com/in/mandrill/main",
        "https://hooks.example.com/in/mandrill/main/",
        "https://hooks.example.com/in/mandrill/main?tenant=t1&empty=&x=%20",
        "https://user:pass@hooks.example.com:8443/in/mandrill/main",
    ]
)
FIELDS = st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=3)


def read(kind: str, **changes: Any) -> Event:
    return normalise(MANDRILL, {**ITEMS[kind], **changes}, ALL.arrival).event


def post(url: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> RawDelivery:
    return replace(ALL.delivery, url=url, body=body, headers={"content-type": FORM, **(headers or {})}, method=method)


def accepted(delivery: RawDelivery) -> bool:
    try:
        MANDRILL.verify(delivery, [b"another", KEY.encode()], NOW)
    except SignatureError:
        return False
    return True


def anymail_accepts(delivery: RawDelivery) -> bool:
    request = RequestFactory().post(
        "/", data=delivery.body, content_type=FORM, headers={"X-Mandrill-Signature": delivery.headers[HEADER]}
    )
    try:
        MandrillCombinedWebhookView(webhook_key=KEY, webhook_url=delivery.url).validate_request(request)
    except AnymailWebhookValidationFailure:
        return False
    return True


@limits(max_examples=50)
@given(url=URLS, fields=FIELDS, appended=st.text(max_size=2))
def test_django_anymail_judges_our_posts_alike(url: str, fields: dict[str, str], appended: str) -> None:
    """What we sign it accepts, blank fields and signs beyond ASCII too; at another URL both refuse."""
    body = urlencode({"mandrill_events": orjson.dumps(["é + &"]).decode(), **fields}).encode()
    delivery = signing.signed(KEY.encode(), post(url, body), NOW)
    moved = replace(delivery, url=url + appended)
    assert (appended == "") == accepted(moved)
    assert accepted(moved) == anymail_accepts(moved)


@limits(max_examples=50)
@given(url=URLS, fields=FIELDS)
def test_a_signature_by_the_vendors_recipe_is_accepted(url: str, fields: dict[str, str]) -> None:
    """The URL, then name and value of every field in order of name, decoded; HMAC-SHA1 in base64."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    code = b64encode(hmac.new(KEY.encode(), text.encode(), hashlib.sha1).digest()).decode()
    delivery = post(url, urlencode(fields).encode(), {HEADER: code})
    assert accepted(delivery)
    assert anymail_accepts(delivery)


def test_a_plus_is_a_space_before_it_is_signed() -> None:
    """The two encodings of a space are one value, so one signature opens both."""
    code = dict(signing.signed(KEY.encode(), post("https://h.example.com/", b"a=x+y"), NOW).headers)[HEADER]
    assert accepted(post("https://h.example.com/", b"a=x%20y", {HEADER: code}))
    assert not accepted(post("https://h.example.com/", b"a=x%2By", {HEADER: code}))


@given(st.binary(max_size=40), st.text(max_size=40), st.sampled_from(["", "https://h.example.com/?\udcff"]))
def test_a_hostile_post_is_refused_and_nothing_else(body: bytes, signature: str, url: str) -> None:
    """Whatever the bytes: SignatureError is the only way out."""
    assert not accepted(post(url, body, {HEADER: signature}))


@pytest.mark.parametrize(
    ("method", "body", "probe"),
    [
        ("HEAD", b"", True),
        ("POST", b"mandrill_events=%5B%5D", True),
        ("POST", b"mandrill_events=%5b%5d", True),
        ("POST", b"mandrill_events=[]", True),
        ("POST", b"mandrill_events=%5B%7B%7D%5D", False),
        ("POST", b"", False),
        ("GET", b"", False),
    ],
)
def test_probes_are_answered_without_proof(method: str, body: bytes, probe: bool) -> None:
    """They come before there is a key; they hold nothing, and nothing is kept of them."""
    assert MANDRILL.handshake is not None
    found = MANDRILL.handshake(post("https://h.example.com/", body, method=method), [])
    assert (Reply() if probe else None) == found


def test_the_probes_list_is_no_event() -> None:
    """Signed or not, there is nothing in it."""
    assert [] == MANDRILL.split(post("", b"mandrill_events=%5B%5D"))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ({"reason": "hard-bounce"}, "dropped"),
        ({"reason": "spam"}, "dropped"),
        ({"reason": "unsigned"}, "rejected"),
        ({"reason": "invalid-sender"}, "rejected"),
        ("rule", "rejected"),
        (None, "dropped"),
        ([], "dropped"),
    ],
)
def test_a_rejection_is_a_drop_unless_the_message_is_its_reason(reason: Any, expected: str) -> None:
    """The denylist's entries say why an address is on it; other reasons are about what was sent."""
    assert expected == read("reject", msg={**ITEMS["reject"]["msg"], "reject": reason}).type


@pytest.mark.parametrize("metadata", [[], None, "x", {}])
def test_empty_metadata_may_be_an_array(metadata: Any) -> None:
    """The PHP way; tags may be null besides."""
    event = read("open", msg={**ITEMS["open"]["msg"], "metadata": metadata, "tags": None})
    assert {"subject": "Receipt", "state": "sent"} == event.properties
    assert event.campaign is not None
    assert () == event.campaign.tags


@pytest.mark.parametrize("name", ["reject", "entry"])
def test_a_changed_list_is_about_its_entry(name: str) -> None:
    """Such a report has a `type` in place of an event, and its entry goes by two names."""
    entry = {"email": "Bo@example.net", "reason": "custom", "detail": "asked"}
    item = {"type": "denylist", "action": "add", "ts": 1768471300, name: entry}
    event = normalise(MANDRILL, item, ALL.arrival).event
    assert ("unknown", "denylist", "bo@example.net") == (event.type, event.platform_type, event.person.email)
    assert {"action": "add", "reason": "custom", "detail": "asked"} == event.properties


def test_a_deferral_says_what_the_server_said_last() -> None:
    """Its reason stands among the SMTP events alone."""
    answers = [{"diag": "451 first"}, {"diag": "452 last"}]
    failure = read("deferral", msg={**ITEMS["deferral"]["msg"], "smtp_events": answers}).failure
    assert failure is not None
    assert "452 last" == failure.reason


def test_identity_tells_clicks_of_one_second_apart() -> None:
    """A message is numbered, its events are not."""
    click = ITEMS["click"]
    assert MANDRILL.identity(click) == MANDRILL.identity(
        {**click, "location": None, "msg": {**click["msg"], "opens": [1]}}
    )
    variants = [click, {**click, "url": "https://shop.example.net/"}, {**click, "ip": "192.0.2.1"}, ITEMS["open"]]
    assert len(variants) == len({tuple(MANDRILL.identity(one)) for one in variants})


@given(st.randoms(use_true_random=False))
def test_a_batch_sent_again_in_another_order_gives_the_same_events(chance: random.Random) -> None:
    """Mandrill queues what was not answered and may batch it anew."""
    events = list(ALL.items)
    chance.shuffle(events)
    body = urlencode({"mandrill_events": orjson.dumps(events).decode()}).encode()
    later = replace(ALL.arrival, received_at=ALL.arrival.received_at + timedelta(hours=chance.randrange(20)))
    again = {normalise(MANDRILL, item, later).event.event_id for item in MANDRILL.split(post("", body))}
    assert {record.event.event_id for record in ALL.recordables} == again
