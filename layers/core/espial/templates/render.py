"""A compiled template and a context in, one rendered mail out.

Liquid runs fenced: values are escaped in HTML, nothing undefined or null is ever printed as a blank, no tag
reaches a file, and the work of one rendering is counted before it is done (`_Fenced.spend`), so that a hostile
template ends in Refused, not in a dead function. Parsed templates are kept by content hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, NoReturn, TextIO

from liquid import BoundTemplate, Environment, FalsyStrictUndefined, Node, RenderContext
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.exceptions import LiquidError, LoopIterationLimitError, OutputStreamLimitError, UndefinedError
from liquid.stringify import to_liquid_string
from liquid.token import Token
from liquid.undefined import UNDEFINED

from espial.errors import Refused
from espial.messages import one_line
from espial.templates.filters import FILTERS

WORK_LIMIT = 50_000
"""Node visits one part may cost, about 50 ms; a filter costs one more per 100 characters or items it handles."""

OUTPUT_LIMIT = 1_000_000
"""Characters of one rendered part; SES takes 40 MB, mail clients clip at a tenth of this."""

TAGS_REMOVED = ("include", "render", "tablerow", "increment", "decrement", "echo", "ifchanged", "liquid")
FILTERS_REMOVED = ("safe", "base64_decode", "base64_url_safe_decode", "url_decode", "uniq")

Compiled = Mapping[str, Any]
"""name, category, subject, from_name, html, text (Liquid), variables {path: {"fallback": …}}, sha."""


class Rendered(NamedTuple):
    """What the person will see; `subject` and `from_name` are single lines."""

    subject: str
    from_name: str
    html: str
    text: str


class _Missing(FalsyStrictUndefined):
    """May be tested and given a `default`; anything else raises."""

    force_liquid_default = True


class _Buffer:
    """What a part is written to: a list, since most writes are short, that ends at OUTPUT_LIMIT characters."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int = 0) -> None:
        self.parts: list[str] = []
        self.size = size

    def write(self, text: str) -> int:
        """Raises OutputStreamLimitError."""
        length = len(text)
        self.size += length
        if self.size > OUTPUT_LIMIT:
            raise OutputStreamLimitError("output limit reached", token=None)
        self.parts.append(text)
        return length

    def getvalue(self) -> str:
        """All that was written."""
        return "".join(self.parts)


class _Fenced(RenderContext):
    """A render context that counts work."""

    __slots__ = ("work",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.work = 0

    def spend(self, work: int) -> None:
        """Count work before it is done. Raises LoopIterationLimitError over WORK_LIMIT."""
        self.work += work
        if self.work > WORK_LIMIT:
            raise LoopIterationLimitError("work limit reached", token=None)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        """The filter of that name, its work counted where it is not bounded by what it is given."""
        function = super().filter(name, token)
        return function if name in _BOUNDED else partial(_metered, self, name, function)

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """A variable's value: straight through plain dicts, by the library's rules otherwise."""
        try:
            value = self.scope[path[0]]  # type: ignore[index]  # a root is always a name
            for segment in path[1:]:
                if type(value) is not dict:
                    return super().get(path, token=token, default=default)
                value = value[segment]
        except (KeyError, TypeError, IndexError):
            return super().get(path, token=token, default=default)
        return value

    def get_buffer(self, buf: Any = None) -> Any:
        """A buffer for a part's part, which counts on from what is written already."""
        return _Buffer(buf.size if isinstance(buf, _Buffer) else 0)


def _metered(context: _Fenced, name: str, function: Callable[..., object], value: object, *args: Any, **kw: Any) -> Any:
    work = _size(value)
    if name in _MULTIPLYING:
        # what comes out is as long as one argument times the length of the value
        work *= 1 + max((_size(argument) for argument in args), default=1)
    context.spend(1 + work // 100)
    result = function(value, *args, **kw)
    if isinstance(result, int) and result.bit_length() > _INT_BITS:
        raise LoopIterationLimitError("number too large", token=None)
    return result


_BOUNDED = frozenset({"money", "date", "url", "default", "size", "first", "last"})
_MULTIPLYING = frozenset({"replace", "replace_first", "replace_last", "join", "split"})
_INT_BITS = 256


def _size(value: object) -> int:
    if isinstance(value, str | list | tuple | dict):
        return len(value)
    if isinstance(value, range):
        return max(0, value.stop - value.start)
    return 1


def _weight(node: Node, context: RenderContext) -> int:
    return 1 + sum(_weight(child, context) for child in node.children(context))


class _FencedFor(ForNode):
    """A `for` that pays for all its rounds before the first."""

    __slots__ = ("weight",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight = 0

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Fenced)
        if not self.weight:
            self.weight = _weight(self.block, context)
        expression = self.expression
        items = expression.iterable.evaluate(context)
        if isinstance(expression.iterable, RangeLiteral) or isinstance(items, range | list | tuple | dict):
            context.spend(_size(items) * self.weight)
        return super().render_to_output(context, buffer)


class _For(ForTag):
    node_class = _FencedFor


class _PrintedNode(OutputNode):
    """An output that never prints a null as a blank."""

    __slots__ = ()

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value = self.expression.evaluate(context)
        if value is None:
            raise UndefinedError(f"{self.expression} is null", token=self.token)
        return buffer.write(to_liquid_string(value, context.autoescape))


class _Printed(Output):
    node_class = _PrintedNode


class _Template(BoundTemplate):
    context_class = _Fenced

    def _get_buffer(self) -> Any:
        return _Buffer()


class _Environment(Environment):
    template_class = _Template
    context_depth_limit = 20
    block_nesting_limit = 20
    loop_iteration_limit = WORK_LIMIT
    local_namespace_limit = OUTPUT_LIMIT

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for tag in TAGS_REMOVED:
            del self.tags[tag]
        for name in FILTERS_REMOVED:
            del self.filters[name]
        self.add_tag(_For)
        self.add_tag(_Printed)
        self.filters.update(FILTERS)


HTML = _Environment(autoescape=True, undefined=_Missing)
"""For HTML parts: values are escaped."""

TEXT = _Environment(autoescape=False, undefined=_Missing)
"""For text parts and header lines."""


class _Parts(NamedTuple):
    subject: BoundTemplate
    from_name: BoundTemplate
    html: BoundTemplate
    text: BoundTemplate


@lru_cache(maxsize=128)
def _parse(sha: str, subject: str, from_name: str, html: str, text: str) -> _Parts:
    try:
        return _Parts(
            TEXT.from_string(subject), TEXT.from_string(from_name), HTML.from_string(html), TEXT.from_string(text)
        )
    except LiquidError as exc:
        raise Refused("template_invalid", f"{type(exc).__name__} in {sha}") from exc


def render(compiled: Compiled, context: Mapping[str, Any]) -> Rendered:
    """Render all parts of one mail.

    Raises Refused: `template_variable_missing` with the variable's name when something printed is undefined or
    null and has no fallback, `template_limit` when the template does too much, `template_failed` otherwise,
    `template_invalid` if it does not parse, `subject_empty`. The detail never holds a value from the context.
    """
    parts = _parse(compiled["sha"], compiled["subject"], compiled["from_name"], compiled["html"], compiled["text"])
    values = with_fallbacks(context, compiled["variables"])
    subject = one_line(_part(parts.subject, values))
    if not subject:
        raise Refused("subject_empty", compiled["name"])
    from_name = one_line(_part(parts.from_name, values)) if compiled["from_name"] else ""
    return Rendered(subject, from_name, _part(parts.html, values), _part(parts.text, values))


def _part(template: BoundTemplate, values: dict[str, Any]) -> str:
    try:
        return template.render(values)
    except LiquidError as exc:
        _refuse(exc)
    except (RecursionError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as exc:
        raise Refused("template_failed", type(exc).__name__) from exc


def _refuse(exc: LiquidError) -> NoReturn:
    if isinstance(exc, UndefinedError):
        raise Refused("template_variable_missing", str(exc.message)) from exc
    if isinstance(exc, OutputStreamLimitError | LoopIterationLimitError) or "limit" in type(exc).__name__.lower():
        raise Refused("template_limit", type(exc).__name__) from exc
    place = exc.context()
    raise Refused("template_failed", f"{type(exc).__name__} in line {place[0] if place else '?'}") from exc


def with_fallbacks(context: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The context with each declared fallback where its value is missing, null or blank; a copy, where it differs."""
    values = dict(context)
    for path, declared in variables.items():
        if "fallback" in declared:
            *parents, name = path.split(".")
            level = values
            for parent in parents:
                child = level.get(parent)
                level[parent] = dict(child) if isinstance(child, Mapping) else {}
                level = level[parent]
            present = level.get(name)
            if present is None or (isinstance(present, str) and not present.strip()):
                level[name] = declared["fallback"]
    return values
