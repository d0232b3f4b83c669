"""`make demo`: the main job on the local cloud, with real input over the real interfaces, and every result checked.

It starts a cloud of its own, deploys the built template, applies definitions/, posts, drops, waits, reads back what the
stack holds, and ends all it started. Exit status 0 only if everything is as expected.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import fastavro
import httpx
from rich.console import Console
from rich.table import Table

from espial import signing
from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT
from local.stack import Stack

OUTBOX = ROOT / ".local/outbox"
SAMPLES = ROOT / "events"
EXPORTED = (
    "email.Open",
    "email.Bounce",
    "email.SoftBounce",
    "email.Deferral",
    "behaviors.CustomEvent",
    "sms.InboundReceive",
)
PATIENCE = float(os.environ.get("ESPIAL_DEMO_PATIENCE", "90"))
console = Console(highlight=False)


@dataclass
class Report:
    """What was expected and what came of it."""

    rows: list[tuple[str, Any, Any]] = field(default_factory=list)

    def check(self, what: str, expected: Any, found: Any) -> None:
        """Note one result."""
        self.rows.append((what, expected, found))

    @property
    def failed(self) -> list[str]:
        return [what for what, expected, found in self.rows if expected != found]


@dataclass
class Demo:
    """One run: the stack, the secrets the platforms sign with, and what was seen."""

    stack: Stack
    secrets: dict[str, dict[str, str]]
    http: httpx.Client
    report: Report
    tap: str
    answers: Counter[str] = field(default_factory=Counter)

    # ── the outside world ──

    def post(self, connection: str, platform: str, body: bytes, *, now: datetime, spoil: bool = False) -> int:
        """Post a webhook as the platform would, signed at `now`; `spoil` breaks the signature."""
        headers = signing.sign(platform, self.secrets[connection]["signing"].encode(), body, now)
        if spoil:
            body += b" "
        answer = self.http.post(
            f"{self.stack.outputs['ApiUrl']}/in/{platform}/{connection}", content=body, headers=headers
        )
        self.answers[f"{platform} webhook {answer.status_code}"] += 1
        return answer.status_code

    def track(self, call: str, **message: Any) -> int:
        """One call of a shop's page to the tracking API, as a vendor SDK makes it."""
        key = b64encode(self.secrets["shop"]["signing"].encode() + b":").decode()
        sent = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        answer = self.http.post(
            f"{self.stack.outputs['TrackingUrl']}/v1/{call}",
            json={"timestamp": sent, "sentAt": sent, **message},
            headers={"authorization": f"Basic {key}"},
        )
        self.answers[f"tracking {call} {answer.status_code}"] += 1
        return answer.status_code

    def drop(self, key: str, body: bytes) -> None:
        """Put a file into the exports bucket as the platform does."""
        self.stack.cloud.client("s3").put_object(Bucket=self.stack.outputs["ExportsBucket"], Key=key, Body=body)
        self.answers["export files dropped"] += 1

    # ── what the stack holds ──

    def items(self) -> list[dict[str, Any]]:
        """The whole table: small here."""
        pages = self.stack.cloud.client("dynamodb").get_paginator("scan")
        return [
            item
            for page in pages.paginate(TableName=self.stack.outputs["EventsTable"], ConsistentRead=True)
            for item in page["Items"]
        ]

    def events(self) -> list[dict[str, Any]]:
        """Every recorded event with the transports that reported it."""
        return [
            {**json.loads(item["body"]["S"]), "via": sorted(item["via"]["SS"])}
            for item in self.items()
            if item["sk"]["S"].startswith("E#")
        ]

    def keys_of(self, person: str) -> list[str]:
        """The sort keys of everything kept under a person."""
        return [item["sk"]["S"] for item in self.items() if item["pk"]["S"] == f"P#{person}"]

    def mails(self) -> list[dict[str, Any]]:
        """Every mail SES accepted."""
        accounts = self.stack.cloud.get("/_ministack/ses/messages")["messages"]
        return [mail for mails in accounts.values() for mail in mails]

    def quarantined(self) -> list[dict[str, Any]]:
        """What was refused after it was accepted."""
        return _lines(self.stack.espial("quarantine", "list", "--json").stdout)

    def explained(self, person: str) -> list[dict[str, Any]]:
        """The decisions about a person, oldest first."""
        return _lines(self.stack.espial("explain", person, "cart-abandoned", "--json").stdout)

    def on_the_bus(self) -> list[dict[str, Any]]:
        """What a rule of ours caught on the bus since the last look."""
        client, found = self.stack.cloud.client("sqs"), []
        while messages := client.receive_message(QueueUrl=self.tap, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in messages]
            client.delete_message_batch(
                QueueUrl=self.tap,
                Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)],
            )
        return found

    def duplicates(self) -> int:
        """How many reports were recognised as repeated, by what the functions logged."""
        logs, total = self.stack.cloud.client("logs"), 0
        for group in logs.describe_log_groups()["logGroups"]:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                for line in page["events"]:
                    if '"events.recorded"' in line["message"] or '"chunk.recorded"' in line["message"]:
                        total += int(json.loads(line["message"]).get("duplicate", 0))
        return total

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for the stack to get there; a result that never comes is reported by the checks that follow."""
        started = time.monotonic()
        with console.status(f"  {what}"):
            while not done() and time.monotonic() - started < PATIENCE:
                time.sleep(0.25)
        console.print(f"  {what} [dim]{time.monotonic() - started:.1f} s[/]")


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def sendgrid(demo: Demo) -> None:
    """A signed batch, the same again, forged, stale, and more of it scattered and out of order."""
    console.rule("SendGrid: signed webhooks", align="left")
    body = (SAMPLES / "sources/sendgrid/all-types.body").read_bytes()
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
    expected = 2 * len(batch)
    found: list[dict[str, Any]] = []

    def recorded() -> bool:
        found[:] = [event for event in demo.events() if event["platform"] == "sendgrid"]
        return len(found) >= expected

    demo.until("recorded", recorded)
    demo.report.check("SendGrid events, each recorded once", expected, len(found))
    demo.report.check(
        "kinds of SendGrid events",
        {event["event"] for event in batch},
        {e["platform_type"].split(".")[0] for e in found},
    )


def braze(demo: Demo) -> None:
    """A Currents drop, one file of it truncated, then the same events through the HTTP connector."""
    console.rule("Braze: Currents files, then the same events over HTTP", align="left")
    rows: dict[str, dict[str, Any]] = {}
    files = [
        path
        for path in sorted((SAMPLES / "exports/braze/currents").rglob("*.avro"))
        if any(f"messages.{t}/" in str(path) or f"users.{t}/" in str(path) for t in EXPORTED)
    ]
    for path in files:
        key = f"exports/braze/braze-main/{path.relative_to(SAMPLES / 'exports/braze')}"
        demo.drop(key, path.read_bytes())
        rows |= {event["id"]: event for event in _connector_events(path)}
    truncated = SAMPLES / "exports/braze/edge/send-truncated-mid-block.avro"
    demo.drop("exports/braze/braze-main/currents/edge/truncated.avro", truncated.read_bytes())
    intact = {event["id"]: event for event in _connector_events(truncated)}
    console.print(
        f"  dropped {len(files)} Avro files with {len(rows)} events, and a truncated one with {len(intact)} intact"
    )
    both = {**rows, **intact}
    found: list[dict[str, Any]] = []

    def recorded() -> bool:
        found[:] = [event for event in demo.events() if event["platform"] == "braze"]
        return len(found) >= len(both)

    demo.until("recorded from the files", recorded)
    events = list(rows.values())
    for start in range(0, len(events), 100):
        body = json.dumps({"events": events[start : start + 100]}).encode()
        demo.report.check(
            "Braze's connector is answered", 200, demo.post("braze-main", "braze", body, now=datetime.now(UTC))
        )
    unproven = demo.http.post(f"{demo.stack.outputs['ApiUrl']}/in/braze/braze-main", content=b"{}").status_code
    demo.report.check("a connector without its token is refused", 401, unproven)

    def merged() -> bool:
        recorded()
        return len([event for event in found if event["via"] == ["export", "webhook"]]) >= len(rows)

    demo.until("the same events over HTTP", merged)
    demo.report.check("Braze events, each recorded once", len(both), len(found))
    demo.report.check(
        "of them with both channels as lineage", len(rows), sum(e["via"] == ["export", "webhook"] for e in found)
    )


def _connector_events(path: Path) -> list[dict[str, Any]]:
    """An Avro file's rows as Braze's HTTP connector would post them: user and properties apart, nulls left out.

    Of a damaged file, the rows before the damage, read by a library that is not ours.
    """
    reader = fastavro.reader(io.BytesIO(path.read_bytes()))
    schema: Any = reader.writer_schema
    name = str(schema["name"]).rpartition(".inner.")[2]
    found = []
    try:
        for row in cast("Iterable[dict[str, Any]]", reader):
            present = {field: value for field, value in row.items() if value is not None}
            top = {field: present.pop(field) for field in ("id", "time")}
            user = {
                field: present.pop(field)
                for field in ("user_id", "external_user_id", "device_id", "timezone")
                if field in present
            }
            found.append({"event_type": name, **top, "user": user, "properties": present})
    except (EOFError, ValueError, IndexError):
        pass  # the damage is the point
    return found


SHOP = {"currency": "EUR", "cart_url": "https://shop.example.com/cart"}
MUG = {
    "product_id": "p-1",
    "name": "Stoneware mug",
    "price": 14.5,
    "quantity": 2,
    "url": "https://shop.example.com/p/1",
    "image_url": "https://shop.example.com/i/1.png",
}
LAMP = {
    "product_id": "p-2",
    "name": "Reading lamp",
    "price": 79.0,
    "quantity": 1,
    "url": "https://shop.example.com/p/2",
    "image_url": "https://shop.example.com/i/2.png",
}
RUG = {
    "product_id": "p-3",
    "name": "Wool rug",
    "price": 240.0,
    "quantity": 1,
    "url": "https://shop.example.com/p/3",
    "image_url": "https://shop.example.com/i/3.png",
}


def shoppers(demo: Demo) -> None:
    """Ada leaves her cart, Bo buys in time, Cy keeps editing: two mails, never three."""
    console.rule("Three shoppers: the tracking API", align="left")

    def shopper(name: str) -> None:
        traits = {"email": f"shopper.{name}@example.com", "firstName": name.title(), "consent": {"email": True}}
        demo.track("identify", messageId=f"{name}-0", userId=f"cust-{name}", traits=traits)

    def cart(name: str, number: int, *products: dict[str, Any]) -> None:
        total = sum(product["price"] * product["quantity"] for product in products)
        properties = {"cart_id": f"cart-{name}", "products": list(products), "total": total, **SHOP}
        demo.track(
            "track", messageId=f"{name}-{number}", userId=f"cust-{name}", event="Cart Updated", properties=properties
        )

    for name in ("ada", "bo", "cy"):
        shopper(name)
    cart("ada", 1, MUG, LAMP)
    cart("bo", 1, LAMP)
    for number, products in enumerate([(MUG,), (MUG, LAMP), (LAMP,), (LAMP, RUG), (RUG,)], start=1):
        cart("cy", number, *products)
        time.sleep(0.2)
    # Nobody buys within milliseconds: an order that is recorded before its cart's run begins leaves none to explain.
    demo.until("Bo's cart is noticed", lambda: any(key.startswith("R#") for key in demo.keys_of("id:cust-bo")))
    order = {"order_id": "o-1", "cart_id": "cart-bo", "total": 79.0, "products": [LAMP], **SHOP}
    demo.track("track", messageId="bo-2", userId="cust-bo", event="Order Completed", properties=order)
    refused = demo.track("track", messageId="x-1", event="Cart Updated", properties={})
    demo.report.check("a call that names nobody is refused", 400, refused)
    console.print("  Ada fills a cart; Bo fills one and buys it; Cy edits hers five times")
    demo.until("the wait runs out, Ada's and Cy's mails go out", lambda: len(demo.mails()) >= 2)
    time.sleep(3)  # long enough for a third mail to show itself
    mails = demo.mails()
    demo.report.check("mails sent", ["shopper.ada@example.com", "shopper.cy@example.com"], sorted(_recipients(mails)))
    last = next((mail for mail in mails if "shopper.cy@" in json.dumps(mail)), {})
    contents = json.dumps(last)
    demo.report.check(
        "Cy's mail shows the last cart and nothing older",
        (True, False),
        ("Wool rug" in contents, "Stoneware mug" in contents),
    )
    outcome = {
        name: [(d["outcome"], d["reason"]) for d in demo.explained(f"id:cust-{name}")][-1:]
        for name in ("ada", "bo", "cy")
    }
    demo.report.check(
        "decisions",
        {"ada": "send", "bo": "skip", "cy": "send"},
        {name: found[0][0] if found else None for name, found in outcome.items()},
    )


def _recipients(mails: Iterable[dict[str, Any]]) -> list[str]:
    return [address for mail in mails for address in mail["To"]]


def keep_mails(mails: list[dict[str, Any]]) -> list[Path]:
    """Write each mail to .local/outbox as .eml and .html."""
    shutil.rmtree(OUTBOX, ignore_errors=True)
    OUTBOX.mkdir(parents=True)
    written = []
    for mail in mails:
        to = _recipients([mail])[0]
        message = EmailMessage(policy=policy.SMTP)
        message["From"], message["To"], message["Subject"] = mail["Source"], to, mail["Subject"]
        message.set_content(mail["BodyText"] or "")
        message.add_alternative(mail["BodyHtml"] or "", subtype="html")
        name = quote(to.partition("@")[0])
        written += [OUTBOX / f"{name}.eml", OUTBOX / f"{name}.html"]
        written[-2].write_bytes(bytes(message))
        written[-1].write_text(mail["BodyHtml"] or "")
    return written


def summary(demo: Demo, seconds: float) -> None:
    """What came in, what was refused and why, duplicates, the bus, the decisions, and where the mails lie."""
    console.rule("Summary", align="left")
    events, bus = demo.events(), demo.on_the_bus()
    counts = Table(show_edge=False, box=None, pad_edge=False)
    for heading in ("came in", "answers"):
        counts.add_column(heading, justify="left" if heading == "came in" else "right")
    for what, number in sorted(demo.answers.items()):
        counts.add_row(what, str(number))
    console.print(counts)
    kinds = Counter((event["platform"], event["type"]) for event in events)
    console.print("\nrecorded, each once:")
    for platform in sorted({platform for platform, _ in kinds}):
        listed = ", ".join(f"{kind} {number}" for (of, kind), number in sorted(kinds.items()) if of == platform)
        console.print(f"  {platform}: {listed}")
    duplicates = demo.duplicates()
    console.print(f"\nduplicates recognised: {duplicates}")
    console.print("refused after being accepted:")
    for entry in demo.quarantined():
        console.print(f"  {entry['platform']}/{entry['connection']}: {entry['reason']} ({entry['detail']})")
    console.print(
        "on the bus: " + ", ".join(f"{kind} {n}" for kind, n in sorted(Counter(e["detail-type"] for e in bus).items()))
    )
    console.print("decisions:")
    for name in ("ada", "bo", "cy"):
        for decision in demo.explained(f"id:cust-{name}"):
            console.print(f"  {name}: {decision['outcome']}, {decision['reason']}")
    demo.report.check("a truncated file and a rubbish delivery are in quarantine", True, len(demo.quarantined()) >= 2)
    demo.report.check(
        "the bus carried carts and orders", True, {"cart_updated", "order_completed"} <= {e["detail-type"] for e in bus}
    )
    for path in keep_mails(demo.mails()):
        console.print(f"mail: {path.relative_to(ROOT)}")
    console.rule("Checks", align="left")
    for what, expected, found in demo.report.rows:
        good = expected == found
        console.print(
            f"  {'[green]ok[/]  ' if good else '[red]FAIL[/]'} {what}"
            + ("" if good else f": expected {expected}, found {found}")
        )
    good = len(demo.report.rows) - len(demo.report.failed)
    console.print(f"\n{good} of {len(demo.report.rows)} as expected, in {seconds:.0f} s")


def tap_the_bus(stack: Stack) -> str:
    """A queue that catches everything on the bus; its URL."""
    sqs, events = stack.cloud.client("sqs"), stack.cloud.client("events")
    url = str(sqs.create_queue(QueueName="demo-tap")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = stack.outputs["EventBus"]
    events.put_rule(Name="demo-tap", EventBusName=bus, EventPattern=json.dumps({"source": ["espial"]}))
    events.put_targets(Rule="demo-tap", EventBusName=bus, Targets=[{"Id": "tap", "Arn": arn}])
    return url


def main() -> int:
    """Run it all; the number of results that are not as expected."""
    started = time.monotonic()
    console.print("starting the local cloud and deploying the stack")
    with tempfile.TemporaryDirectory(prefix="espial-demo-") as name:
        folder = Path(name)
        with local_cloud.running(folder) as cloud:
            # Every wait over two seconds goes through the Scheduler, as an hour's would on AWS.
            stack = local_stack.deploy(cloud, folder / "stack.json", ShortWaitSeconds="2")
            local_stack.prepare(stack)
            console.print(f"  up in {time.monotonic() - started:.0f} s")
            secrets = json.loads((folder / "secrets.json").read_text())
            with httpx.Client(timeout=30) as http:
                demo = Demo(stack, secrets, http, Report(), tap_the_bus(stack))
                sendgrid(demo)
                braze(demo)
                shoppers(demo)
                summary(demo, time.monotonic() - started)
        shutil.copy(folder / "cloud.log", ROOT / ".local/demo.log")
    return len(demo.report.failed)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
