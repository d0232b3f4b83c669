"""YAML text to plain data that remembers where each field stands.

Stricter than YAML, so that a file means what it looks like: only `true`, `false`, `null` and numbers are anything
but text (`on`, `no` and `21:00` are text), a repeated key is an error, tags are refused, and aliases may not
swell a small file into a large one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from espial.errors import InvalidDefinition

Path = tuple[str | int, ...]
"""Keys and list positions from the top of a document to a field."""

MAX_BYTES = 262_144
MAX_NODES = 20_000
MAX_DEPTH = 40


class Mark(NamedTuple):
    """Where something stands: the file as the user named it, and the line from 1."""

    file: str
    line: int


@dataclass
class Document:
    """A file's contents and the mark of every field in it."""

    data: dict[str, Any]
    marks: dict[Path, Mark] = field(default_factory=dict)

    def mark(self, path: Path) -> Mark:
        """The mark of `path`, or of the nearest field around it when it is missing from the file."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks[path]

    def problem(self, path: Path, what: str) -> str:
        """`file:line: field: what`, the form every problem is reported in."""
        mark = self.mark(path)
        return f"{mark.file}:{mark.line}: {dotted(path)}: {what}" if path else f"{mark.file}:{mark.line}: {what}"


def dotted(path: Path) -> str:
    """`("items", 0, "url")` as `items[0].url`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in path).removeprefix(".")


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


class _Words(yaml.resolver.Resolver):
    """JSON's types only; everything else that is plain is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute

    def implied(self, node: yaml.ScalarNode) -> str:
        """The tag a scalar has when none is written before it."""
        tag: str = self.resolve(yaml.ScalarNode, node.value, (node.style is None, node.style is not None))  # type: ignore[no-untyped-call]
        return tag


_TAG = "tag:yaml.org,2002:"
_Words.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Words.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Words.add_implicit_resolver(_TAG + "int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))
_Words.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)$"),
    list("-0123456789"),
)
_words = _Words()


class _Loader(_Words, yaml.SafeLoader):
    """Composes nodes with their marks; nothing is ever constructed from a tag."""


def read(text: bytes, file: str) -> Document:
    """Read one YAML document whose top is a mapping. Raises InvalidDefinition, whatever the bytes are."""
    if len(text) > MAX_BYTES:
        raise InvalidDefinition([f"{file}:1: the file is larger than {MAX_BYTES // 1024} KB"])
    try:
        decoded = text.decode("utf-8-sig")
        node = yaml.compose(decoded, Loader=_Loader)
    except UnicodeDecodeError as exc:
        line = text.count(b"\n", 0, exc.start) + 1
        raise InvalidDefinition([f"{file}:{line}: the file is not UTF-8 text"]) from exc
    except yaml.MarkedYAMLError as exc:
        raise InvalidDefinition([_syntax(exc, file)]) from exc
    except yaml.reader.ReaderError as exc:
        line = decoded.count("\n", 0, exc.position) + 1
        what = f"the character #x{exc.character:04x} may not stand in a file"
        raise InvalidDefinition([f"{file}:{line}: {what}"]) from exc
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        raise InvalidDefinition([f"{file}:1: not YAML: an escape that names no character"]) from exc
    except RecursionError as exc:
        raise InvalidDefinition([f"{file}:1: nested too deeply, at most {MAX_DEPTH} levels"]) from exc
    if node is None:
        raise InvalidDefinition([f"{file}:1: the file is empty"])
    if not isinstance(node, yaml.MappingNode):
        raise InvalidDefinition([f"{file}:1: the file must be a mapping of `field: value` lines"])
    return _Builder(file).document(node)


def _syntax(exc: yaml.MarkedYAMLError, file: str) -> str:
    mark = exc.problem_mark or exc.context_mark
    what = exc.problem or exc.context or "not YAML"
    if "'\\t'" in what:
        what = "a tab where only spaces may indent"
    elif "expected a single document" in (exc.context or ""):
        what = "one definition a file: a second `---` document is not read"
    elif what.startswith("found undefined alias"):
        what = "an alias (`*name`) without its anchor (`&name`)"
    return f"{file}:{mark.line + 1 if mark else 1}: not YAML: {what}"


class _Builder:
    """Turns composed nodes into data, noting marks and collecting problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[Path, Mark] = {}
        self.problems: list[str] = []
        self.nodes = 0

    def document(self, node: yaml.MappingNode) -> Document:
        self.marks[()] = Mark(self.file, node.start_mark.line + 1)
        data = self._value(node, ())
        if self.problems:
            raise InvalidDefinition(self.problems)
        return Document(data, self.marks)

    def _problem(self, node: yaml.Node, path: Path, what: str) -> None:
        field = f"{dotted(path)}: " if path else ""
        self.problems.append(f"{self.file}:{node.start_mark.line + 1}: {field}{what}")

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            limit = f"{MAX_NODES} values" if self.nodes > MAX_NODES else f"{MAX_DEPTH} levels"
            raise InvalidDefinition([f"{self.file}:{node.start_mark.line + 1}: too much in one file, at most {limit}"])
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._refuse_tag(node, path)
        return None

    def _item(self, node: yaml.Node, path: Path) -> Any:
        self.marks[path] = Mark(self.file, node.start_mark.line + 1)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a field's name must be plain text")
                continue
            here = (*path, self._text(key, path))
            if key.value in data:
                first = self.marks[here].line
                self._problem(key, here, f"given twice, first on line {first}; keep one")
                continue
            self.marks[here] = Mark(self.file, key.start_mark.line + 1)
            data[key.value] = self._value(value, here)
        return data

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = self._text(node, path)
        kind = node.tag.removeprefix(_TAG)
        if node.tag != _words.implied(node):
            self._refuse_tag(node, path)
        elif kind == "int" and len(text) <= 19 and abs(int(text)) < 2**63:
            return int(text)
        elif kind == "float" and math.isfinite(float(text)):
            return float(text)
        elif kind in ("int", "float"):
            self._problem(node, path, "the number is too large")
        return {"bool": text == "true", "null": None}.get(kind, text)

    def _refuse_tag(self, node: yaml.Node, path: Path) -> None:
        self._problem(node, path, f"tags are not read, remove {_shown(node.tag.replace(_TAG, '!!'))}")

    def _text(self, node: yaml.ScalarNode, path: Path) -> str:
        try:
            node.value.encode()
        except UnicodeEncodeError:
            self._problem(node, path, "half of a surrogate pair is not text")
        return str(node.value)


def overlaid(base: Document, overlay: Document, at: Path) -> Document:
    """`base` with what stands in `overlay` under `at` laid over it: mappings merge, everything else is replaced.

    Marks of what was replaced point into the overlay.
    """
    patch: Any = overlay.data
    for part in at:
        patch = patch[part]
    marks = dict(base.marks)
    data = _merge(base.data, patch, (), marks)
    marks |= {path[len(at) :]: mark for path, mark in overlay.marks.items() if path[: len(at)] == at and path != at}
    return Document(data, marks)


def _merge(base: Mapping[str, Any], patch: Mapping[str, Any], path: Path, marks: dict[Path, Mark]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in patch.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value, here, marks)
        else:
            for stale in [known for known in marks if known[: len(here)] == here]:
                del marks[stale]
            merged[key] = value
    return merged
