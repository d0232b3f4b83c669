"""MailPace: its signatures against libsodium, and what a status of several recipients says."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.encoding import Base64Encoder
from nacl.signing import SigningKey, VerifyKey

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MAILPACE = sources.load("mailpace")
SAMPLE = samples.case("mailpace", "bounced")
SECRET = samples.secret("mailpace")


def read(event: str, **payload: Any) -> list[Event]:
    facts = {"id": 1, "to": "ada@example.com", "updated_at": "2026-01-15T10:00:00.000Z", **payload}
    items = MAILPACE.split(replace(SAMPLE.delivery, body=orjson.dumps({"event": event, "payload": facts})))
    return [normalise(MAILPACE, item, SAMPLE.arrival).event for item in items]


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
@settings(max_examples=50)
def test_what_libsodium_signs_is_accepted(body: bytes, seed: bytes) -> None:
    """With the key as the console shows it, base64 of 32 bytes; and nothing else is."""
    key = SigningKey(seed)
    shown = key.verify_key.encode(Base64Encoder)
    headers = {"x-mailpace-signature": b64encode(key.sign(body).signature).decode()}
    MAILPACE.verify(replace(SAMPLE.delivery, body=body, headers=headers), (shown,), SAMPLE.now)
    with pytest.raises(SignatureError):
        MAILPACE.verify(replace(SAMPLE.delivery, body=body + b"\n", headers=headers), (shown,), SAMPLE.now)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_what_we_sign_is_accepted_by_libsodium(body: bytes) -> None:
    """The public half is in the form of a DER key, the last 32 bytes of which are the key itself."""
    shown = signing.sign("mailpace", SECRET.signing, body, SAMPLE.now)["x-mailpace-signature"]
    VerifyKey(b64decode(SECRET.accepted)[-32:]).verify(body, b64decode(shown))


@pytest.mark.parametrize("shown", ["%%%", "AAAA", "", "\u00e9", "=", "A" * 86 + "=="])
def test_a_malformed_signature_is_refused_like_a_wrong_one(shown: str) -> None:
    """No length and no alphabet brings anything but a refusal."""
    with pytest.raises(SignatureError):
        MAILPACE.verify(replace(SAMPLE.delivery, headers={"x-mailpace-signature": shown}), SAMPLE.secrets, SAMPLE.now)


def test_what_is_not_proven_is_not_answered_with_an_error() -> None:
    """An error would switch the endpoint off; 200 would say that it was kept."""
    assert 202 == MAILPACE.unproven


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("email.queued", ["ada@example.com", "bo@example.net", "cy@example.org"]),
        ("email.spam", ["ada@example.com", "bo@example.net", "cy@example.org"]),
        ("email.delivered", [None]),
        ("email.deferred", [None]),
        ("email.bounced", [None]),
    ],
)
def test_several_recipients_share_what_happens_before_the_mail_goes_out(event: str, expected: list[str | None]) -> None:
    """Later MailPace does not say whose it was; names, spaces and repetitions are taken off."""
    found = read(event, to="Ada <ADA@example.com>, bo@example.net", cc="cy@example.org", bcc="ada@example.com")
    assert expected == [one.person.email for one in found]
    assert len(expected) == len({one.event_id for one in found})


def test_refused_as_spam_is_no_complaint() -> None:
    """MailPace would not send it; the recipient never saw it."""
    (event,) = read("email.spam")
    assert "rejected" == event.type


def test_the_words_of_a_message_are_not_kept_in_its_events() -> None:
    """MailPace repeats whole bodies, which are large and personal."""
    (event,) = read("email.delivered", htmlbody="<p>secret</p>", textbody="secret", subject="secret")
    assert "secret" not in str(event)


def test_a_status_is_told_by_its_time() -> None:
    """Two deferrals are two, a retry is none, whatever else changed meanwhile."""
    (first,) = read("email.deferred")
    (retry,) = read("email.deferred", status="delivered", tags=["late"])
    (second,) = read("email.deferred", updated_at="2026-01-15T10:00:00.001Z")
    assert first.event_id == retry.event_id != second.event_id
