"""Mailtrap: what its fields mean, and its own library as the judge of signatures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from mailtrap.webhooks import verify_signature  # type: ignore[import-untyped]

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from tests import samples

MAILTRAP = sources.load("mailtrap")
CASE = samples.case("mailtrap", "all-types")
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
BASE = {"event": "reject", "timestamp": 1768471200, "email": "ada@example.com", "event_id": "e-1", "message_id": "m-1"}


def read(**changes: Any) -> Event:
    return normalise(MAILTRAP, {**BASE, **changes}, CASE.arrival).event


def accepts(body: bytes, signature: str, secret: str) -> bool:
    delivery = replace(CASE.delivery, body=body, headers={"mailtrap-signature": signature})
    try:
        MAILTRAP.verify(delivery, [secret.encode()], NOW)
    except SignatureError:
        return False
    return True


SECRETS = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=40)


@examples(max_examples=50)
@given(st.binary(min_size=1, max_size=200), SECRETS)
def test_mailtraps_library_accepts_what_we_sign(body: bytes, secret: str) -> None:
    """Our signer is Mailtrap's."""
    signature = signing.sign("mailtrap", secret.encode(), body, NOW)["mailtrap-signature"]
    assert verify_signature(body, signature, secret)
    assert accepts(body, signature, secret)


@examples(max_examples=50)
@given(st.binary(min_size=1, max_size=200), SECRETS, st.text("0123456789abcdef", min_size=62, max_size=66))
def test_mailtraps_library_and_we_refuse_the_same(body: bytes, secret: str, signature: str) -> None:
    """A signature of something else fits nowhere."""
    assert verify_signature(body, signature, secret) is False
    assert accepts(body, signature, secret) is False
    right = signing.sign("mailtrap", secret.encode(), body, NOW)["mailtrap-signature"]
    assert verify_signature(body + b" ", right, secret) is accepts(body + b" ", right, secret) is False


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("recipient is on the suppression list", "dropped"), ("domain not verified", "rejected"), (None, "rejected")],
)
def test_a_rejection_is_a_suppression_if_it_says_so(reason: str | None, expected: str) -> None:
    """Both are called reject, says "Statuses and Events"."""
    assert expected == read(reason=reason).type


@pytest.mark.parametrize("event", ["soft bounce", "suspension"])
def test_what_is_tried_again_is_deferred(event: str) -> None:
    """Mailtrap makes ten more attempts, and then reports a bounce or a rejection."""
    assert read(event=event).type == "deferred"


def test_identity_is_the_event_id_else_everything_that_tells_events_apart() -> None:
    """A retried batch holds the same ids."""
    assert ("reject", "e-1") == MAILTRAP.identity(BASE)
    bare = {**BASE, "event_id": None, "event": "click"}
    one, other = ({**bare, "url": f"https://shop.example.com/{page}"} for page in "ab")
    assert MAILTRAP.identity(one) == MAILTRAP.identity(dict(reversed(one.items())))
    assert MAILTRAP.identity(one) != MAILTRAP.identity(other)
