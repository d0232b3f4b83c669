"""Benchmark: one event from POST to the mail's hand-over, against the same template with handlers that only pass it on.

    python -m tests.perf.bench_e2e

Two local clouds in one run, each with the built template deployed: HTTP API -> receiver -> RawQueue -> record ->
EventsTable -> stream -> publish -> EventBus -> rule -> TriggerQueue -> run_triggers -> SendQueue -> send_message ->
SES, which here is a server of this process that notes when a mail comes. One event at a time, ours and the other in
turn, a pause before each, both warm; medians. The other handlers log a line each, for the local cloud waits 50 ms for
whoever logs none.
Exit status 1 if the target is missed.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT
from local.stack import BUILD, Stack

NOOP = Path(__file__).with_name("noop")
AT_ONCE = {"wait": "0s", "limits": [], "conditions": [], "consent": {"opt_in": False}}
STAGE = {"triggers": {"cart-abandoned": AT_ONCE}}
WARM_UPS = 12
ROUNDS = int(os.environ.get("ESPIAL_BENCH_ROUNDS", "60"))
TARGET = 1.5
PAUSE = 0.25
"""Seconds before each event, so that what is written after the last one's mail is not in its way."""
PATIENCE = 30.0


class Mailbox(ThreadingHTTPServer):
    """SES as far as SendEmail goes; `arrived` is address -> when its mail came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SendEmail)
        self.arrived: dict[str, float] = {}
        self.news = threading.Condition()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait_for(self, address: str) -> float:
        """When the address's mail came. Raises TimeoutError if none comes."""
        with self.news:
            if not self.news.wait_for(lambda: address in self.arrived, PATIENCE):
                raise TimeoutError(f"no mail to {address}")
            return self.arrived[address]


class _SendEmail(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Mailbox

    def do_POST(self) -> None:
        now = time.perf_counter()
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.news:
            self.server.arrived[asked["Destination"]["ToAddresses"][0]] = now
            self.server.news.notify_all()
        answer = b'{"MessageId": "bench"}'
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """The figures are what is to be read."""


@dataclass
class Pipeline:
    """One deployed stack: `name` is part of every address it mails to."""

    name: str
    stack: Stack
    key: str
    http: httpx.Client
    mailbox: Mailbox
    sent: int = 0

    def run(self) -> tuple[float, float]:
        """Milliseconds from the POST of one cart to its mail, and to its answer."""
        self.sent += 1
        address = f"{self.name}-{self.sent}@example.com"
        now = datetime.now(UTC).isoformat()
        cart = {
            "messageId": f"{self.name}-{self.sent}",
            "userId": f"{self.name}-{self.sent}",
            "timestamp": now,
            "event": "Cart Updated",
            "context": {"traits": {"email": address}},
            "properties": {
                "cart_id": f"c-{self.sent}",
                "currency": "EUR",
                "cart_url": "https://shop.example.com/cart",
                "products": [{"product_id": "p-1", "name": "Stoneware mug", "price": 14.5, "quantity": 2}],
            },
        }
        headers = {"authorization": f"Basic {b64encode(f'{self.key}:'.encode()).decode()}"}
        started = time.perf_counter()
        answer = self.http.post(f"{self.stack.outputs['TrackingUrl']}/v1/track", json=cart, headers=headers)
        answer.raise_for_status()
        answered = time.perf_counter()
        return (self.mailbox.wait_for(address) - started) * 1000, (answered - started) * 1000


def noop_build(folder: Path) -> Path:
    """The built template with other handlers and the same layers."""
    build = Path(shutil.copytree(BUILD.parent, folder / "build"))
    for handler in NOOP.glob("*.py"):
        function = build / handler.stem
        shutil.rmtree(function)
        function.mkdir()
        shutil.copy(handler, function / "app.py")
        subprocess.run(
            [str(local_cloud.PYTHON), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(function)],
            check=True,
        )
    return build / "template.yaml"


def deploy(name: str, folder: Path, mailbox: Mailbox, ended: ExitStack) -> Pipeline:
    """A cloud with one of the two pipelines."""
    folder.mkdir()
    cloud = ended.enter_context(local_cloud.running(folder))
    template = noop_build(folder) if name == "noop" else BUILD
    stack = local_stack.deploy(cloud, folder / "stack.json", template=template)
    definitions = Path(shutil.copytree(ROOT / "definitions", folder / "definitions"))
    (definitions / "stages/bench.yaml").write_text(json.dumps(STAGE))
    local_stack.prepare(stack, definitions, "bench")
    key = json.loads((folder / "secrets.json").read_text())["shop"]["signing"]
    sender = next(
        function["FunctionName"]
        for function in cloud.client("lambda").list_functions()["Functions"]
        if "SendMessage" in function["FunctionName"]
    )
    variables = cloud.client("lambda").get_function_configuration(FunctionName=sender)["Environment"]["Variables"]
    variables["AWS_ENDPOINT_URL_SESV2"] = mailbox.url
    cloud.client("lambda").update_function_configuration(FunctionName=sender, Environment={"Variables": variables})
    return Pipeline(name, stack, key, ended.enter_context(httpx.Client(timeout=30)), mailbox)


def round_trip(pipeline: Pipeline) -> float:
    """Milliseconds of one bare SDK call."""
    started = time.perf_counter()
    pipeline.stack.cloud.client("sqs").list_queues()
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Print the medians and the ratio."""
    with ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="espial-bench-")))
        mailbox = Mailbox()
        ended.callback(mailbox.shutdown)
        with ThreadPoolExecutor(2) as pool:
            ours, noop = pool.map(lambda name: deploy(name, folder / name, mailbox, ended), ("ours", "noop"))
        for _ in range(WARM_UPS):
            ours.run()
            noop.run()
        mails: dict[str, list[float]] = {"ours": [], "noop": []}
        answers: dict[str, list[float]] = {"ours": [], "noop": []}
        calls = []
        for turn in range(ROUNDS):
            for pipeline in (ours, noop) if turn % 2 else (noop, ours):
                time.sleep(PAUSE)
                mail, answer = pipeline.run()
                mails[pipeline.name].append(mail)
                answers[pipeline.name].append(answer)
            calls.append(round_trip(ours))
    rows = {
        "POST to mail, Espial": mails["ours"],
        "POST to mail, handlers that pass it on": mails["noop"],
        "POST to answer, Espial": answers["ours"],
        "POST to answer, handlers that pass it on": answers["noop"],
        "one SDK call": calls,
    }
    print(f"{'ms':42} median     p95")
    for what, times in rows.items():
        print(f"{what:42} {statistics.median(times):6.1f} {statistics.quantiles(times, n=20)[-1]:7.1f}")
    ratio = statistics.median(mails["ours"]) / statistics.median(mails["noop"])
    print(f"ratio of medians {ratio:.2f} (target at most {TARGET}), {ROUNDS} events each, in turn")
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
