"""Any mail server that takes messages over SMTP (RFC 5321, 3207, 4954, 8314).

There is no idempotency key. The send key goes as `X-Espial-Send-Key` and in the Message-ID; `headers` of the settings
may put it where a platform's own events carry it back.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import EmailPolicy
from socket import socket
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.messages import Message, Receipt, one_line
from espial.senders import EVERYTHING, Kind, Settings, Ways, named

SECONDS = 10.0
"""For connecting, and for each answer of the server."""

BUSY_SECONDS = 60.0
"""After which what is refused for now is offered again."""

_HEADER = re.compile(r"[A-Za-z0-9-]{1,76}")
LONGEST_LINE = 998


class _SevenBits(EmailPolicy):
    """Header values in ASCII stay on their line: folded, a long address in List-Unsubscribe becomes encoded words."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        line = f"{name}: {value}"
        if line.isascii() and len(line) <= LONGEST_LINE:
            return f"{line}\r\n".encode()
        return super().fold_binary(name, value)


_SEVEN_BITS = _SevenBits(linesep="\r\n", cte_type="7bit")


class SmtpSettings(Settings):
    """`security`: TLS from the first byte (`tls`), or after the greeting (`starttls`); `none` is for this machine."""

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("security")
    @classmethod
    def _no_mail_in_the_open(cls, value: str, info: ValidationInfo) -> str:
        if value == "none" and info.data.get("host") not in {"localhost", "127.0.0.1"}:
            raise ValueError("none is for a server on this machine")
        return value

    @field_validator("headers")
    @classmethod
    def _on_one_line(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not _HEADER.fullmatch(name) or not text.isascii() or not text.isprintable():
                raise ValueError(f"{one_line(name)!r} is no header with a printable ASCII value")
        return value


class _Client(smtplib.SMTP):
    """One connection, to an address that was checked, with TLS where it begins at once."""

    def __init__(self, settings: SmtpSettings, ways: Ways, context: ssl.SSLContext, name: str) -> None:
        self._security, self._dial, self._tls = settings.security, ways.dial, context
        super().__init__(settings.host, settings.port, local_hostname=name, timeout=SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket:
        plain = self._dial(host, port, timeout)
        if self._security != "tls":
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


class SmtpSender:
    """One account of one mail server. `context` is for tests, whose certificates nobody else trusts."""

    features = EVERYTHING
    idempotent = False
    channel = "email"

    def __init__(
        self, name: str, provider: Mapping[str, Any], ways: Ways, context: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self._settings = SmtpSettings.model_validate(provider.get("settings") or {})
        self._password = (provider.get("secrets") or {}).get("password")
        self._ways = ways
        self._context = context or ssl.create_default_context()

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `espial.ports.Sender.send`. All recipients are given it, or none."""
        mail, sender = self.mail(message), named(message.from_)[1]
        body = re.sub(rb"(?m)^\.", b"..", mail.as_bytes()).removesuffix(b"\r\n") + b"\r\n.\r\n"
        with self._connected(_domain(message)) as client:
            _demand(client.mail(sender), 250, "sender_refused")
            for one in (message.to, *message.also_to):
                _demand(client.rcpt(one), 250, "recipient_refused")
            _demand(client.docmd("DATA"), 354, "content_refused")
            try:
                client.send(body)
                answer = client.getreply()
            except (OSError, smtplib.SMTPException) as exc:
                raise OutcomeUnknown(f"{idempotency_key}: {type(exc).__name__} after DATA") from None
            _demand(answer, 250, "content_refused")
            with suppress(OSError, smtplib.SMTPException):
                client.quit()
        return Receipt(provider=self.name, provider_message_id=mail["Message-ID"].strip("<>"), at=self._ways.clock())

    def mail(self, message: Message) -> EmailMessage:
        """The message as it goes over the wire, in seven bits. Raises Refused for what cannot stand in a header."""
        people = ", ".join((message.to, *message.also_to))
        if not people.isascii():
            raise Refused("recipient_invalid", "a mailbox's name that is not ASCII")
        mail = EmailMessage(policy=_SEVEN_BITS)
        headers = {
            "From": message.from_,
            "To": people,
            "Reply-To": message.reply_to,
            "Subject": one_line(message.subject),
            "Date": self._ways.clock(),
            "Message-ID": f"<{message.send_key}@{_domain(message)}>",
            "X-Espial-Send-Key": message.send_key,
            **{f"X-Espial-{name.title()}": one_line(value) for name, value in message.tags.items()},
            **{name: value.replace("{send_key}", message.send_key) for name, value in self._settings.headers.items()},
            **message.headers,
        }
        try:
            for name, value in headers.items():
                if value:
                    mail[name] = value
        except ValueError:  # two lines, or one of these headers once more
            raise Refused("header_invalid") from None
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        return mail

    @contextmanager
    def _connected(self, name: str) -> Iterator[_Client]:
        """A connection that is ready for a message. What breaks off before DATA was surely not taken."""
        client = None
        try:
            client = _Client(self._settings, self._ways, self._context, name)
            self._greet(client)
            yield client
        except ssl.SSLCertVerificationError:
            raise Refused("certificate_not_trusted", self._settings.host) from None
        except smtplib.SMTPResponseException as exc:
            raise _refusal(exc.smtp_code, "unauthorised") from None
        except (OSError, smtplib.SMTPException) as exc:
            raise TryAgain(f"{self._settings.host}: {type(exc).__name__}", after=BUSY_SECONDS) from None
        finally:
            if client is not None:
                client.close()

    def _greet(self, client: _Client) -> None:
        """TLS and proof, as the settings demand them."""
        client.ehlo_or_helo_if_needed()
        if self._settings.security == "starttls":
            if not client.has_extn("starttls"):
                raise Refused("no_tls", self._settings.host)
            client.starttls(context=self._context)
            client.ehlo_or_helo_if_needed()
        if not self._settings.username or self._password is None:
            return
        if not client.has_extn("auth"):
            raise Refused("unauthorised", f"{self._settings.host} asks for no password")
        try:
            client.login(self._settings.username, self._ways.secret(self._password).decode("ascii"))
        except UnicodeError:
            raise Refused("unauthorised", "the password is not ASCII") from None


def _domain(message: Message) -> str:
    return named(message.from_)[1].rpartition("@")[2]


def _demand(answer: tuple[int, bytes], wanted: int, reason: str) -> None:
    """Raises Refused with the reason for a permanent refusal, TryAgain for one that may pass."""
    if answer[0] != wanted and not (wanted == 250 and answer[0] == 251):
        raise _refusal(answer[0], reason)


def _refusal(code: int, reason: str) -> Refused | TryAgain:
    """The words of the answer stay out: they may hold the address. 552: too large, if what is full is not storage."""
    if code == 552:
        return Refused("message_too_large", "SMTP 552")
    return Refused(reason, f"SMTP {code}") if 500 <= code < 600 else TryAgain(f"SMTP {code}", after=BUSY_SECONDS)


SENDER = Kind(title="SMTP", open=SmtpSender, settings=SmtpSettings, optional=("password",))
