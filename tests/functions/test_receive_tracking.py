"""receive_tracking against the local cloud, called as browsers and the vendor's SDK call it."""

from __future__ import annotations

import gzip
import json
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from segment.analytics import request as segment_request
from segment.analytics.client import Client

from espial import wiring
from espial.sources import segment
from espial.stores.connections import MISS_SECONDS, PublishedConnections
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.functions.receivers import BUCKET, publish, receiver  # noqa: F401  a fixture
from tests.http_events import http_event

pytestmark = pytest.mark.cloud
KEY = {"authorization": "Basic " + b64encode(b"wk_shop:").decode()}
CALL = {"type": "track", "userId": "cust-1", "event": "Cart Updated", "properties": {"cart_id": "cart-1"}}


@pytest.fixture
def tracking(cloud, receiver):
    """The function, with one shop whose write key lies in the parameter store."""
    cloud.client("ssm").put_parameter(Name="/espial/shop", Value="wk_shop", Type="SecureString")
    publish(cloud, {"shop": {"platform": "segment", "secrets": ["ssm:/espial/shop"]}})
    return receiver("receive_tracking")


def test_a_gzipped_call_is_on_the_queue_as_its_plain_bytes(tracking):
    """What was told success is what recording will read."""
    plain = json.dumps(CALL).encode()
    answer = tracking.post(http_event("/v1/track", gzip.compress(plain), KEY | {"content-encoding": "gzip"}))
    (kept,) = tracking.queued()
    assert (200, {"success": True}) == (answer["statusCode"], json.loads(answer["body"]))
    assert (plain, "tracking", "shop") == (kept.body, kept.transport, kept.connection)


def test_refusals_are_counted_by_reason_and_keep_nothing(tracking):
    """Wrong key, bad JSON, unknown call, wrong method, too large."""
    events = [
        http_event("/v1/track", json.dumps(CALL), {"authorization": "Basic " + b64encode(b"no:").decode()}),
        http_event("/v1/track", "{", KEY),
        http_event("/v1/tracks", "{}", KEY),
        http_event("/v1/track", "", KEY, method="GET"),
        http_event("/v1/track", json.dumps(CALL | {"x": "y" * 40_000}), KEY),
    ]
    answers = [tracking.post(event) for event in events]
    assert [401, 400, 404, 405, 413] == [answer["statusCode"] for answer in answers]
    assert ["invalid_write_key", "not_json", "unknown_call", "method_not_allowed", "too_large"] == [
        count["reason"] for count in tracking.counted()
    ]
    assert [] == tracking.queued()


def test_a_new_connections_key_is_not_called_wrong_for_long(tracking, cloud, monkeypatch):
    """SDKs drop what is answered 401: a key that fits nothing is looked for in a newer copy, at most every 2 s."""
    now = [0.0]
    known = PublishedConnections(wiring.aws, BUCKET, lambda: now[0])
    monkeypatch.setattr(tracking.app, "connections", known)
    late = {"authorization": "Basic " + b64encode(b"wk_late:").decode()}
    posts = []
    for later in (0.0, MISS_SECONDS):
        now[0] += later
        posts.append(tracking.post(http_event("/v1/track", json.dumps(CALL), late))["statusCode"])
        cloud.client("ssm").put_parameter(Name="/espial/late", Value="wk_late", Type="SecureString", Overwrite=True)
        publish(cloud, {name: {"platform": "segment", "secrets": [f"ssm:/espial/{name}"]} for name in ("shop", "late")})
    assert [401, 200] == posts


@contextmanager
def served(tracking):
    """The handler behind a loopback HTTP server, as API Gateway stands before it."""

    class Gateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = tracking.post(http_event(self.path, body, dict(self.headers)))
            self.send_response_only(answer["statusCode"])
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"].encode())

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        segment_request._session.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_the_vendors_sdk_can_post(tracking, compressed):
    """segment-analytics-python over real HTTP: no error on its side, each of its calls recordable on ours."""
    errors = []
    with served(tracking) as url:
        sdk = Client("wk_shop", host=url, gzip=compressed, sync_mode=True, on_error=lambda *e: errors.append(e))
        sdk.identify("cust-1", {"email": "ada@example.com"})
        sdk.track("cust-1", "Cart Updated", {"cart_id": "cart-1", "products": []})
        sdk.page(anonymous_id="anon-1", category="Docs", name="Home")
    assert [] == errors
    items = [item for kept in tracking.queued() for item in segment.split(kept)]
    assert {"identify", "track", "page"} == {item["type"] for item in items}
    assert [None] * 3 == [segment.problem(item) for item in items]


def test_the_vendors_sdk_hears_of_a_wrong_key(tracking):
    """Its error carries our status and nothing is kept."""
    with served(tracking) as url, pytest.raises(segment_request.APIError) as caught:
        Client("wk_other", host=url, sync_mode=True, max_retries=0).track("cust-1", "Cart Updated")
    assert 401 == caught.value.status
    assert [] == tracking.queued()
