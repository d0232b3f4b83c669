"""A proxy on loopback in front of the local cloud: it does to chosen AWS calls what now and then happens to them.

Microburst does most of this, but it cannot end the caller at one exact call, which is what "killed mid-batch" means.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOCAL_ADDRESS, REMOTE_ADDRESS, INODE = 1, 2, 9
"""Columns of /proc/net/tcp."""


class Fault(Enum):
    """What happens to one call."""

    NONE = "it is passed on"
    ERROR = "AWS answers 500"
    THROTTLE = "AWS answers that there were too many"
    REPLY_CUT = "AWS does it, and its answer is lost"
    KILL_BEFORE = "the caller is killed before AWS hears of it"
    KILL_AFTER = "AWS does it, and the caller is killed before it hears so"


class Call(NamedTuple):
    """A call: its place among those since the rule was set, from 0; the operation (`PutItem` or `GET /path`); ports."""

    number: int
    operation: str
    port: int
    proxy: int

    def caller(self) -> int:
        """The process that makes it, by its socket (Linux)."""
        return _process_at(self.port, self.proxy)


Rule = Callable[[Call], Fault]

REFUSALS = {
    Fault.ERROR: (500, "InternalServerError"),
    Fault.THROTTLE: (400, "ProvisionedThroughputExceededException"),
}


class FaultProxy:
    """Passes AWS calls on to `upstream`, but for what `faults` chooses. Ended by `close`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.calls: list[tuple[str, Fault]] = []
        self.kill = lambda call: os.kill(call.caller(), signal.SIGKILL)
        self._rule: Rule = lambda _: Fault.NONE
        self._lock = threading.Lock()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def faults(self, rule: Rule) -> Iterator[list[tuple[str, Fault]]]:
        """Apply the rule meanwhile; gives the list that (operation, fault) of every call is added to."""
        with self._lock:
            self.calls, self._rule = [], rule
        try:
            yield self.calls
        finally:
            self._rule = lambda _: Fault.NONE

    def judge(self, operation: str, port: int) -> tuple[Call, Fault]:
        """The next call and what is to happen to it."""
        with self._lock:
            call = Call(len(self.calls), operation, port, self._server.server_port)
            fault = self._rule(call)
            self.calls.append((operation, fault))
        return call, fault

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed leaves broken connections behind."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        target = self.headers.get("x-amz-target", "").rpartition(".")[2]
        proxy = self.server.proxy
        call, fault = proxy.judge(target or f"{self.command} {urlsplit(self.path).path}", self.client_address[1])
        if fault is Fault.KILL_BEFORE:
            proxy.kill(call)
            self.close_connection = True
        elif fault in REFUSALS:
            status, code = REFUSALS[fault]
            answer = f'{{"__type": "com.amazonaws.dynamodb.v20120810#{code}", "message": "by the proxy"}}'
            self._answer(status, [("Content-Type", "application/x-amz-json-1.0")], answer.encode())
        else:
            status, headers, content = self._upstream(body)
            if fault is Fault.KILL_AFTER:
                proxy.kill(call)
            if fault is Fault.NONE:
                self._answer(status, headers, content)
            else:
                self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _relay  # noqa: N815  the server looks for these names

    def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        ours = {"connection", "transfer-encoding", *(["content-length"] if self.command != "HEAD" else [])}
        return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() not in ours], content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" or status >= 400:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Said by the test that fails, if any does."""


def _process_at(port: int, proxy: int) -> int:
    """The process that talks from `port` to the proxy's. Raises LookupError when there is none any more.

    Both ends are compared: a port alone may be in use towards several others at once, by processes not ours.
    """
    wanted = f"socket:[{_inode(port, proxy)}]"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if any(end.readlink().name == wanted for end in (process / "fd").iterdir()):
                return int(process.name)
    raise LookupError(f"no process talks to the proxy from port {port}")


def _inode(port: int, proxy: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        end = line.split()
        ports = [int(end[column].rpartition(":")[2], 16) for column in (LOCAL_ADDRESS, REMOTE_ADDRESS)]
        if ports == [port, proxy]:
            return end[INODE]
    raise LookupError(f"nothing talks to the proxy from port {port}")
