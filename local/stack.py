"""The whole stack on the local cloud: `make up`, `make down`, `make logs`, and what the demo and the tests deploy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import cloud as local_cloud
from local.cloud import ROOT, Cloud

BUILD = ROOT / ".local/build/template.yaml"
FOLDER = ROOT / ".local/cloud"
STATE = ROOT / ".local/stack.json"
SAM = ROOT / ".local/venv/sam/bin/sam"
NAME = "espial"
ARTEFACTS = "sam-artefacts"
SENDING_DOMAIN = "shop.example.com"
"""What definitions/providers/ses.yaml sends from."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack: the cloud it is in and the outputs of its template."""

    cloud: Cloud
    outputs: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What the `espial` command needs in its environment to work on this stack."""
        return {**self.cloud.environment, "ESPIAL_STACK": NAME, "ESPIAL_STACK_FILE": str(self.state_file)}

    @property
    def state_file(self) -> Path:
        return Path(self.outputs["StateFile"])

    def espial(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack. Raises RuntimeError with its words when it fails and `check`."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "espial.cli", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if check and done.returncode:
            raise RuntimeError(f"espial {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done


def _reachable(url: str, port: int) -> str:
    """The same API by path instead of host name: not every resolver knows `*.localhost`."""
    api = re.match(r"https?://([a-z0-9]+)\.execute-api\.", url)
    return f"http://127.0.0.1:{port}/_aws/execute-api/{api[1]}/$default" if api else url


def deploy(cloud: Cloud, state_file: Path, *, template: Path = BUILD, **parameters: str) -> Stack:
    """`sam deploy` a built template into `cloud` and write its outputs to `state_file`.

    Raises RuntimeError with SAM's own words when it fails.
    """
    cloud.client("s3").create_bucket(
        Bucket=ARTEFACTS, CreateBucketConfiguration={"LocationConstraint": local_cloud.REGION}
    )
    given = {"OutgoingNetwork": "loopback", **parameters}  # what is called from here is here as well
    overrides = [f"{name}={value}" for name, value in given.items()]
    done = subprocess.run(  # noqa: S603
        [
            *(str(SAM), "deploy", "--template-file", str(template), "--stack-name", NAME, "--s3-bucket", ARTEFACTS),
            *("--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar"),
            *("--parameter-overrides", *overrides),
        ],
        # SAM asks every 5 s how far CloudFormation is, which here takes none.
        env={**os.environ, **cloud.environment, "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.2"},
        capture_output=True,
        text=True,
        check=False,
        cwd=state_file.parent,  # away from samconfig.toml, which is AWS's
    )
    if done.returncode:
        raise RuntimeError(f"sam deploy failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    described = cloud.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    for name in ("ApiUrl", "TrackingUrl", "AdminUrl", "PullUrl", "PagesUrl"):
        outputs[name] = _reachable(outputs[name], cloud.port)
    socket = re.match(r"wss://([a-z0-9]+)\.", outputs["SocketUrl"])
    outputs["SocketUrl"] = f"ws://127.0.0.1:{cloud.port}/_aws/execute-api/{socket[1]}/v1" if socket else ""
    outputs |= {"Endpoint": cloud.url, "StateFile": str(state_file), "Region": local_cloud.REGION}
    state_file.write_text(json.dumps(outputs, indent=2) + "\n")
    return Stack(cloud, outputs)


def prepare(stack: Stack, definitions: Path = ROOT / "definitions", stage: str = "local") -> None:
    """Throw-away secrets for every connection, the senders' domain verified in SES, then the definitions."""
    stack.cloud.client("sesv2").create_email_identity(EmailIdentity=SENDING_DOMAIN)
    stack.espial("local-secrets", str(definitions), "--stage", stage)
    stack.espial("apply", str(definitions), "--stage", stage)


def running() -> dict[str, Any] | None:
    """The outputs of the stack that `make up` started, or None when none runs."""
    if not STATE.exists():
        return None
    outputs: dict[str, Any] = json.loads(STATE.read_text())
    return outputs if Cloud(int(outputs["Endpoint"].rsplit(":", 1)[1])).is_up() else None


def up() -> None:
    """Start the local cloud on port ESPIAL_PORT (4566), deploy, apply, and say how to use it."""
    if outputs := running():
        print(f"already up: {outputs['ApiUrl']} (make down ends it)")
        return
    started = time.monotonic()
    print("starting the local cloud", flush=True)
    cloud, process = local_cloud.start(FOLDER, int(os.environ.get("ESPIAL_PORT", "4566")))
    (FOLDER / "pid").write_text(str(process.pid))
    print("deploying the stack", flush=True)
    try:
        stack = deploy(cloud, STATE)
        print("applying definitions/", flush=True)
        prepare(stack)
    except BaseException:
        down()
        raise
    outputs = stack.outputs
    export = " ".join(f"{name}={value}" for name, value in cloud.environment.items() if name != "AWS_DEFAULT_REGION")
    write_key = json.loads((STATE.parent / "secrets.json").read_text()).get("shop", {})
    print(f"""
up in {time.monotonic() - started:.0f} s. Yours until `make down`:

  webhooks   {outputs["ApiUrl"]}/in/<platform>/<connection>
  tracking   {outputs["TrackingUrl"]}/v1/track
  timelines  {outputs["AdminUrl"]}/timeline/<person>, signed (docs/timeline.md)
  pull       {outputs["PullUrl"]}/pull/<destination> (docs/pull.md)
  exports    s3://{outputs["ExportsBucket"]}/exports/<platform>/<connection>/
  AWS tools  export {export}

A signed sample:        .local/venv/dev/bin/espial send-sample sendgrid
A shopper who agreed:   curl -u '{write_key.get("secret", "<write key>")}:' '{outputs["TrackingUrl"]}/v1/identify' \\
                          -H 'content-type: application/json' -d '{{"userId": "cust-1", "traits":
                            {{"firstName": "Ada", "email": "ada.l@example.com", "consent": {{"email": true}}}}}}'
who leaves a cart:      curl -u '{write_key.get("secret", "<write key>")}:' '{outputs["TrackingUrl"]}/v1/track' \\
                          -H 'content-type: application/json' -d '{{"userId": "cust-1", "event": "Cart Updated",
                            "properties": {{"cart_id": "c-1", "currency": "EUR", "products": [
                              {{"product_id": "p-1", "name": "Mug", "price": 12.5, "quantity": 2}}]}}}}'
What became of it:      .local/venv/dev/bin/espial events --person id:cust-1
And why, in 5 s:        .local/venv/dev/bin/espial explain id:cust-1 cart-abandoned
Mails it sent:          curl -s {cloud.url}/_ministack/ses/messages
""")


def down() -> None:
    """End the local cloud that `up` started, and what it unpacked; nothing happens when there is none."""
    pid = FOLDER / "pid"
    if pid.exists():
        local_cloud.stop(int(pid.read_text()))
        pid.unlink()
        shutil.rmtree(FOLDER / local_cloud.UNPACKED, ignore_errors=True)
    STATE.unlink(missing_ok=True)


def logs() -> None:
    """Print what every function logged, oldest first."""
    outputs = running()
    if outputs is None:
        sys.exit("nothing is up: make up")
    client = Cloud(int(outputs["Endpoint"].rsplit(":", 1)[1])).client("logs")
    lines: list[tuple[int, str, str]] = []
    for group in client.describe_log_groups()["logGroups"]:
        name = re.sub(r".*/|LogGroup$", "", group["logGroupName"])
        for event in client.filter_log_events(logGroupName=group["logGroupName"])["events"]:
            message = event["message"].strip()
            if not message.startswith(("START ", "END ", "REPORT ")):
                lines.append((event["timestamp"], name, message))
    for timestamp, name, message in sorted(lines):
        print(f"{time.strftime('%H:%M:%S', time.localtime(timestamp / 1000))} {name:16} {message}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up"]:
            up()
        case ["down"]:
            down()
        case ["logs"]:
            logs()
        case _:
            sys.exit("usage: python -m local.stack up|down|logs")
