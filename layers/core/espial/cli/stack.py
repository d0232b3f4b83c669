"""Which stack a command works on, and clients for it.

The one named by `--stack` or ESPIAL_STACK, by its CloudFormation outputs; else the local stack while `make up` runs,
by `.local/stack.json` (or ESPIAL_STACK_FILE), which has the same keys and `Endpoint` and `Region`; else the one that
samconfig.toml names. So a forgotten option never reaches AWS while a local stack is up.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from espial.cli.output import complain
from espial.errors import EspialError


class Failed(EspialError):
    """A command cannot be done; the message is for the person who gave it."""


def is_loopback(endpoint: str | None) -> bool:
    """Whether an endpoint URL is this machine's own."""
    return bool(endpoint) and urlsplit(endpoint).hostname in {"127.0.0.1", "localhost", "::1"}


def state_file() -> Path:
    """Where `make up` says what it started."""
    return Path(os.environ.get("ESPIAL_STACK_FILE") or ".local/stack.json")


@dataclass
class Stack:
    """One deployed stack, looked up when first asked for. Attributes raise Failed when it has no such output."""

    name: str | None = None

    @property
    def api_url(self) -> str:
        """Where platforms post to, without a slash at the end."""
        return self._output("ApiUrl").rstrip("/")

    @property
    def tracking_url(self) -> str:
        """Where sites and apps post to, without a slash at the end."""
        return self._output("TrackingUrl").rstrip("/")

    @property
    def store_bucket(self) -> str:
        return self._output("StoreBucket")

    @property
    def exports_bucket(self) -> str:
        return self._output("ExportsBucket")

    @property
    def events_table(self) -> str:
        return self._output("EventsTable")

    @property
    def recipients_table(self) -> str:
        return self._output("RecipientsTable")

    @property
    def catalogue_table(self) -> str:
        return self._output("CatalogueTable")

    @property
    def onboarding_queue_url(self) -> str:
        return self._output("OnboardingQueueUrl")

    @property
    def feeds_table(self) -> str:
        return self._output("FeedsTable")

    @property
    def notifications_table(self) -> str:
        return self._output("NotificationsTable")

    @property
    def outgoing_queue_url(self) -> str:
        return self._output("OutgoingQueueUrl")

    @property
    def feeds_bucket(self) -> str:
        return self._output("FeedsBucket")

    @property
    def write_feed_function(self) -> str:
        return self._output("WriteFeedFunction")

    @property
    def deliver_feed_function(self) -> str:
        return self._output("DeliverFeedFunction")

    @property
    def raw_queue_url(self) -> str:
        return self._output("RawQueueUrl")

    @property
    def notice_queue_url(self) -> str:
        return self._output("NoticeQueueUrl")

    @property
    def stream_dead_letter_queue_url(self) -> str:
        return self._output("StreamDeadLetterQueueUrl")

    @property
    def event_bus(self) -> str:
        return self._output("EventBus")

    @property
    def is_local(self) -> bool:
        """Whether everything it reads and writes is on this machine."""
        return is_loopback(self._endpoint)

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return self.session.client(service)

    @cached_property
    def session(self) -> boto3.Session:
        """The person's own AWS session; the local cloud takes any credentials, so it is given none of theirs."""
        if not self.is_local:
            return boto3.Session()
        os.environ["AWS_ENDPOINT_URL"] = str(self._endpoint)
        region = self._local_outputs.get("Region") or os.environ.get("AWS_DEFAULT_REGION") or "eu-west-1"
        return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)  # noqa: S106

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs. Raises Failed with what to do when there is no such stack."""
        if self._local_outputs:
            return self._local_outputs
        name = self._named or _samconfig_name()
        if not name:
            raise Failed("which stack? name it with --stack or ESPIAL_STACK, or start a local one with `make up`")
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=name)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ValidationError":
                raise Failed(f"no stack named {name!r} in this account and region") from exc
            raise
        return {output["OutputKey"]: output["OutputValue"] for output in answer["Stacks"][0].get("Outputs", ())}

    @property
    def _named(self) -> str | None:
        return self.name or (None if os.environ.get("ESPIAL_STACK_FILE") else os.environ.get("ESPIAL_STACK"))

    @property
    def _endpoint(self) -> str | None:
        return self._local_outputs.get("Endpoint") or os.environ.get("AWS_ENDPOINT_URL")

    @cached_property
    def _local_outputs(self) -> Mapping[str, str]:
        """What `make up` started, where that is the stack that is meant; else nothing."""
        if self._named:
            return {}
        path = state_file()
        try:
            outputs: dict[str, str] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as exc:
            raise Failed(f"{path} is not JSON: start the local stack again, `make down up`") from exc
        if not is_loopback(outputs.get("Endpoint")):
            raise Failed(f"{path}: Endpoint must be a loopback address: start the local stack again, `make down up`")
        if not os.environ.get("AWS_ENDPOINT_URL"):
            complain(f"on the local stack at {outputs['Endpoint']} (--stack NAME for one on AWS)")
        return outputs

    def _output(self, key: str) -> str:
        try:
            return self.outputs[key]
        except KeyError:
            raise Failed(f"the stack has no output {key}: deploy this version's template first") from None


def _samconfig_name() -> str | None:
    try:
        config = tomllib.loads(Path("samconfig.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    parameters = config.get("default", {})
    for command in ("deploy", "global"):
        name = parameters.get(command, {}).get("parameters", {}).get("stack_name")
        if name:
            return str(name)
    return None
