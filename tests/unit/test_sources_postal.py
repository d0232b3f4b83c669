"""Postal: two generations of signatures, and messages in both directions."""

from __future__ import annotations

from base64 import b64encode
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

POSTAL = sources.load("postal")
SENT = samples.case("postal", "sent")
SECRET = samples.secret("postal")
KEY = generate_private_key(65537, 1024)
PUBLIC = b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def code(body: bytes, algorithm: SHA1 | SHA256) -> str:
    return b64encode(KEY.sign(body, PKCS1v15(), algorithm)).decode()


def verify(body: bytes, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    POSTAL.verify(replace(SENT.delivery, body=body, headers=named), (PUBLIC,), SENT.now)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_signatures_of_either_generation_are_accepted(body: bytes) -> None:
    """As Ruby's OpenSSL makes them; SHA-1 alone where a version knows no better."""
    strong, weak = code(body, SHA256()), code(body, SHA1())
    verify(body, x_postal_signature=weak, x_postal_signature_256=strong)
    verify(body, x_postal_signature_256=strong)
    verify(body, x_postal_signature=weak)
    for headers in ({"x_postal_signature": strong}, {"x_postal_signature_256": weak}):
        with pytest.raises(SignatureError):
            verify(body, **headers)
    with pytest.raises(SignatureError):
        verify(body + b" ", x_postal_signature_256=strong)


def test_a_wrong_new_signature_is_not_made_good_by_a_right_old_one() -> None:
    """Whoever signs with SHA-256 is not asked for less."""
    with pytest.raises(SignatureError):
        verify(b"{}", x_postal_signature=code(b"{}", SHA1()), x_postal_signature_256=code(b"[]", SHA256()))


@given(st.binary(max_size=200))
@settings(max_examples=20)
def test_what_we_sign_openssl_accepts(body: bytes) -> None:
    """The newer of the two, in the newer header."""
    from base64 import b64decode

    shown = signing.sign("postal", SECRET.signing, body, SENT.now)["x-postal-signature-256"]
    key = load_der_public_key(b64decode(SECRET.accepted))
    assert isinstance(key, RSAPublicKey)
    key.verify(b64decode(shown), body, PKCS1v15(), SHA256())


def read(name: str, **message: Any) -> Event:
    item = deepcopy(samples.case("postal", name).items[0])
    item["payload"]["message"].update(message)
    return normalise(POSTAL, item, SENT.arrival).event


def test_a_message_to_us_is_a_reply_and_no_delivery() -> None:
    """The person is who wrote it, and nothing is tied to a send."""
    event = read("sent", direction="incoming", **{"from": "Bo <bo@example.net>"}, to="orders@example.org")
    assert ("replied", "bo@example.net", None) == (event.type, event.person.email, event.send_key)


@pytest.mark.parametrize("name", ["delayed", "failed", "held"])
def test_trouble_with_a_message_to_us_condemns_nobody(name: str) -> None:
    """It is our own endpoint that failed."""
    event = read(name, direction="incoming")
    assert ("unknown", None) == (event.type, event.failure)


def test_every_report_of_a_message_has_its_send_key() -> None:
    """From its acceptance to the bounce that comes a day later under another shape."""
    item = deepcopy(samples.case("postal", "bounced").items[0])
    item["payload"]["original_message"] |= {"message_id": "m233@rp.example.org"}
    later = normalise(POSTAL, item, SENT.arrival).event
    keys = {read("sent").send_key, read("clicked").send_key, read("loaded", to="Ada <ADA@example.com>").send_key}
    assert {"m233@rp.example.org/ada@example.com"} == keys | {later.send_key}


def test_a_retry_has_the_same_id_and_another_event_has_not() -> None:
    """Postal's own id, and without an envelope what the event says."""
    (item,) = samples.case("postal", "clicked").items
    assert POSTAL.identity(item) == POSTAL.identity({**item, "timestamp": 1})
    assert POSTAL.identity(item) != POSTAL.identity({**item, "uuid": "another"})
    (bare,) = samples.case("postal", "bare-payload").items
    assert POSTAL.identity(bare) != POSTAL.identity({**bare, "timestamp": bare["timestamp"] + 0.5})


@pytest.mark.parametrize("details", ["", "Permanent SMTP delivery error", None])
def test_a_failure_is_a_bounce_unless_postal_never_tried(details: str | None) -> None:
    """Only its own list is told apart, by its words."""
    item = deepcopy(samples.case("postal", "failed").items[0])
    item["payload"]["details"] = details
    assert "bounced" == normalise(POSTAL, item, SENT.arrival).event.type
