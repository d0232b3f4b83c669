"""A built function driven by a test: see `tests.local.handler`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from local import cloud as local_cloud
from local import stack as local_stack
from tests.local.world import World


class ByHand:
    """The built code of a function, with its layers and its environment, given events one by one."""

    def __init__(self, world: World, function: str, endpoint: str | None = None) -> None:
        """Its AWS calls go to `endpoint` (default: the local cloud)."""
        build = local_stack.BUILD.parent
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))},
            **world.environment_of(f"{function}Function"),
            **world.stack.cloud.environment,
            "AWS_ENDPOINT_URL": endpoint or world.stack.cloud.url,
            "POWERTOOLS_TRACE_DISABLED": "true",
        }
        environment.pop("AWS_ENDPOINT_URL_DYNAMODB", None)
        folders = [build / f"{function}Function", build / "CoreLayer", build / "DepsLayer"]
        self._process = subprocess.Popen(
            [str(local_cloud.PYTHON), str(Path(__file__).with_name("handler.py")), *map(str, folders)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
        )

    def run(self, event: dict[str, Any], ahead: float = 0) -> Any:
        """What the handler answers, its clock `ahead` seconds; None if it was killed. Raises OSError when it fails."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"event": event, "ahead": ahead}) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise OSError("the handler failed: its log is above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)
