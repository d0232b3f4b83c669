"""A loopback server that speaks an event stream: each connection follows the next script, byte by byte."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request as it arrived; `body` is read as JSON."""

    line: str
    headers: dict[str, str]
    body: Any


class Wire(StreamRequestHandler):
    """One connection: what a script does with it."""

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        headers = {}
        while header := self.rfile.readline().decode().strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        server: Any = self.server
        server.asked.append(Asked(line, headers, json.loads(body)))
        script = server.scripts.pop(0) if len(server.scripts) > 1 else server.scripts[0]
        with suppress(ConnectionError):
            script(self)

    def head(self, status: int = 200, /, **headers: str) -> Wire:
        """Status and headers; a 200 goes on in chunks."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if status == 200 and "connection" not in named:
            named["Transfer-Encoding"] = "chunked"
        elif status != 200:
            named["Content-Length"] = "0"
        told = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return self.raw(f"HTTP/1.1 {status} Whatever\r\n{told}\r\n".encode())

    def chunk(self, *parts: bytes) -> Wire:
        """Each part is a chunk."""
        for part in parts:
            self.raw(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        return self

    def raw(self, data: bytes) -> Wire:
        """As they are."""
        self.wfile.write(data)
        self.wfile.flush()
        return self

    def end(self) -> Wire:
        """A proper end; a script that just stops cuts the connection."""
        return self.raw(b"0\r\n\r\n")

    def wait(self, seconds: float) -> Wire:
        """Nothing comes for a while."""
        time.sleep(seconds)
        return self


Script = Callable[[Wire], object]


class Server(ThreadingTCPServer):
    """`scripts` are followed in turn, the last one for ever; what was asked is in `asked`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *scripts: Script) -> None:
        super().__init__(("127.0.0.1", 0), Wire)
        self.scripts = list(scripts)
        self.asked: list[Asked] = []

    def connect(self, _host: str, seconds: float) -> HTTPConnection:
        """What stands in for a connection to the platform."""
        return HTTPConnection("127.0.0.1", self.server_address[1], timeout=seconds)


@contextmanager
def streaming(*scripts: Script) -> Iterator[Server]:
    """A running server, closed at the end."""
    server = Server(*scripts)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
