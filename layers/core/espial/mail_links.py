"""Links of our own in mails: their tokens, made where a mail is composed and opened where it is clicked.

A token is base64url of a JSON list of texts, and a keyed hash of that and of what it is for (HMAC-SHA-256, RFC 2104,
144 bits of it). So a token says by itself whom and what it is about, nobody else can make one, and one kind never
passes for another: there is nothing to look up, and where a link leads is only what stood in the mail.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from espial.errors import SignatureError

PLATFORM = "espial_pages"
"""The platform whose connection holds the signing secret; what people do on the pages is reported by it."""

Purpose = Literal["u", "c", "o"]
"""What a link is for, and where it lies: `/u/` preferences, `/c/` a click, `/o/` an open."""

LONGEST_DESTINATION = 2_000
"""Characters of a link that is rewritten; a longer one stays as it is, since API Gateway takes lines of 10 KB."""
LONGEST_TOKEN = 8_000
_CODE_BYTES = 18


class Reader(NamedTuple):
    """Whom a mail went to and what it was: `person` is a key, `topic` what of the channel it belongs to, "" for all.

    `email` is the address, where it is known to be that person's; "" where it is not.
    """

    person: str
    email: str
    send_key: str
    channel: str = "email"
    topic: str = ""


NOBODY = Reader("", "", "")


@dataclass(frozen=True, slots=True)
class MailLinks:
    """Makes the links of one mail. `base` is where the pages are served, without a slash at its end.

    `hosts` may be led to beside those that a template spells out.
    """

    base: str
    secret: bytes
    reader: Reader = NOBODY
    hosts: frozenset[str] = frozenset()

    def to(self, reader: Reader) -> MailLinks:
        """The links of a mail to that reader."""
        return replace(self, reader=reader)

    def unsubscribe(self) -> str:
        """The page where the reader leaves, and what mailbox providers post to (RFC 8058)."""
        return f"{self.base}/u/{seal('u', self.reader, self.secret)}"

    def click(self, destination: str) -> str:
        """A link that tells of the click and leads to the destination."""
        return f"{self.base}/c/{seal('c', (*self.reader, destination), self.secret)}"

    def pixel(self) -> str:
        """A picture that tells of the open."""
        return f"{self.base}/o/{seal('o', self.reader, self.secret)}.gif"


def seal(purpose: Purpose, said: Sequence[str], secret: bytes) -> str:
    """The token of what is said."""
    body = urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).rstrip(b"=")
    return f"{body.decode()}.{_code(purpose, body, secret)}"


def unseal(purpose: Purpose, token: str, secrets: Sequence[bytes]) -> list[str]:
    """What a token says. Raises SignatureError unless one of the secrets made it for this purpose."""
    body, _, code = token.partition(".")
    if not token.isascii() or len(token) > LONGEST_TOKEN:
        raise SignatureError("the token is none")
    # all are compared, so that the time taken tells nothing
    found = [hmac.compare_digest(code, _code(purpose, body.encode(), secret)) for secret in secrets if secret]
    if not any(found):
        raise SignatureError("no secret made this token")
    try:
        said: list[str] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, Error) as exc:  # nothing that `seal` made
        raise SignatureError("the token cannot be read") from exc
    return said


def reader_of(purpose: Purpose, said: Sequence[str]) -> tuple[Reader, str]:
    """The reader that a proven token names, and the destination of a click. Raises SignatureError for another shape."""
    wanted = len(Reader._fields) + (purpose == "c")
    if len(said) != wanted:
        raise SignatureError("the token is of another version")
    reader = Reader(*said[: len(Reader._fields)])
    return reader, said[-1] if purpose == "c" else ""


def _code(purpose: str, body: bytes, secret: bytes) -> str:
    code = hmac.digest(secret, b"espial/%b/%b" % (purpose.encode(), body), "sha256")
    return urlsafe_b64encode(code[:_CODE_BYTES]).decode()
