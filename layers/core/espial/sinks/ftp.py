"""Feed files to a directory of an FTP server, plain or over TLS: as `.<name>.part`, renamed once all of it is there.

Only passive transfers are made, and their connections go where the control connection goes, whatever address the server
names (RFC 959; TLS as in RFC 4217).
"""

from __future__ import annotations

import ftplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Timer

from espial.errors import Refused, TryAgain
from espial.feeds.definition import FtpSink

SECONDS = 20.0
"""For connecting, and for each answer of the server."""

FAREWELL = 5.0
"""For the end of a TLS transfer: not every server says goodbye."""

PIECE = 1 << 18
IMPLICIT_PORT = 990

_LOG_IN, _SECURE, _ENTER, _WRITE = "log in", "secure", "enter", "write"

_REASONS = {
    _LOG_IN: "not_authorised",
    _SECURE: "no_tls",
    _ENTER: "no_such_directory",
    _WRITE: "permission_denied",
}
"""What a permanent refusal means, by what was being done."""

_FULL = "552"
"""Storage is exceeded: a permanent answer by its number, and yet it may pass."""

_ERRORS = (ftplib.Error, OSError, EOFError, ValueError)
"""OSError: TimeoutError and what TLS says too. ValueError: an answer without the number that belongs there."""

Dial = Callable[[str, int, float], socket.socket]


class FtpDrop:
    """`Sink` over one directory, with one connection for as many files as come.

    `secret` gives the password, `dial` a connection to a host and port whose addresses were checked
    (`espial.stores.guarded_http`); `seconds_left` tells how long a file may take, `seconds` is for each answer of the
    server.
    """

    def __init__(
        self,
        to: FtpSink,
        secret: Callable[[], bytes],
        dial: Dial,
        seconds_left: Callable[[], float],
        seconds: float = SECONDS,
    ) -> None:
        self._to = to
        self._secret = secret
        self._dial = dial
        self._seconds_left = seconds_left
        self._seconds = seconds
        self._client: _Client | None = None
        self._doing = _LOG_IN

    def put(self, name: str, content: bytes) -> None:
        """See `espial.feeds.files.Sink`.

        Raises Refused with a reason of `_REASONS`, certificate_not_trusted or bad_password, and what `dial` refuses.
        """
        try:
            self._in_time(name, content)
        except (TryAgain, Refused):
            self.close()
            raise
        except _ERRORS as exc:
            self.close()
            raise self._meaning(exc) from exc

    def close(self) -> None:
        """Hang up."""
        if self._client:
            self._client.close()
        self._client = None

    def _meaning(self, exc: Exception) -> TryAgain | Refused:
        """Never in the server's words: nobody knows what stands in them."""
        if isinstance(exc, ssl.SSLCertVerificationError):
            return Refused("certificate_not_trusted", f"{self._to.host}: {exc.verify_message}")
        code = str(exc)[:3] if isinstance(exc, ftplib.Error) else ""
        told = f"{self._to.host}: {f'FTP {code}' if code else type(exc).__name__}"
        if code in ("530", "430"):
            return Refused("not_authorised", told)
        if isinstance(exc, ftplib.error_perm) and code != _FULL:
            return Refused(_REASONS[self._doing], told)
        return TryAgain(told)

    def _in_time(self, name: str, content: bytes) -> None:
        """Raises TryAgain where the server takes it, but so slowly that this process would end before."""
        left = self._seconds_left()
        late = f"{self._to.host}: too slow, {len(content)} bytes were not there in {left:.0f} s"
        if left <= 0:
            raise TryAgain(late)
        client = self._client or _Client(self._dial, min(self._seconds, left))
        end = Timer(left, client.cut)
        end.start()
        try:
            if self._client is None:
                self._client = client
                self._log_in(client)
            self._put(client, name, content)
        except _ERRORS as exc:
            if client.is_cut:
                raise TryAgain(late) from exc
            raise
        finally:
            end.cancel()

    def _log_in(self, client: _Client) -> None:
        to = self._to
        self._doing = _LOG_IN
        password = self._password()
        context = None if to.tls == "none" else trusting(to.certificate)
        implicit = to.tls == "implicit"
        client.greet(
            to.host, to.port or (IMPLICIT_PORT if implicit else ftplib.FTP_PORT), context if implicit else None
        )
        if context:
            self._doing = _SECURE
            client.secure(context)
        self._doing = _LOG_IN
        client.login(to.user, password)
        self._doing = _ENTER
        client.voidcmd("TYPE I")
        if to.directory != ".":
            client.cwd(to.directory)

    def _password(self) -> str:
        try:
            password = self._secret().decode().strip()
        except UnicodeDecodeError:
            password = ""
        if len(password.splitlines()) != 1:
            raise Refused("bad_password", "a password is one line of text")
        return password

    def _put(self, client: _Client, name: str, content: bytes) -> None:
        self._doing = _WRITE
        if self._has(client, name, content):
            return
        part = f".{name}.part"
        client.store(part, content, self._stored(client, part, content))
        if self._size(client, part) not in (len(content), None):
            raise TryAgain(f"{self._to.host}: not all of the file arrived")
        self._rename(client, part, name)

    def _has(self, client: _Client, name: str, content: bytes) -> bool:
        """Whether this very file is there already, after an answer that was lost."""
        if self._size(client, name) != len(content):
            return False
        try:
            return client.holds(name, content)
        except ftplib.error_perm:
            return False  # it may not be read

    def _stored(self, client: _Client, part: str, content: bytes) -> int:
        """How much of it an attempt before has left there, byte for byte; a small file is sooner sent anew."""
        size = (self._size(client, part) or 0) if len(content) > PIECE else 0
        try:
            return size if 0 < size <= len(content) and client.holds(part, content[:size]) else 0
        except ftplib.error_perm:
            return 0  # it may not be read

    def _size(self, client: _Client, name: str) -> int | None:
        """None where it is not there, or the server does not tell."""
        try:
            return client.size(name)
        except ftplib.error_perm:
            return None

    def _rename(self, client: _Client, part: str, final: str) -> None:
        """In one step where the server can replace a file; else the file before it has to go first."""
        client.sendcmd(f"RNFR {part}")
        try:
            client.voidcmd(f"RNTO {final}")
        except ftplib.error_perm:
            client.delete(final)
            client.rename(part, final)


def trusting(certificate: str | None) -> ssl.SSLContext:
    """TLS that believes the system's authorities; with a certificate in PEM form, that one or what it signed only."""
    context = ssl.create_default_context(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a server's own certificate is enough
    return context


class _Client(ftplib.FTP):
    """Connects by `dial` only, and protects transfers as it does the control connection."""

    def __init__(self, dial: Dial, seconds: float) -> None:
        super().__init__(timeout=seconds)
        self.is_cut = False
        self._dial = dial
        self._seconds = seconds
        self._context: ssl.SSLContext | None = None
        self._transfer: socket.socket | None = None

    def cut(self) -> None:
        """End whatever it waits for; may be called from another thread."""
        self.is_cut = True
        for end in (self._transfer, self.sock):
            if end:
                with suppress(OSError):
                    socket.socket.shutdown(end, socket.SHUT_RDWR)  # of TLS too, without a word to the other side

    def greet(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect, with a context over TLS from the first byte on."""
        self.host = host
        plain = self._dial(host, port, self._seconds)
        self._take(plain)
        if context:
            self._protect(plain, context)
        self.welcome = self.getresp()

    def getline(self) -> str:
        """One line of an answer. Half of one, or one that is too long, is none: raises EOFError."""
        line = self.file.readline(self.maxline + 1)  # type: ignore[union-attr]
        if not line.endswith("\n"):
            raise EOFError
        return line.rstrip("\n")

    def secure(self, context: ssl.SSLContext) -> None:
        """TLS for the control connection, unless it has it, and for transfers."""
        if self.sock and not isinstance(self.sock, ssl.SSLSocket):
            self.voidcmd("AUTH TLS")
            self._protect(self.sock, context)
        self.voidcmd("PBSZ 0")
        self.voidcmd("PROT P")
        self._context = context

    def _take(self, connection: socket.socket) -> None:
        """What was read ahead of the connection is forgotten: before TLS, anybody may have put it there."""
        self.sock = connection
        self.af = connection.family
        if self.file:
            self.file.close()
        self.file = connection.makefile("r", encoding="utf-8", errors="replace")

    def _protect(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        secured = self._wrapped(plain, context)
        self._take(secured)
        secured.do_handshake()

    def store(self, name: str, content: bytes, stored: int = 0) -> None:
        """Behind what is `stored` of it where the server can, else over whatever an attempt before has left."""
        try:
            self._send(f"APPE {name}" if stored else f"STOR {name}", content, stored)
        except ftplib.error_perm:
            if not stored:
                raise
            self._send(f"STOR {name}", content, 0)

    def _send(self, command: str, content: bytes, start: int) -> None:
        with self._passing(command) as transfer:
            for at in range(start, len(content), PIECE):
                transfer.sendall(content[at : at + PIECE])
            if isinstance(transfer, ssl.SSLSocket):
                transfer.settimeout(min(FAREWELL, self._seconds))
                with suppress(OSError):  # the answer on the control connection is what counts
                    transfer.unwrap()
        self.voidresp()

    def holds(self, name: str, content: bytes) -> bool:
        """Whether the file has this content."""
        at, same = 0, True
        with self._passing(f"RETR {name}") as transfer:
            while same and (piece := transfer.recv(PIECE)):
                same = content[at : at + len(piece)] == piece
                at += len(piece)
        with suppress(ftplib.error_temp):  # it was broken off
            self.voidresp()
        return same and at == len(content)

    @contextmanager
    def _passing(self, command: str) -> Iterator[socket.socket]:
        """A passive transfer, to the control connection's address. Many servers ask for its TLS session as well."""
        host, port = self.makepasv()  # the standard library leaves the server's word for the address aside
        transfer = self._dial(host, port, self._seconds)
        self._transfer = transfer
        try:
            self.sendcmd(command)
            if self._context and isinstance(self.sock, ssl.SSLSocket):
                transfer = self._transfer = self._wrapped(transfer, self._context, self.sock.session)
                transfer.do_handshake()
            yield transfer
        finally:
            transfer.close()
            self._transfer = None

    def _wrapped(
        self, plain: socket.socket, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """Not yet greeted, so that `cut` can end that as well."""
        return context.wrap_socket(plain, server_hostname=self.host, session=session, do_handshake_on_connect=False)
