"""The JSON Schemas of the files under definitions/, for editors: `espial schema KIND`, kept in docs/schemas/."""

from __future__ import annotations

from typing import Any

from espial.definitions.load import MODELS
from espial.templates.compile import TemplateDefinition

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MODELS = {folder.removesuffix("s"): model for folder, model in MODELS.items()} | {"template": TemplateDefinition}
KINDS = (*sorted(_MODELS), "stage")


def json_schema(kind: str) -> dict[str, Any]:
    """The schema of one kind in KINDS, with `name` optional, as it may be left to the file's name."""
    schema = _stage() if kind == "stage" else _definition(kind)
    return {"$schema": DRAFT, **schema}


def _definition(kind: str) -> dict[str, Any]:
    schema = _MODELS[kind].model_json_schema()
    schema["title"] = f"Espial {kind}"
    schema["required"] = [name for name in schema.get("required", []) if name != "name"]
    return schema


def _stage() -> dict[str, Any]:
    """Per folder and name, any of the kind's fields and none of them required."""
    shared: dict[str, Any] = {}
    folders = {}
    for folder, model in sorted(MODELS.items()):
        schema = model.model_json_schema()
        shared |= schema.pop("$defs", {})
        fields = {name: field for name, field in schema["properties"].items() if name != "name"}
        patch = {"type": "object", "properties": fields, "additionalProperties": False}
        folders[folder] = {"type": "object", "additionalProperties": patch}
    return {
        "title": "Espial stage",
        "description": "What is different in one stage: mappings merge, everything else replaces.",
        "type": "object",
        "properties": folders,
        "additionalProperties": False,
        "$defs": shared,
    }
