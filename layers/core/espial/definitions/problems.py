"""What is wrong with a file, in our words and at its place: for every kind of definition the same."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from espial.definitions.reading import Document, Path


def problems_of(document: Document, model: type[BaseModel], refusal: ValidationError) -> list[str]:
    """`file:line: field: what`, one for each error that the model found in the document."""
    return [_problem(document, model, error) for error in refusal.errors(include_url=False)]


def meant(word: str, known: Iterable[str]) -> str:
    """Advice after an unknown word: the nearest known one, or the whole list."""
    words = sorted(known)
    near = get_close_matches(str(word), words, n=1)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (known: {', '.join(words) or 'none'})"


def _problem(document: Document, model: type[BaseModel], error: ErrorDetails) -> str:
    path, words = _path(document, error["loc"]), _words(error, model)
    blamed, colon, rest = words.partition(": ")
    if not path and colon and blamed.partition(".")[0] in _fields(model):
        path, words = tuple(int(part) if part.isdecimal() else part for part in blamed.split(".")), rest
    return document.problem(path, words)


def _fields(model: type[BaseModel]) -> list[str]:
    """As they are written in files."""
    return [info.alias or name for name, info in model.model_fields.items()]


def _path(document: Document, location: tuple[int | str, ...]) -> Path:
    """The error's place without the names pydantic adds for unions and validators, which stand in no file."""
    path: Path = ()
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if (*path, part) in document.marks or last:
            path = (*path, part)
    return path


def _words(error: ErrorDetails, model: type[BaseModel]) -> str:
    location, value = error["loc"], error["input"]
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            known = _fields(model) if len(location) == 1 else []
            return "unknown field" + (meant(str(location[-1]), known) if known else "")
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
    words = error["msg"].replace("Input should be", "must be").replace("String should", "must")
    shown = isinstance(value, str | int | float) and location[0] not in ("secrets", "settings")
    return f"{words}, not {value!r}" if shown else words
