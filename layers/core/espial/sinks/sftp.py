"""Feed files to a directory of an SFTP server: written as `.<name>.part`, and renamed once all of it is there."""

from __future__ import annotations

import asyncio
import posixpath
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import asyncssh

from espial.errors import Refused, TryAgain
from espial.feeds.definition import SftpSink

SECONDS = 20.0
"""For connecting, for logging in, and for each answer of the server."""

PIECE = 1 << 18
T = TypeVar("T")

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (asyncssh.HostKeyNotVerifiable, "host_key_differs"),
    (asyncssh.PermissionDenied, "not_authorised"),
    (asyncssh.KeyExchangeFailed, "no_common_algorithm"),
    (asyncssh.KeyImportError, "bad_key"),
    (asyncssh.KeyEncryptionError, "bad_key"),
    (UnicodeDecodeError, "bad_key"),
    (asyncssh.SFTPNoSuchFile, "no_such_directory"),
    (asyncssh.SFTPNoSuchPath, "no_such_directory"),
    (asyncssh.SFTPPermissionDenied, "permission_denied"),
    (asyncssh.SFTPWriteProtect, "permission_denied"),
)
"""What somebody has to mend. All else may pass."""


class SftpDrop:
    """`Sink` over one directory, with one connection for as many files as come.

    `secret` gives the password or the private key, `dial` a connection to a host and port whose addresses were checked
    (`espial.stores.guarded_http`); `seconds_left` tells how long a file may take, `seconds` is for each answer of the
    server.
    """

    def __init__(
        self,
        to: SftpSink,
        secret: Callable[[], bytes],
        dial: Callable[[str, int, float], socket.socket],
        seconds_left: Callable[[], float],
        seconds: float = SECONDS,
    ) -> None:
        self._to = to
        self._secret = secret
        self._dial = dial
        self._seconds_left = seconds_left
        self._seconds = seconds
        self._runner = asyncio.Runner()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    def put(self, name: str, content: bytes) -> None:
        """See `espial.feeds.files.Sink`. Raises Refused with a reason of `_REASONS`, and what `dial` refuses."""
        try:
            self._runner.run(self._in_time(name, content))
        except (TryAgain, Refused):
            self._hang_up()
            raise
        except (OSError, ValueError, asyncssh.Error) as exc:  # OSError: TimeoutError too
            self._hang_up()
            told = f"{self._to.host}: {type(exc).__name__}"
            for kind, reason in _REASONS:
                if isinstance(exc, kind):
                    raise Refused(reason, told) from exc
            raise TryAgain(told) from exc

    def close(self) -> None:
        """Log out."""
        self._hang_up()
        self._runner.close()

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.abort()
            self._runner.run(self._connection.wait_closed())
        self._connection = self._sftp = None

    async def _in_time(self, name: str, content: bytes) -> None:
        """Raises TryAgain where the server takes it, but so slowly that this process would end before."""
        left = self._seconds_left()
        try:
            async with asyncio.timeout(left) as all_of_it:
                await self._put(name, content)
        except TimeoutError as exc:
            if all_of_it.expired():
                raise TryAgain(
                    f"{self._to.host}: too slow, {len(content)} bytes were not there in {left:.0f} s"
                ) from exc
            raise

    async def _put(self, name: str, content: bytes) -> None:
        sftp = self._sftp or await self._log_in()
        final = posixpath.join(self._to.directory, name)
        if await self._has(sftp, final, content):
            return
        part = posixpath.join(self._to.directory, f".{name}.part")
        await self._write(sftp, part, content)
        if (await self._within(sftp.stat(part))).size != len(content):
            raise TryAgain(f"{self._to.host}: not all of the file arrived")
        await self._rename(sftp, part, final)

    async def _log_in(self) -> asyncssh.SFTPClient:
        secret = self._secret().decode().strip()
        is_key = secret.startswith("-----BEGIN")
        keys = [asyncssh.import_private_key(secret + "\n")] if is_key else None
        trusted = asyncssh.import_public_key(self._to.host_key)
        self._connection = await self._within(
            asyncssh.connect(
                self._to.host,
                sock=self._dial(self._to.host, self._to.port, min(self._seconds, max(self._seconds_left(), 1))),
                username=self._to.user,
                password=None if is_key else secret,
                client_keys=keys,
                known_hosts=([trusted], [], []),
                config=None,
                agent_path=None,
                login_timeout=self._seconds,
                keepalive_interval=self._seconds,
            )
        )
        self._sftp = await self._within(self._connection.start_sftp_client())
        return self._sftp

    async def _has(self, sftp: asyncssh.SFTPClient, path: str, content: bytes) -> bool:
        """Whether this very file is there already, after an answer that was lost."""
        try:
            size = (await self._within(sftp.stat(path))).size
            return size == len(content) and await self._same(sftp, path, content) == size
        except asyncssh.SFTPError:
            return False  # it is not there, or may not be read

    async def _same(self, sftp: asyncssh.SFTPClient, path: str, content: bytes) -> int:
        """How many bytes of a file are those of the content, in pieces from its start."""
        file = await self._within(sftp.open(path, "rb"))
        same = 0
        while found := await self._within(file.read(min(PIECE, len(content) - same) or 1, same)):
            if found != content[same : same + len(found)]:  # type: ignore[comparison-overlap]
                break
            same += len(found)
        await self._within(file.close())
        return same

    async def _open(self, sftp: asyncssh.SFTPClient, path: str, content: bytes) -> tuple[Any, int]:
        """The part file, and how much an attempt before has left there, byte for byte; a small one is sent anew."""
        try:
            size = ((await self._within(sftp.stat(path))).size or 0) if len(content) > PIECE else 0
            if 0 < size <= len(content) and await self._same(sftp, path, content[:size]) == size:
                return await self._within(sftp.open(path, "r+b")), size
        except asyncssh.SFTPError:  # it is not there, or may not be read or written to
            pass
        return await self._within(sftp.open(path, "wb")), 0

    async def _write(self, sftp: asyncssh.SFTPClient, path: str, content: bytes) -> None:
        """Behind what an attempt before has left, durable where the server can say so."""
        file, start = await self._open(sftp, path, content)
        for at in range(start, len(content), PIECE):
            await self._within(file.write(content[at : at + PIECE], at))
        with suppress(asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure):
            await self._within(file.fsync())
        await self._within(file.close())

    async def _rename(self, sftp: asyncssh.SFTPClient, part: str, final: str) -> None:
        """In one step where the server can replace a file; else the file before it has to go first."""
        try:
            await self._within(sftp.posix_rename(part, final))
        except asyncssh.SFTPError:
            try:
                await self._within(sftp.rename(part, final))
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                await self._within(sftp.remove(final))
                await self._within(sftp.rename(part, final))

    async def _within(self, step: Awaitable[T]) -> T:
        """Raises TimeoutError when the server is silent for too long."""
        async with asyncio.timeout(self._seconds):
            return await step
