"""A simulator behind a port of this machine, each request in a thread of its own."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from espial.cli.simulators.braze import Reply

HANG_SECONDS = 60.0
"""How long a caller that is to time out is left without a word."""


SLOW_SECONDS = 3.0


class Simulation(Protocol):
    """What answers."""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request at a time."""
        ...


class Server(ThreadingHTTPServer):
    """Listens on loopback only, over TLS if told how; port 0 is any free one. `serve_forever` until `shutdown`."""

    daemon_threads = True

    def __init__(self, port: int, platform: Simulation, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._tls = tls
        self.platform = platform
        self.alone = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.server_port}"

    def get_request(self) -> tuple[socket.socket, Any]:
        """The handshake comes with the first byte that is read, in the request's own thread."""
        plain, peer = super().get_request()
        if self._tls is None:
            return plain, peer
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, *_: object) -> None:
        """A caller that hangs up, or does not trust us, is what is tried here."""

    def server_close(self) -> None:
        """Let those go that are left hanging."""
        self.ended.set()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.alone:
            reply = self.server.platform.answer(self.command, self.path, headers, body)
        if reply.trouble == "slow":
            self.server.ended.wait(SLOW_SECONDS)
        elif reply.trouble:
            if reply.trouble == "timeout":
                self.server.ended.wait(HANG_SECONDS)
            self.close_connection = True
            return
        said = b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response_only(reply.status)
        for name, value in {**reply.headers, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing: bodies and addresses are nobody's business, and `/_simulator/requests` shows them."""
