"""`make invoke`: one function in Lambda's runtime image, by `sam local invoke`, against the local cloud.

The function gets the environment its deployed twin has, so it finds the same queues, buckets and table. A stack that
`make up` started is used; without one, a stack is started and ended again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from local import cloud as local_cloud
from local import stack as local_stack
from local.cloud import ROOT, Cloud
from local.invoke_events import CONNECTIONS, export_key, onboarding_key
from local.stack import Stack
from tests.samples import Case, case

BUILD = ROOT / ".local/build-runtime/template.yaml"
ARCHITECTURE = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


@contextlib.contextmanager
def a_stack() -> Iterator[Stack]:
    """The stack of `make up`, or one of our own for as long as this takes."""
    if outputs := local_stack.running():
        yield Stack(Cloud(int(outputs["Endpoint"].rsplit(":", 1)[1])), outputs)
        return
    with tempfile.TemporaryDirectory(prefix="espial-") as folder, local_cloud.running(Path(folder)) as cloud:
        stack = local_stack.deploy(cloud, Path(folder) / "stack.json")
        local_stack.prepare(stack)
        yield stack


@contextlib.contextmanager
def reachable_from_containers(cloud: Cloud) -> Iterator[str]:
    """The cloud's address as a container sees it: it listens on loopback only, so the bridge gets a forwarder."""
    if sys.platform != "linux":
        yield f"http://host.docker.internal:{cloud.port}"
        return
    inspected = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if inspected.returncode:
        raise SystemExit(f"make invoke needs a running Docker engine: {inspected.stderr.strip()}")
    gateway = str(next(ip_network(inspected.stdout.strip()).hosts()))  # this machine's end of the bridge
    loop = asyncio.new_event_loop()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", cloud.port)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(forward, gateway, 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{gateway}:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def filled_in(stack: Stack, event: str) -> str:
    """The event with what only a running stack knows: fresh signatures, its bucket with the file in it, the time."""
    data: dict[str, Any] = json.loads(event)
    if sample := data.get("stageVariables", {}).get("sample"):
        data["headers"] |= _proof(stack, case(*sample.split("/")))
    bucket, s3 = stack.outputs["ExportsBucket"], stack.cloud.client("s3")
    text = json.dumps(data).replace("@ExportsBucket", bucket)
    files = {path: export_key(path) for path in (ROOT / "events/exports").rglob("*.*")}
    files |= {path: onboarding_key(path) for path in (ROOT / "events/onboarding").glob("*.*")}
    for path, key in files.items():
        if path.is_file() and (key in text or quote_plus(key, safe="/") in text):
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
            at = s3.head_object(Bucket=bucket, Key=key)["LastModified"]
            text = text.replace("@ModifiedAt", at.isoformat().replace("+00:00", "Z"))
    return text


def _proof(stack: Stack, sample: Case) -> dict[str, str]:
    """Headers that the stack's own secret signs now; what the sample itself says, such as a wrong signature, wins."""
    kept = json.loads(Path(stack.outputs["StateFile"]).with_name("secrets.json").read_text())
    signer = kept[CONNECTIONS[sample.platform]]["signing"].encode()
    return dict(sample.request(CONNECTIONS[sample.platform], "", signer, datetime.now(UTC)).headers)


def logical_id(function: str) -> str:
    """receive_webhook -> ReceiveWebhookFunction."""
    return "".join(part.title() for part in function.split("_")) + "Function"


def deployed_environment(cloud: Cloud, function: str) -> dict[str, str]:
    """The variables of the deployed function."""
    resource = cloud.client("cloudformation").describe_stack_resource(
        StackName=local_stack.NAME, LogicalResourceId=logical_id(function)
    )
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=name)
    return dict(configuration["Environment"]["Variables"])


def invoke(stack: Stack, function: str, event: Path, flags: list[str]) -> str:
    """Run one function on one event in the runtime image and return what it answered.

    Raises RuntimeError with SAM's words when it does not run, or answers with an error.
    """
    cloud = stack.cloud
    with tempfile.TemporaryDirectory(prefix="espial-") as folder, reachable_from_containers(cloud) as endpoint:
        variables = {**deployed_environment(cloud, function), "AWS_ENDPOINT_URL": endpoint}
        # SAM passes only variables that the template declares; the endpoint is the local cloud's own.
        template = BUILD.with_name("template-local.yaml")
        marker = "POWERTOOLS_METRICS_NAMESPACE: Espial\n"
        template.write_text(BUILD.read_text().replace(marker, f'{marker}        AWS_ENDPOINT_URL: ""\n', 1))
        filled = Path(folder) / "event.json"
        filled.write_text(filled_in(stack, event.read_text()))
        environment = Path(folder) / "env.json"
        environment.write_text(json.dumps({logical_id(function): variables}))
        done = subprocess.run(  # noqa: S603
            [
                *(str(local_stack.SAM), "local", "invoke", logical_id(function), "--template-file", str(template)),
                *("--event", str(filled), "--env-vars", str(environment)),
                *("--parameter-overrides", f"Architecture={ARCHITECTURE}", *flags),
            ],
            env={**os.environ, **cloud.environment, "SAM_CLI_TELEMETRY": "0"},
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        answer = done.stdout.strip()
        failed = done.returncode or (answer.startswith("{") and "errorMessage" in json.loads(answer.splitlines()[-1]))
        if failed:
            raise RuntimeError(f"{function} on {event.name}:\n{answer}\n{done.stderr[-3000:]}")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function", help="a folder's name under functions/, or `all` for one event of each")
    parser.add_argument("event", nargs="?", help="a file under events/invoke/<function>/")
    arguments, flags = parser.parse_known_args()
    samples = ROOT / "events/invoke"
    if arguments.function == "all":
        work = [(path.parent.name, path) for path in sorted(samples.glob("*/*.json"))]
    else:
        events = [Path(arguments.event)] if arguments.event else sorted((samples / arguments.function).glob("*.json"))
        work = [(arguments.function, path) for path in events]
    if not work:
        sys.exit(f"no event for {arguments.function} under events/invoke/")
    with a_stack() as stack:
        for function, event in work:
            print(f"{function} < {event.name}: {invoke(stack, function, event, flags)}", flush=True)


if __name__ == "__main__":
    main()
