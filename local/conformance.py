"""`make conformance`: every platform's samples against the whole stack on a local cloud of its own.

    python -m local.conformance [PLATFORM]

One connection for each platform, and for each set of settings that a sample is about, with throw-away secrets; the
public address, which some signatures cover, is not the local one. Then every platform's export files are dropped into
the bucket, at the same connections, and waited for: each has to end as one that was read. Exit status 0 if all holds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from espial import sources
from espial.cli.samples import samples
from espial.definitions.models import TRACKING
from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT
from tests.samples import EXPORT_SETTINGS, export_key, exports

SAMPLES = ROOT / "events/sources"
PUBLIC_URL = "https://hooks.example.com"
PATIENCE_SECONDS = 120.0
GOOD = frozenset({"done", "done_with_refusals", "ignored"})
ENDED = GOOD | {"failed"}


def connections(folder: Path) -> Path:
    """A folder of definitions that holds nothing but the connections the samples need."""
    target = folder / "definitions" / "connections"
    target.mkdir(parents=True)
    for platform in sources.NAMES:
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
                **({} if platform == TRACKING else {"public_url": f"{PUBLIC_URL}/in/{platform}/{name}"}),
                "settings": settings,
            }
            (target / f"{name}.yaml").write_text(json.dumps(definition))
    return target.parent


def read_exports(stack: local_stack.Stack, platform: str) -> list[str]:
    """Drop the export samples; what has to be said against any of them."""
    keys = []
    for name in sources.NAMES if platform == "all" else [platform]:
        for path in exports(name):
            if path.name in EXPORT_SETTINGS:  # the connections here have none
                continue
            keys.append(export_key(path))
            stack.cloud.client("s3").put_object(
                Bucket=stack.outputs["ExportsBucket"], Key=keys[-1], Body=path.read_bytes()
            )
    deadline = time.monotonic() + PATIENCE_SECONDS
    files: dict[str, dict[str, Any]] = {}
    while keys and time.monotonic() < deadline:
        listed = stack.espial("exports", "list", "--limit", "1000", "--json").stdout.splitlines()
        files = {one["key"]: one for one in map(json.loads, listed)}
        if all(files.get(key, {}).get("state") in ENDED for key in keys):
            break
        time.sleep(1)
    rows = sum(files.get(key, {}).get("rows") or 0 for key in keys)
    print(f"{len(keys)} export files with {rows} rows")
    return [f"{key}: {files.get(key)}" for key in keys if files.get(key, {}).get("state") not in GOOD]


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
            unread = read_exports(stack, platform)
            for line in unread:
                print(f"WRONG {line}")
            return done.returncode or bool(unread)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
