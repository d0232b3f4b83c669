"""Klaviyo: a signature over body and date, webhook ids, flows, and what its topics mean."""

from __future__ import annotations

import hmac
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espial import signing, sources
from espial.errors import SignatureError
from espial.events import Event
from espial.normalise import normalise
from espial.sources.klaviyo import http_date
from tests import samples

KLAVIYO = sources.load("klaviyo")
CASE = samples.case("klaviyo", "opened")
ITEM: dict[str, Any] = CASE.items[0]
SECRET = b"0123456789abcdef"
SECONDS = st.integers(946_684_800, 4_102_444_799)


def read(topic: str = "event:klaviyo.opened_email", **facts: Any) -> Event:
    item = json.loads(json.dumps({**ITEM, "topic": topic}))
    properties = item["payload"]["data"]["attributes"]["event_properties"]
    properties |= {name.replace("_", " "): value for name, value in facts.items()}
    return normalise(KLAVIYO, item, CASE.arrival).event


DATED = {"klaviyo-timestamp": "Thu, 15 Jan 1998 10:00:37 GMT"}


@given(st.binary(max_size=200), SECONDS)
def test_the_signature_covers_the_body_and_then_the_date(body: bytes, second: int) -> None:
    """Body first, the header's text appended, nothing between; the date as the standard library writes it."""
    now = datetime.fromtimestamp(second, UTC)
    signed = signing.signed(SECRET, replace(CASE.delivery, body=body), now)
    stamp = signed.headers["klaviyo-timestamp"]
    assert format_datetime(now, usegmt=True) == stamp
    assert hmac.digest(SECRET, body + stamp.encode(), "sha256").hex() == signed.headers["klaviyo-signature"]
    KLAVIYO.verify(signed, (SECRET,), now)
    for changed in (replace(signed, body=body + b" "), replace(signed, headers={**signed.headers, **DATED})):
        with pytest.raises(SignatureError):
            KLAVIYO.verify(changed, (SECRET,), now)


@given(SECONDS)
def test_an_http_date_is_read_as_the_standard_library_does(second: int) -> None:
    """Without loading it, on the way that has to answer fast."""
    stamp = format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)
    assert parsedate_to_datetime(stamp).timestamp() == http_date(stamp) == second


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "1768471237",
        "2026-01-15T10:00:37Z",
        "Thu, 15 Jan 2026 10:00:37 UTC",
        "Thu, 31 Feb 2026 10:00:37 GMT",
        "Thu, 15 Jan 2026 25:00:37 GMT",
        "Thu, 15 Jan 0000 10:00:37 GMT",
        "Thu, 15 Jan 2026 10:00:37 GMT\n",
        "Thu, ١٥ Jan 2026 10:00:37 GMT",
    ],
)
def test_nothing_else_is_a_date(stamp: str) -> None:
    """No epoch, no other zone, no day that does not exist."""
    with pytest.raises(SignatureError):
        http_date(stamp)


@pytest.mark.parametrize("header", ["01OTHER", "", None])
def test_a_body_of_another_webhook_is_refused(header: str | None) -> None:
    """Rightly signed with one secret for both, but not meant for here; the id's absence is no way round it."""
    headers = {**CASE.headers, "klaviyo-webhook-id": header}
    given = {name: value for name, value in headers.items() if value is not None}
    with pytest.raises(SignatureError, match="another webhook"):
        KLAVIYO.verify(replace(CASE.delivery, headers=given), CASE.secrets, CASE.now)


def test_a_day_is_allowed_unless_the_connection_says_less() -> None:
    """Klaviyo names no tolerance, and whether a retry is signed afresh is not known."""
    signed = signing.signed(SECRET, CASE.delivery, CASE.now - timedelta(hours=23))
    KLAVIYO.verify(signed, (SECRET,), CASE.now)
    with pytest.raises(SignatureError, match="too far from now"):
        KLAVIYO.verify(signed, (SECRET,), CASE.now, settings={"max_age_seconds": 300})


@given(st.randoms(use_true_random=False))
def test_a_retry_in_another_order_is_the_same_events(chance: random.Random) -> None:
    """Topics are mixed, batches may be grouped anew."""
    first = {record.event.event_id: record.event for record in samples.case("klaviyo", "email").recordables}
    again = list(samples.case("klaviyo", "email").items)
    chance.shuffle(again)
    assert first == {event.event_id: event for event in (normalise(KLAVIYO, one, CASE.arrival).event for one in again)}


def test_an_id_counts_under_its_topic() -> None:
    """One id under two topics is two events; the id beside the payload stands in for the one in it."""
    assert KLAVIYO.identity(ITEM) != KLAVIYO.identity({**ITEM, "topic": "event:klaviyo.clicked_email"})
    bare = json.loads(json.dumps(ITEM))
    del bare["payload"]["data"]["id"]
    assert KLAVIYO.identity(ITEM) == KLAVIYO.identity(bare)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("event:klaviyo.received_email", ("delivered", "email")),
        ("event:klaviyo.sent_sms", ("replied", "sms")),
        ("event:klaviyo.received_sms", ("delivered", "sms")),
        ("event:klaviyo.failed_to_deliver_sms", ("failed", "sms")),
        ("event:klaviyo.manually_suppressed_from_email_marketing", ("unsubscribed", "email")),
        ("event:shopify.placed_order", ("custom", "none")),
        ("event:klaviyo.something_new", ("unknown", "none")),
        ("list:something_new", ("unknown", "none")),
    ],
)
def test_topics_are_named_from_the_persons_side(topic: str, expected: tuple[str, str]) -> None:
    """`received` is our message that arrived, `sent` is theirs."""
    event = read(topic)
    assert expected == (event.type, event.channel)


@pytest.mark.parametrize(
    ("kind", "expected"), [("Hard", "bounced"), ("Soft", "soft_bounced"), ("soft", "soft_bounced"), (None, "bounced")]
)
def test_a_bounce_is_told_by_its_type(kind: str | None, expected: str) -> None:
    """Where it does not say, it is a hard one."""
    assert expected == read("event:klaviyo.bounced_email", Bounce_Type=kind).type


@pytest.mark.parametrize(("flag", "expected"), [(True, True), (False, False), (None, None), ("true", None)])
def test_a_machine_is_told_by_klaviyos_flags(flag: Any, expected: bool | None) -> None:
    """Absent means unknown; a click has a flag of its own."""
    opened, clicked = read(Machine_Open=flag).client, read("event:klaviyo.clicked_email", Bot_Click=flag).client
    assert (expected, expected) == (opened and opened.machine, clicked and clicked.machine)
    assert read("event:klaviyo.clicked_email", Machine_Open=True).client is None


def test_a_message_belongs_to_a_campaign_or_to_a_flow() -> None:
    """`$message` is either; within a flow it is a step of it."""
    in_flow = read().campaign
    assert in_flow is not None
    assert (None, "XyZ12", "01JABC") == (in_flow.id, in_flow.journey_id, in_flow.step_id)
    no_flow: dict[str, Any] = {"$flow": None}
    alone = read(**no_flow).campaign
    assert alone is not None
    assert ("01JABC", None, None) == (alone.id, alone.journey_id, alone.step_id)


def test_the_profile_is_read_where_it_is_included() -> None:
    """Only the event's own: several may be there."""
    included = [
        {"type": "profile", "id": "another", "attributes": {"email": "bob@example.net"}},
        {"type": "profile", "id": "01HPROF", "attributes": {"external_id": "cust-1", "phone_number": "+15550100"}},
    ]
    item = {**ITEM, "payload": {**ITEM["payload"], "included": included}}
    person = normalise(KLAVIYO, item, CASE.arrival).event.person
    assert ("cust-1", "+15550100", "ada@example.com") == (person.external_id, person.phone, person.email)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer 0123456789abcdef"},
        {"authorization": "0123456789abcdef"},
        {"x-flow": "0123456789abcdef"},
    ],
)
def test_a_flow_is_proven_by_what_its_headers_show(headers: dict[str, str]) -> None:
    """It is not signed: up to ten headers of one's own; the signature of others does not stand in for them."""
    delivery = replace(CASE.delivery, headers=headers, body=b'{"email":"ada@example.com"}')
    KLAVIYO.verify(delivery, (SECRET,), CASE.now, settings={"secret_header": "X-Flow"})
    with pytest.raises(SignatureError):
        KLAVIYO.verify(delivery, (b"another",), CASE.now, settings={"secret_header": "X-Flow"})


@pytest.mark.parametrize("body", [b'{"data":[1]}', b'{"meta":{}}', b'{"data":{},"meta":{"a":1}}', b'{"email":"a"}'])
def test_a_flows_body_is_the_marketers_own(body: bytes) -> None:
    """Also where it has a name in common with Klaviyo's envelope."""
    delivery = replace(CASE.delivery, headers={}, body=body)
    assert [{"flow_webhook": json.loads(body)}] == KLAVIYO.split(delivery)


def test_a_flow_that_dates_itself_is_the_same_event_when_repeated() -> None:
    """Otherwise it is dated by its receipt, and says so."""
    arrival = replace(CASE.arrival, received_at=CASE.received_at + timedelta(minutes=5))
    dated = {"flow_webhook": {"email": "ada@example.com", "occurred_at": "2026-01-15T10:00:00+00:00"}}
    first, second = (normalise(KLAVIYO, dated, when).event for when in (CASE.arrival, arrival))
    assert (first.event_id, False) == (second.event_id, second.time_uncertain)
    undated = normalise(KLAVIYO, {"flow_webhook": {"email": "ada@example.com"}}, arrival).event
    assert (arrival.received_at, True) == (undated.occurred_at, undated.time_uncertain)
