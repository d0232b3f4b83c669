"""Mailgun: a proof in the body that covers no event, and two generations of posts."""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.webhooks.mailgun import MailgunTrackingWebhookView
from django.conf import settings
from django.test import RequestFactory
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import MalformedDelivery, SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

if not settings.configured:
    settings.configure(DEFAULT_CHARSET="utf-8", ALLOWED_HOSTS=["*"])

MAILGUN = sources.load("mailgun")
KEY = "mg-signing-key-0002"
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
ARRIVAL = samples.case("mailgun", "delivered").arrival
BASE: dict[str, Any] = {
    "event": "failed",
    "id": "id-1",
    "timestamp": 1768471200.25,
    "recipient": "ada@example.com",
    "message": {"headers": {"message-id": "m-1@mg.example.org"}},
}
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=b0"}


def read(**changes: Any) -> Event:
    return normalise(MAILGUN, {**BASE, **changes}, ARRIVAL).event


def post(body: bytes, headers: dict[str, str] | None = None) -> RawDelivery:
    return replace(samples.case("mailgun", "delivered").delivery, body=body, headers=headers or {})


def signed(body: bytes, headers: dict[str, str] | None = None) -> RawDelivery:
    return signing.signed(KEY.encode(), post(body, headers), NOW)


def accepted(delivery: RawDelivery, now: datetime = NOW, key: str = KEY, **options: Any) -> bool:
    try:
        MAILGUN.verify(delivery, [key.encode()], now, settings=options)
    except SignatureError:
        return False
    return True


def anymail_accepts(delivery: RawDelivery) -> bool:
    kind = delivery.headers.get("content-type", "application/json")
    request = RequestFactory().post("/", data=delivery.body, content_type=kind)
    try:
        MailgunTrackingWebhookView(webhook_signing_key=KEY).validate_request(request)
    except AnymailWebhookValidationFailure:
        return False
    return True


def block(stamp: int | str, token: str, key: str = KEY) -> dict[str, Any]:
    code = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": code}


EVENT = st.fixed_dictionaries({"event-data": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)})


@limits(max_examples=50)
@given(event=EVENT, flip=st.integers(0, 200))
def test_django_anymail_judges_our_posts_alike(event: dict[str, Any], flip: int) -> None:
    """What we sign it accepts; with a changed byte in the proof both refuse."""
    delivery = signed(orjson.dumps(event))
    assert accepted(delivery)
    assert anymail_accepts(delivery)
    found = orjson.loads(delivery.body)
    code = found["signature"]["signature"]
    place = flip % len(code)
    found["signature"]["signature"] = code[:place] + ("1" if code[place] == "0" else "0") + code[place + 1 :]
    damaged = replace(delivery, body=orjson.dumps(found))
    assert not accepted(damaged)
    assert not anymail_accepts(damaged)


@limits(max_examples=50)
@given(stamp=st.integers(-43_200, 43_200), token=st.text("0123456789abcdef", min_size=1, max_size=50))
def test_a_proof_by_the_vendors_recipe_is_accepted(stamp: int, token: str) -> None:
    """HMAC-SHA256 of timestamp and token, hexadecimal; django-anymail says so too."""
    delivery = post(orjson.dumps({"signature": block(int(NOW.timestamp()) + stamp, token), "event-data": {}}))
    assert accepted(delivery)
    text = orjson.loads(delivery.body)
    text["signature"]["timestamp"] = str(text["signature"]["timestamp"])
    assert anymail_accepts(replace(delivery, body=orjson.dumps(text)))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", None),
        (b'{"event-data":{}}', None),
        (b"event=opened&recipient=ada%40example.com", FORM),
        (b'--b0\r\nContent-Disposition: form-data; name="event"\r\n\r\nopened\r\n--b0--\r\n', MULTIPART),
    ],
)
def test_every_kind_of_body_can_be_signed(body: bytes, headers: dict[str, str] | None) -> None:
    """JSON, form and multipart: our signer, our verifier and django-anymail agree."""
    delivery = signed(body, headers)
    assert accepted(delivery)
    assert anymail_accepts(delivery)
    assert not accepted(delivery, key="another")


def test_the_proof_covers_no_event() -> None:
    """Mailgun's own weakness, told in the notes: the body around a valid proof may be any."""
    proof = orjson.loads(signed(b'{"event-data":{"event":"opened"}}').body)["signature"]
    assert accepted(post(orjson.dumps({"signature": proof, "event-data": {"event": "complained"}})))


def test_half_a_day_is_the_tolerance_and_can_be_narrowed() -> None:
    """Retries go on for eight hours under the first signature; who fears replays may say less."""
    delivery = signed(b'{"event-data":{}}')
    assert accepted(delivery, NOW + timedelta(hours=12))
    assert not accepted(delivery, NOW + timedelta(hours=12, seconds=1))
    assert not accepted(delivery, NOW + timedelta(seconds=301), max_age_seconds=300)


def test_the_parents_code_opens_a_subaccounts_post() -> None:
    """A second code over the same, by the parent account's key; each of them needs its key."""
    proof = block(int(NOW.timestamp()), "ab" * 25, "subaccount")
    parent = block(proof["timestamp"], proof["token"])["signature"]
    both = post(orjson.dumps({"signature": {**proof, "parent-signature": parent}, "event-data": {}}))
    assert accepted(both)
    assert accepted(both, key="subaccount")
    assert not accepted(both, key="another")


JSON = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PROOF = st.dictionaries(st.sampled_from(["timestamp", "token", "signature", "parent-signature"]), JSON)


@given(
    body=st.binary(max_size=60) | st.builds(lambda proof: orjson.dumps({"signature": proof}, default=str), PROOF),
    kind=st.sampled_from(
        ["", "application/json", *FORM.values(), *MULTIPART.values(), "multipart/form-data", "\udcff"]
    ),
)
def test_a_hostile_proof_is_refused_and_nothing_else(body: bytes, kind: str) -> None:
    """Whatever stands where the proof should: never another error, never accepted."""
    assert not accepted(post(body, {"content-type": kind}))


def test_a_form_holds_the_proof_last_and_mailguns_fields_first() -> None:
    """Variables of any name are merged into a legacy post, `timestamp` and `recipient` among them."""
    body = b"event=opened&timestamp=never&token=mine&recipient=ada%40example.com&recipient=eve%40example.com&order=7"
    delivery = signed(body, FORM)
    assert accepted(delivery)
    event = normalise(MAILGUN, MAILGUN.split(delivery)[0], ARRIVAL).event
    assert NOW == event.occurred_at
    assert "ada@example.com" == event.person.email
    assert {"timestamp": "never", "token": "mine", "order": "7"} == event.properties


def test_a_multipart_post_says_the_same_as_a_form() -> None:
    """Files apart, the two encodings of a legacy post are one event, content and id."""
    pairs = {"event": "opened", "timestamp": "1768471200", "recipient": "ada@example.com", "note": "a b\r\nc"}
    part = '--b0\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    file = '--b0\r\nContent-Disposition: form-data; name="a"; filename="a.txt"\r\nContent-Type: x/y\r\n\r\nevent\r\n'
    multipart = ("".join(part % pair for pair in pairs.items()) + file + "--b0--\r\n").encode()
    form = b"event=opened&timestamp=1768471200&recipient=ada%40example.com&note=a+b%0D%0Ac"
    one = normalise(MAILGUN, MAILGUN.split(post(form, FORM))[0], ARRIVAL)
    assert "a b\r\nc" == one.event.properties["note"]
    assert one == normalise(MAILGUN, MAILGUN.split(post(multipart, MULTIPART))[0], ARRIVAL)


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"event-data":null}', b"{}"])
def test_an_envelope_without_an_event_is_malformed(body: bytes) -> None:
    """It is quarantined whole, under a reason."""
    with pytest.raises(MalformedDelivery, match="not_an_envelope"):
        MAILGUN.split(post(body))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"severity": "temporary", "reason": "generic"}, "deferred"),
        ({"severity": "permanent", "reason": "bounce"}, "bounced"),
        ({"severity": "permanent", "reason": "new"}, "bounced"),
        ({"severity": "permanent"}, "bounced"),
        ({"severity": "permanent", "reason": "suppress-unsubscribe"}, "dropped"),
        ({"severity": "permanent", "reason": "generic", "delivery-status": {"code": 607}}, "dropped"),
        ({"severity": "permanent", "reason": "old"}, "failed"),
        ({"severity": "permanent", "reason": "espblock"}, "blocked"),
        ({"severity": "temporary", "reason": "espblock"}, "deferred"),
        ({"severity": "internal"}, "failed"),
        ({}, "failed"),
        ({"event": "bounced"}, "bounced"),
        ({"event": "dropped", "reason": "hardfail"}, "dropped"),
    ],
)
def test_a_failure_is_told_by_severity_then_reason(changes: dict[str, Any], expected: str) -> None:
    """What Mailgun retries is deferred; only a permanent failure that nothing else explains condemns the address."""
    assert expected == read(**changes).type


def test_a_status_may_be_null() -> None:
    """Then nothing is known of the reason."""
    event = read(severity="permanent", reason="bounce", **{"delivery-status": None})
    assert event.failure is not None
    assert ("bounce", None, None) == (event.failure.class_, event.failure.code, event.failure.reason)


def test_an_empty_message_gives_way_to_the_description() -> None:
    """`message` is often empty where Mailgun itself says no."""
    event = read(severity="permanent", **{"delivery-status": {"code": 605, "message": "", "description": "Not trying"}})
    assert event.failure is not None
    assert ("605", "Not trying") == (event.failure.code, event.failure.reason)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"bot": "apple"}, (True, "client-info.bot apple")),
        ({"bot": ""}, (False, "client-info.bot")),
        ({"bot": None}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_a_machine_is_what_mailgun_says(info: dict[str, Any], expected: tuple[bool | None, str | None]) -> None:
    """An empty verdict is one, an absent one is not."""
    client = read(event="opened", ip="203.0.113.7", **{"client-info": info}).client
    assert client is not None
    assert expected == (client.machine, client.machine_reason)


def test_a_rejected_message_names_its_recipient_in_the_header() -> None:
    """There is no `recipient` in it."""
    headers = {"message-id": "<m-2@mg.example.org>", "to": '"Lovelace, Ada" <Ada@Example.com>'}
    event = read(event="rejected", recipient=None, message={"headers": headers})
    assert "ada@example.com" == event.person.email
    assert "m-2@mg.example.org/ada@example.com" == event.send_key


def test_identity_is_the_id_else_what_tells_legacy_posts_apart() -> None:
    """The id holds over retries; two clicks without one differ by their links."""
    assert ("failed", "id-1") == MAILGUN.identity(BASE)
    one, other = ({**BASE, "id": None, "url": f"https://shop.example.com/{page}"} for page in "ab")
    assert MAILGUN.identity(one) == MAILGUN.identity({**one, "tags": ["x"], "log-level": "warn"})
    assert MAILGUN.identity(one) != MAILGUN.identity(other)


@given(st.randoms(use_true_random=False))
def test_a_retry_signed_anew_is_the_same_event(chance: random.Random) -> None:
    """Neither the proof nor the order of fields is part of an event."""
    data = samples.case("mailgun", "clicked").items[0]
    names = list(data)
    chance.shuffle(names)
    again = {name: data[name] for name in names}
    stamp = int(NOW.timestamp()) + chance.randrange(30_000)
    retry = post(orjson.dumps({"event-data": again, "signature": block(stamp, f"{chance.getrandbits(200):050x}")}))
    first, second = (normalise(MAILGUN, item, ARRIVAL) for item in (data, MAILGUN.split(retry)[0]))
    assert first.event == second.event
    assert first.home == second.home
