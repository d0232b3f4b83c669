"""SES: what is asked of it, and what each of its answers means."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parseaddr
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config

from espial import senders
from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.messages import Message, address, mailbox, one_line, send_key
from espial.senders.ses import SesSender
from local.cloud import Cloud

WAYS: Any = senders.Ways(*[lambda *_: None] * 5)  # type: ignore[arg-type]
KEY = send_key(trigger="cart", person="id:cust-1", key="cart-7", version="01J0000000000000000000000")
MESSAGE = Message(
    to="ada@example.com",
    from_=mailbox("Juniper & Pine", "hello@shop.example.com"),
    reply_to="help@shop.example.com",
    subject="Grüße, Ada",
    html="<p>Hi</p>",
    text="Hi",
    send_key=KEY,
    headers={"List-Unsubscribe": "<https://shop.example.com/u>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    tags={"trigger": "cart-abandonment", "template": "cart reminder, v2"},
)


class Server(HTTPServer):
    """Answers every request with one canned answer, or by hanging up; keeps what it was asked."""

    answer: tuple[int, str] | None = (200, "{}")
    asked: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if self.server.answer is None:
            self.close_connection = True
            return
        status, body = self.server.answer
        code = json.loads(body).get("code", "") if body.startswith("{") else ""
        self.send_response(status)
        if code:
            self.send_header("x-amzn-errortype", code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sender(url: str, **kw: Any) -> SesSender:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=1)
    return SesSender(boto3.client("sesv2", endpoint_url=url, region_name="eu-west-1", config=config), **kw)


def send(server: Server, answer: tuple[int, str] | None) -> Any:
    server.answer = answer
    return sender(f"http://127.0.0.1:{server.server_port}").send(MESSAGE, idempotency_key=KEY)


def test_what_ses_is_asked(server):
    """The whole request, as the SDK's own model of the API lets it through."""
    receipt = send(server, (200, '{"MessageId": "m-1"}'))
    assert ("ses", "m-1") == (receipt.provider, receipt.provider_message_id)
    assert 60 > abs((datetime.now(UTC) - receipt.at).total_seconds())
    assert [
        {
            "FromEmailAddress": "Juniper & Pine <hello@shop.example.com>",
            "Destination": {"ToAddresses": ["ada@example.com"]},
            "ReplyToAddresses": ["help@shop.example.com"],
            "Content": {
                "Simple": {
                    "Subject": {"Data": "Grüße, Ada", "Charset": "UTF-8"},
                    "Body": {
                        "Html": {"Data": "<p>Hi</p>", "Charset": "UTF-8"},
                        "Text": {"Data": "Hi", "Charset": "UTF-8"},
                    },
                    "Headers": [
                        {"Name": "List-Unsubscribe", "Value": "<https://shop.example.com/u>"},
                        {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
                        {"Name": "X-Espial-Send-Key", "Value": KEY},
                    ],
                }
            },
            "EmailTags": [
                {"Name": "trigger", "Value": "cart-abandonment"},
                {"Name": "template", "Value": "cart_reminder__v2"},
                {"Name": "send_key", "Value": KEY},
            ],
        }
    ] == server.asked


def test_a_plain_text_to_several_is_one_mail():
    """Without an empty HTML part, which some readers would show."""
    plain = replace(MESSAGE, html="", also_to=("bob@example.com",))
    asked = senders.load("ses").open("mail", {}, WAYS).request(plain)  # type: ignore[attr-defined]
    assert asked["Destination"] == {"ToAddresses": ["ada@example.com", "bob@example.com"]}
    assert asked["Content"]["Simple"]["Body"] == {"Text": {"Data": "Hi", "Charset": "UTF-8"}}


def test_the_configuration_set_is_named_when_there_is_one():
    """Without one SES publishes no events for the message."""
    made = senders.load("ses").open("mail", {"configuration_set": "espial"}, WAYS)
    assert "espial" == made.request(MESSAGE)["ConfigurationSetName"]  # type: ignore[attr-defined]
    assert "mail" == made.name


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "MessageRejected", "message_rejected"),
        (400, "MailFromDomainNotVerifiedException", "mail_from_domain_not_verified"),
        (400, "BadRequestException", "bad_request"),
        (400, "AccountSuspendedException", "account_suspended"),
        (404, "NotFoundException", "not_found"),
    ],
)
def test_a_no_is_final(server, status, code, reason):
    """Refused with SES's own reason; its words stay out, they may hold the address."""
    with pytest.raises(Refused) as caught:
        send(server, (status, json.dumps({"code": code, "message": "ada@example.com is bad"})))
    assert reason == caught.value.reason
    assert "ada@example.com" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "after"),
    [
        (429, "TooManyRequestsException", 2.0),
        (400, "ThrottlingException", 15.0),
        (400, "LimitExceededException", 60.0),
        (400, "SendingPausedException", 300.0),
        (503, "ServiceUnavailable", 15.0),
        (403, "ExpiredTokenException", 15.0),
    ],
)
def test_not_now_is_asked_again(server, status, code, after):
    """What SES surely did not take is a matter of time."""
    with pytest.raises(TryAgain) as caught:
        send(server, (status, json.dumps({"code": code})))
    assert after == caught.value.after


@pytest.mark.parametrize(
    "answer", [None, (500, '{"code": "InternalFailure"}'), (502, "<html>"), (504, "<html>"), (200, "not json")]
)
def test_silence_and_breakdowns_are_unknown(server, answer):
    """The request arrived; whether SES took it nobody can tell. It is asked once, never again by the SDK."""
    with pytest.raises(OutcomeUnknown):
        send(server, answer)
    assert 1 == len(server.asked)


def test_a_read_time_out_is_unknown(server):
    """The commonest way to send twice."""
    server.answer = (200, '{"MessageId": "m-1"}')
    original, hang = Handler.do_POST, threading.Event()

    def slow(self: Handler) -> None:
        hang.wait(3)
        self.close_connection = True

    Handler.do_POST = slow  # type: ignore[method-assign]
    try:
        with pytest.raises(OutcomeUnknown):
            send(server, server.answer)
    finally:
        hang.set()
        Handler.do_POST = original  # type: ignore[method-assign]


def test_a_port_nobody_listens_on_is_asked_again():
    """The request never left."""
    with pytest.raises(TryAgain):
        sender("http://127.0.0.1:9").send(MESSAGE, idempotency_key=KEY)


@pytest.mark.cloud
def test_ses_really_sends(cloud: Cloud):
    """The local cloud's SES takes the request and shows the mail."""
    cloud.client("sesv2").create_email_identity(EmailIdentity=parseaddr(MESSAGE.from_)[1])
    receipt = SesSender(cloud.client("sesv2")).send(MESSAGE, idempotency_key=KEY)
    shown = json.dumps(cloud.get("/_ministack/ses/messages"), ensure_ascii=False)
    for words in (receipt.provider_message_id, "ada@example.com", "Grüße, Ada", "<p>Hi</p>"):
        assert words in shown


@pytest.mark.parametrize(
    "text",
    ["", "ada", "@example.com", "a@b@example.com", "a@example.com, b@example.com", "a@example.com\nBcc: x@example.com",
     "Ada <a@example.com>", "a b@example.com", "a@exam ple.com", "a" * 65 + "@example.com"],
)  # fmt: skip
def test_an_address_is_one_bare_address(text):
    """Nothing that could add a recipient or a header passes; the refusal does not repeat it."""
    with pytest.raises(Refused) as caught:
        address(text)
    assert "address_invalid" == str(caught.value)


def test_international_domains_travel_in_ascii():
    """SES takes no other."""
    assert "ada@xn--bcher-kva.example.com" == address(" ada@bücher.example.com ")


def test_display_names_are_encoded():
    """Quotes, commas and umlauts do not break the header, and no line can be added."""
    assert '"Shop, Inc." <a@example.com>' == mailbox("Shop, Inc.", "a@example.com")
    assert mailbox("Bücher", "a@example.com").isascii()
    assert "Shop Bcc: x <a@example.com>".replace(":", "") == mailbox("Shop\r\nBcc x", "a@example.com")
    assert "a b" == one_line(" a\r\n\u2028b\x00")


def test_send_keys_are_of_the_occasion_alone():
    """Any part that differs makes another key; the same parts the same; safe in tags, headers and links."""
    parts: dict[str, Any] = {"trigger": "t", "person": "id:1", "key": "k", "version": "v"}
    stages = {send_key(**parts, stage=stage) for stage in (0, 1, 2)}
    keys = {*stages, *(send_key(**{**parts, name: "x"}) for name in parts)}
    assert (3, 7) == (len(stages), len(keys))
    assert send_key(**parts) in keys
    assert all(key.replace("-", "").isalnum() and len(key) == 34 for key in keys)


def test_an_unknown_kind_of_provider_is_refused():
    """A definition for a sender that does not exist fails by name."""
    with pytest.raises(Refused, match="unknown_provider_kind"):
        senders.load("pigeon")
