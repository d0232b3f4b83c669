"""SendGrid: signed webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from local.demo.report import console
from local.demo.world import SAMPLES, Demo

SAMPLE = SAMPLES / "sources/sendgrid/all-types.body"


def post(demo: Demo) -> None:
    """A signed batch, the same again, forged, stale, and more of it scattered and out of order."""
    console.rule("SendGrid: signed webhooks", align="left")
    body = SAMPLE.read_bytes()
    batch: list[dict[str, Any]] = json.loads(body)
    now = datetime.now(UTC)
    demo.report.check("signed batch is accepted", 200, demo.post("sendgrid-main", "sendgrid", body, now=now))
    demo.report.check("the same batch again is accepted", 200, demo.post("sendgrid-main", "sendgrid", body, now=now))
    broken = demo.post("sendgrid-main", "sendgrid", body, now=now, spoil=True)
    demo.report.check("broken signature is refused", 401, broken)
    stale = demo.post("sendgrid-main", "sendgrid", body, now=now - timedelta(days=3))
    demo.report.check("stale timestamp is refused", 401, stale)
    unknown = demo.http.post(f"{demo.stack.outputs['ApiUrl']}/in/sendgrid/nobody", content=body).status_code
    demo.report.check("unknown connection is refused", 404, unknown)
    unreadable = demo.post("sendgrid-main", "sendgrid", b"this is signed and no JSON", now=now)
    demo.report.check("signed rubbish is accepted and quarantined", 200, unreadable)
    console.print(f"  posted a batch of {len(batch)}, the same again, one forged, one stale, one unreadable")

    scattered = [{**event, "sg_event_id": f"{event['sg_event_id']}-later"} for event in reversed(batch)]
    for event in scattered:  # one a request, the last first
        demo.post("sendgrid-main", "sendgrid", json.dumps([event]).encode(), now=datetime.now(UTC))
    console.print(f"  posted {len(scattered)} more in {len(scattered)} requests, out of order")


def check(demo: Demo) -> None:
    """All of it is recorded, each event once."""
    batch: list[dict[str, Any]] = json.loads(SAMPLE.read_bytes())
    expected = 2 * len(batch)
    found: list[dict[str, Any]] = []

    def recorded() -> bool:
        found[:] = [event for event in demo.events() if event["platform"] == "sendgrid"]
        return len(found) >= expected

    demo.until("SendGrid's events recorded", recorded)
    demo.report.check("SendGrid events, each recorded once", expected, len(found))
    demo.report.check(
        "kinds of SendGrid events",
        {event["event"] for event in batch},
        {e["platform_type"].split(".")[0] for e in found},
    )
