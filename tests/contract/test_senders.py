"""Every sender that speaks HTTP, against the simulator of its platform: what it says, and what each answer means."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espial import senders, sources
from espial.answers import Answer
from espial.cli.simulators import senders as simulated
from espial.cli.simulators.platform import Platform
from espial.cli.simulators.server import Server
from espial.deliveries import Arrival, Connection
from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.messages import OWN_KEY, Message, Receipt, check, mailbox, send_key
from espial.normalise import normalise
from espial.ports import Sender
from espial.senders import Ways
from espial.stores.guarded_http import GuardedHttp
from tests.contract import engagement

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
SECRET = "s3cret-of-the-provider"
KEY = send_key(trigger="cart", person="id:cust-1", key="cart-7", version="01J0000000000000000000000")
EMAIL = Message(
    to="ada@example.com",
    from_=mailbox("Bücher, Wacholder & Co", "hello@shop.example.com"),
    reply_to="help@shop.example.com",
    subject="Grüße, Ada",
    html="<p>Hi Ada</p>",
    text="Hi Ada",
    send_key=KEY,
    headers={
        "List-Unsubscribe": "<https://shop.example.com/u?m=1>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    },
    tags={"trigger": "cart-abandonment", "template": "cart reminder, v2"},
    external_id="cust-1",
)
SMS = Message(
    channel="sms",
    to="+15550100123",
    from_="+15550100100",
    subject="",
    html="",
    text="Grüße, Ada: 3 things wait for you",
    send_key=KEY,
    tags={"trigger": "cart-abandonment", "template": "cart-reminder"},
)

NEEDED: Mapping[str, Mapping[str, Any]] = {**engagement.NEEDED}
"""Settings that a provider of this sender cannot do without."""

MEANINGS: Mapping[str, Mapping[str, str | float | None]] = {
    **engagement.MEANINGS,
    "mandrill": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "unpaid": "account_suspended",
        "unknown_subaccount": "subaccount_unknown",
        "bad_request": "request_invalid",
        "suppressed": "recipient_suppressed",
        "unsubscribed": "recipient_suppressed",
        "unsigned": "from_not_verified",
        "rule": "content_refused",
        "bad_recipient": "recipient_invalid",
        "new_reason": "refused_by_platform",
    },
    "brevo": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_request": "request_invalid",
        "no_credits": "account_suspended",
        "under_validation": "account_suspended",
        "forbidden": "forbidden",
    },
    "mailjet": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_recipient": "recipient_invalid",
        "bad_header": "header_invalid",
        "unverified": "from_not_verified",
        "bad_request": "request_invalid",
        "forbidden": "forbidden",
    },
    "resend": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "quota": 900.0,
        "bad_key": "unauthorised",
        "bad_sender": "from_invalid",
        "bad_request": "request_invalid",
        "unverified": "forbidden",
        "security": "content_refused",
        "concurrent": 5.0,
    },
    "mailersend": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "suppressed": "recipient_suppressed",
        "bad_recipient": "recipient_invalid",
        "unverified": "from_not_verified",
        "bad_request": "request_invalid",
    },
    "postmark": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "maintenance": 60.0,
        "suppressed": "recipient_suppressed",
        "bad_recipient": "recipient_invalid",
        "bad_sender": "from_invalid",
        "bad_request": "request_invalid",
        "unverified": "from_not_verified",
        "no_credits": "account_suspended",
        "pending": "account_suspended",
    },
    "mailgun": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "bad_recipient": "recipient_invalid",
        "bad_sender": "from_invalid",
        "not_allowed": "account_suspended",
        "unknown_domain": "from_not_verified",
        "too_large": "message_too_large",
    },
    "sparkpost": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "busy": 15.0,
        "hourly": 900.0,
        "suppressed": "recipient_suppressed",
        "bad_recipient": "recipient_invalid",
        "none_accepted": "recipient_invalid",
        "bad_domain": "from_not_verified",
        "bad_header": "header_invalid",
        "forbidden": "unauthorised",
    },
    "sendgrid": {
        "unauthorised": "unauthorised",
        "throttle": 7.0,
        "error": None,
        "unavailable": 1.0,
        "bad_recipient": "recipient_invalid",
        "bad_content": "content_invalid",
        "unverified": "from_not_verified",
        "forbidden": "forbidden",
        "too_large": "message_too_large",
    },
}
"""What each answer of a simulator means: a reason of a refusal, seconds to wait, or None if nobody knows."""

ALL = tuple(name for name in simulated.NAMES if name in senders.NAMES)


class Hasty:
    """The way out, in a hurry."""

    def __init__(self) -> None:
        self._http = GuardedHttp("loopback")

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", seconds: float = 10.0
    ) -> Answer:
        return self._http.request(method, url, headers, body, min(seconds, 0.5))


def ways(secret: bytes = SECRET.encode()) -> Ways:
    return Ways(lambda _service: None, Hasty(), GuardedHttp("loopback").dial, lambda _name: secret, lambda: NOON)


class World:
    """One platform, simulated, and the sender that speaks to it."""

    def __init__(self, case: str) -> None:
        name, self.needed = engagement.ALSO.get(case, (case, NEEDED.get(case, {})))
        self.kind = senders.load(name)
        self.platform = Platform(plug=simulated.load(name), secrets=dict.fromkeys(self.kind.secrets, SECRET))
        self.server = Server(0, self.platform)
        self.name = name
        able = self.sender().features
        lacking = {name: type(getattr(EMAIL, name))() for name in ("headers", "reply_to") if name not in able}
        self.message = SMS if self.kind.channel == "sms" else replace(EMAIL, **lacking)

    def sender(self, secret: bytes = SECRET.encode(), **settings: Any) -> Sender:
        said = {**self.needed, "base_url": self.server.url, **settings}
        references = {name: f"secretsmanager:espial/provider/{name}" for name in self.kind.secrets}
        assert "" == senders.problem(self.kind, references, said)
        return self.kind.open("shop-mail", {"secrets": references, "settings": said}, ways(secret))

    def send(self, **changes: Any) -> Receipt:
        return self.sender().send(replace(self.message, **changes), idempotency_key=KEY)

    @property
    def taken(self) -> list[Any]:
        return [told.said for _, told in self.platform.messages]


@pytest.fixture(params=(*ALL, *engagement.ALSO))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    thread = threading.Thread(target=world.server.serve_forever, args=(0.01,))
    thread.start()
    yield world
    world.server.shutdown()
    thread.join()
    world.server.server_close()


def test_every_sender_over_http_has_a_simulator_and_each_of_its_answers_a_meaning():
    """A sender that nothing judges is none."""
    assert {"ses", "smtp", "webhook"} >= {*senders.NAMES} - {*ALL}
    assert {*ALL} == {*MEANINGS}
    for name in ALL:
        assert {*simulated.load(name).answers} == {*MEANINGS[name]}, name


def test_a_message_with_everything_is_taken(world):
    """Once, by the recipient alone, and the receipt has the platform's own id."""
    sender = world.sender()
    check(world.message, sender.features)
    receipt = sender.send(world.message, idempotency_key=KEY)
    [(known, told)] = world.platform.messages
    assert [world.message.to] == [_plus(one, world) for one in world.platform.plug.to(told)]
    assert ("shop-mail", NOON) == (receipt.provider, receipt.at)
    ours = receipt.provider_message_id in ("" if world.name in engagement.UNNUMBERED else KEY, known.lower())
    assert ours or known in receipt.provider_message_id
    said = json.dumps(told.said, ensure_ascii=False)
    for words in ("Grüße, Ada", *(value for value in world.message.headers.values())):
        assert json.dumps(words, ensure_ascii=False)[1:-1] in said
    assert SECRET not in said or world.name in ("mandrill", "vonage")


def _plus(number: str, world: World) -> str:
    """Some platforms write numbers without the plus, or know people by another name."""
    if number == world.message.external_id:
        return world.message.to
    return f"+{number.lstrip('+')}" if world.message.channel == "sms" else number


def test_a_message_with_the_least_is_taken(world):
    """Nothing that is empty is said."""
    if world.message.channel == "email":
        world.send(html="", headers={}, tags={}, reply_to="", from_="hello@shop.example.com")
    else:
        world.send(tags={})
    assert 1 == len(world.taken)


def test_several_recipients_are_one_message(world):
    """A notification's mail, where the platform can; else it is refused before it is sent."""
    message = replace(EMAIL, also_to=("bob@example.com",))
    if "also_to" not in world.sender().features:
        with pytest.raises(Refused, match="provider_lacks_feature"):
            check(message, world.sender().features)
        return
    world.sender().send(message, idempotency_key=KEY)
    [(_, told)] = world.platform.messages
    assert ["ada@example.com", "bob@example.com"] == world.platform.plug.to(told)


def test_what_the_platform_reports_carries_the_send_key(world):
    """By this an unknown outcome is settled: its own source reads the key that went with the message."""
    world.send()
    [(known, told)] = world.platform.messages
    item = world.platform.plug.event(told, known)
    connection = Connection(name="main", platform=world.name, secrets=(), account="main")
    source = sources.load(world.name)
    found = normalise(source, item, Arrival(connection=connection, received_at=NOON, transport="webhook")).event
    if world.name in engagement.SILENT:
        assert world.sender().idempotent
    else:
        assert KEY in (found.send_key, found.properties.get(OWN_KEY))


@pytest.mark.parametrize("name", ALL)
def test_each_answer_has_its_meaning(name):
    """Refused for good, offered again, or unknown; no word of the answer, nor a secret, gets into the error."""
    for fault, meaning in MEANINGS[name].items():
        with _running(name) as world:
            world.platform.order(fault)
            with pytest.raises((Refused, TryAgain, OutcomeUnknown)) as caught:
                world.send()
        found: Any = caught.value
        said = {Refused: "reason", TryAgain: "after"}.get(type(found))
        assert meaning == (getattr(found, said) if said else None), f"{fault}: {found!r}"
        assert not [words for words in (world.message.to, SECRET, "Grüße") if words in f"{found}{found.__cause__}"]
        assert not world.taken


class _running:  # noqa: N801 - a context manager
    def __init__(self, name: str) -> None:
        self.world = World(name)
        self.thread = threading.Thread(target=self.world.server.serve_forever, args=(0.01,))

    def __enter__(self) -> World:
        self.thread.start()
        return self.world

    def __exit__(self, *_: object) -> None:
        self.world.server.shutdown()
        self.thread.join()
        self.world.server.server_close()


@pytest.mark.parametrize("fault", ["drop", "reset", "hang"])
def test_an_answer_that_is_lost_is_unknown(world, fault):
    """Asked once. Where the platform takes a key once, the repeat makes no second message."""
    world.platform.order(fault)
    with pytest.raises(OutcomeUnknown):
        world.send()
    assert 1 == len(world.platform.requests)
    assert (1 if fault == "drop" else 0) == len(world.taken)
    if world.sender().idempotent:
        assert world.send().provider_message_id or world.name in engagement.UNNUMBERED
        assert 1 == len(world.taken)
        world.send(text="rendered once more, a minute later")
        assert 1 == len(world.taken)


def test_an_answer_of_success_that_says_nothing_is_unknown(world):
    """A proxy's page is no receipt."""
    answers = {"page": type(simulated.load("sendgrid").answers["error"])(200, "<html>")}
    world.platform.plug = replace(world.platform.plug, answers=answers)
    world.platform.order("page")
    with pytest.raises(OutcomeUnknown):
        world.send()


def test_nothing_is_unknown_where_nobody_listens(world):
    """The request never left."""
    with pytest.raises(TryAgain):
        world.sender(base_url="http://127.0.0.1:9").send(world.message, idempotency_key=KEY)


def test_a_wrong_secret_is_refused_and_not_repeated(world):
    """By the platform; one that cannot stand in a header never leaves."""
    with pytest.raises(Refused) as caught:
        world.sender(b"wrong").send(world.message, idempotency_key=KEY)
    assert "unauthorised" == caught.value.reason
    assert not world.taken
    with pytest.raises(Refused) as caught:
        world.sender("schlüssel".encode()).send(world.message, idempotency_key=KEY)
    assert "unauthorised" == caught.value.reason


def test_no_text_adds_a_header_or_a_recipient(world):
    """Whatever the data say, who gets it and under which headers stays."""
    hostile = 'Hi"\r\nBcc: eve@example.org\r\n\r\n{"to": "eve@example.org"}&to=eve@example.org\r\n--boundary'
    changes = {} if world.message.channel == "sms" else {"html": f"<p>{hostile}</p>"}
    world.send(text=hostile, tags={"trigger": hostile}, **changes)
    [(_, told)] = world.platform.messages
    assert [world.message.to] == [_plus(one, world) for one in world.platform.plug.to(told)]


class Canned:
    """Whatever it is asked, one answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def request(self, *_: Any) -> Answer:
        return self.answer


WORDS = st.sampled_from(
    ["Messages", "Errors", "ErrorRelatedTo", "To", "MessageID", "Status", "status", "reject_reason", "rejected", "_id",
     "errors", "warnings", "type", "ALL_SUPPRESSED", "field", "code", "name", "message", "results", "id", "ErrorCode",
     "total_accepted_recipients", "messageId", "success", "Message", "300"]
)  # fmt: skip
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=300, deadline=None)
@given(
    body=JSONS.map(orjson.dumps) | st.binary(max_size=40),
    status=st.sampled_from([200, 201, 202, 302, 400, 409, 422, 500, 503]),
)
def test_any_answer_is_one_of_four(name, body, status):
    """A receipt, a refusal, later, or nobody knows: no answer breaks the sender, for a claim would hang on it."""
    kind = senders.load(name)
    provider = {"secrets": dict.fromkeys(kind.secrets, "x"), "settings": dict(NEEDED.get(name, {}))}
    sender = kind.open("shop-mail", provider, ways()._replace(http=Canned(Answer(status, {}, body))))
    message = SMS if kind.channel == "sms" else EMAIL
    with suppress(Refused, TryAgain, OutcomeUnknown):
        receipt = sender.send(message, idempotency_key=KEY)
        assert isinstance(receipt.provider_message_id, str)


@pytest.mark.parametrize("name", ALL)
def test_settings_are_checked_by_name(name):
    """An unknown one, and a base address without https, is refused with the field to blame."""
    kind = senders.load(name)
    secrets = dict.fromkeys(kind.secrets, "secretsmanager:espial/x")
    needed = NEEDED.get(name, {})
    assert senders.problem(kind, secrets, {**needed, "regoin": "eu"}).startswith("settings.regoin: unknown setting")
    assert senders.problem(kind, secrets, {**needed, "base_url": "http://example.com"}).startswith("settings.base_url")
    assert senders.problem(kind, {}, needed).startswith(f"secrets: {kind.secrets[0]} is missing")
    assert senders.problem(kind, {**secrets, "x": "y"}, needed).startswith("secrets.x")
