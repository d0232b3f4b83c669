"""`make docs`: pages and schemas under docs/, written from the code they describe. A test holds that they are fresh.

python -m local.docs
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from espial import schema, settings
from espial.api import document
from espial.definitions import schemas
from espial.vocabulary import EventType
from local import platform_pages
from local.cloud import ROOT
from local.markdown import code, page, table
from tests.template.stack_template import folder, template

FOLDER = ROOT / "docs"
# functions ----------------------------------------------------------------------------------------------------------

VARIABLES = {
    "CHUNK_QUEUE_URL": "queue of export chunks to be read",
    "EVENTS_STREAM": "the stream of EventsTable, which feeds read at their own pace",
    "EVENTS_TABLE": "the table of events, people, runs and claims",
    "DELIVER_FEED_FUNCTION": "the function that is told to deliver feed files now",
    "EVENT_BUS": "the bus that wanted events are published on",
    "EXPORTS_BUCKET": "where platforms drop their files",
    "FEEDS_BUCKET": "every feed file, and the folders of bucket sinks",
    "FEEDS_TABLE": "what feeds have written and delivered, and the sends that responses look for",
    "OUTGOING_QUEUE_URL": "names of destinations for which something waits to be posted",
    "NOTICE_QUEUE_URL": "queue of notices of export files",
    "NOTIFICATIONS_TABLE": "what waits for each destination, what was tried, who collects",
    "ONBOARDING_QUEUE_URL": "queue of files of recipients",
    "OUTGOING_NETWORK": "`public`: only public addresses are called; `loopback`: only this machine's own",
    "POWERTOOLS_LOG_LEVEL": "least level that is logged",
    "POWERTOOLS_METRICS_NAMESPACE": "CloudWatch namespace of the metrics",
    "POWERTOOLS_SERVICE_NAME": "the function's name in logs, metrics and traces",
    "PUBLIC_URL": "the address that platforms call; some sign it",
    "PAGES_URL": "where serve_pages answers",
    "CATALOGUE_TABLE": "products that mails recommend",
    "PUBLISH_EVERYTHING": "`true`: every event goes on the bus, not only the wanted types",
    "RAW_QUEUE_URL": "queue of accepted deliveries",
    "RECIPIENTS_TABLE": "executions of onboardings, and what each recipient was last told",
    "SCHEDULE_GROUP": "EventBridge Scheduler group of the waits",
    "SCHEDULE_ROLE_ARN": "the role by which schedules reach the queue",
    "SEND_DEAD_LETTER_ARN": "where a schedule's message goes that cannot be delivered",
    "SEND_QUEUE_ARN": "the same queue, as schedules name it",
    "SEND_QUEUE_URL": "queue of messages that are due",
    "SHORT_WAIT_SECONDS": "waits up to this long are queue delays, longer ones schedules",
    "STORE_BUCKET": "definitions, raw archive, quarantine, bodies too big for a queue",
    "WRITE_FEED_FUNCTION": "the function that is told to write a feed now",
}
"""What each variable means; a test holds that the list is complete."""


def environment() -> str:
    """Which variables each function has."""
    stack = template()
    used = sorted({name for function in stack.functions for name in stack.environment(function)})
    required = {field.name.upper() for kind in _settings() for field in dataclasses.fields(kind)}
    parameters = stack.body["Parameters"]
    return page(
        "Environment and parameters",
        ["What `template.yaml` gives each function. A function that misses one it requires fails when it starts,"],
        ["naming every variable that is missing. `AWS_ENDPOINT_URL` alone switches to the local cloud.", ""],
        ["## Stack parameters", ""],
        table(
            ["parameter", "default", "meaning"],
            (
                [f"`{name}`", f"`{said['Default']}`" if said["Default"] != "" else "empty", _meaning(name, said)]
                for name, said in parameters.items()
            ),
        ),
        ["## Variables", ""],
        table(
            ["variable", "required", "meaning"],
            ([f"`{name}`", "yes" if name in required else "", VARIABLES[name]] for name in used),
        ),
        ["## By function", ""],
        table(
            ["function", "its own variables"],
            (
                [f"`{folder(function)}`", code(sorted(set(stack.environment(function)) - _shared()))]
                for function in stack.functions
            ),
        ),
        [f"Every function also has {code(sorted(_shared()))}."],
    )


def _meaning(name: str, said: Mapping[str, Any]) -> str:
    told = {
        "LogLevel": "Least level that the functions log.",
        "LogRetentionDays": "Days that logs are kept.",
        "Architecture": "Processor of the functions; the layers are built for arm64 unless told otherwise.",
    }
    allowed = f" One of {code(map(str, said['AllowedValues']))}." if "AllowedValues" in said else ""
    return f"{said.get('Description', told.get(name, ''))}{allowed}"


def _shared() -> set[str]:
    return {*template().globals["Environment"]["Variables"], "POWERTOOLS_SERVICE_NAME"}


def _settings() -> Iterator[type[settings.Settings]]:
    for kind in vars(settings).values():
        if isinstance(kind, type) and issubclass(kind, settings.Settings):
            yield kind


def permissions() -> str:
    """What each function may do, statement by statement."""
    stack = template()
    return page(
        "Permissions",
        ["What each function's role allows, as `template.yaml` states it."],
        ["Besides these each may write its own log and traces, and read the queue or stream that it works off."],
        ["No statement names all resources.", ""],
        (line for function in stack.functions for line in _permissions(function)),
    )


def _permissions(function: str) -> Iterator[str]:
    yield from (f"## {folder(function)}", "", f"{template().functions[function]['Description']}", "")
    rows = []
    for statement in template().statements(function):
        actions, resources = _list(statement["Action"]), _list(statement["Resource"])
        only = json.dumps(statement["Condition"]) if "Condition" in statement else ""
        rows.append(["<br>".join(f"`{one}`" for one in actions), code(map(_resource, resources)), only and f"`{only}`"])
    yield from table(["may", "on", "only if"], rows)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _resource(value: Any) -> str:
    """`EventsTable`, `StoreBucket/definitions/*`, `secret:espial/*`: what an ARN is about."""
    if "Fn::GetAtt" in value:
        return str(value["Fn::GetAtt"][0])
    text = str(value["Fn::Sub"])
    tail = text.removeprefix("arn:${AWS::Partition}:").replace("${AWS::Region}:${AWS::AccountId}:", "")
    return tail.replace(".Arn}", "}").replace("${", "").replace("}", "")


# events -------------------------------------------------------------------------------------------------------------


def events() -> str:
    """The canonical event, field by field."""
    contract = schema.json_schema()
    parts = {name: part for name, part in contract["$defs"].items() if "properties" in part}
    return page(
        "The canonical event",
        ["One shape for every report of every platform: what the table keeps, the bus carries and"],
        ["`espial events --json` prints. Fields at their default are left out of the JSON. The same as JSON Schema:"],
        ["[event.schema.json](../event.schema.json).", ""],
        _fields(contract),
        *(
            [
                f"## {name.removesuffix('Model').lower()}",
                "",
                part["description"].partition("\n")[0],
                "",
                *_fields(part),
            ]
            for name, part in sorted(parts.items(), key=lambda named: _order(contract, named[0]))
        ),
        ["## type", "", "`type` is one of:", ""],
        [code(kind.value for kind in EventType), ""],
    )


def _order(contract: Mapping[str, Any], name: str) -> int:
    """Where a part is first named: parts of the event itself before parts of parts."""
    return json.dumps(contract["properties"]).find(f'"#/$defs/{name}"') % 100_000


def _fields(part: Mapping[str, Any]) -> Iterator[str]:
    required = part.get("required", ())
    rows = (
        [f"`{name}`", _type(said), "yes" if name in required else "", said.get("description", "")]
        for name, said in part["properties"].items()
    )
    yield from table(["field", "type", "always there", "meaning"], rows)


def _type(said: Mapping[str, Any]) -> str:
    if "anyOf" in said:
        return " or ".join(_type(one) for one in said["anyOf"] if one.get("type") != "null")
    if "$ref" in said:
        name = said["$ref"].rpartition("/")[2].removesuffix("Model").removesuffix("Type").lower()
        return f"[{'type' if name == 'event' else name}](#{'type' if name == 'event' else name})"
    if "enum" in said:
        return code(said["enum"])
    if said.get("type") == "array":
        return f"list of {_type(said['items'])}"
    if said.get("format") == "date-time":
        return "instant"
    return {"string": "text", "integer": "whole number"}.get(said["type"], str(said["type"]))


def openapi() -> str:
    """The owner's API, as `GET /openapi.json` answers it."""
    return json.dumps(document.whole(), indent=2, ensure_ascii=False) + "\n"


def _as_printed(kind: str) -> str:
    """As `espial schema KIND` prints it."""
    return json.dumps(schemas.json_schema(kind), indent=2, ensure_ascii=False) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    **platform_pages.PAGES,
    "reference/environment.md": environment,
    "reference/permissions.md": permissions,
    "reference/events.md": events,
    "reference/openapi.json": openapi,
    **{f"schemas/{kind}.json": partial(_as_printed, kind) for kind in schemas.KINDS},
}
"""File under docs/ -> what writes it."""


def main() -> None:
    """Write every page."""
    for name, written in PAGES.items():
        target = FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(written(), encoding="utf-8")
        print(f"written docs/{name}")


if __name__ == "__main__":
    main()
