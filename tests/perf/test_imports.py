"""What the acknowledging functions may not load: guarded by module lists, which are stable where clocks are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECEIVERS = ("receive_webhook", "receive_tracking")
FORBIDDEN = (
    "pydantic",
    "msgspec",
    "boto3",
    "aws_xray_sdk",
    "liquid",
    "fastavro",
    "cramjam",
    "cel",
    "yaml",
    "asyncio",
    "cryptography",
    "espial.events",
    "espial.normalise",
    "espial.ports",
    "espial.triggers",
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.batch",
    "aws_lambda_powertools.utilities.idempotency",
    "aws_lambda_powertools.utilities.parameters",
    "aws_lambda_powertools.utilities.parser",
    # Powertools itself touches the bare package `botocore` where it is installed; what costs lies in these.
    *(f"botocore.{name}" for name in ("session", "client", "auth", "awsrequest", "loaders", "httpsession", "endpoint")),
)
REPORT = "import json, sys, app; print(json.dumps(sorted(sys.modules)))"


def modules_after_import(function):
    """Everything a fresh interpreter has loaded once the function could take its first request."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (f"functions/{function}", "layers/core")),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
        "RAW_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/0/raw",
        "STORE_BUCKET": "store",
        "PUBLIC_URL": "https://hooks.example.com",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    done = subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("function", RECEIVERS)
def test_a_receiver_loads_only_what_it_needs(function):
    """No SDK, no models, no tracer, no other function's libraries: a cold start pays for each."""
    loaded = modules_after_import(function)
    assert [] == sorted(m for m in loaded for banned in FORBIDDEN if m == banned or m.startswith(banned + "."))


@pytest.mark.parametrize("function", RECEIVERS)
def test_a_receiver_loads_its_clients_before_the_first_request(function):
    """The init phase has a whole processor: what every request needs is there when it ends."""
    needed = {"espial.stores.aws_http", "espial.stores.delivery_queue", "espial.stores.connections", "isal.isal_zlib"}
    assert set() == needed - modules_after_import(function)
