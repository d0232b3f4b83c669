"""A receiver of notifications that behaves as it is told: well, slowly, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hmac import compare_digest
from typing import Any

from espial.cli.simulators.braze import Reply
from espial.errors import Refused
from espial.notifications.signatures import signed

TROUBLE = {"hang": "timeout", "reset": "drop", "slow": "slow"}


def step(word: str) -> Reply:
    """A word of the script: a status, `429:SECONDS` with Retry-After, or one of `TROUBLE`. Raises ValueError."""
    if word in TROUBLE:
        return Reply(200, {}, trouble=TROUBLE[word])
    status, colon, seconds = word.partition(":")
    if not status.isdigit() or not 200 <= int(status) <= 599 or (colon and not seconds.isdigit()):
        raise ValueError(f"{word!r} must be a status such as 500, 429:30, or one of {', '.join(TROUBLE)}")
    return Reply(int(status), {}, {"Retry-After": seconds} if colon else {})


class Receiver:
    """Answers by the script, whose last step goes on for ever. `secret` is that by which calls are to be signed."""

    def __init__(self, script: Sequence[Reply], secret: str = "") -> None:
        self._script = list(script) or [step("200")]
        self._secret = secret
        self.requests: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What came, at `GET /_simulator/requests`; to all else the next step."""
        if (method, path) == ("GET", "/_simulator/requests"):
            return Reply(200, {"requests": self.requests})
        reply = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if not self._proven(headers, body):
            reply = Reply(401, {"error": "the signature is wrong"})
        known = {name: value for name, value in headers.items() if name.startswith(("webhook-id", "espial-"))}
        self.requests.append(
            {"path": path, **known, "status": 0 if reply.trouble in ("timeout", "drop") else reply.status}
        )
        return reply

    def _proven(self, headers: Mapping[str, str], body: bytes) -> bool:
        if not self._secret:
            return True
        known, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not (at.isascii() and at.isdigit()):
            return False
        mark = signed(known, int(at), body, [self._secret])["webhook-signature"]
        return any(compare_digest(mark, given) for given in headers.get("webhook-signature", "").split())


def checked(secret: str) -> str:
    """A signing secret. Raises ValueError if it is none."""
    try:
        signed("", 0, b"", [secret])
    except Refused as exc:
        raise ValueError(exc.detail) from exc
    return secret
