"""Signature schemes: what proves a delivery, and that nothing else does."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, signing_keys, sources
from espial.deliveries import RawDelivery
from espial.errors import SignatureError, UnknownConnection
from espial.verify import Verify, require_match
from espial.verify.public_keys import ecdsa_timestamped
from espial.verify.shared import basic_write_key, bearer_token
from tests import samples
from tests.builders import a_delivery

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
SIGNATURE, STAMP = "x-signature", "x-timestamp"
ECDSA = ecdsa_timestamped(signature_header=SIGNATURE, timestamp_header=STAMP, default_max_age=86_400)
BEARER = bearer_token()
KEYS = samples.secret("sendgrid")
HEADER_TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=80)


def delivery(body: bytes = b"[]", **headers: str) -> RawDelivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return a_delivery(body=body, received_at=NOW, headers=named)


def signed(body: bytes, at: datetime = NOW) -> RawDelivery:
    return ECDSA.sign(KEYS.signing, delivery(body), at)


def accepted(verify: Verify, given_: RawDelivery, *secrets: bytes, max_age: float | None = None) -> bool:
    try:
        verify(given_, secrets, NOW, settings={} if max_age is None else {"max_age_seconds": max_age})
    except SignatureError:
        return False
    return True


@given(st.binary(max_size=300))
def test_a_signed_body_is_accepted(body: bytes) -> None:
    """Any bytes at all, JSON or not."""
    assert accepted(ECDSA, signed(body), KEYS.accepted)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_flipped_bit_is_refused(body: bytes, data: st.DataObject) -> None:
    """The signature covers every bit of the body."""
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[place // 8] ^= 1 << place % 8
    whole = signed(body)
    forged = delivery(bytes(changed), x_signature=whole.headers[SIGNATURE], x_timestamp=whole.headers[STAMP])
    assert not accepted(ECDSA, forged, KEYS.accepted)


@given(st.binary(max_size=50), HEADER_TEXT, HEADER_TEXT, st.lists(st.binary(max_size=120), max_size=3))
def test_whatever_arrives_only_a_signature_error_comes_out(
    body: bytes, signature: str, stamp: str, secrets: list[bytes]
) -> None:
    """Hostile headers and broken keys raise the one error that is answered 401."""
    junk = delivery(body, x_signature=signature, x_timestamp=stamp, authorization=signature)
    fresh = delivery(body, x_signature=signature, x_timestamp=str(int(NOW.timestamp())))
    assert not accepted(ECDSA, junk, *secrets)
    assert not accepted(ECDSA, fresh, *secrets, KEYS.accepted)
    accepted(BEARER, junk, *secrets)


@given(st.binary(max_size=90))
def test_signature_bytes_that_are_base64_but_nonsense_are_refused(raw: bytes) -> None:
    """DER that is none, (r, s) out of range: still only a refusal."""
    nonsense = delivery(b"[]", x_signature=b64encode(raw).decode(), x_timestamp=str(int(NOW.timestamp())))
    assert not accepted(ECDSA, nonsense, KEYS.accepted)


@pytest.mark.parametrize(
    ("age", "tolerance", "expected"),
    [
        (timedelta(hours=24), None, True),
        (timedelta(hours=24, seconds=1), None, False),
        (timedelta(hours=-24, seconds=-1), None, False),
        (timedelta(seconds=300), 300, True),
        (timedelta(seconds=301), 300, False),
        (timedelta(seconds=-301), 300, False),
        (timedelta(days=3), 7 * 86_400, True),
    ],
)
def test_the_tolerance_is_each_way_and_the_connections_own(
    age: timedelta, tolerance: float | None, expected: bool
) -> None:
    """A day by default, narrower or wider by `max_age_seconds`."""
    assert expected == accepted(ECDSA, signed(b"[]", NOW - age), KEYS.accepted, max_age=tolerance)


@pytest.mark.parametrize("stamp", ["", "now", "-5", "1e9", " 1768471200", "١٧٦٨٤٧١٢٠٠", "9" * 400, "1768471200.0"])
def test_a_time_that_is_no_plain_number_is_refused(stamp: str) -> None:
    """Even with a right signature over it."""
    signature = signing_keys.signature("ecdsa", KEYS.signing, stamp.encode() + b"[]")
    assert not accepted(ECDSA, delivery(b"[]", x_signature=signature, x_timestamp=stamp), KEYS.accepted)


def test_keys_are_read_as_the_console_shows_them_and_as_pem() -> None:
    """One line of base64, wrapped base64 or PEM; other curves and other text are no keys."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    one_line = KEYS.accepted
    pem = b"-----BEGIN PUBLIC KEY-----\n" + one_line + b"\n-----END PUBLIC KEY-----\n"
    wrapped = one_line[:64] + b"\n" + one_line[64:] + b"\n"
    for key in (one_line, wrapped, pem):
        assert accepted(ECDSA, signed(b"[]"), key)
    other = ec.derive_private_key(7, ec.SECP384R1()).public_key()
    curve = b64encode(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for key in (curve, b"", b"-----BEGIN PUBLIC KEY-----", b"token"):
        assert not accepted(ECDSA, signed(b"[]"), key)
        assert accepted(ECDSA, signed(b"[]"), key, one_line)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer token-1", True),
        ("bearer   token-1 ", True),
        ("Bearer token-2", True),
        ("Bearer token-3", False),
        ("Bearer ", False),
        ("Bearer", False),
        ("token-1", False),
        ("Basic token-1", False),
        ("", False),
    ],
)
def test_a_bearer_token_is_one_of_the_secrets(header: str, expected: bool) -> None:
    """Scheme in any case, token exactly; an empty secret opens nothing."""
    assert expected == accepted(BEARER, delivery(authorization=header), b"token-1", b"token-2", b"")
    assert not accepted(BEARER, delivery(), b"token-1")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic " + b64encode(b"wk_1:").decode(), b"wk_1"),
        ("Basic " + b64encode(b"wk_1").decode(), b"wk_1"),
        ("Basic " + b64encode(b"wk_1").decode().rstrip("="), b"wk_1"),
        ("basic " + b64encode(b"wk_1:ignored").decode(), b"wk_1"),
        ("Basic " + b64encode(b":password").decode(), None),
        ("Basic ", None),
        ("Basic ***", None),
        ("Bearer wk_1", None),
        ("", None),
    ],
)
def test_the_write_key_is_the_basic_user_name(header: str, expected: bytes | None) -> None:
    """With or without its colon and padding."""
    assert expected == basic_write_key({"authorization": header})


def test_nothing_shown_matches_nothing() -> None:
    """Neither None nor an empty secret is ever equal to one another."""
    for shown in (None, b""):
        with pytest.raises(SignatureError):
            require_match(shown, [b"", b"secret"], "key")


@pytest.mark.parametrize("randomness", [b"0" * 16, b"another seed, and longer"])
def test_a_new_secret_depends_on_its_randomness_and_platform(randomness: bytes) -> None:
    """Deterministic, and different for another platform or another seed."""
    made = {platform: signing.new_secret(platform, randomness) for platform in sources.NAMES}
    assert made == {platform: signing.new_secret(platform, randomness) for platform in sources.NAMES}
    assert len(made) == len(set(made.values()))
    assert not set(made.values()) & {signing.new_secret(platform, randomness + b"x") for platform in sources.NAMES}


def test_an_unknown_platform_has_no_signature() -> None:
    """A clear error, not a request without proof."""
    with pytest.raises(UnknownConnection, match="no-such"):
        signing.sign("no-such", b"", b"", NOW)
    with pytest.raises(UnknownConnection, match="no-such"):
        signing.new_secret("no-such", b"0" * 16)
