"""What the simulators of sending platforms share: requests are checked, answered, kept, and gone wrong with on order.

`/_simulator/…` is for whoever runs it: `requests`, `messages` (what was taken) and `events` (what its webhook would
post of them) to look inside, `faults` to order trouble.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from espial.cli.simulators.braze import Reply

TRANSPORT = {"hang": "timeout", "reset": "drop"}
"""Trouble of every platform before it takes a message: it says nothing, or hangs up. `drop` hangs up after taking."""


class Told(NamedTuple):
    """One request: header names in lower case; `said` is the body's JSON, or its form as a list for every name."""

    method: str
    path: str
    headers: Mapping[str, str]
    said: Any
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """What is a platform's own.

    path      a pattern of the path that messages are posted to
    proven    whether a request shows the secrets, given by their names in Espial
    form      whether a body is a form instead of JSON
    rules     what must hold of a request, and the answer where it does not
    took      the answer to a message that was taken under this id
    to        the recipients of a message
    event     what the platform's webhook posts when the message of this id is delivered: one item of the source
    answers   what it answers when something is wrong, by names of ours; `unauthorised`, `throttle` and `error` of all
    repeated  the idempotency key of a request; a repeat of one is answered as before, and taken once
    another   the answer to a key that came before with something else
    duplicate what a repeat is answered with, where that is an error
    besides   what is answered to calls that hand no message over: for a token, or for what became of a message
    """

    path: str
    proven: Callable[[Told, Mapping[str, str]], bool]
    rules: Sequence[tuple[Callable[[Told], Any], Reply]]
    took: Callable[[Told, str], Reply]
    to: Callable[[Told], list[str]]
    event: Callable[[Told, str], dict[str, Any]]
    answers: Mapping[str, Reply]
    form: bool = False
    repeated: Callable[[Told], str] = lambda _told: ""
    another: Reply | None = None
    duplicate: Reply | None = None
    besides: Callable[[Told, Mapping[str, str], Sequence[tuple[str, Told]]], Reply | None] = lambda *_: None
    new_id: Callable[[str], str] = lambda digits: digits[:22]


@dataclass(slots=True, kw_only=True)
class Platform:
    """One account of one platform. Ids are made of the seed, so that a run that is repeated gives the same ones."""

    plug: Plug
    secrets: Mapping[str, str]
    seed: str = "0"
    trouble: deque[str] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    messages: list[tuple[str, Told]] = field(default_factory=list)
    _known: dict[str, tuple[Any, Reply]] = field(default_factory=dict)

    @property
    def faults(self) -> tuple[str, ...]:
        """All that may be ordered."""
        return (*TRANSPORT, "drop", *self.plug.answers)

    def order(self, *faults: str) -> None:
        """Trouble for the next requests, one each. Raises ValueError for a name that is none."""
        if strange := [name for name in faults if name not in self.faults]:
            raise ValueError(f"no fault named {strange[0]}, must be one of {', '.join(self.faults)}")
        self.trouble.extend(faults)

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What comes back for a request."""
        path = urlsplit(target).path
        if path.startswith("/_simulator/"):
            return self._inside(method, path.removeprefix("/_simulator/"), body)
        said = _form(headers, body) if self.plug.form else _json(headers, body)
        told = Told(method, path, headers, said, body)
        if aside := self.plug.besides(told, self.secrets, self.messages):
            return aside
        if method != "POST" or not re.fullmatch(self.plug.path, path):
            return Reply(404, {"message": "Not Found"})
        fault = self.trouble.popleft() if self.trouble else ""
        self.requests.append({"path": path, "fault": fault, "said": said})
        if fault in TRANSPORT:
            return Reply(0, trouble=TRANSPORT[fault])
        if fault in self.plug.answers:
            return self.plug.answers[fault]
        reply = self._served(told)
        return reply._replace(trouble="drop" if fault else "")

    def _served(self, told: Told) -> Reply:
        if not self.plug.proven(told, self.secrets):
            return self.plug.answers["unauthorised"]
        if told.said is None:
            return Reply(415, {"message": "the body is not what its Content-Type must say"})
        for holds, refusal in self.plug.rules:
            if not _true(holds, told):
                return refusal
        key = self.plug.repeated(told)
        if key and key in self._known:
            if self.plug.duplicate:
                return self.plug.duplicate
            before, reply = self._known[key]
            return reply if before == told.said or self.plug.another is None else self.plug.another
        known = self.plug.new_id(sha256(f"{self.seed}/{len(self.messages)}".encode()).hexdigest())
        self.messages.append((known, told))
        reply = self.plug.took(told, known)
        if key:
            self._known[key] = told.said, reply
        return reply

    def _inside(self, method: str, path: str, body: bytes) -> Reply:
        shown: Mapping[str, Callable[[], list[Any]]] = {
            "requests": lambda: self.requests,
            "messages": lambda: [{"id": known, "said": told.said} for known, told in self.messages],
            "events": lambda: [self.plug.event(told, known) for known, told in self.messages],
        }
        if method == "GET" and path in shown:
            return Reply(200, {path: shown[path]()})
        if method != "POST" or path != "faults":
            return Reply(404, {"message": "Not Found"})
        try:
            self.order(*json.loads(body))
        except (ValueError, TypeError) as exc:
            return Reply(400, {"message": str(exc)})
        return Reply(200, {"message": "success"})


def bearer(secret: str, header: str = "authorization", scheme: str = "Bearer ") -> Callable[..., bool]:
    """A secret shown as it is in a header."""

    def proven(told: Told, secrets: Mapping[str, str]) -> bool:
        return compare_digest(told.headers.get(header, "").encode(), f"{scheme}{secrets[secret]}".encode())

    return proven


def basic(told: Told, user: str, password: str) -> bool:
    """Basic credentials."""
    wanted = b"Basic " + b64encode(f"{user}:{password}".encode())
    return compare_digest(told.headers.get("authorization", "").encode(), wanted)


def _true(holds: Callable[[Told], Any], told: Told) -> bool:
    """What is not even of the form that the rule reads does not hold either."""
    try:
        return bool(holds(told))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _json(headers: Mapping[str, str], body: bytes) -> Any:
    """None where it is none, or does not say so."""
    try:
        return json.loads(body) if _kind(headers) == "application/json" else None
    except ValueError:
        return None


def _form(headers: Mapping[str, str], body: bytes) -> dict[str, list[str]] | None:
    if _kind(headers) != "application/x-www-form-urlencoded":
        return None
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def is_address(value: Any) -> bool:
    """One bare address."""
    return isinstance(value, str) and re.fullmatch(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+\.[^\s@<>,;\"]+", value) is not None


def is_mailbox(value: Any) -> bool:
    """An address, or `name <address>`, on one line."""
    if not isinstance(value, str) or not value.isprintable():
        return False
    bare = re.fullmatch(r"[^<>]*<([^<>]+)>", value)
    return is_address(bare[1] if bare else value)
