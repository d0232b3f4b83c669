"""Benchmark: the cold import of each receiver, against an SDK's and against the bare parts it is made of.

    python -m tests.perf.bench_import [--artefact .local/build] [--rounds 9]

The artefact is `.local/build` where that exists. Without one the source tree and the installed wheels are copied and
compiled as the layers are (unchecked-hash bytecode), and the size is not judged. Every case is a fresh interpreter
that sees nothing else; cases are interleaved, figures are CPU medians of the whole process. Exit status 1 if a target
is missed.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import importlib.util
import os
import platform
import py_compile
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".local/build"
SDK_TARGET = 1.25
SIZE_TARGET = 25_000_000
EDGE = ("aws-lambda-powertools", "cryptography", "isal", "orjson")
PEER = ("botocore", "cryptography")

PARTS = "import json, hashlib, hmac, base64, http.client, ssl"
VERIFIER = (
    "from cryptography.hazmat.primitives.asymmetric import ec\n"
    "from cryptography.hazmat.primitives import hashes, serialization"
)
SDK = (
    "import json, hashlib, hmac, base64, botocore.session\n"
    "botocore.session.get_session().create_client('sqs', region_name='eu-west-1')"
)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "eu-west-1",
    "RAW_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/0/raw",
    "STORE_BUCKET": "store",
    "PUBLIC_URL": "https://hooks.example.com",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def install(names: Iterable[str], target: Path) -> None:
    """Copy installed distributions and what they require."""
    waiting, done = list(names), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other platforms only
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                place = target / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(distribution.locate_file(file)), place)
        waiting += [
            re.match(r"[\w.-]+", wanted)[0]  # type: ignore[index]
            for wanted in distribution.requires or ()
            if "extra ==" not in wanted
        ]


def compiled(folder: Path) -> Path:
    """As the layers' Makefile does it."""
    compileall.compile_dir(folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return folder


def built(artefact: Path | None, work: Path) -> Mapping[str, tuple[Path, ...]]:
    """Function -> its import path: the built one, or one made here."""
    if artefact:
        layers = (artefact / "EdgeLayer/python", artefact / "CoreLayer/python")
        return {
            "receive_webhook": (artefact / "ReceiveWebhookFunction", *layers),
            "receive_tracking": (artefact / "ReceiveTrackingFunction", *layers),
        }
    install(EDGE, work / "edge")
    shutil.copytree(ROOT / "layers/core/espial", work / "core/espial", ignore=shutil.ignore_patterns("__pycache__"))
    layers = (compiled(work / "edge"), compiled(work / "core"))
    found = {}
    for name in ("receive_webhook", "receive_tracking"):
        shutil.copytree(ROOT / "functions" / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
        found[name] = (compiled(work / name), *layers)
    return found


def spent(code: str, path: Iterable[Path]) -> float:
    """CPU milliseconds of a fresh interpreter that runs `code`, its own start included."""
    interpreter = getattr(sys, "_base_executable", sys.executable)
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    child = os.posix_spawn(interpreter, [interpreter, "-S", "-c", code], environment)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"this does not run:\n{code}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def bytecode(path: Iterable[Path]) -> tuple[int, int]:
    """Sources, and how many of them have unchecked-hash bytecode beside them."""
    sources = [source for folder in path for source in folder.rglob("*.py")]
    good = 0
    for source in sources:
        cached = Path(importlib.util.cache_from_source(str(source)))
        good += cached.exists() and cached.read_bytes()[4:8] == b"\x01\0\0\0"
    return len(sources), good


def size(path: Iterable[Path]) -> int:
    """Bytes unzipped."""
    return sum(file.stat().st_size for folder in path for file in folder.rglob("*") if file.is_file())


def main() -> int:
    """Measure, print, judge."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--artefact", type=Path, default=BUILD if BUILD.is_dir() else None)
    arguments.add_argument("--rounds", type=int, default=9)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        paths = built(chosen.artefact, work)
        install(PEER, work / "peer")
        peer = (compiled(work / "peer"),)
        # Lambda's runtime has an SDK after the layers; Powertools notices it.
        seen = {name: (*path, *peer) for name, path in paths.items()}
        cases: dict[str, tuple[str, Iterable[Path]]] = {
            "bare interpreter": ("pass", ()),
            "its bare parts": (f"{PARTS}\n{VERIFIER}", peer),
            "botocore SQS client": (f"{SDK}\n{VERIFIER}", peer),
            # The verifier is imported by the first request of a platform that needs it.
            "receive_webhook": (f"import app\nimport espial.sources.sendgrid\n{VERIFIER}", seen["receive_webhook"]),
            "receive_tracking": ("import app", seen["receive_tracking"]),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(chosen.rounds + 1):
            for name, case in cases.items():
                times[name].append(spent(*case))
        medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
        print(f"Python {platform.python_version()}, {platform.machine()}, CPU ms of the whole process, medians\n")
        parts, sdk = medians["its bare parts"], medians["botocore SQS client"]
        for name, median in medians.items():
            print(f"{name:22}{median:8.1f}   {median / parts:5.2f} x parts   {median / sdk:5.2f} x SDK")
        missed = [name for name in paths if medians[name] > SDK_TARGET * sdk]
        for name, path in paths.items():
            sources, good = bytecode(path)
            weight = size(path)
            print(f"\n{name}: {good} of {sources} sources with unchecked-hash bytecode, {weight / 1e6:.1f} MB unzipped")
            # Only the layer's Makefile prunes, so without an artefact the size says nothing.
            missed += [name] if good < sources or (chosen.artefact and weight > SIZE_TARGET) else []
    print(f"\ntargets: {SDK_TARGET} x SDK, all bytecode, {SIZE_TARGET // 1_000_000} MB:", "missed" if missed else "met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
