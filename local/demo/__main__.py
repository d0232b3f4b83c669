"""One run, from nothing to nothing, and an exit status that is 0 only if everything is as expected.

It starts a cloud of its own, deploys the built template, applies definitions/, posts, drops, waits, reads back what the
stack holds, and ends all it started.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx

from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT
from local.demo import braze, cdp, sendgrid, shoppers
from local.demo.report import Report, console
from local.demo.summary import summary
from local.demo.world import Demo, tap_the_bus


def main() -> int:
    """Run it all; the number of results that are not as expected."""
    started = time.monotonic()
    console.print("starting the local cloud and deploying the stack")
    with tempfile.TemporaryDirectory(prefix="espial-demo-") as name:
        folder = Path(name)
        with local_cloud.running(folder) as cloud:
            # Every wait over two seconds goes through the Scheduler, as an hour's would on AWS.
            stack = local_stack.deploy(cloud, folder / "stack.json", ShortWaitSeconds="2")
            port = local_cloud.free_port()
            local_stack.prepare(stack, cdp.definitions(folder, port))
            console.print(f"  up in {time.monotonic() - started:.0f} s")
            secrets = json.loads((folder / "secrets.json").read_text())
            with httpx.Client(timeout=30) as http:
                demo = Demo(stack, secrets, http, Report(), tap_the_bus(stack))
                sendgrid.post(demo)
                dropped = braze.drop(demo)
                sendgrid.check(demo)
                shoppers.shop(demo)
                braze.check(demo, dropped)  # while the shoppers' wait runs
                shoppers.check(demo)
                with cdp.simulator(port, secrets[f"onboarding/{cdp.ONBOARDING}"]["secret"]) as platform:
                    cdp.run(demo, platform)
                summary(demo)
                demo.report.show(time.monotonic() - started)
        shutil.copy(folder / "cloud.log", ROOT / ".local/demo.log")
    return len(demo.report.failed)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
