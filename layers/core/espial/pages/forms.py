"""What a page's form, or a mailbox provider's one click, says."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import cast
from urllib.parse import parse_qs

LARGEST = 64_000
"""Bytes of a form."""
MOST_FIELDS = 300


def fields(content_type: str, body: bytes) -> Mapping[str, list[str]]:
    """Name -> values, of a form in either of the encodings that RFC 8058 allows; empty for anything else.

    Total: bytes that are no text become question marks.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _parts(content_type, body)
    if kind in ("", "application/x-www-form-urlencoded"):
        try:
            return parse_qs(body.decode("utf-8", "replace").strip(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:  # too many
            return {}
    return {}


def _parts(content_type: str, body: bytes) -> Mapping[str, list[str]]:
    head = b"content-type: " + content_type.encode("ascii", "replace").replace(b"\n", b" ").replace(b"\r", b" ")
    found: dict[str, list[str]] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + b"\r\n\r\n" + body).walk():
        name = _name(cast("Message", part))
        payload = part.get_payload(decode=True)
        if name and isinstance(payload, bytes):
            found.setdefault(name, []).append(payload.decode("utf-8", "replace").strip())
    return found


def _name(part: Message) -> str:
    named = part.get_param("name", header="content-disposition")
    return named if isinstance(named, str) else ""


def is_one_click(form: Mapping[str, list[str]]) -> bool:
    """Whether it is the POST of RFC 8058, section 3.2."""
    return form.get("List-Unsubscribe") == ["One-Click"]
