"""Marketing Cloud: which key signs, the request that comes before there is a key, and events without an id."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import MalformedItem, SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

SFMC = sources.load("sfmc")
CASE = samples.case("sfmc", "all-types")
ITEMS = {item["eventCategoryType"].rpartition(".")[2]: item for item in CASE.items}
KEY = b"V27FXfqI3DnhfQW1bhFDeJixpt8eDAY5R24UJI3cK6M="
WAITING = {"awaiting_verification": True}
REQUEST = samples.case("sfmc", "verification-too-late").delivery


def event(item: dict[str, Any]) -> Event:
    return normalise(SFMC, item, CASE.arrival).event


@given(st.binary(max_size=200))
def test_the_key_is_read_as_text_or_as_what_the_text_encodes(body: bytes) -> None:
    """The vendor's own code passes the text on, other implementations decode it: both need the secret."""
    for key in (KEY, b64decode(KEY)):
        code = b64encode(hmac.digest(key, body, "sha256")).decode()
        delivery = replace(CASE.delivery, body=body, headers={"x-sfmc-ens-signature": code})
        SFMC.verify(delivery, (b"old", KEY), CASE.now)
        with pytest.raises(SignatureError):
            SFMC.verify(replace(delivery, body=body + b" "), (KEY,), CASE.now)


def test_the_text_signs() -> None:
    """As the vendor's pseudo-code does."""
    signed = signing.signed(KEY, replace(CASE.delivery, body=b"[]"), CASE.now)
    assert "B/lBJiq6Iw70+f5b59p7beyy+Xa5hQkKsxO61+0FJnc=" == signed.headers["x-sfmc-ens-signature"]


def test_a_short_secret_is_not_decoded() -> None:
    """What happens to be base64 of a few bytes is a password, and its decoded bytes are no key."""
    code = b64encode(hmac.digest(b64decode(b"abcd"), b"[]", "sha256")).decode()
    delivery = replace(CASE.delivery, body=b"[]", headers={"x-sfmc-ens-signature": code})
    with pytest.raises(SignatureError):
        SFMC.verify(delivery, (b"abcd",), CASE.now)


@pytest.mark.parametrize("secrets", [(), (KEY,)], ids=["no key yet", "an old key"])
def test_the_request_to_verify_ends_in_quarantine_with_the_call_to_make(secrets: tuple[bytes, ...]) -> None:
    """It comes unsigned, before the key is known; only a person with access to the account can answer it."""
    SFMC.verify(REQUEST, secrets, CASE.now, settings=WAITING)
    (item,) = SFMC.split(REQUEST)
    with pytest.raises(MalformedItem) as refused:
        normalise(SFMC, item, CASE.arrival)
    assert "callback_verification" == refused.value.reason
    for part in ("POST /platform/v1/ens-verify", item["callbackId"], item["verificationKey"]):
        assert part in refused.value.detail


@pytest.mark.parametrize("settings", [{}, {"awaiting_verification": False}, {"awaiting_verification": "yes"}])
def test_nobody_gets_in_without_a_signature_unless_it_is_awaited(settings: dict[str, Any]) -> None:
    """401, nothing kept."""
    with pytest.raises(SignatureError):
        SFMC.verify(REQUEST, (KEY,), CASE.now, settings=settings)


@pytest.mark.parametrize(
    "body",
    [
        [{"callbackId": "a", "verificationKey": "b"}],
        {"callbackId": "a"},
        {"callbackId": "a", "verificationKey": "b", "eventCategoryType": "EngagementEvents.EmailOpen"},
        {"callbackId": "a", "verificationKey": "b c; rm"},
        {"callbackId": "a", "verificationKey": ""},
        {"callbackId": "a", "verificationKey": 1},
        {"callbackId": "a", "verificationKey": "b" * 2000},
        ITEMS["EmailSent"],
    ],
)
def test_what_is_awaited_is_that_request_alone(body: Any) -> None:
    """The open door is as wide as two plain words."""
    with pytest.raises(SignatureError):
        SFMC.verify(replace(REQUEST, body=orjson.dumps(body)), (KEY,), CASE.now, settings=WAITING)


@given(st.binary(max_size=80))
def test_while_waiting_any_other_body_is_refused(body: bytes) -> None:
    """Total: nothing but a SignatureError comes out."""
    with pytest.raises(SignatureError):
        SFMC.verify(replace(REQUEST, body=body), (), CASE.now, settings=WAITING)


def test_a_full_batch_is_taken() -> None:
    """Up to a thousand events a post."""
    body = orjson.dumps([ITEMS["EmailOpen"]] * 1000)
    assert 1000 == len(SFMC.split(replace(CASE.delivery, body=body)))


def test_one_send_ties_its_reports_together() -> None:
    """Opens and clicks name no address and no message: job, list, batch and subscriber do."""
    kinds = ("EmailQueued", "EmailSent", "EmailBounced", "EmailOpen", "EmailClick", "EmailUnsubscribe")
    assert {"2001.44.41.1358"} == {event(ITEMS[kind]).send_key for kind in kinds}
    texts = {event(item).send_key for kind, item in ITEMS.items() if kind.startswith("Sms")}
    assert {"9f0e7c1e-0000-4000-8000-000000000002/+15550100001"} == texts


@pytest.mark.parametrize("kind", ["EmailSent", "EmailOpen"])
def test_the_old_id_says_the_same_as_the_new_one(kind: str) -> None:
    """`compositeId` is to go, `composite` is not everywhere: events are told apart alike by either."""
    item = ITEMS[kind]
    composite = {name: value for name, value in item["composite"].items() if name != "emailId"}
    new = {**{name: value for name, value in item.items() if name != "compositeId"}, "composite": composite}
    old = {name: value for name, value in item.items() if name != "composite"}
    assert normalise(SFMC, new, CASE.arrival)[1:] == normalise(SFMC, old, CASE.arrival)[1:]


@pytest.mark.parametrize(
    "change",
    [
        {"eventCategoryType": "EngagementEvents.EmailOpen"},
        {"timestampUTC": ITEMS["EmailClick"]["timestampUTC"] + 1000},
        {"info": {**ITEMS["EmailClick"]["info"], "contentLink": "https://shop.example.com/other"}},
        {"composite": {**ITEMS["EmailClick"]["composite"], "subscriberId": "1359"}},
        {"composite": {**ITEMS["EmailClick"]["composite"], "jobId": "2002"}},
        {"mid": 1448},
    ],
    ids=["kind", "second", "link", "subscriber", "job", "business unit"],
)
def test_what_tells_two_clicks_apart(change: dict[str, Any]) -> None:
    """There is no event id, so all of these make one."""
    click = ITEMS["EmailClick"]
    assert event(click).event_id != event({**click, **change}).event_id


def test_a_click_within_the_same_second_is_the_same_one() -> None:
    """The tracking extract is no finer than a second."""
    click = ITEMS["EmailClick"]
    assert event(click).event_id == event({**click, "timestampUTC": click["timestampUTC"] + 999}).event_id


def test_a_text_message_spells_info_with_a_capital() -> None:
    """And is read all the same."""
    item = {**ITEMS["SmsSent"], "info": ITEMS["SmsSent"]["Info"]}
    del item["Info"]
    assert event(ITEMS["SmsSent"]) == event(item)
