"""A SOAP 1.1 request to a call, and what came of it to an envelope.

Of XML nothing is allowed that could cost or reach anything: no DTD and so no entities, 32 elements deep, 200,000 of
them, 5 MB.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from espial.errors import EspialError
from espial.soap.values import Form, Value, child, form_of, local, read, text, write

LARGEST = 5 << 20
DEEPEST = 32
MOST = 200_000
TYPE = "text/xml; charset=utf-8"
PAINT = "urn:localhost-paint"
TYPES = "http://www.pure360.com/paint"

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    f' xmlns:m="http://xml.apache.org/xml-soap" xmlns:p="{PAINT}" xmlns:t="{TYPES}">'
    "<SOAP-ENV:Body>%s</SOAP-ENV:Body></SOAP-ENV:Envelope>"
)
_ENCODED = ' SOAP-ENV:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"'


class Fault(EspialError):
    """No call can be read from what came: the client's fault, answered as a SOAP fault."""


class Call(NamedTuple):
    """One `handleRequest`. `form` is that of its maps; None if it has none."""

    context_id: str
    class_name: str
    process_name: str
    entity: Value
    process: Value
    form: Form | None


class _Builder(TreeBuilder):
    """A tree that stays shallow and small."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[Any, Any], /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._elements > MOST:
            raise Fault(f"there are more than {MOST:,} elements")
        if self._depth > DEEPEST:
            raise Fault(f"elements lie more than {DEEPEST} deep")
        if "href" in attrs:
            raise Fault("multi-reference values (href) are not read: send each value where it belongs")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def parse(body: bytes) -> Element:
    """The root element. Raises Fault for whatever is no XML, or more than is allowed."""
    if len(body) > LARGEST:
        raise Fault(f"the request is larger than {LARGEST:,} bytes")
    parser = DefusedXMLParser(target=_Builder(), forbid_dtd=True)
    try:
        parser.feed(body)
        root: Element = parser.close()
    except DefusedXmlException:
        raise Fault("a DTD is not allowed") from None
    except (ParseError, ValueError, LookupError, AssertionError):  # of which the last is an end without a beginning
        raise Fault("the request cannot be read as XML") from None
    return root


def call(root: Element) -> Call:
    """The call in an envelope. Raises Fault if there is none, BadField for a value that cannot be decoded."""
    body = child(root, "Body") if local(root) == "Envelope" else None
    if body is None:
        raise Fault("the request is no SOAP envelope with a body")
    request = child(body, "handleRequest")
    if request is None:
        raise Fault("the only operation is handleRequest")

    def word(name: str) -> str:
        said = read(child(request, name))
        return said.strip() if isinstance(said, str) else ""

    return Call(
        context_id=word("contextId"),
        class_name=word("className"),
        process_name=word("processName"),
        entity=read(child(request, "entityData")),
        process=read(child(request, "processData")),
        form=form_of(request),
    )


def answer(result: str, data: Value, form: Form) -> bytes:
    """The response: `result` and `resultData`, in the form that the caller reads."""
    part = write("Result", {"result": result, "resultData": data}, form)
    style = _ENCODED if form == "map" else ""
    return (_ENVELOPE % f"<p:handleRequestResponse{style}>{part}</p:handleRequestResponse>").encode()


def fault(said: str) -> bytes:
    """The answer to what is no call: the client is to send something else."""
    inner = f"<faultcode>SOAP-ENV:Client</faultcode><faultstring>{text(said)}</faultstring>"
    return (_ENVELOPE % f"<SOAP-ENV:Fault>{inner}</SOAP-ENV:Fault>").encode()
