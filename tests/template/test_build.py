"""What `sam build` made: bytecode that survives Lambda, a small receiver, and one version of every package."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".local/build"
TAG = sys.implementation.cache_tag
UNCHECKED_HASH = 0b01
MEGABYTE = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """`make test` builds first."""
    if not (BUILD / "template.yaml").exists():
        message = "nothing is built: `make build` first"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def test_all_bytecode_is_unchecked_hash():
    """Every module has bytecode that Lambda's read-only folders and 1980 dates cannot make stale (PEP 552)."""
    modules = [path for path in BUILD.rglob("*.py") if "__pycache__" not in path.parts]
    assert modules
    wrong = [module for module in modules if not _is_unchecked(module)]
    assert [] == [str(path.relative_to(BUILD)) for path in wrong]


def _is_unchecked(module: Path) -> bool:
    bytecode = module.parent / "__pycache__" / f"{module.stem}.{TAG}.pyc"
    return bytecode.exists() and UNCHECKED_HASH == int.from_bytes(bytecode.read_bytes()[4:8], "little")


def test_a_receiver_is_under_25_megabytes():
    """What its cold start may have to read, unzipped: the edge layer, our own code and the handler."""
    parts = ("EdgeLayer", "CoreLayer", "ReceiveWebhookFunction")
    files = [path for part in parts for path in (BUILD / part).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25 * MEGABYTE


@pytest.mark.parametrize(
    "parts",
    [("SendMessageFunction",), ("RecordExportFunction", "ParquetLayer"), ("ChangeStackFunction", "TemplatesLayer")],
)
def test_no_function_exceeds_lambdas_limit(parts):
    """250 MB unzipped with all layers (Lambda quotas)."""
    parts = ("DepsLayer", "CoreLayer", *parts)
    files = [path for part in parts for path in (BUILD / part).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 250 * MEGABYTE


def test_the_layers_agree_on_every_version():
    """A package in both locks is the same package in both."""
    edge, deps = (_versions(ROOT / f"layers/{layer}/requirements.txt") for layer in ("edge", "deps"))
    assert {name: edge[name] for name in edge.keys() & deps.keys()} == {
        name: deps[name] for name in edge.keys() & deps.keys()
    }


def _versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", lock.read_text(), re.MULTILINE))


def test_what_is_left_of_pyarrow_reads_parquet():
    """The layer lacks most of the wheel, and nothing that a Parquet file of any codec and type needs."""
    layers = [BUILD / layer / "python" for layer in ("DepsLayer", "ParquetLayer", "CoreLayer")]
    table = pa.table({"at": pa.array([0], pa.timestamp("ms", "UTC")), "list": [[Decimal("1.50")]]})
    for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4"):
        file = io.BytesIO()
        pq.write_table(table, file, compression=codec)
        done = subprocess.run(
            [ROOT / ".local/venv/cloud/bin/python", "-c", READ_ONE],
            input=file.getvalue(),
            env={"PYTHONPATH": os.pathsep.join(map(str, layers))},
            capture_output=True,
            check=True,
        )
        assert {"at": "1970-01-01T00:00:00.000Z", "list": ["1.50"]} == json.loads(done.stdout)


READ_ONE = """
import json, sys
from espial.exports import open_container
from espial.sources import Layout
class File:
    content = sys.stdin.buffer.read()
    size = len(content)
    def read(self, start, end):
        return self.content[start:end]
row, *_ = open_container(File(), "k", Layout()).rows(0, File.size)
print(json.dumps(row.data))
"""


def test_the_command_line_is_not_shipped():
    """Lambda gets neither typer nor the compilers of templates."""
    assert not (BUILD / "CoreLayer/python/espial/cli").exists()
    for name in ("typer", "rich", "mrml", "css_inline", "boto3"):
        assert not (BUILD / "DepsLayer/python" / name).exists()
