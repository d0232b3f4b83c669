"""An FTP server on loopback, over a folder: plain, or over TLS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

USER, PASSWORD = "cdp", "never-in-a-log"

SILENT, HANG_UP = "silent", "hang up"
"""Instead of an answer."""


@cache
def certificate(host: str = "localhost") -> tuple[str, ec.EllipticCurvePrivateKey]:
    """A server's own certificate for a host, in PEM form, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    day, now = timedelta(days=1), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode(), key


class RunningFtp:
    """Over `folder`; `tls` as in a definition, with `certificate`.

    `before` is called with each command and its argument, and what it returns is said instead of an answer, or is
    `SILENT` or `HANG_UP`. `commands` are those that came, `secure` whether each came over TLS. Of each file that is
    taken `most` bytes are kept, and the rest is lost without a word; `received` counts the bytes that came.
    A transfer that has brought `cut_after` bytes is cut, and its session with it.
    `replaces`: a file may be renamed over another.
    """

    def __init__(self, folder: Path, tls: str, *, replaces: bool = True) -> None:
        self.folder = folder
        self.tls = tls
        self.certificate, key = certificate()
        self.before: Callable[[str, str], str | None] = lambda _command, _argument: None
        self.commands: list[tuple[str, str]] = []
        self.secure: list[bool] = []
        self.transfers: list[bool] = []
        self.most: int | None = None
        self.received = 0
        self.cut_after: int | None = None
        self.replaces = replaces
        self.authorizer = DummyAuthorizer()
        self.authorizer.add_user(USER, PASSWORD, str(folder), perm="elradfmw")
        self.handler = _handler(self, tls)
        if tls != "none":
            context = SSL.Context(SSL.TLS_SERVER_METHOD)
            context.use_certificate(x509.load_pem_x509_certificate(self.certificate.encode()))
            context.use_privatekey(key)
            self.handler.ssl_context = context
        self._loop = IOLoop()
        self._server = FTPServer(("127.0.0.1", 0), self.handler, ioloop=self._loop)
        self.port: int = self._server.address[1]
        self._is_up = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def may(self, permissions: str) -> None:
        """What the user may do from now on, in pyftpdlib's letters."""
        self.authorizer.user_table[USER]["perm"] = permissions

    def said(self, cmd: str, argument: str, control: Any) -> str | None:
        """What is said instead of an answer; notes the command."""
        self.commands.append((cmd, argument))
        self.secure.append(bool(getattr(control, "_ssl_established", False)))
        if cmd in ("STOR", "APPE", "RETR"):
            self.transfers.append(bool(getattr(control, "_prot", False)))
        is_refused = cmd == "RNTO" and not self.replaces and Path(argument).exists()
        return self.before(cmd, argument) or ("550 It is there already." if is_refused else None)

    def _serve(self) -> None:
        while self._is_up:
            self._loop.loop(0.02, blocking=False)

    def stop(self) -> None:
        self._is_up = False
        self._thread.join(10)
        self._server.close_all()
        self._loop.close()


def _transfer(server: RunningFtp, base: Any) -> Any:
    class Transfer(base):  # type: ignore[misc]
        def enable_receiving(self, type: str, cmd: str) -> None:
            super().enable_receiving(type, cmd)
            if server.most is not None:
                self._data_wrapper = _shortened(server.most)

        def handle_read_event(self) -> None:
            before = self.tot_bytes_received
            super().handle_read_event()
            if self.receive:
                server.received += self.tot_bytes_received - before
                if server.cut_after is not None and self.tot_bytes_received >= server.cut_after and not self._closed:
                    self.file_obj.flush()
                    self.cmd_channel.close()

    return Transfer


def _handler(server: RunningFtp, tls: str) -> Any:
    base, dtp_base = (FTPHandler, DTPHandler) if tls == "none" else (TLS_FTPHandler, TLS_DTPHandler)

    class Control(base):  # type: ignore[misc, valid-type]
        dtp_handler = _transfer(server, dtp_base)
        authorizer = server.authorizer
        auth_failed_timeout = 0
        use_sendfile = False

        def handle(self) -> None:
            if tls == "implicit":
                self.secure_connection(self.ssl_context)
            super().handle()

        def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
            said = server.said(cmd, str(args[0]) if args else "", self)
            if said == HANG_UP:
                self.close()
            elif said and said != SILENT:
                self.respond(said)
            elif not said:
                super().process_command(cmd, *args, **kwargs)

    return Control


def _shortened(most: int) -> Callable[[bytes], bytes]:
    """Keeps so many of the bytes that come."""
    left = most

    def kept(data: bytes) -> bytes:
        nonlocal left
        found = data[:left]
        left -= len(found)
        return found

    return kept


@contextmanager
def ftp_server(folder: Path, tls: str = "none", *, replaces: bool = True) -> Iterator[RunningFtp]:
    """Running for as long as a block takes."""
    server = RunningFtp(folder, tls, replaces=replaces)
    try:
        yield server
    finally:
        server.stop()
