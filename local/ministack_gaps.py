"""Runs MiniStack with three gaps closed: PartiQL writes reach the stream, a template's CORS and gzip bodies their API.

MiniStack 1.5.33 emits a stream record for PutItem, UpdateItem, BatchWriteItem and transactions, but none for the
INSERT, UPDATE and DELETE of ExecuteStatement and BatchExecuteStatement, which is how Espial records events
(docs: "DynamoDB Streams captures a time-ordered sequence of item-level modifications", whatever the API).
Of a template's `CorsConfiguration` it keeps the names (`AllowOrigins`), but reads those of its API (`allowOrigins`).
A body that its content type calls text it decodes, with U+FFFD for what is not UTF-8: nothing is left of gzip sent as
application/json. HTTP APIs are documented to hand over "a binary payload" in base64 (payload format 2.0).
It looks for schedules that are due every second instead of every ten, which on AWS is a minute's precision anyway.
A template may let a WebSocket's function answer (`AWS::ApiGatewayV2::RouteResponse`), which here each may anyway.
It unpacks each layer once instead of once a process: 140 MB and a second each, while all else in it stands still.
Run it with the local cloud's interpreter instead of `-m ministack`; it needs nothing of Espial.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import threading
import zipfile
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack.app import main
from ministack.core import lambda_runtime
from ministack.services import apigateway, dynamodb, scheduler
from ministack.services.cloudformation import provisioners

Answer = tuple[int, dict[str, str], bytes]


def with_stream(write: Callable[..., Answer]) -> Callable[..., Answer]:
    """The emulator's PartiQL write, followed by the stream record of what it changed."""

    def wrapped(table: Any, parsed: Any, *rest: Any) -> Answer:
        pk, sk = _key(table, parsed)
        before = copy.deepcopy(table["items"].get(pk, {}).get(sk))
        answer = write(table, parsed, *rest)
        after = table["items"].get(pk, {}).get(sk)
        if answer[0] == 200 and before != after:
            name = "INSERT" if before is None else "MODIFY" if after is not None else "REMOVE"
            dynamodb._emit_stream_event(table["TableName"], name, before, copy.deepcopy(after))
        return answer

    return wrapped


def _key(table: Any, parsed: Any) -> tuple[Any, Any]:
    if "item" in parsed:
        item = parsed["item"]
        sk = dynamodb._extract_key_val(item.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
        return dynamodb._extract_key_val(item.get(table["pk_name"])), sk
    pk, sk, _, _ = dynamodb._partiql_key_target(table, parsed)
    return pk, sk


def with_template_names(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The emulator's CORS answer, from a configuration whose names begin with either case."""

    def wrapped(configuration: Any, *rest: Any) -> Any:
        return answer({name[0].lower() + name[1:]: value for name, value in configuration.items()}, *rest)

    return wrapped


READABLE: ContextVar[bool] = ContextVar("readable")
"""Whether the request in hand can be text at all."""


def with_bytes_kept(invoke: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The emulator's call of a function, whose body's content type only counts if the body is UTF-8."""

    async def wrapped(*request: Any, **rest: Any) -> Any:
        body = request[6]
        READABLE.set(body is None or body.decode(errors="ignore").encode() == body)
        return await invoke(*request, **rest)

    return wrapped


def with_readable_bodies(is_text: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The emulator's judgement of a content type, for `with_bytes_kept`."""
    return lambda content_type: READABLE.get() and is_text(content_type)


ROUTE_RESPONSE = {"create": lambda name, *_: (name, {}), "delete": lambda *_: None}
"""What lets a WebSocket's function answer; the emulator lets every one, and does not know the type."""


class SharedZip(zipfile.ZipFile):
    """A zip whose contents lie in one place; whoever unpacks it gets links to them, and writes nothing, as on AWS."""

    unpacking = threading.Lock()

    def extractall(self, path: Any = None, *_: Any) -> None:
        contents = repr(sorted((entry.filename, entry.CRC) for entry in self.infolist()))
        shared = Path(tempfile.gettempdir(), f"shared-{hashlib.sha256(contents.encode()).hexdigest()}")
        with self.unpacking:
            if not shared.exists():
                super().extractall(f"{shared}.part")
                Path(f"{shared}.part").rename(shared)
        for entry in shared.iterdir():
            Path(path, entry.name).symlink_to(entry)


if __name__ == "__main__":
    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": SharedZip})
    apigateway._invoke_lambda_proxy = with_bytes_kept(apigateway._invoke_lambda_proxy)
    apigateway._v2_request_body_is_text = with_readable_bodies(apigateway._v2_request_body_is_text)
    for name in ("_cors_response_headers", "_cors_preflight_response"):
        setattr(apigateway, name, with_template_names(getattr(apigateway, name)))
    for name in ("_partiql_insert", "_partiql_update", "_partiql_delete"):
        setattr(dynamodb, name, with_stream(getattr(dynamodb, name)))
    provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::RouteResponse"] = ROUTE_RESPONSE
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    main()
