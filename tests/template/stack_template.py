"""template.yaml as data: intrinsic functions become plain dicts, `!Ref X` -> {"Ref": "X"}."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


class Template:
    """The stack, with the questions the tests ask of it."""

    def __init__(self, path: Path = ROOT / "template.yaml") -> None:
        self.body: dict[str, Any] = yaml.load(path.read_text(), _Loader)
        self.resources: dict[str, dict[str, Any]] = self.body["Resources"]
        self.globals: dict[str, Any] = self.body["Globals"]["Function"]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id -> properties of every resource of a type."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """Logical id -> properties, the globals filled in."""
        return {name: {**self.globals, **own} for name, own in self.of_type("AWS::Serverless::Function").items()}

    def environment(self, function: str) -> dict[str, Any]:
        """A function's variables, the global ones included."""
        own = self.functions[function].get("Environment", {}).get("Variables", {})
        return {**self.globals["Environment"]["Variables"], **own}

    def statements(self, function: str) -> list[dict[str, Any]]:
        """Every IAM statement of a function."""
        return [statement for policy in self.functions[function]["Policies"] for statement in policy["Statement"]]

    def queue_consumers(self) -> list[tuple[str, dict[str, Any], str, dict[str, Any]]]:
        """(queue id, queue, function id, mapping) for every queue a function reads."""
        found = []
        queues = self.of_type("AWS::SQS::Queue")
        for name, function in self.functions.items():
            for event in function.get("Events", {}).values():
                if event["Type"] == "SQS":
                    queue = event["Properties"]["Queue"]["Fn::GetAtt"][0]
                    found.append((queue, queues[queue], name, event["Properties"]))
        return found


@cache
def template() -> Template:
    """The parsed template, once."""
    return Template()


def folder(function: str) -> str:
    """ReceiveWebhookFunction -> receive_webhook."""
    stem = function.removesuffix("Function")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in stem).lstrip("_")
