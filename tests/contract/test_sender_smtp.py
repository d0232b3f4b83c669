"""SMTP, judged by a real server: TLS and proof, what arrives, and what each of its answers means."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from espial import senders
from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.messages import mailbox
from espial.senders.smtp import SmtpSender
from tests.contract.test_senders import EMAIL, KEY, SECRET, ways
from tests.ftp import certificate

controller: Any = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")
smtp: Any = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
LONG = "https://shop.example.com/unsubscribe?" + "m=" + "s-0123456789abcdef" * 6


class Server:
    """A mail server of this machine. `answers` are said instead of its own, by the command they answer."""

    def __init__(self, folder: Path, *, security: str, auth: bool) -> None:
        pem, key = certificate()
        (folder / "cert.pem").write_text(pem)
        (folder / "key.pem").write_bytes(_pem(key))
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        theirs.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.trust = ssl.create_default_context(cadata=pem)
        self.security, self.auth = security, auth
        self.answers: dict[str, str] = {}
        self.taken: list[tuple[list[str], bytes]] = []
        self.proven: list[bool] = []
        made: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}
        if security == "tls":
            made |= {"ssl_context": theirs, "auth_require_tls": False}  # it does not see that this is TLS already
        if security == "starttls":
            made |= {"tls_context": theirs, "require_starttls": True}
        if auth:
            made |= {"authenticator": self._authenticate, "auth_required": True}
        self.controller = Controller(self, **made)

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        right = (data.login, data.password) == (b"shop", SECRET.encode())
        self.proven.append(right)
        return smtp.AuthResult(success=right, handled=False)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.mail_from = address
        return self._answer("MAIL", server)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.rcpt_tos.append(address)
        return self._answer("RCPT", server)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken.append((list(envelope.rcpt_tos), envelope.original_content))
        return self._answer("DATA", server)

    def _answer(self, command: str, server: Any) -> str:
        answer = self.answers.get(command, "250 OK")
        if answer == "drop":
            server.transport.close()
        return answer

    @property
    def port(self) -> int:
        return int(self.controller.port)

    def sender(self, secret: bytes = SECRET.encode(), **settings: Any) -> SmtpSender:
        said = {"host": "localhost", "port": self.port, "security": self.security, **settings}
        said.setdefault("username", "shop" if self.auth else "")
        references = {"password": "secretsmanager:espial/provider/mail"}
        assert "" == senders.problem(senders.load("smtp"), references, said)
        return SmtpSender("mail", {"secrets": references, "settings": said}, ways(secret), self.trust)


class Controller(controller.Controller):  # type: ignore[misc]
    """On any port that is free."""

    def _trigger_server(self) -> None:
        self.port = int(self.server.sockets[0].getsockname()[1])
        super()._trigger_server()


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(security: str = "none", *, auth: bool = False) -> Server:
        server = Server(tmp_path, security=security, auth=auth)
        server.controller.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.controller.stop()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_message_with_everything_arrives(running, security):
    """Over TLS, after a password, whole: every header once, both bodies, the key where it can be found again."""
    server = running(security, auth=True)
    message = replace(EMAIL, headers={**EMAIL.headers, "List-Unsubscribe": f"<{LONG}>"}, text=".\n..\nGrüße\n")
    custom = {"X-Mailgun-Variables": '{"send_key": "{send_key}"}'}
    receipt = server.sender(headers=custom).send(message, idempotency_key=KEY)
    [(people, raw)] = server.taken
    mail: Any = message_from_bytes(raw, policy=default)
    assert ([EMAIL.to], [True]) == (people, server.proven)
    assert f"{KEY}@shop.example.com" == receipt.provider_message_id == mail["Message-ID"].strip("<>")
    assert ("Bücher, Wacholder & Co", "hello@shop.example.com") == (
        mail["From"].addresses[0].display_name,
        mail["From"].addresses[0].addr_spec,
    )
    assert (EMAIL.to, "help@shop.example.com", EMAIL.subject) == (mail["To"], mail["Reply-To"], mail["Subject"])
    assert f"<{LONG}>".encode() in raw
    assert "List-Unsubscribe=One-Click" == mail["List-Unsubscribe-Post"]
    assert (KEY, "cart-abandonment") == (mail["X-Espial-Send-Key"], mail["X-Espial-Trigger"])
    assert f'{{"send_key": "{KEY}"}}' == mail["X-Mailgun-Variables"]
    assert [".", "..", "Grüße"] == mail.get_body(("plain",)).get_content().splitlines()
    assert EMAIL.html in mail.get_body(("html",)).get_content()
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) <= 998


def test_a_plain_text_to_several_is_one_mail(running):
    """Without an empty HTML part."""
    server = running()
    server.sender().send(replace(EMAIL, html="", also_to=("bob@example.com",)), idempotency_key=KEY)
    [(people, raw)] = server.taken
    assert ["ada@example.com", "bob@example.com"] == people
    assert "text/plain" == message_from_bytes(raw).get_content_type()


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("MAIL", "550 5.1.0 no such sender", "sender_refused"),
        ("RCPT", "550 5.1.1 <ada@example.com> unknown", "recipient_refused"),
        ("DATA", "554 5.7.1 spam", "content_refused"),
        ("DATA", "552 5.3.4 too big", "message_too_large"),
    ],
)
def test_a_permanent_refusal_is_final(running, command, answer, reason):
    """Without the server's words, which may hold the address."""
    server = running()
    server.answers[command] = answer
    with pytest.raises(Refused) as caught:
        server.sender().send(EMAIL, idempotency_key=KEY)
    assert reason == caught.value.reason
    assert "ada@" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_what_may_pass_is_offered_again(running, command):
    """Greylisting, a full queue: an answer that begins with 4 says that nothing was taken."""
    server = running()
    server.answers[command] = "451 4.7.1 later"
    with pytest.raises(TryAgain) as caught:
        server.sender().send(EMAIL, idempotency_key=KEY)
    assert 60.0 == caught.value.after


@pytest.mark.parametrize(("command", "expected"), [("MAIL", TryAgain), ("RCPT", TryAgain), ("DATA", OutcomeUnknown)])
def test_a_connection_that_breaks_off_is_unknown_only_after_the_data(running, command, expected):
    """Before them nothing was taken; after them nobody can tell."""
    server = running()
    server.answers[command] = "drop"
    with pytest.raises(expected):
        server.sender().send(EMAIL, idempotency_key=KEY)


def test_one_refused_recipient_stops_the_message(running):
    """Nobody is given it twice by the repeat of a half-sent one."""
    server = running()
    server.answers["RCPT"] = "550 no"
    with pytest.raises(Refused):
        server.sender().send(replace(EMAIL, also_to=("bob@example.com",)), idempotency_key=KEY)
    assert not server.taken


def test_a_wrong_password_is_refused(running):
    """And never sent where the server asks for none, or has no TLS."""
    server = running("starttls", auth=True)
    for secret in (b"wrong", "schlüssel".encode()):
        with pytest.raises(Refused) as caught:
            server.sender(secret).send(EMAIL, idempotency_key=KEY)
        assert "unauthorised" == caught.value.reason
        assert SECRET not in str(caught.value)
    assert not server.taken


def test_no_tls_no_mail(running):
    """A server that offers none is not trusted with a password, nor one whose certificate nobody vouches for."""
    plain = running("none")
    with pytest.raises(Refused, match="no_tls"):
        plain.sender(security="starttls").send(EMAIL, idempotency_key=KEY)
    server = running("tls")
    server.trust = ssl.create_default_context()
    with pytest.raises(Refused, match="certificate_not_trusted"):
        server.sender().send(EMAIL, idempotency_key=KEY)


def test_nobody_listens(running):
    """The message never left."""
    server = running()
    with pytest.raises(TryAgain):
        server.sender(port=9).send(EMAIL, idempotency_key=KEY)


def test_no_text_adds_a_header_or_a_recipient(running):
    """Whatever the data say."""
    server = running()
    hostile = "Hi\r\nBcc: eve@example.org\r\n.\r\nMAIL FROM:<eve@example.org>\r\n"
    message = replace(EMAIL, subject=hostile, text=hostile, html=hostile, tags={"trigger": hostile})
    server.sender().send(message, idempotency_key=KEY)
    [(people, raw)] = server.taken
    mail: Any = message_from_bytes(raw, policy=default)
    assert ([EMAIL.to], None) == (people, mail["Bcc"])
    with pytest.raises(Refused, match="header_invalid"):
        server.sender().send(replace(EMAIL, headers={"X-A": "b\r\nBcc: eve@example.org"}), idempotency_key=KEY)
    with pytest.raises(Refused, match="recipient_invalid"):
        server.sender().send(replace(EMAIL, to="ädä@example.com"), idempotency_key=KEY)
    assert 1 == len(server.taken)


def test_settings_are_checked_by_name():
    """What cannot stand in a header is refused when applied."""
    kind = senders.load("smtp")
    assert "settings: host is missing" == senders.problem(kind, {}, {})
    assert senders.problem(kind, {}, {"host": "x", "security": "ssl"}).startswith("settings.security: must be")
    plain = {"host": "mail.example.com", "security": "none"}
    assert senders.problem(kind, {}, plain).startswith("settings.security: none is for")
    assert senders.problem(kind, {}, {"host": "x", "headers": {"X-A": "b\nc"}}).startswith("settings.headers: 'X-A'")


def test_dates_and_names_are_as_the_standard_has_them():
    """RFC 5322."""
    sender = SmtpSender("mail", {"settings": {"host": "localhost"}}, ways())
    mail = sender.mail(replace(EMAIL, from_=mailbox('The "Shop"', "a@example.com")))
    assert datetime(2026, 1, 15, 12, tzinfo=UTC) == mail["Date"].datetime
    assert 'The "Shop"' == mail["From"].addresses[0].display_name
