"""`espial local-secrets`: throw-away secrets for the local cloud, so that samples can be signed. Never for AWS."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from espial.cli.output import say
from espial.cli.stack import Failed, Stack, state_file
from espial.definitions import load
from espial.signing import new_secret


def local_secrets(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of definitions.")] = Path(
        "definitions"
    ),
    stage: Annotated[str | None, typer.Option(help="Lay stages/<STAGE>.yaml over the definitions.")] = None,
) -> None:
    """Make throw-away secrets on the local cloud.

    One for every connection, under its first reference, and those of every onboarding, destination, provider and
    webhook; what signs, and what a simulator or a sink has to accept, goes to .local/secrets.json.
    """
    stack: Stack = ctx.obj
    if not stack.is_local:
        raise Failed("local-secrets works on the local cloud only: start it with `make up`")
    kept = signing_secrets()
    definitions = load.load(directory, stage)
    for name, connection in definitions.connections.items():
        for reference in connection.secrets[:1]:
            if not _is_kept(kept, name, reference):
                secret = new_secret(connection.platform, os.urandom(32), connection.settings)
                accepted, signing = secret.accepted.decode(), secret.signing.decode()
                kept[name] = {"reference": reference, "secret": accepted, "signing": signing}
            _set(stack, name, kept[name])
    for name, onboarding in definitions.onboardings.items():
        _make(stack, kept, ONBOARDING + name, onboarding.secret, os.urandom(16).hex())
    for name, destination in definitions.destinations.items():
        for number, reference in enumerate(destination.references):
            signs = destination.http is not None and reference in destination.http.secrets
            value = f"whsec_{b64encode(os.urandom(24)).decode()}" if signs else os.urandom(16).hex()
            _make(stack, kept, f"{DESTINATION}{name}{f'/{number + 1}' if number else ''}", reference, value)
    for name, provider in definitions.providers.items():
        for secret_name, reference in provider.secrets.items():
            _make(stack, kept, f"{PROVIDER}{name}/{secret_name}", reference, os.urandom(16).hex())
    _of_webhooks(stack, kept, definitions)
    _keep(kept)


ONBOARDING, DESTINATION, PROVIDER, WEBHOOK = "onboarding/", "destination/", "provider/", "webhook/"
"""Before the names of onboardings, destinations, providers and webhooks, which may be those of connections as well."""


def other_secret(kind: str, name: str) -> str:
    """What was made for an onboarding, a destination or a provider (`name/secret`). Raises Failed if nothing was."""
    held = signing_secrets().get(kind + name)
    if held is None:
        raise Failed(f"no secret of {kind}{name} was made: `espial local-secrets` makes it")
    return held["secret"]


def _of_webhooks(stack: Stack, kept: dict[str, dict[str, str]], definitions: load.Definitions) -> None:
    """A webhook may show the secret of its provider."""
    for name, webhook in definitions.webhooks.items():
        if webhook.secret:
            reference, is_pair = webhook.secret
            same = next((one["secret"] for one in kept.values() if one["reference"] == reference), "")
            value = same or f"{'espial:' if is_pair else ''}{os.urandom(16).hex()}"
            _make(stack, kept, WEBHOOK + name, reference, value)


def _make(stack: Stack, kept: dict[str, dict[str, str]], key: str, reference: str, secret: str) -> None:
    """Have that secret, or the one that is kept, where the reference says."""
    if not _is_kept(kept, key, reference):
        kept[key] = {"reference": reference, "secret": secret}
    _set(stack, key.split("/")[1], kept[key])


def _is_kept(kept: dict[str, dict[str, str]], name: str, reference: str) -> bool:
    return name in kept and kept[name]["reference"] == reference


def _set(stack: Stack, name: str, held: dict[str, str]) -> None:
    changed = _put(stack, held["reference"], held["secret"])
    say(f"{name}: {held['reference']} is {'set' if changed else 'set already'}")


def kept_file() -> Path:
    """Beside the file that says where the local stack is."""
    return state_file().with_name("secrets.json")


def signing_secrets() -> dict[str, dict[str, str]]:
    """Connection -> its `reference`, the `secret` stored there and the `signing` half; onboardings have no such half.

    Raises Failed if the file is damaged.
    """
    try:
        kept: dict[str, dict[str, str]] = json.loads(kept_file().read_text())
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise Failed(f"{kept_file()} is not JSON: remove it and run `espial local-secrets` again") from exc
    return kept


def _keep(kept: dict[str, dict[str, str]]) -> None:
    """Write the file so that it is never readable by others, not even for an instant, and never half written."""
    path = kept_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(kept, file, indent=2)
    draft.replace(path)


def _put(stack: Stack, reference: str, value: str) -> bool:
    """Make the secret be `value`; False if it is already."""
    store, _, name = reference.partition(":")
    return (_put_secret if store == "secretsmanager" else _put_parameter)(stack, name, value)


def _put_secret(stack: Stack, name: str, value: str) -> bool:
    client: Any = stack.client("secretsmanager")
    try:
        if client.get_secret_value(SecretId=name)["SecretString"] == value:
            return False
        client.put_secret_value(SecretId=name, SecretString=value)
    except ClientError as exc:
        if exc.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        client.create_secret(Name=name, SecretString=value)
    return True


def _put_parameter(stack: Stack, name: str, value: str) -> bool:
    client: Any = stack.client("ssm")
    try:
        if client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == value:
            return False
    except ClientError as exc:
        if exc.response["Error"]["Code"] != "ParameterNotFound":
            raise
    client.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    return True
