"""ZeptoMail: what its fields mean, and its signature."""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError
from espial.normalise import normalise
from tests import samples

ZEPTO = sources.load("zeptomail")
CASE = samples.case("zeptomail", "hardbounce")
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
KEY = b"zepto-auth-key-0002"
FORM = "application/x-www-form-urlencoded"


def accepted(delivery: RawDelivery, *keys: bytes) -> bool:
    try:
        ZEPTO.verify(delivery, keys, NOW)
    except SignatureError:
        return False
    return True


def code(text: bytes) -> str:
    return b64encode(hmac.digest(KEY, text, "sha256")).decode()


@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), lambda text: text], ids=["percent", "plain"])
@given(number=st.integers())
def test_the_signature_is_of_the_json_alone(encode: Any, number: int) -> None:
    """Without the time; in a form it is of the decoded field. Its `=` and `+` come encoded or not."""
    text = orjson.dumps({"event_name": ["email_open"], "n": str(number), "u": "ä&="})
    header = {"producer-signature": f"ts=1768471200000;s={encode(code(text))};s-algorithm=HmacSHA256"}
    posted = replace(CASE.delivery, body=text, headers=header)
    form = replace(posted, body=urlencode({"data": text.decode()}).encode(), headers={**header, "content-type": FORM})
    assert accepted(posted, KEY)
    assert accepted(form, b"the next", KEY)
    assert not accepted(posted, b"another tenant's")
    assert not accepted(replace(posted, body=text + b" "), KEY)
    assert not accepted(replace(form, body=form.body.replace(b"email", b"Email")), KEY)


@given(st.binary(max_size=80))
def test_what_we_sign_is_accepted(body: bytes) -> None:
    """Form or JSON; what is neither cannot be signed."""
    delivery = signing.signed(KEY, replace(CASE.delivery, body=b'{"n":"' + body.hex().encode() + b'"}'), NOW)
    assert accepted(delivery, KEY)


@pytest.mark.parametrize(
    "header",
    ["", ";;;", "s", "s=", "ts=1;s-algorithm=HmacSHA256", "s=%%%", "s=ä", "s=AAAA", "ts=1;s=%00%ff", "s=a=b=c"],
)
def test_an_odd_header_is_no_proof(header: str) -> None:
    """Nothing but SignatureError, whatever it holds."""
    assert not accepted(replace(CASE.delivery, headers={"producer-signature": header}), KEY)


@pytest.mark.parametrize("body", [b"", b"data", b"other=1", b"data=%ff", b"\xff"])
def test_a_body_without_json_is_no_proof(body: bytes) -> None:
    """There is nothing that the signature could be of."""
    assert not accepted(replace(CASE.delivery, body=body, headers={"producer-signature": f"s={code(body)}"}), KEY)


def test_all_three_arrays_are_gone_through() -> None:
    """One post carries messages, their events and the details of these."""
    assert 5 == len(samples.case("zeptomail", "nested").recordables)


def test_an_open_listed_again_is_the_same() -> None:
    """Later posts repeat the earlier opens beside the new one, under another request id."""
    first, again = (
        [one.event.event_id for one in samples.case("zeptomail", name).recordables]
        for name in ("history", "history-again")
    )
    assert first == again[:2]
    assert 3 == len(set(again))


def test_a_bounce_names_its_recipient_and_an_open_the_first() -> None:
    """Of several recipients the wrong one must not be condemned."""
    to = [{"email_address": {"address": one}} for one in ("ada@example.com", "bo@example.com")]
    item: dict[str, Any] = {
        "object": "hardbounce",
        "request_id": "r",
        "email_info": {"to": to},
        "detail": {"time": "2026-01-15T10:00:00Z"},
    }
    bounced = {**item, "detail": {**item["detail"], "bounced_recipient": "Bo@example.com"}}
    assert "P#email:bo@example.com" == normalise(ZEPTO, bounced, CASE.arrival).home
    assert "P#email:ada@example.com" == normalise(ZEPTO, {**item, "object": "email_open"}, CASE.arrival).home
    assert "r/bo@example.com" == ZEPTO.send_key(bounced)


def test_the_id_of_the_post_says_nothing() -> None:
    """Whether it outlives a retry is not confirmed."""
    body = orjson.loads(CASE.body)
    ids = []
    for request in ("wr-1", "wr-2"):
        (item,) = ZEPTO.split(replace(CASE.delivery, body=orjson.dumps({**body, "webhook_request_id": request})))
        ids.append(normalise(ZEPTO, item, CASE.arrival).event.event_id)
    assert ids[0] == ids[1]
