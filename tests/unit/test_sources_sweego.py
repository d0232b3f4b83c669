"""Sweego: what its fields mean, and its variant of Standard Webhooks against that standard's own library."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from standardwebhooks import Webhook

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

SWEEGO = sources.load("sweego")
CASE = samples.case("sweego", "delivered")
SECRET = samples.secret("sweego").accepted.decode()
THEIRS = Webhook(SECRET)
BASE = {
    "event_type": "email_opened",
    "timestamp": "2026-01-15T10:00:00+00:00",
    "swg_uid": "02-a",
    "event_id": "e-1",
    "channel": "email",
    "recipient": "ada@example.com",
}


def read(**changes: Any) -> Event:
    return normalise(SWEEGO, {**BASE, **changes}, CASE.arrival).event


def posted(body: bytes, now: datetime, signature: str) -> RawDelivery:
    stamp = str(int(now.timestamp()))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}
    return replace(CASE.delivery, body=body, headers=headers)


@examples(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), st.booleans())
def test_what_the_standards_library_signs_is_accepted_with_and_without_its_version(text: str, bare: bool) -> None:
    """Sweego writes the base64 alone."""
    now = datetime.now(UTC)
    signature = THEIRS.sign("msg_1", now, text)
    delivery = posted(text.encode(), now, signature.removeprefix("v1,") if bare else signature)
    SWEEGO.verify(delivery, [SECRET.encode()], now)
    with pytest.raises(SignatureError):
        SWEEGO.verify(replace(delivery, body=text.encode() + b" "), [SECRET.encode()], now)


@examples(max_examples=50)
@given(st.dictionaries(st.text(st.characters(codec="ascii"), max_size=9), st.integers(0, 9), max_size=4))
def test_the_standards_library_accepts_what_we_sign(document: dict[str, int]) -> None:
    """But for the version, which Sweego leaves out, as it does the secret's prefix."""
    now = datetime.now(UTC)
    body = orjson.dumps(document)
    headers = signing.sign("sweego", SECRET.encode(), body, now)
    assert "," not in headers["webhook-signature"]
    assert not SECRET.startswith("whsec_")
    assert document == THEIRS.verify(body, {**headers, "webhook-signature": f"v1,{headers['webhook-signature']}"})


@pytest.mark.parametrize(("age", "tolerance", "fresh"), [(301, {}, True), (301, {"max_age_seconds": 300}, False)])
def test_the_tolerance_is_a_day_unless_set(age: int, tolerance: dict[str, int], fresh: bool) -> None:
    """How a retry is signed is not confirmed, and a replay is but a duplicate."""
    later = CASE.received_at + timedelta(seconds=age)
    if fresh:
        SWEEGO.verify(CASE.delivery, CASE.secrets, later, settings=tolerance)
        later += timedelta(days=1)
    with pytest.raises(SignatureError):
        SWEEGO.verify(CASE.delivery, CASE.secrets, later, settings=tolerance)


@pytest.mark.parametrize("given_name", ["soft-bounce", "soft_bounce", "SOFT-BOUNCE"])
def test_hyphens_and_underscores_say_the_same(given_name: str) -> None:
    """Both are in use for one event."""
    event = read(event_type=given_name)
    assert ("soft_bounced", "soft-bounce") == (event.type, event.platform_type)


@pytest.mark.parametrize(
    ("given_tags", "expected"), [(None, ()), ("eu", ("eu",)), (["eu", "us"], ("eu", "us")), ("", ())]
)
def test_tags_come_as_nothing_text_or_an_array(given_tags: Any, expected: tuple[str, ...]) -> None:
    """All three were seen."""
    campaign = read(campaign_tags=given_tags, campaign_id="c").campaign
    assert campaign is not None
    assert expected == campaign.tags


@pytest.mark.parametrize(("proxy", "expected"), [(True, "open.proxy"), (False, None), (None, None), ("true", None)])
def test_a_proxy_hides_who_it_was(proxy: Any, expected: str | None) -> None:
    """It is the reason why that stays unknown, not a verdict."""
    client = read(open={"ip_address": "203.0.113.7", "proxy": proxy}).client
    assert client is not None
    assert client.machine is None
    assert expected == client.machine_reason


def test_an_sms_belongs_to_a_number_whose_time_has_no_zone() -> None:
    """0015550100 is +15550100, and the time UTC."""
    sms = {"event_type": "sms_stop", "channel": "sms", "phone_number": "0015550100"}
    item = {**BASE, **sms, "timestamp": "2026-01-15T10:00:00"}
    recordable = normalise(SWEEGO, item, CASE.arrival)
    assert "P#phone:+15550100" == recordable.home
    assert "2026-01-15T10:00:00+00:00" == recordable.event.occurred_at.isoformat()
    assert "02-a/+15550100" == SWEEGO.send_key(item)


@given(st.permutations(list(BASE)))
def test_identity_is_the_event_id_else_everything_that_tells_events_apart(names: list[str]) -> None:
    """Stable over order and spelling."""
    assert ("email_opened", "e-1") == SWEEGO.identity({name: BASE[name] for name in names})
    bare = {**BASE, "event_id": None, "event_type": "email_clicked"}
    one, other = ({**bare, "click": {"url": f"https://shop.example.com/{page}"}} for page in "ab")
    assert SWEEGO.identity(one) != SWEEGO.identity(other)
    assert SWEEGO.identity(one) == SWEEGO.identity({**one, "event_type": "email-clicked"})
