"""A CDP and Braze: recipients handed over, two campaigns and their responses, recipients again; what the CDP loads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from local.cloud import ROOT
from local.demo.report import console
from local.demo.world import SAMPLES, Demo

ONBOARDING = "braze-welcome"
FEED = "cdp"
CAMPAIGNS = {"c0000000-0000-4000-8000-000000000001": "Welcome", "c0000000-0000-4000-8000-000000000002": "Newsletter"}
WELCOME, NEWSLETTER = CAMPAIGNS
PERSON = "P-1002"
"""Whose city is another in the second file."""

LOADED = ROOT / ".local/feeds"
TIMELINE = ROOT / ".local/timeline.html"


def definitions(folder: Path, port: int) -> Path:
    """A copy of definitions/ whose local stage finds Braze's simulator at a port that was free."""
    copy = folder / "definitions"
    shutil.copytree(ROOT / "definitions", copy)
    stage = copy / "stages/local.yaml"
    said = yaml.safe_load(stage.read_text())
    said["onboardings"][ONBOARDING]["endpoint"] = f"http://127.0.0.1:{port}"
    stage.write_text(yaml.safe_dump(said))
    return copy


class Braze:
    """The simulator, as somebody at Braze's console would use it."""

    def __init__(self, port: int, key: str) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self._headers = {"authorization": f"Bearer {key}"}
        self._seen = 0
        self._post("/_simulator/campaigns", CAMPAIGNS)

    def send(self, campaign: str) -> None:
        """A campaign to everybody it knows."""
        self._post("/campaigns/trigger/send", {"campaign_id": campaign, "broadcast": True})

    def happen(self, *kinds: str) -> None:
        """What the person does with the campaign that was sent last."""
        dispatch = self._currents(0)[-1]["properties"]["dispatch_id"]
        for kind in kinds:
            order = {"type": kind, "external_user_id": PERSON, "dispatch_id": dispatch}
            self._post("/_simulator/happen", order)

    def currents(self) -> list[dict[str, Any]]:
        """What it reports since it was asked last."""
        found = self._currents(self._seen)
        self._seen += len(found)
        return found

    def users(self) -> dict[str, Any]:
        """Whom it knows."""
        found: dict[str, Any] = self._http.get("/_simulator/users").json()["users"]
        return found

    def _currents(self, after: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/_simulator/currents", params={"after": after}).json()["events"]
        return found

    def _post(self, path: str, body: Any) -> None:
        self._http.post(path, json=body, headers=self._headers).raise_for_status()


@contextmanager
def simulator(port: int, key: str) -> Iterator[Braze]:
    """Braze's simulator for as long as a block takes, ended by pid."""
    words = ("simulate-platform", "braze", "--port", str(port), "--key", key)
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "espial.cli", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout
            process.stdout.readline()  # it says that it listens
            yield Braze(port, key)
        finally:
            process.terminate()


def run(demo: Demo, platform: Braze) -> None:
    """The six steps of the sequence, and what comes of them."""
    console.rule("A CDP: recipients to Braze, two campaigns, files back", align="left")
    onboard(demo, "welcome.csv", executions=1)
    campaign(demo, platform, WELCOME, "Open", "Click")
    campaign(demo, platform, NEWSLETTER, "Open", responses_first=True)
    onboard(demo, "welcome-next-week.csv", executions=2)
    known = platform.users()
    demo.report.check("recipients that Braze's simulator knows", 4, len(known))
    write_files(demo)
    show_person(demo)


def onboard(demo: Demo, file: str, *, executions: int) -> None:
    """Drop a file of recipients, and wait for what became of them."""
    demo.drop(f"onboarding/{ONBOARDING}/{file}", (SAMPLES / "onboarding" / file).read_bytes())

    def done() -> bool:
        ended = [event for event in demo.events() if event["type"] == "onboarding_completed"]
        return len(ended) >= executions

    demo.until(f"{file} handed to Braze", done)


def campaign(demo: Demo, platform: Braze, campaign_id: str, *kinds: str, responses_first: bool = False) -> None:
    """A campaign goes out, one recipient responds, and Currents reports it, in this order or the other."""
    time.sleep(1)  # Braze tells time in seconds, and what happens in one has no order
    platform.send(campaign_id)
    time.sleep(1)
    platform.happen(*kinds)
    reports = platform.currents()
    sends, responses = reports[: len(reports) - len(kinds)], reports[len(reports) - len(kinds) :]
    for some in (responses, sends) if responses_first else (sends, responses):
        body = json.dumps({"events": some}).encode()
        demo.post("braze-main", "braze", body, now=datetime.now(UTC))
        if responses_first:
            demo.until("responses recorded", lambda: _recorded(demo, responses))
            demo.stack.espial("feeds", "write", FEED)  # they wait for their sends
    demo.until(f"{CAMPAIGNS[campaign_id]} recorded", lambda: _recorded(demo, reports))


def _recorded(demo: Demo, reports: list[dict[str, Any]]) -> bool:
    wanted = Counter(report["event_type"] for report in reports)
    campaigns = {report["properties"]["campaign_id"] for report in reports}
    found = Counter(
        event["platform_type"] for event in demo.events() if event.get("campaign", {}).get("id") in campaigns
    )
    return not wanted - found


def write_files(demo: Demo) -> None:
    """Close the files, fetch them as a CDP would, and load them."""
    demo.stack.espial("feeds", "write", FEED)
    shutil.rmtree(LOADED, ignore_errors=True)
    LOADED.mkdir(parents=True)
    s3, bucket, prefix = demo.stack.cloud.client("s3"), demo.stack.outputs["FeedsBucket"], f"feeds/{FEED}/"

    def fetch() -> bool:
        """Every file and manifest that is there."""
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                path = LOADED / found["Key"].removeprefix(prefix)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
        return _rows("campaign_event_nonrpi", "RPI") >= 5 and _rows("response_event", "Braze") >= 3

    demo.until("files in the CDP's folder", fetch)
    loaded = demo.stack.espial("cdp-load", str(LOADED), check=False)
    console.print(loaded.stdout.rstrip(), markup=False, highlight=False)
    demo.report.check("the CDP loads the files, and nothing is amiss", 0, loaded.returncode)
    demo.report.check("campaign events of the hand-over", 5, _rows("campaign_event_nonrpi", "RPI"))
    demo.report.check("responses in files, each with its campaign event", True, _rows("response_event", "Braze") >= 3)
    console.print(f"  files: {LOADED.relative_to(ROOT)}")


def _rows(layout: str, system: str) -> int:
    manifests = [json.loads(path.read_text()) for path in LOADED.glob("*.manifest.json")]
    return sum(one["rows"] for one in manifests if one["layout"] == layout and one["system"] == system)


def show_person(demo: Demo) -> None:
    """The table of one recipient, and the page."""
    console.print(demo.stack.espial("timeline", f"id:{PERSON}").stdout.rstrip(), markup=False, highlight=False)
    demo.stack.espial("timeline", f"id:{PERSON}", "--html", str(TIMELINE))
    console.print(f"  page: {TIMELINE.relative_to(ROOT)}")
    rows = [
        json.loads(line) for line in demo.stack.espial("timeline", f"id:{PERSON}", "--json").stdout.splitlines() if line
    ]
    responses = [row for row in rows if row.get("response_event_id")]
    demo.report.check("her responses know their sends", 3, sum(bool(row["campaign_event_id"]) for row in responses))
    onboardings = [row for row in rows if row["type"] == "recipient_onboarded"]
    demo.report.check("she was handed over, and again when she had moved", 2, len(onboardings))
