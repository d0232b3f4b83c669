"""Runs MiniStack with two gaps closed: the stream tells of PartiQL writes, and CORS in a template is in force.

MiniStack 1.5.33 emits a stream record for PutItem, UpdateItem, BatchWriteItem and transactions, but none for the
INSERT, UPDATE and DELETE of ExecuteStatement and BatchExecuteStatement, which is how Espial records events
(docs: "DynamoDB Streams captures a time-ordered sequence of item-level modifications", whatever the API).
Of a template's `CorsConfiguration` it keeps the names (`AllowOrigins`), but reads those of its API (`allowOrigins`).
Run it with the local cloud's interpreter instead of `-m ministack`; it needs nothing of Espial.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ministack.app import main
from ministack.services import apigateway, dynamodb

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


if __name__ == "__main__":
    for name in ("_cors_response_headers", "_cors_preflight_response"):
        setattr(apigateway, name, with_template_names(getattr(apigateway, name)))
    for name in ("_partiql_insert", "_partiql_update", "_partiql_delete"):
        setattr(dynamodb, name, with_stream(getattr(dynamodb, name)))
    main()
