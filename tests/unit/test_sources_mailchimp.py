"""Mailchimp Marketing: nested forms, and a signature that not all webhooks have."""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import RawDelivery, Reply
from espial.errors import MalformedItem, SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MAILCHIMP = sources.load("mailchimp")
SECRET = b"mc-signing-secret-0002"
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
HEADER = "x-mailchimp-signature"
SUBSCRIBE = samples.case("mailchimp", "subscribe")
ARRIVAL = SUBSCRIBE.arrival


def item(case: str, **data: Any) -> dict[str, Any]:
    found = samples.case("mailchimp", case).items[0]
    return {**found, "data": {**found["data"], **data}}


def read(case: str, **data: Any) -> Event:
    return normalise(MAILCHIMP, item(case, **data), ARRIVAL).event


def post(body: bytes = b"type=x", headers: dict[str, str] | None = None, query: str = "") -> RawDelivery:
    url = "https://hooks.example.com/in/mailchimp/main" + (f"?{query}" if query else "")
    return replace(SUBSCRIBE.delivery, body=body, headers=headers or {}, url=url)


def accepted(delivery: RawDelivery, now: datetime = NOW, **options: Any) -> bool:
    try:
        MAILCHIMP.verify(delivery, [b"another", SECRET], now, settings=options)
    except SignatureError:
        return False
    return True


@given(body=st.binary(max_size=60), seconds=st.integers(-600, 600))
def test_a_signature_by_the_vendors_recipe_is_accepted_for_five_minutes(body: bytes, seconds: int) -> None:
    """HMAC-SHA256 over time, dot and raw body; each retry is signed anew, so the window is narrow."""
    stamp = int(NOW.timestamp()) + seconds
    code = hmac.new(SECRET, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert (abs(seconds) <= 300) == accepted(post(body, {HEADER: f"t={stamp},v1={code}"}))


@given(st.binary(max_size=60), st.binary(max_size=2))
def test_what_we_sign_we_accept_until_a_byte_changes(body: bytes, appended: bytes) -> None:
    """The raw body counts, not what it decodes to."""
    delivery = signing.signed(SECRET, post(body), NOW)
    assert (appended == b"") == accepted(replace(delivery, body=body + appended))


def test_one_right_signature_of_several_suffices() -> None:
    """While a secret is rotated a header may hold two; spaces are none of its matter."""
    right = dict(signing.signed(SECRET, post(), NOW).headers)[HEADER]
    stamp, _, code = right.partition(",")
    assert accepted(post(headers={HEADER: f"{stamp}, v1={'ab' * 32}, {code}"}))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=,v1=",
        "v1=ab",
        "t=1768471200",
        "t=1768471200,v1=",
        "t=1768471200,v1=zz",
        "t=1e9,v1=ab",
        "t=\u0661,v1=ab",
        "\udcff",
    ],
)
def test_a_damaged_signature_is_refused_whatever_key_the_url_shows(header: str) -> None:
    """Where a signature is shown it alone counts."""
    assert not accepted(post(headers={HEADER: header}, query=f"key={SECRET.decode()}"))


@given(st.text(max_size=60))
def test_a_hostile_header_is_refused_and_nothing_else(header: str) -> None:
    """Whatever the text: SignatureError is the only way out."""
    assert not accepted(post(headers={HEADER: header}))


def test_an_unsigned_webhook_shows_the_key_in_its_url() -> None:
    """Older webhooks cannot sign; the secret is in the address they were given."""
    assert accepted(post(query=f"key={SECRET.decode()}"))
    assert not accepted(post(query="key=guessed"))
    assert not accepted(post())


@pytest.mark.parametrize(("method", "expected"), [("GET", Reply()), ("HEAD", Reply()), ("POST", None)])
def test_the_validator_is_answered_without_proof(method: str, expected: Reply | None) -> None:
    """It asks for the address when the webhook is saved, and is told that it is there."""
    assert MAILCHIMP.handshake is not None
    assert expected == MAILCHIMP.handshake(replace(post(), method=method), [])


def test_brackets_are_nested_and_numbered_ones_become_a_list() -> None:
    """Groups come as GROUPINGS[0][name]; empty values come as such and are left out at the top alone."""
    event = read("subscribe")
    merges = event.properties["merges"]
    assert "" == merges["LNAME"]
    assert [{"id": "1", "unique_id": "g1", "name": "Likes", "groups": "Books,Tea"}] == merges["GROUPINGS"]
    assert "ip_signup" not in event.properties


@pytest.mark.parametrize(
    ("case", "data", "expected"),
    [
        ("unsubscribe", {"reason": "manual"}, "unsubscribed"),
        ("unsubscribe", {"reason": "abuse"}, "complained"),
        ("unsubscribe", {"reason": ""}, "unsubscribed"),
        ("cleaned", {"reason": "hard"}, "bounced"),
        ("cleaned", {"reason": "abuse"}, "complained"),
        ("cleaned", {"reason": ""}, "bounced"),
        ("campaign", {"status": "sent"}, "delivery_completed"),
        ("campaign", {"status": "canceled"}, "failed"),
        ("campaign", {"status": ""}, "unknown"),
        ("profile", {}, "profile_updated"),
        ("upemail", {}, "profile_updated"),
    ],
)
def test_reason_and_status_decide(case: str, data: dict[str, Any], expected: str) -> None:
    """A complaint hides behind two types; a campaign is sent or is not."""
    assert expected == read(case, **data).type


def test_a_changed_address_is_about_the_new_one() -> None:
    """The old one is kept beside it."""
    event = read("upemail")
    assert ("ada.new@example.net", "c0ffee0002") == (event.person.email, event.person.source_contact_id)
    assert "ada@example.net" == event.properties["old_email"]


def test_a_campaigns_id_is_no_persons() -> None:
    """`data[id]` is the campaign there and the subscriber everywhere else."""
    event = read("campaign")
    assert event.campaign is not None
    assert ("camp00a1b2", None) == (event.campaign.id, event.person.source_contact_id)
    assert "c0ffee0001" == read("profile").person.source_contact_id


def test_a_time_without_a_zone_is_taken_for_utc() -> None:
    """Mailchimp writes none."""
    assert datetime(2026, 1, 15, 10, 0, tzinfo=UTC) == read("subscribe").occurred_at


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": None}, "missing_type"),
        ({"data": "x"}, "missing_data"),
        ({"data": {}}, "missing_data"),
        ({"fired_at": ""}, "bad_timestamp"),
        ({"fired_at": None}, "bad_timestamp"),
    ],
)
def test_what_says_too_little_is_malformed(changes: dict[str, Any], reason: str) -> None:
    """It is quarantined under the field that is to blame."""
    with pytest.raises(MalformedItem) as caught:
        normalise(MAILCHIMP, {**item("subscribe"), **changes}, ARRIVAL)
    assert reason == caught.value.reason
    assert caught.value.path


def test_identity_tells_events_of_one_second_apart() -> None:
    """Nothing is numbered: an address change and its profile update fire together, for several contacts."""
    variants = [
        item("profile"),
        item("profile", email="bo@example.net", id="c0ffee0009"),
        item("profile", list_id="another"),
        item("upemail"),
        item("unsubscribe"),
        item("unsubscribe", action="delete"),
        {**item("profile"), "fired_at": "2026-01-15 10:02:01"},
    ]
    assert len(variants) == len({tuple(MAILCHIMP.identity(one)) for one in variants})


@given(
    st.sampled_from(["subscribe", "unsubscribe", "profile", "cleaned", "campaign"]), st.randoms(use_true_random=False)
)
def test_a_retry_with_fields_in_another_order_is_the_same_event(name: str, chance: random.Random) -> None:
    """Whatever the order of fields and the time of receipt; the numbered ones keep theirs."""
    case = samples.case("mailchimp", name)
    pairs = parse_qsl(case.body.decode(), keep_blank_values=True)
    chance.shuffle(pairs)
    later = replace(ARRIVAL, received_at=ARRIVAL.received_at + timedelta(minutes=chance.randrange(75)))
    (again,) = MAILCHIMP.split(post(urlencode(pairs).encode()))
    first, second = normalise(MAILCHIMP, case.items[0], ARRIVAL), normalise(MAILCHIMP, again, later)
    assert (first.event.event_id, first.home) == (second.event.event_id, second.home)
    assert first.event.properties == second.event.properties
