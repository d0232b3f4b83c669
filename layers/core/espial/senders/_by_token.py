"""Senders whose platform wants an access token first: OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from espial.answers import Answer
from espial.errors import AnswerLost, Refused, TryAgain
from espial.senders import Ways
from espial.senders._by_http import SECONDS, HttpSender, Request, inside

EARLIER = timedelta(seconds=60)
"""A token is not used so shortly before its end."""
_AFTER = 15.0


class TokenSender(HttpSender):
    """One provider whose calls show a token, which is asked for when it is needed and kept until it ends."""

    def __init__(self, name: str, provider: Mapping[str, Any], ways: Ways) -> None:
        super().__init__(name, provider, ways)
        self._token, self._asked, self._is_fresh = "", Request("", {}, b""), False
        self._ends: datetime | None = None

    @abstractmethod
    def token_request(self) -> Request:
        """The call that asks for a token; `path` is a whole address."""

    def token(self) -> str:
        """A token that is good now. Raises Refused if the secret is wrong, TryAgain if there is none now."""
        asked, now = self.token_request(), self._ways.clock()
        self._is_fresh = asked != self._asked or self._ends is None or now >= self._ends
        if self._is_fresh:
            self._token, seconds = self._ask(asked)
            self._asked, self._ends = asked, now + timedelta(seconds=seconds) - EARLIER
        return self._token

    def explained(self, answer: Answer, key: str) -> Exception:
        """A token that was kept may have been taken back: a new one is asked for before the secret is blamed."""
        if answer.status == 401:
            self._ends = None
            if not self._is_fresh:
                return TryAgain("HTTP 401: the token is no longer good", after=1.0)
        return super().explained(answer, key)

    def _ask(self, asked: Request) -> tuple[str, float]:
        try:
            answer = self._ways.http.request("POST", asked.path, asked.headers, asked.body, SECONDS)
        except AnswerLost as exc:  # of the token, so the message was surely not taken
            raise TryAgain("the token did not come", after=_AFTER) from exc
        token, seconds = inside(answer, "access_token"), inside(answer, "expires_in")
        if answer.status == 200 and isinstance(token, str) and token.isascii() and token.isprintable():
            return token, float(seconds) if isinstance(seconds, int) else 0.0
        if answer.status in (400, 401, 403):
            raise Refused("unauthorised", f"HTTP {answer.status} instead of a token")
        raise TryAgain(f"HTTP {answer.status} instead of a token", after=_AFTER)
