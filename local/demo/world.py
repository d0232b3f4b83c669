"""What shoppers and platforms do to a stack, and what it holds afterwards."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from espial import signing
from local.cloud import ROOT
from local.demo.report import Report, console
from local.stack import Stack

SAMPLES = ROOT / "events"
PATIENCE = float(os.environ.get("ESPIAL_DEMO_PATIENCE", "90"))
WAITING = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
]


@dataclass
class Demo:
    """One run: the stack, the secrets the platforms sign with, and what was seen."""

    stack: Stack
    secrets: dict[str, dict[str, str]]
    http: httpx.Client
    report: Report
    tap: str
    answers: Counter[str] = field(default_factory=Counter)
    explanations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

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
        said = _lines(self.stack.espial("explain", person, "cart-abandoned", "--json").stdout)
        return [one for one in said if one["about"] == "decided"]

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

    def is_quiet(self) -> bool:
        """Whether nothing is scheduled, and nothing on its way to a trigger or to be sent."""
        group = self.stack.outputs["ScheduleGroup"]
        if self.stack.cloud.client("scheduler").list_schedules(GroupName=group)["Schedules"]:
            return False
        sqs = self.stack.cloud.client("sqs")
        waiting = [
            sqs.get_queue_attributes(QueueUrl=self.stack.outputs[f"{queue}Url"], AttributeNames=WAITING)["Attributes"]
            for queue in ("TriggerQueue", "SendQueue")
        ]
        return not any(int(number) for found in waiting for number in found.values())

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


def tap_the_bus(stack: Stack) -> str:
    """A queue that catches everything on the bus; its URL."""
    sqs, events = stack.cloud.client("sqs"), stack.cloud.client("events")
    url = str(sqs.create_queue(QueueName="demo-tap")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = stack.outputs["EventBus"]
    events.put_rule(Name="demo-tap", EventBusName=bus, EventPattern=json.dumps({"source": ["espial"]}))
    events.put_targets(Rule="demo-tap", EventBusName=bus, Targets=[{"Id": "tap", "Arn": arn}])
    return url
