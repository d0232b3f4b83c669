"""A message through the whole of sending, over each platform that takes it and says nothing: sent once, and known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from espial import senders, sources
from espial.deliveries import Arrival, Connection
from espial.normalise import normalise
from tests.contract import engagement
from tests.contract.test_senders import ALL, World, _running
from tests.unit.test_deliver import PROVIDER, TRIGGER
from tests.unit.test_deliver import World as Sending

EMAIL_SENDERS = [name for name in ALL if senders.load(name).channel == "email"]
ASKED_ONCE = [name for name in EMAIL_SENDERS if not senders.load(name).open.idempotent]  # type: ignore[attr-defined]


def _sending_by(platform: World) -> Sending:
    """All that decides and books, with the real sender at its end."""
    sending: Any = Sending()
    sending.sender = lambda _name, _settings: platform.sender()
    return sending  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", EMAIL_SENDERS)
def test_a_lost_answer_is_settled_by_what_the_platform_reports(name):
    """Or by asking again under the same key, where the platform takes one once."""
    with _running(engagement.MARKETING.get(name, name)) as platform:
        sending = _sending_by(platform)
        platform.platform.order("drop")
        first = sending.deliver(sending.abandons(1))
        idempotent = platform.sender().idempotent
        assert ("repeating_with_the_same_key" if idempotent else "outcome_unknown") == first.reason
        [(known, told)] = platform.platform.messages
        assert platform.platform.plug.to(told) in (["c1@example.com"], ["c-1"])
        if not idempotent:
            _reported(sending, name, platform.platform.plug.event(told, known))
        sending.drain([])
        assert 1 == len(platform.platform.messages)
        assert [("message_requested", "")] == sending.own()
        assert "sent" == sending.state()


def _reported(sending: Sending, name: str, item: Any) -> None:
    """By the platform's webhook, of the person that the address belongs to."""
    connection = Connection(name="main", platform=name, secrets=(), account="main")
    at = datetime.now(UTC) + timedelta(days=365)
    found = normalise(sources.load(name), item, Arrival(connection=connection, received_at=at, transport="webhook"))
    sending.store.add([found._replace(home="P#id:c-1")], transport="webhook", expires_days=60)


@pytest.mark.parametrize("name", ASKED_ONCE)
def test_a_silent_platform_is_not_asked_twice(name):
    """Without its events the trigger's word holds: nobody is sent the same mail again unless it says so."""
    with _running(engagement.MARKETING.get(name, name)) as platform:
        sending = _sending_by(platform)
        platform.platform.order("reset")
        sending.drain([sending.abandons(1)])
        assert 1 == len(platform.platform.requests)
        assert [("message_skipped", "outcome_unknown")] == sending.own()


def test_marketing_mail_has_its_way_out_on_every_platform():
    """RFC 8058: both headers, with the message's key in the link."""
    for name in EMAIL_SENDERS:
        with _running(engagement.MARKETING.get(name, name)) as platform:
            sending = _sending_by(platform)
            sending.drain([sending.abandons(1)])
            [(_, told)] = platform.platform.messages
            link = PROVIDER["unsubscribe_url"].replace("{message}", "s-")
            assert link in str(told.said), name
            assert "List-Unsubscribe=One-Click" in str(told.said), name


def test_a_text_message_goes_to_a_number():
    """From the template's text, without a subject or the headers of mail; a number that is none is skipped."""
    for number, expected in (("+1 (555) 010-0101", "+15550100101"), ("c1@example.com", "")):
        sending = Sending({**TRIGGER, "send": {**TRIGGER["send"], "channel": "sms", "to": f"'{number}'"}})
        sending.provider.channel, sending.provider.features = "sms", frozenset({"tags"})
        sending.settings = {"name": "mail", "sender": "fake", "from": "+15550100100"}
        sending.drain([sending.abandons(1)])
        if not expected:
            assert [("message_skipped", "phone_invalid")] == sending.own()
            continue
        [text] = sending.provider.accepted
        assert (expected, "+15550100100", "sms", "Shoe") == (text.to, text.from_, text.channel, text.text)
        assert ("", "", {}) == (text.subject, text.html, text.headers)
        [requested] = [event for event in sending.store.items.values() if event.event.platform == "espial"]
        assert "sms" == requested.event.channel
