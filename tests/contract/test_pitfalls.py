"""The pitfalls of platforms' webhooks, those that no other test stands in the way of.

Most are tested with their platform (`tests/unit/test_sources_<platform>.py`, the samples). Here is what concerns all of
them, the way through the receiver and the recorder, and what lies between two platforms.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from espial import gateway, sources
from espial.deliveries import Connection, RawDelivery
from espial.envelope import pack
from espial.errors import SignatureError
from espial.gateway import Outcome
from espial.message_state import NOTHING, MessageState, join, of_event
from espial.normalise import normalise
from espial.services.receive_webhook import receive_webhook
from espial.services.record_events import record
from espial.sources import NAMES
from espial.verify.chosen import chosen
from espial.vocabulary import EventType
from tests.builders import NOON, a_connection, a_delivery, an_arrival
from tests.fakes import (
    FakeArchive,
    FakeConnections,
    FakeDeliveryQueue,
    FakeEventStore,
    FakeOutside,
    FakeQuarantine,
)
from tests.http_events import http_event
from tests.samples import PUBLIC_URL, Case, case, cases

pytestmark = pytest.mark.disable_socket
WEBHOOKS = [name for name in NAMES if name != "segment"]
NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)


def _plain(platform: str) -> Case:
    """The first sample of a platform that becomes an event, and whose body is text."""
    told = [one for one in cases(platform) if one.body and one.expected and "event" in one.expected[0]]
    return next(one for one in told if one.body.isascii() and "content-encoding" not in one.headers)


class Receiver:
    """The receiver with one connection, and its queue."""

    def __init__(self, connection: Connection, *secrets: bytes) -> None:
        self.connections = FakeConnections(connection, secrets={connection.name: secrets})
        self.queue = FakeDeliveryQueue()

    def receive(self, event: Mapping[str, object], now: datetime = NOW) -> Outcome:
        request = gateway.read(event)
        return receive_webhook(request, self.connections, self.queue, FakeOutside(), public_url=PUBLIC_URL, now=now)


def _as_posted(one: Case, body: bytes | str, headers: Mapping[str, str]) -> dict[str, object]:
    query = one.delivery.url.partition("?")[2]
    path = f"/in/{one.platform}/{one.connection.name}"
    return http_event(path, body, headers, method=one.delivery.method, query=query)


@pytest.mark.parametrize("platform", WEBHOOKS)
def test_a_base64_body_is_proven_like_a_plain_one(platform: str) -> None:
    """API Gateway hands over forms and unlisted types as base64: what is signed is the bytes within."""
    one = _plain(platform)
    sent = one.delivery.body
    for body in (sent, sent.decode()):
        receiver = Receiver(one.connection, *one.secrets)
        outcome = receiver.receive(_as_posted(one, body, one.headers), one.now)
        assert (200, "accepted") == (outcome.reply.status, outcome.reason)
        assert [sent] == [kept.body for kept in receiver.queue.deliveries]


@pytest.mark.parametrize("platform", WEBHOOKS)
def test_the_case_of_a_headers_name_says_nothing(platform: str) -> None:
    """REST APIs and proxies keep the case that the platform writes, HTTP APIs do not."""
    one = _plain(platform)
    headers = {name.title(): value for name, value in one.headers.items()}
    outcome = Receiver(one.connection, *one.secrets).receive(_as_posted(one, one.delivery.body, headers), one.now)
    assert (200, "accepted") == (outcome.reply.status, outcome.reason)


@pytest.mark.parametrize("query", ["", "tenant=t1&empty=&x=%20"])
def test_mandrill_signs_the_url_it_was_given_with_query_and_user(query: str) -> None:
    """User, password, port and query as they were typed in, which the request itself no longer shows."""
    url = "https://user:pass@hooks.example.org:8443/mandrill/"
    signed = f"{url}?{query}" if query else url
    events = '[{"event":"open","ts":1767225599,"_id":"a1","msg":{"email":"zo\u00eb@example.net"}}]'
    code = b64encode(hmac.new(b"mandrill-key", f"{signed}mandrill_events{events}".encode(), "sha1").digest()).decode()
    body = b"mandrill_events=" + "".join(f"%{byte:02X}" for byte in events.encode()).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Mandrill-Signature": code}
    for configured in {url, signed}:
        connection = Connection(name="main", platform="mandrill", public_url=configured)
        receiver = Receiver(connection, b"mandrill-key")
        outcome = receiver.receive(http_event("/in/mandrill/main", body, headers, query=query))
        assert "accepted" == outcome.reason
        assert signed == receiver.queue.deliveries[0].url


def test_a_variable_of_mailguns_multipart_post_may_be_named_timestamp() -> None:
    """The proof's fields come last; the variable stays one."""
    fields = [
        *(("event", "opened"), ("recipient", "ada@example.com"), ("timestamp", "the user's own")),
        *(("timestamp", "1768471200"), ("token", "t-1")),
        ("signature", hmac.new(b"key", b"1768471200t-1", "sha256").hexdigest()),
    ]
    part = '--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = ("".join(part % one for one in fields) + "--b--\r\n").encode()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    mailgun = sources.load("mailgun")
    delivery = replace(case("mailgun", "fixed-signature").delivery, body=body, headers=headers)
    mailgun.verify(delivery, [b"key"], NOW)
    (item,) = mailgun.split(delivery)
    event = normalise(mailgun, item, an_arrival()).event
    assert (NOW, {"timestamp": "the user's own"}) == (event.occurred_at, event.properties)


def test_statuses_of_twilio_in_any_order_end_in_the_same_state() -> None:
    """`delivered` comes before `sent` often enough: a message that arrived stays delivered."""
    twilio, arrival = sources.load("twilio"), an_arrival()
    reports = [{"MessageSid": "SM1", "To": "+15555550100", "MessageStatus": one} for one in ("queued", "sent")]
    reports.append({**reports[0], "MessageStatus": "delivered"})
    for order in itertools.permutations(reports):
        state: MessageState = NOTHING
        for report in order:
            state = join(state, of_event(normalise(twilio, report, arrival).event))
        assert EventType.DELIVERED == (state.status and state.status.type)


@pytest.mark.parametrize("value", ["a&b", "a=b", "&=", "a&b=c&d"])
def test_values_that_vonage_signs_may_hold_the_separators(value: str) -> None:
    """Both become `_` in what is signed, and stay what they are in what is read."""
    given = {"messageId": "0A1", "status": "delivered", "msisdn": "15555550100", "client-ref": value}
    given["timestamp"] = str(int(NOW.timestamp()))
    text = "".join(f"&{name}={one.replace('&', '_').replace('=', '_')}" for name, one in sorted(given.items()))
    sig = hashlib.md5(f"{text}secret".encode(), usedforsecurity=False).hexdigest()
    query = "&".join(f"{name}={''.join(f'%{byte:02X}' for byte in one.encode())}" for name, one in given.items())
    receiver = Receiver(Connection(name="main", platform="vonage"), b"secret")
    event = http_event("/in/vonage/main", method="GET", query=f"{query}&sig={sig.upper()}")
    assert "accepted" == receiver.receive(event).reason
    (item,) = sources.load("vonage").split(receiver.queue.deliveries[0])
    assert value == item["client-ref"]


class Recording:
    """The recorder's ports, all fakes."""

    def __init__(self) -> None:
        self.connections = FakeConnections(a_connection())
        self.store, self.archive, self.quarantine = FakeEventStore(), FakeArchive(), FakeQuarantine()

    def record(self, *deliveries: RawDelivery) -> None:
        record(deliveries, now=NOON, **vars(self))


def _sendgrid(number: int) -> dict[str, object]:
    return {"email": "ada@example.com", "event": "open", "sg_event_id": f"e-{number}", "timestamp": 1_767_225_600}


def test_one_bad_item_of_a_hundred_costs_no_other() -> None:
    """Ninety-nine events, one entry in the quarantine."""
    batch = [_sendgrid(number) for number in range(100)]
    batch[41] = {**batch[41], "timestamp": "soon"}
    recording = Recording()
    recording.record(a_delivery(batch))
    assert (99, 1) == (len(recording.store.items), len(list(recording.quarantine.list())))


def test_an_event_told_twice_in_a_batch_and_again_in_the_next_is_one() -> None:
    """Retries repeat batches, in another order and regrouped."""
    one, two = _sendgrid(1), _sendgrid(2)
    recording = Recording()
    recording.record(a_delivery([one, two, one]), a_delivery([two, one], delivery_id="delivery-2"))
    recording.record(a_delivery([two, two], delivery_id="delivery-3"))
    assert 2 == len(recording.store.items)


NAMELESS = frozenset({"clevertap", "cloudevents", "segment"})
"""CleverTap names no events; what the other two tell of in words of its own is `custom` or mapped."""


@pytest.mark.parametrize("platform", [name for name in NAMES if name not in NAMELESS])
def test_a_type_that_nobody_knows_is_kept(platform: str) -> None:
    """Platforms add events without notice: each has a sample of one, which comes out as `unknown`."""
    known = sources.load(platform).event_types
    told = [outcome["event"] for one in cases(platform) for outcome in one.expected if "event" in outcome]
    assert [one for one in told if one["type"] == EventType.UNKNOWN and one["platform_type"] not in known]


def test_a_secret_in_the_url_does_not_reach_the_queue() -> None:
    """Nor the archive and the quarantine, which are filled from there."""
    url = f"{PUBLIC_URL}/in/activecampaign/main?key=s3cret&a=1"
    packed = pack(a_delivery(url=url, headers={"authorization": "Basic s3cret", "x-kept": "1"}))
    assert "s3cret" not in json.dumps(packed.attributes)
    assert "a=1" in packed.attributes["delivery"]


def test_segments_own_webhooks_can_be_connected_by_a_mapping() -> None:
    """`X-Signature`: the HMAC-SHA1 of the body, hexadecimal. The digest is known from elsewhere."""
    scheme = chosen({"scheme": "hmac", "header": "X-Signature", "algorithm": "sha1"})
    code = "8ef5c8033c7c4ef5a254cf481bd84263d22af50a"
    delivery = a_delivery(body=b'{"type":"track"}', headers={"x-signature": code})
    scheme.verify(delivery, [b"another", b"shared"], NOON)
    with pytest.raises(SignatureError):
        scheme.verify(replace(delivery, body=orjson.dumps({"type": "page"})), [b"shared"], NOON)
