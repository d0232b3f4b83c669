"""What every sender that speaks HTTP has in common: one call, and what its answer means.

A platform's module says how a message is written there, what its answer to a taken one looks like, and which of its
error codes mean what. Whatever it leaves unsaid is read from the status.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import orjson

from espial.answers import Answer, wait, wait_for_reset
from espial.errors import AnswerLost, OutcomeUnknown, Refused, TryAgain
from espial.messages import Message, Receipt
from espial.senders import EVERYTHING, ApiSettings, Ways

SECONDS = 10.0
"""For connecting, for each step of the handshake and for the whole answer."""

BUSY = frozenset({408, 425, 429})
"""The message was surely not taken, and may be later."""

_BY_STATUS = {
    400: "request_invalid",
    401: "unauthorised",
    402: "account_suspended",
    403: "forbidden",
    404: "endpoint_refused",
    405: "endpoint_refused",
    410: "endpoint_refused",
    413: "message_too_large",
    421: "endpoint_refused",
    422: "request_invalid",
}


class Request(NamedTuple):
    """One call by POST. `path` begins with a slash."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class HttpSender(ABC):
    """One provider behind an HTTP API.

    host       the API's address, unless `base_url` says otherwise
    key_header the header of the idempotency key, where the platform takes one
    codes      the platform's own error code (see `code`) -> the reason of a refusal, or after how many seconds the
               message, which was not taken, may be offered again
    taken_before  codes by which the platform says that it took a message under this key before
    not_taken  statuses from 500 on by which the platform says that it did not take the message
    """

    features: frozenset[str] = EVERYTHING
    idempotent: bool = False
    channel: str = "email"
    host: ClassVar[str] = ""
    key_header: ClassVar[str] = ""
    settings_model: ClassVar[type[ApiSettings]] = ApiSettings
    codes: ClassVar[Mapping[str, str | float]] = {}
    taken_before: ClassVar[frozenset[str]] = frozenset()
    not_taken: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, name: str, provider: Mapping[str, Any], ways: Ways) -> None:
        self.name = name
        self.settings: Any = self.settings_model.model_validate(provider.get("settings") or {})
        self._references: Mapping[str, str] = provider.get("secrets") or {}
        self._ways = ways

    @abstractmethod
    def request(self, message: Message) -> Request:
        """The call that hands the message over."""

    @abstractmethod
    def taken(self, answer: Answer) -> str | None:
        """The platform's id of the message, of an answer of success; None where it is no answer of the platform's.

        Raises Refused or TryAgain where the success is none.
        """

    def code(self, answer: Answer) -> str:
        """The platform's own name or number of the error; "" if there is none."""
        _ = answer
        return ""

    def address(self) -> str:
        """The API's address without a slash at its end."""
        return (self.settings.base_url or self.host).rstrip("/")

    def secret(self, name: str) -> str:
        """A secret as it is now. Raises TryAgain if it cannot be read, Refused if it cannot stand in a header."""
        try:
            return self._ways.secret(self._references[name]).decode("ascii")
        except UnicodeDecodeError:
            raise Refused("unauthorised", f"the secret {name} cannot stand in a header") from None

    def send(self, message: Message, *, idempotency_key: str) -> Receipt:
        """See `espial.ports.Sender.send`."""
        path, headers, body = self.request(message)
        if self.key_header:
            headers = {**headers, self.key_header: idempotency_key}
        try:
            answer = self._ways.http.request("POST", self.address() + path, headers, body, SECONDS)
        except AnswerLost as exc:
            raise OutcomeUnknown(f"{idempotency_key}: {exc}") from exc
        known = self.taken(answer) if 200 <= answer.status < 300 and not answer.is_cut else None
        if known is None and self.code(answer) in self.taken_before:
            known = ""
        if known is None:
            raise self.explained(answer, idempotency_key)
        return Receipt(provider=self.name, provider_message_id=known, at=self._ways.clock())

    def explained(self, answer: Answer, key: str) -> Exception:
        """An answer that is no receipt, as an error of ours. Its words stay out: they may hold the address."""
        status, code = answer.status, self.code(answer)
        meaning = self.codes.get(code)
        now = self._ways.clock()
        if isinstance(meaning, str):
            return Refused(meaning, f"HTTP {status} {code}")
        if meaning is not None:
            return TryAgain(f"HTTP {status} {code}", after=wait(answer, now, meaning))
        if status in BUSY or status in self.not_taken:
            return TryAgain(f"HTTP {status}", after=wait_for_reset(answer, now))
        if status < 300 or status >= 500:
            return OutcomeUnknown(f"{key}: HTTP {status}")
        reason = "endpoint_refused" if status < 400 else _BY_STATUS.get(status, "refused_by_platform")
        return Refused(reason, f"HTTP {status}")


def document(answer: Answer) -> Any:
    """The answer's JSON; None where it is none."""
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None


def inside(answer: Answer, *path: str | int) -> Any:
    """What stands in the answer's JSON under that path; None if nothing does."""
    found = document(answer)
    for step in path:
        if isinstance(step, str) and isinstance(found, dict):
            found = found.get(step)
        elif isinstance(step, int) and isinstance(found, list) and step < len(found):
            found = found[step]
        else:
            return None
    return found


def as_json(facts: Mapping[str, Any]) -> bytes:
    """A body without what is empty, one level deep."""
    return orjson.dumps({name: fact for name, fact in facts.items() if fact not in (None, "", [], {})})


_QUOTED = re.compile(r"[\"(),.:;<>@\[\\\]]+")


def unquoted(name: str) -> str:
    """A display name without the signs for which it would have to stand in quotes."""
    return " ".join(_QUOTED.sub(" ", name).split())


def basic(user: str, password: str) -> str:
    """Basic credentials."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


JSON = {"Content-Type": "application/json", "Accept": "application/json"}
