"""`make conformance`: every platform's samples against the whole stack on a local cloud of its own.

    python -m local.conformance [PLATFORM]

One connection for each platform, and for each set of settings that a sample is about, with throw-away secrets; the
public address, which some signatures cover, is not the local one. Exit status as of `espial conformance`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from espial import sources
from espial.cli.samples import samples
from espial.definitions.models import TRACKING
from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT

SAMPLES = ROOT / "events/sources"
PUBLIC_URL = "https://hooks.example.com"


def connections(folder: Path) -> Path:
    """A folder of definitions that holds nothing but the connections the samples need."""
    target = folder / "definitions" / "connections"
    target.mkdir(parents=True)
    for platform in set(sources.NAMES) - {TRACKING}:
        shapes: list[dict[str, Any]] = []
        for sample in samples(SAMPLES / platform).values():
            settings = sample.meta.get("settings", {})
            if settings in shapes:
                continue
            name = f"{platform}-sample" + (f"-{len(shapes)}" if shapes else "")
            shapes.append(settings)
            definition = {
                "platform": platform,
                "account": f"{platform}-sample",  # as in the library: it is part of every event's id
                "secrets": [f"secretsmanager:espial/{name}"],
                "public_url": f"{PUBLIC_URL}/in/{platform}/{name}",
                "settings": settings,
            }
            (target / f"{name}.yaml").write_text(json.dumps(definition))
    return target.parent


def main(platform: str = "all") -> int:
    """Deploy, post, compare; the exit status of the command."""
    with tempfile.TemporaryDirectory(prefix="espial-conformance-") as name:
        folder = Path(name)
        with local_cloud.running(folder) as cloud:
            print("deploying the stack", flush=True)
            stack = local_stack.deploy(cloud, folder / "stack.json")
            definitions = connections(folder)
            stack.espial("local-secrets", str(definitions))
            stack.espial("apply", str(definitions))
            done = stack.espial(
                "conformance", "--recorded", "--platform", platform, "--dir", str(definitions), check=False
            )
            print(done.stdout, done.stderr, sep="")
            return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
