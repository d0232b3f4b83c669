"""Runs a built function as Lambda does, but each event in a process of its own, which may be killed at any call.

    python handler.py <function's folder> <layer's folder>...

Each line read is `{"event": ..., "ahead": seconds}`, the function's clock that much ahead of this machine's; each line
written is what the handler answered, or null when it was killed.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

CONTEXT = SimpleNamespace(
    function_name="by-hand",
    memory_limit_in_mb=1024,
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:by-hand",
    aws_request_id="by-hand",
    get_remaining_time_in_millis=lambda: 600_000,
)


def move_clock(app: Any, ahead: timedelta) -> None:
    """Make the handler's module believe that it is later."""
    if hasattr(app, "deliverer"):
        app.deliverer = dataclasses.replace(app.deliverer, clock=lambda: datetime.now(UTC) + ahead)
    if hasattr(app, "datetime"):
        app.datetime = SimpleNamespace(now=lambda zone: datetime.now(zone) + ahead)


def in_a_process(app: Any, order: dict[str, Any]) -> Any:
    """What the handler answers to one event; None when its process was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # its log goes where the test looks when it fails
        move_clock(app, timedelta(seconds=order["ahead"]))
        answer = json.dumps(app.handler(order["event"], CONTEXT)).encode()
        os.write(writing, answer)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answer_of:
        answer_text = answer_of.read()
    if not os.WIFSIGNALED(status) and not answer_text:
        raise RuntimeError("the handler failed")
    return json.loads(answer_text) if answer_text else None


if __name__ == "__main__":
    folder, *layers = sys.argv[1:]
    sys.path[:0] = [folder, *(f"{layer}/python" for layer in layers)]
    function = importlib.import_module("app")
    for line in sys.stdin:
        print(json.dumps(in_a_process(function, json.loads(line))), flush=True)
