"""Braze: Currents files, then the same events over HTTP."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import fastavro

from local.demo.report import console
from local.demo.world import SAMPLES, Demo

EXPORTED = (
    "email.Open",
    "email.Bounce",
    "email.SoftBounce",
    "email.Deferral",
    "behaviors.CustomEvent",
    "sms.InboundReceive",
)


class Dropped(NamedTuple):
    """The events in whole files, and those that stand before the damage in another, by id."""

    whole: dict[str, dict[str, Any]]
    damaged: dict[str, dict[str, Any]]


def drop(demo: Demo) -> Dropped:
    """A Currents drop, one file of it truncated."""
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
    return Dropped(rows, intact)


def check(demo: Demo, dropped: Dropped) -> None:
    """All of it is recorded, and the same events through the HTTP connector are known already."""
    rows = dropped.whole
    both = {**rows, **dropped.damaged}
    found: list[dict[str, Any]] = []

    def recorded() -> bool:
        found[:] = [event for event in demo.events() if event["platform"] == "braze"]
        return len(found) >= len(both)

    demo.until("Braze's events recorded from the files", recorded)
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
