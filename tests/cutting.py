"""A way to a loopback server that breaks off: after so many bytes sent, or so many received."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate


class Cutting:
    """Listens on `port` and passes on to `to`. `up` and `down` say after how many bytes a connection is cut, if ever.

    `connections` counts them. `steps_up` and `steps_down` are the sizes of what was passed on, piece by piece, over the
    last connection.
    """

    def __init__(self, to: int) -> None:
        self.connections = 0
        self.up: int | None = None
        self.down: int | None = None
        self.steps_up: list[int] = []
        self.steps_down: list[int] = []
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def cut_now(self) -> None:
        """Every connection."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def edges(self) -> list[tuple[int | None, int | None]]:
        """Every place to cut at: before and after each piece, either way."""
        ups = {edge for end in accumulate(self.steps_up, initial=0) for edge in (end, end + 1)}
        downs = {edge for end in accumulate(self.steps_down, initial=0) for edge in (end, end + 1)}
        return [*((edge, None) for edge in sorted(ups)), *((None, edge) for edge in sorted(downs))]

    def serve(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                one, _ = self._listener.accept()
                other = socket.create_connection(("127.0.0.1", self._to))
                for end in (one, other):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open += [one, other]
                self.steps_up, self.steps_down = [], []
                ways = [(one, other, self.up, self.steps_up), (other, one, self.down, self.steps_down)]
                for way in ways:
                    thread = threading.Thread(target=_pump, args=way, daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def _pump(source: socket.socket, target: socket.socket, limit: int | None, steps: list[int]) -> None:
    left = limit
    with suppress(OSError):
        while data := source.recv(65_536) if left != 0 else b"":
            data = data if left is None else data[:left]
            target.sendall(data)
            steps.append(len(data))
            left = None if left is None else left - len(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


@contextmanager
def cutting(to: int) -> Iterator[Cutting]:
    """Running for as long as a block takes."""
    running = Cutting(to)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.close()
        thread.join(10)
