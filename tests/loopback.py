"""A loopback HTTP server that answers as told and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Canned(NamedTuple):
    """An answer. `drop` closes the connection instead of answering, `hang_up` after answering without saying so."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    drop: bool = False
    hang_up: bool = False


class Seen(NamedTuple):
    """A request as it arrived; `peer` tells connections apart."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: int


class Loopback:
    """`answers` are given in turn, the last one for ever; what was asked is in `seen` if it is to `remember`."""

    def __init__(self, *answers: Canned, remember: bool = True) -> None:
        self.remember = remember
        self.answers = list(answers) or [Canned()]
        self.seen: list[Seen] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if loopback.remember:
                    loopback.seen.append(Seen(self.command, self.path, headers, body, self.client_address[1]))
                canned = loopback.answers.pop(0) if len(loopback.answers) > 1 else loopback.answers[0]
                self.close_connection = canned.drop or canned.hang_up
                if canned.drop:
                    return
                self.send_response_only(canned.status)
                for name, value in canned.headers.items():
                    self.send_header(name, value)
                if canned.status != 304:
                    self.send_header("content-length", str(len(canned.body)))
                self.end_headers()
                if canned.status != 304:
                    self.wfile.write(canned.body)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing: the tests look at `seen`."""

        return Handler


@contextmanager
def loopback(*answers: Canned) -> Iterator[Loopback]:
    """A running server, closed at the end."""
    running = Loopback(*answers)
    thread = threading.Thread(target=running.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.server.shutdown()
        running.server.server_close()
        thread.join()


if __name__ == "__main__":  # a canned queue in a process of its own, for benchmarks
    canned = Loopback(Canned(body=b'{"MessageId":"1"}'), remember=False)
    print(canned.url, flush=True)
    canned.server.serve_forever()
