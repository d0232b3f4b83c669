"""An SFTP server on loopback, over a folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

USER, PASSWORD = "cdp", "never-in-a-log"


class SftpServer:
    """Over `folder`; `host_key` is its public key.

    `before` is called with the name of each operation and its path, and what it returns is awaited. `extensions`:
    whether it can replace a file in one step and make it durable. `written` counts the bytes that came.
    """

    def __init__(self, folder: Path, *, extensions: bool = True) -> None:
        self.folder = folder
        self.extensions = extensions
        self.before: Callable[[str, str], Awaitable[None] | None] = lambda _name, _path: None
        self.operations: list[str] = []
        self.written = 0
        self.opened: list[Any] = []
        self.accepted_key: asyncssh.SSHKey = asyncssh.generate_private_key("ssh-ed25519")
        self.user_key = self.accepted_key.export_private_key("openssh")
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = " ".join(key.export_public_key("openssh").decode().split()[:2])
        self.port = 0
        self._key = key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        for file in self.opened:  # of connections that broke off
            file.close()

    async def _listen(self) -> None:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self._key],
            server_factory=lambda: _Users(self),
            sftp_factory=lambda channel: _Files(channel, self),
            allow_scp=False,
        )
        self.port = self._acceptor.get_port()

    async def _end(self) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Users(asyncssh.SSHServer):
    def __init__(self, server: SftpServer) -> None:
        self._server = server

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and key.public_data == self._server.accepted_key.public_data


class _Files(asyncssh.SFTPServer):
    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], server: SftpServer) -> None:
        super().__init__(channel, chroot=bytes(server.folder))
        self._server = server

    async def _about_to(self, name: str, path: bytes = b"") -> None:
        self._server.operations.append(name)
        if wait := self._server.before(name, path.decode()):
            await wait

    async def stat(self, path):
        await self._about_to("stat", path)
        return super().stat(path)

    async def open(self, path, pflags, attrs):
        await self._about_to("open", path)
        self._server.opened.append(super().open(path, pflags, attrs))
        return self._server.opened[-1]

    async def read(self, file_obj, offset, size):
        await self._about_to("read")
        return super().read(file_obj, offset, size)

    async def close(self, file_obj):
        await self._about_to("close")
        return super().close(file_obj)

    async def write(self, file_obj, offset, data):
        await self._about_to("write")
        self._server.written += len(data)
        return super().write(file_obj, offset, data)

    async def fsync(self, file_obj):
        await self._about_to("fsync")
        if not self._server.extensions:
            raise asyncssh.SFTPOpUnsupported("fsync")
        return super().fsync(file_obj)

    async def posix_rename(self, oldpath, newpath):
        await self._about_to("posix_rename", newpath)
        if not self._server.extensions:
            raise asyncssh.SFTPOpUnsupported("posix-rename")
        return super().posix_rename(oldpath, newpath)

    async def rename(self, oldpath, newpath):
        await self._about_to("rename", newpath)
        return super().rename(oldpath, newpath)


@contextmanager
def sftp_server(folder: Path, *, extensions: bool = True) -> Iterator[SftpServer]:
    """Running for as long as a block takes."""
    server = SftpServer(folder, extensions=extensions)
    server.start()
    try:
        yield server
    finally:
        server.stop()
