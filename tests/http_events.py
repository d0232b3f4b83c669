"""Lambda events as API Gateway makes them (HTTP API, payload format 2.0)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

ROUTES = {
    "in": "ANY /in/{platform}/{connection}",
    "priv": "ANY /priv/v1/apps/{api_key}/{proxy+}",
    "api": "ANY /api/2.0/{proxy+}",
    "v1": "ANY /v1/{proxy+}",
    "timeline": "GET /timeline/{person+}",
    **dict.fromkeys(("u", "c", "o"), "ANY /{page}/{token}"),
    "pull": "ANY /pull/{proxy+}",
    "_bus": "ANY /_bus/request.soap",
    "ctrlPaint.wsdl": "GET /ctrlPaint.wsdl",
    "ctrlPaintLiteral.wsdl": "GET /ctrlPaintLiteral.wsdl",
}
REQUEST_ID = "JKJaXmPLvHcESHA="


def http_event(
    path: str,
    body: bytes | str = b"",
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    query: str = "",
) -> dict[str, Any]:
    """A request to one of our routes; bytes arrive base64-encoded, text as it is."""
    parts = path.strip("/").split("/")
    if parts[0] == "in":
        parameters = dict(zip(("platform", "connection"), parts[1:], strict=True))
    elif parts[0] == "priv":
        parameters = {"api_key": parts[3], "proxy": "/".join(parts[4:])}
    elif parts[0] == "api":
        parameters = {"proxy": "/".join(parts[2:])}
    elif parts[0] in ("u", "c", "o"):
        parameters = dict(zip(("page", "token"), parts, strict=True))
    elif parts[0] not in ROUTES:
        parameters = {"proxy": "/".join(parts)}
    elif "{" not in ROUTES[parts[0]]:
        parameters = {}
    else:
        parameters = {{"timeline": "person"}.get(parts[0], "proxy"): "/".join(parts[1:])}
    queried = parse_qs(query, keep_blank_values=True)
    return {
        "version": "2.0",
        "routeKey": ROUTES.get(parts[0], f"{'GET' if method == 'GET' else 'ANY'} /{{proxy+}}"),
        "rawPath": path,
        "rawQueryString": query,
        **({"queryStringParameters": {name: ",".join(values) for name, values in queried.items()}} if queried else {}),
        "headers": dict(headers or {}),
        "requestContext": {
            "requestId": REQUEST_ID,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "-"},
            "stage": "$default",
            "timeEpoch": 1_768_471_200_000,
        },
        "pathParameters": parameters,
        "body": b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": isinstance(body, bytes),
    }
