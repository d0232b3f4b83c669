"""Our verifier and SendGrid's own library say the same of any message."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook

from espial import sources
from espial.errors import SignatureError
from tests import samples
from tests.builders import a_delivery

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
THEIRS = EventWebhook(samples.secret("sendgrid").accepted.decode())


def ours(body: bytes, headers: dict[str, str]) -> bool:
    delivery = a_delivery(body=body, received_at=NOW, headers=headers)
    try:
        sources.load("sendgrid").verify(delivery, [samples.secret("sendgrid").accepted], NOW)
    except SignatureError:
        return False
    return True


@given(st.text(max_size=200), st.text(max_size=3))
def test_both_accept_and_refuse_the_same(text: str, appended: str) -> None:
    """What we sign their library accepts; whatever is added to it, both judge alike."""
    headers = samples.signed("sendgrid", text.encode(), NOW)
    changed = text + appended
    theirs = THEIRS.verify_signature(changed, headers[SIGNATURE], headers[TIMESTAMP])
    assert (appended == "") == theirs
    assert theirs == ours(changed.encode(), headers)


@given(st.integers(min_value=-3600, max_value=3600))
def test_the_timestamp_is_signed_too(shift: int) -> None:
    """Moving the header's time breaks the signature, for them and for us."""
    headers = samples.signed("sendgrid", b"[]", NOW)
    headers[TIMESTAMP] = str(int(headers[TIMESTAMP]) + shift)
    theirs = THEIRS.verify_signature("[]", headers[SIGNATURE], headers[TIMESTAMP])
    assert (shift == 0) == theirs
    assert theirs == ours(b"[]", headers)
