"""Writes `events/invoke/<function>/<case>.json`: the sample library as each function's own Lambda event.

`make samples` runs it; a test holds that what is committed is what it writes. What only exists when a stack runs is
filled in by `make invoke`: an event of a signed sample names it in `stageVariables` and is signed afresh;
`@ExportsBucket` and `@ModifiedAt` stand for the stack's bucket and for when the file was put there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from boto3.dynamodb.types import TypeSerializer

from espial.envelope import pack
from espial.exports.files import Chunk, ExportFile
from espial.normalise import Recordable
from local.cloud import ROOT
from tests.http_events import http_event
from tests.samples import Case, case, exports

FOLDER = ROOT / "events/invoke"
CONNECTIONS = {"sendgrid": "sendgrid-main", "braze": "braze-main", "segment": "shop"}
"""The names in definitions/connections/."""

LOGIN = (
    '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><handleRequest xmlns="urn:localhost-paint">'
    "<className>bus_facade_context</className><processName>login</processName><entityData>"
    "<item><key>userName</key><value>demo.sys</value></item><item><key>password</key><value>unknown</value></item>"
    "</entityData></handleRequest></Body></Envelope>"
)
BUCKET = "@ExportsBucket"
MODIFIED = datetime(2026, 1, 15, 10, 5, tzinfo=UTC)


def _webhook(sample: Case) -> dict[str, Any]:
    event = http_event(f"/in/{sample.platform}/{CONNECTIONS[sample.platform]}", sample.body, sample.headers)
    return {**event, "stageVariables": {"sample": str(sample)}}


def _frame(sample: Case) -> dict[str, Any]:
    """A frame of a WebSocket, as API Gateway hands it over."""
    context = {
        "requestId": "JKJaXmPLvHcESHA=",
        "routeKey": "$default",
        "eventType": "MESSAGE",
        "connectionId": "JKJaXf=",
    }
    call = {**json.loads(sample.body), "type": "track", "writeKey": "frame-key"}
    return {"requestContext": {**context, "stage": "v1"}, "body": json.dumps(call), "isBase64Encoded": False}


def _tracking(sample: Case, call: str) -> dict[str, Any]:
    return {**http_event(f"/v1/{call}", sample.body, sample.headers), "stageVariables": {"sample": str(sample)}}


def _sqs(queue: str, *messages: tuple[str, dict[str, str]]) -> dict[str, Any]:
    """An SQS batch: bodies with their attributes."""
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-4000-8000-{number:012d}",
                "receiptHandle": "sample",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1768471500000"},
                "messageAttributes": {
                    name: {"stringValue": value, "dataType": "String"} for name, value in attributes.items()
                },
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:eu-west-1:000000000000:{queue}",
                "awsRegion": "eu-west-1",
            }
            for number, (body, attributes) in enumerate(messages, start=1)
        ]
    }


def _raw(sample: Case) -> tuple[str, dict[str, str]]:
    delivery = replace(sample.delivery, connection=CONNECTIONS[sample.platform])
    return pack(delivery)


def _stream(recordables: list[Recordable]) -> dict[str, Any]:
    """What the events table's stream hands on after inserting them."""
    serialise = TypeSerializer().serialize
    records = []
    for number, (event, body, home) in enumerate(recordables, start=1):
        keys = {"pk": serialise(home), "sk": serialise(f"E#{event.event_id}")}
        image = {**keys, "body": serialise(body.decode()), "via": {"SS": ["tracking"]}, "ttl": {"N": "1773655500"}}
        records.append(
            {
                "eventID": f"{number:032d}",
                "eventName": "INSERT",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "eu-west-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1768471500,
                    "Keys": keys,
                    "NewImage": image,
                    "SequenceNumber": f"{number:021d}",
                    "SizeBytes": len(body),
                    "StreamViewType": "NEW_IMAGE",
                },
                "eventSourceARN": "arn:aws:dynamodb:eu-west-1:000000000000:table/events/stream/2026-01-15T10:00:00.000",
            }
        )
    return {"Records": records}


def _bus(recordable: Recordable) -> str:
    """The event as the bus delivers it."""
    event = recordable.event
    return json.dumps(
        {
            "version": "0",
            "id": "00000000-0000-4000-8000-000000000000",
            "detail-type": event.type.value,
            "source": "espial",
            "account": "000000000000",
            "time": "2026-01-15T10:05:00Z",
            "region": "eu-west-1",
            "resources": [],
            "detail": json.loads(recordable.body),
        }
    )


def _notice(path: Path, key: str) -> str:
    """S3's notification of an export file, keys encoded as S3 encodes them."""
    return json.dumps(
        {
            "Records": [
                {
                    "eventVersion": "2.1",
                    "eventSource": "aws:s3",
                    "awsRegion": "eu-west-1",
                    "eventTime": "2026-01-15T10:05:00.000Z",
                    "eventName": "ObjectCreated:Put",
                    "s3": {
                        "s3SchemaVersion": "1.0",
                        "bucket": {"name": BUCKET, "arn": f"arn:aws:s3:::{BUCKET}"},
                        "object": {
                            "key": quote_plus(key, safe="/"),
                            "size": path.stat().st_size,
                            "eTag": _etag(path),
                            "sequencer": "00",
                        },
                    },
                }
            ]
        }
    )


NO_CATALOGUE = json.dumps(
    {
        "Records": [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": BUCKET}, "object": {"key": "catalogue/x"}}}
        ]
    }
)


def export_key(path: Path) -> str:
    """Where a sample file lies in the exports bucket."""
    platform, *rest = path.relative_to(ROOT / "events/exports").parts
    return "/".join(["exports", platform, CONNECTIONS.get(platform, platform), *rest])


def onboarding_key(path: Path) -> str:
    """Where a sample file of recipients lies in the exports bucket."""
    return f"onboarding/braze-welcome/{path.name}"


def _etag(path: Path) -> str:
    return md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _chunk(path: Path) -> str:
    size = path.stat().st_size
    file = ExportFile(bucket=BUCKET, key=export_key(path), etag=_etag(path), size=size, modified_at=MODIFIED)
    return Chunk(file=file, number=0, start=0, end=size).to_json().replace("2026-01-15T10:05:00Z", "@ModifiedAt")


def events() -> dict[str, dict[str, Any]]:
    """`<function>/<case>` -> its event."""
    sendgrid, braze = case("sendgrid", "all-types"), case("braze", "email")
    carts = case("segment", "cart-updated")
    opens = next(path for path in exports("braze") if "email.Open/" in str(path))
    cart = carts.recordables[0]
    due = {"person": "id:cust-1001", "trigger": "cart-abandoned", "key": "cart-1", "version": cart.event.event_id}
    return {
        "receive_webhook/sendgrid-all-types": _webhook(sendgrid),
        "receive_webhook/sendgrid-wrong-signature": _webhook(case("sendgrid", "wrong-signature")),
        "receive_webhook/braze-email": _webhook(braze),
        "receive_webhook/unknown-connection": http_event("/in/sendgrid/nobody", b"[]"),
        "receive_tracking/cart-updated": _tracking(carts, "track"),
        "receive_socket/cart-updated": _frame(carts),
        "receive_tracking/wrong-write-key": _tracking(case("segment", "wrong-write-key"), "track"),
        "record_events/sendgrid-and-braze": _sqs("raw", _raw(sendgrid), _raw(braze)),
        "record_events/bad-items-in-good-batch": _sqs("raw", _raw(case("sendgrid", "bad-items-in-good-batch"))),
        "split_export/braze-opens": _sqs("notices", (_notice(opens, export_key(opens)), {})),
        **{
            f"onboard_recipients/{path.stem}": _sqs("onboarding", (_notice(path, onboarding_key(path)), {}))
            for path in sorted((ROOT / "events/onboarding").glob("*.csv"))
        },
        "record_export/braze-opens": _sqs("chunks", (_chunk(opens), {})),
        "pull_events/schedule": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "sweep_exports/hourly": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "enter_people/schedule": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "write_feed/schedule": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "deliver_feed/schedule": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "deliver_feed/resend": {"feed": "cdp", "names": ["1"]},
        "serve_api/timeline": http_event("/timeline/email:ada@example.com", "", method="GET"),
        "serve_api/timeline-page": http_event("/timeline/id:cust-1001", "", method="GET", query="format=html&limit=50"),
        "serve_api/explain": http_event("/explain/cart-abandoned/id:cust-1001", "", method="GET", query="limit=5"),
        "serve_api/bad-person": http_event("/timeline/fax:1", "", method="GET"),
        "serve_api/description": http_event("/openapi.json", "", method="GET"),
        "change_stack/switch": http_event("/destinations/shop-events", '{"enabled": false}', method="PATCH"),
        "change_stack/onboarding": http_event(
            "/onboarding/braze-welcome", '[{"PID": "P-1001", "Email": "ada@example.com"}]'
        ),
        "serve_notifications/events": http_event(
            "/pull/shop-events", "", {"authorization": "Bearer unknown"}, method="GET", query="limit=10"
        ),
        "serve_notifications/description": http_event("/ctrlPaintLiteral.wsdl", "", method="GET"),
        "serve_notifications/login": http_event("/_bus/request.soap", LOGIN),
        "load_catalogue/gone": _sqs("catalogue", (NO_CATALOGUE, {})),
        "serve_pages/cut-off": http_event("/u/WyJpZDp.cut", "", method="GET"),
        "route_notifications/carts": _sqs("notify", *((_bus(one), {}) for one in carts.recordables)),
        "send_notifications/schedule": {"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event"},
        "send_notifications/shop-events": _sqs("outgoing", ("shop-events", {})),
        "publish_events/carts": _stream(carts.recordables),
        "run_triggers/cart-updated": _sqs("triggers", (_bus(cart), {})),
        "send_message/cart-abandoned": _sqs("send", (json.dumps({**due, "due_at": "2026-01-15T11:00:00Z"}), {})),
    }


def rendered() -> dict[Path, str]:
    """Every file and what belongs in it."""
    return {FOLDER / f"{name}.json": json.dumps(event, indent=1) + "\n" for name, event in events().items()}


def main() -> None:
    """Write them all, and remove what no longer belongs."""
    wanted = rendered()
    for path in set(FOLDER.glob("*/*.json")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
