"""Benchmark: the warm webhook handler on a SendGrid batch of 1,000 events, against the sum of what it has to do.

    python -m tests.perf.bench_receiver

The floor: hash the body, verify with a parsed key, compress, and one queue call, without the rest of a handler. Both
call the same canned queue in another process; a botocore queue call of the same message is printed beside them.
Interleaved rounds of this process's CPU time, medians; exit status 1 if the target is missed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from isal import isal_zlib

from espial.deliveries import Connection
from tests.fakes import FakeConnections
from tests.http_events import http_event
from tests.perf.bench_normalise import batch

ROOT = Path(__file__).parents[2]
TARGET = 1.3
ROUNDS = 41


class Context:
    """What Powertools reads of Lambda's context."""

    function_name = "receive_webhook"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:receive_webhook"
    aws_request_id = "00000000-0000-4000-8000-000000000000"


def handler(public_key: bytes) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """The real function with its real queue; connections and secrets are warm, as between two revalidations."""
    spec = importlib.util.spec_from_file_location("app", ROOT / "functions/receive_webhook/app.py")
    if spec is None or spec.loader is None:
        raise SystemExit("functions/receive_webhook/app.py is missing")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    main = Connection(name="main", platform="sendgrid", secrets=("secretsmanager:espial/main",))
    app.connections = FakeConnections(main, secrets={"main": [public_key]})  # type: ignore[attr-defined]
    found: Callable[[dict[str, Any], Any], dict[str, Any]] = app.handler
    return found


def spent(task: Callable[[], object]) -> float:
    """CPU microseconds."""
    start = time.process_time_ns()
    task()
    return (time.process_time_ns() - start) / 1000


def run(url: str) -> int:
    """Measure, print, judge."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": url,
        "RAW_QUEUE_URL": f"{url}/0/raw",
        "STORE_BUCKET": "store",
        "PUBLIC_URL": "https://hooks.example.com",
    }
    from espial import wiring
    from espial.logs import logger

    body = batch(1000)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    stamp = str(int(datetime.now(UTC).timestamp()))
    signature = key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    headers = {
        "x-twilio-email-event-webhook-signature": b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": stamp,
        "content-type": "application/json",
    }
    event = http_event("/in/sendgrid/main", body.decode(), headers)
    handle = handler(b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))
    sqs = wiring.aws("sqs")
    sdk = boto3.client("sqs", region_name="eu-west-1")
    queue = f"{url}/0/raw"
    packed = b64encode(isal_zlib.compress(body, 1)).decode()

    def floor() -> None:
        hashed = sha256(stamp.encode())
        hashed.update(body)
        public.verify(signature, hashed.digest(), ec.ECDSA(Prehashed(SHA256())))
        text = b64encode(isal_zlib.compress(body, 1)).decode()
        sqs.json("AmazonSQS.SendMessage", {"QueueUrl": queue, "MessageBody": text})

    def receive() -> None:
        answer = handle(event, Context())
        if answer["statusCode"] != 200:
            raise SystemExit(f"the handler answered {answer}")

    tasks: dict[str, Callable[[], object]] = {
        "hash, verify, compress, send": floor,
        "receive_webhook": receive,
        "own queue call": lambda: sqs.json("AmazonSQS.SendMessage", {"QueueUrl": queue, "MessageBody": packed}),
        "botocore queue call": lambda: sdk.send_message(QueueUrl=queue, MessageBody=packed),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    gc.disable()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for output in logger.handlers:
            if isinstance(output, logging.StreamHandler):
                output.setStream(nowhere)
        for _ in range(ROUNDS + 5):
            for name, task in tasks.items():
                times[name].append(spent(task))
    medians = {name: statistics.median(taken[5:]) for name, taken in times.items()}
    lowest = medians["hash, verify, compress, send"]
    print(f"1,000 events, {len(body):,} bytes; CPU us, medians of {ROUNDS} interleaved rounds\n")
    for name, median in medians.items():
        print(f"{name:30}{median:8.0f}   {median / lowest:5.2f} x")
    ratio = medians["receive_webhook"] / lowest
    print(f"\ntarget: {TARGET} x the floor:", "met" if ratio <= TARGET else "missed")
    return 0 if ratio <= TARGET else 1


def main() -> int:
    """Run against a canned queue of our own."""
    server = subprocess.Popen([sys.executable, "-m", "tests.loopback"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout is None:
            raise SystemExit("the canned queue has no output")
        return run(server.stdout.readline().strip())
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
