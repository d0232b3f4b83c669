"""MailerSend: both shapes of its webhooks, and the ping that comes before there is a secret."""

from __future__ import annotations

import hmac
from copy import deepcopy
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MAILERSEND = sources.load("mailersend")
HANDSHAKE = MAILERSEND.handshake
CLICK = samples.case("mailersend", "clicked")
SECRET = samples.secret("mailersend")


def read(item: dict[str, Any]) -> Event:
    return normalise(MAILERSEND, item, CLICK.arrival).event


@given(st.binary(max_size=200))
def test_the_signature_is_the_plain_hmac_in_hexadecimal(body: bytes) -> None:
    """As MailerSend documents it, in either letter case."""
    expected = hmac.new(SECRET.signing, body, "sha256").hexdigest()
    assert expected == signing.sign("mailersend", SECRET.signing, body, CLICK.now)["signature"]
    for shown in (expected, expected.upper()):
        delivery = replace(CLICK.delivery, body=body, headers={"signature": shown})
        MAILERSEND.verify(delivery, (SECRET.accepted,), CLICK.now)


def test_the_ping_is_answered_whatever_its_signature_and_leaves_nothing() -> None:
    """It is signed with a secret that all accounts share, and without its 200 no webhook can be saved."""
    case = samples.case("mailersend", "ping-foreign-signature")
    assert HANDSHAKE
    reply = HANDSHAKE(case.delivery, case.secrets)
    assert reply is not None
    assert (200, "") == (reply.status, reply.body)
    assert [] == MAILERSEND.split(case.delivery)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"activity.sent","data":{"subject":"webhook.test"}}',
        b'{"type":["webhook.test"]}',
        b'"webhook.test"',
        b"webhook.test",
        b"",
        b'{"type":"webhook.test","message":"' + b"x" * 5000 + b'"}',
    ],
)
def test_only_the_ping_passes_without_proof(body: bytes) -> None:
    """A real event that names the ping in its subject has to be proven, and so has anything large."""
    assert HANDSHAKE
    assert HANDSHAKE(replace(CLICK.delivery, body=body), ()) is None


def test_tags_and_details_may_be_null() -> None:
    """And an empty array where an object would stand."""
    item = deepcopy(CLICK.items[0])
    item["data"]["email"]["tags"] = None
    item["data"]["morph"] = None
    event = read(item)
    assert (None, None, None) == (event.campaign, event.link, event.client)
    item["data"]["meta"] = []
    assert event == read(item)


def test_both_versions_tell_the_same_of_one_activity() -> None:
    """An account that moves its webhook from one to the other counts nothing twice."""
    data = CLICK.items[0]["data"]
    flat = {
        "type": "activity.clicked",
        "created_at": data["created_at"],
        "data": {
            "id": data["id"],
            "message_id": data["email"]["message"]["id"],
            "email_id": data["email"]["id"],
            "type": "clicked",
            "email": data["email"]["recipient"]["email"],
            "tags": data["email"]["tags"],
            "meta": {"ip": data["morph"]["ip"], "url": data["morph"]["url"]},
        },
    }
    assert read(CLICK.items[0]) == read(flat)


def test_retries_differ_in_what_the_identity_leaves_out() -> None:
    """The time of dispatch and the webhook are not the event's."""
    again = {**CLICK.items[0], "created_at": "2026-01-15T11:00:00.000000Z", "webhook_id": "other"}
    assert read(CLICK.items[0]) == read(again)


def test_a_body_that_is_written_anew_no_longer_fits() -> None:
    """MailerSend escapes slashes; whoever parses and serialises before verifying refuses everything."""
    rewritten = orjson.dumps(orjson.loads(CLICK.body))
    assert rewritten != CLICK.body
    with pytest.raises(SignatureError):
        MAILERSEND.verify(replace(CLICK.delivery, body=rewritten), CLICK.secrets, CLICK.now)
