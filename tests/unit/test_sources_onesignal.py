"""OneSignal: the published template makes what the source reads; what its kinds mean."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import liquid
import pytest

from espial import sources
from espial.errors import MalformedItem, SignatureError
from espial.events import Event
from espial.normalise import normalise
from espial.sources.onesignal import BODY_TEMPLATE
from tests import samples

ONESIGNAL = sources.load("onesignal")
CASE = samples.case("onesignal", "email-opened")
BASE = json.loads(CASE.body)


def rendered(**data: Any) -> Any:
    """What OneSignal posts for these data."""
    return json.loads(liquid.Environment().from_string(BODY_TEMPLATE).render(**data))


def read(event: dict[str, Any] | None = None, **changes: Any) -> Event:
    item = {**BASE, **changes, "event": {**BASE["event"], **(event or {})}}
    return normalise(ONESIGNAL, item, CASE.arrival).event


def test_the_published_template_makes_the_samples() -> None:
    """Rendered with a sample's own values it is the sample, and it is told as a step of the setup."""
    event, message = BASE["event"], BASE["message"]
    user = {"subscription": {"subscription_token": BASE["recipient"]}}
    assert BASE == rendered(event=event, message=message, user=user)
    assert any(BODY_TEMPLATE in step for step in ONESIGNAL.docs.setup)


def test_blanks_of_the_template_are_nothing_said() -> None:
    """A month after the send the message's fields are blank; fields of other kinds always are."""
    item = rendered(event={"id": "e-1", "kind": "message.push.sent", "timestamp": 1768471237})
    event = normalise(ONESIGNAL, item, CASE.arrival).event
    assert (None, None, {}, None) == (event.campaign, event.message_id, event.properties, event.send_key)
    assert 1768471237 == event.occurred_at.timestamp()


@pytest.mark.parametrize("timestamp", [1768471237, "1768471237"])
def test_the_time_is_the_same_by_either_field(timestamp: Any) -> None:
    """`datetime` has milliseconds, `timestamp` has not; the id holds the second."""
    exact = read({"datetime": "2026-01-15T10:00:37.228Z", "timestamp": timestamp})
    whole = read({"datetime": "", "timestamp": timestamp})
    assert exact.event_id == whole.event_id
    assert 228_000 == exact.occurred_at.microsecond


def test_a_repeated_event_is_told_by_its_id() -> None:
    """Whatever else a retry or a changed template says."""
    assert read().event_id == read(plan="gold", message={}).event_id
    assert read().event_id != read({"id": "7a1c0000-0000-4000-8000-00000000ffff"}).event_id


def test_without_an_id_all_that_tells_events_apart_does() -> None:
    """A template of one's own may lack it."""
    bare = {"id": "", "subscription_id": "s-1"}
    assert read(bare).event_id == read(bare).event_id
    assert read(bare).event_id != read({**bare, "subscription_id": "s-2"}).event_id
    assert read(bare).event_id != read({**bare, "data": {"target_id": "b"}}).event_id


def test_a_token_of_a_device_names_nobody() -> None:
    """The recipient is an address for e-mail and a number for SMS alone."""
    pushed, texted = read({"kind": "message.push.sent"}), read({"kind": "message.sms.sent"}, recipient="+15555550101")
    assert (None, None) == (pushed.person.email, pushed.person.phone)
    assert (None, "+15555550101") == (texted.person.email, texted.person.phone)


def test_what_a_browser_posts_is_refused_even_with_the_secret() -> None:
    """Every visitor would know it."""
    ONESIGNAL.verify(CASE.delivery, CASE.secrets, CASE.now)
    browser = replace(CASE.delivery, headers={**CASE.delivery.headers, "x-onesignal-event": "notification.clicked"})
    with pytest.raises(SignatureError, match="browser"):
        ONESIGNAL.verify(browser, CASE.secrets, CASE.now)


@pytest.mark.parametrize("event", [None, "notification.displayed", [], {"kind": ""}])
def test_a_body_of_another_template_says_what_is_missing(event: Any) -> None:
    """It is kept in quarantine under a reason that points at the template."""
    with pytest.raises(MalformedItem, match="template") as refused:
        normalise(ONESIGNAL, {"event": event}, CASE.arrival)
    assert ("missing_event", "event.kind") == (refused.value.reason, refused.value.path)
