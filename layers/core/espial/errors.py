"""Every error Espial raises on purpose, and what each makes happen.

EspialError
├── SignatureError       not from the platform: answered 401, nothing kept, counted
├── UnknownConnection    no such platform or connection: answered 404
├── TooLarge             over a documented limit: answered 413
├── Malformed            authentic but unreadable: quarantined with `.reason`, never retried
│   ├── MalformedDelivery    the envelope itself (nothing in it could be split)
│   └── MalformedItem        one item; its neighbours go on
├── TryAgain             a matter of time: retried after `.after` seconds
│   └── AnswerLost           it was sent, and nobody knows whether it was taken: repeated only where that is harmless
├── Refused              a sender or receiver said no for good: recorded with `.reason`
│   └── Suppressed           … and nothing may be sent to this recipient any more
├── OutcomeUnknown       a sender was called and never answered: reconciled, never blindly repeated
└── InvalidDefinition    a file under definitions/: refused when applied, naming file, line and field
"""

from __future__ import annotations


class EspialError(Exception):
    """Base of everything Espial raises on purpose."""


class SignatureError(EspialError):
    """The request does not prove that it comes from the platform."""


class UnknownConnection(EspialError):
    """No platform or connection of that name is configured and enabled."""


class TooLarge(EspialError):
    """A body, item or file exceeds its documented limit."""


class Malformed(EspialError):
    """Authentic but unreadable; kept in quarantine under `reason`, a snake_case code."""

    def __init__(self, reason: str, detail: str = "", path: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.path = path


class MalformedDelivery(Malformed):
    """The envelope cannot be split into items."""


class MalformedItem(Malformed):
    """One item of a delivery cannot be read; `path` names the field."""


class TryAgain(EspialError):
    """A throttle, time-out or passing fault; the caller retries after `after` seconds."""

    def __init__(self, detail: str, after: float = 1.0) -> None:
        super().__init__(detail)
        self.after = after


class AnswerLost(TryAgain):
    """Another system was called and did not answer: it may have done what it was asked."""


class Refused(EspialError):
    """A message or notification was refused for good; `reason` is a snake_case code."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Suppressed(Refused):
    """The platform says that nothing may be sent to this recipient any more."""


class OutcomeUnknown(EspialError):
    """The provider was called and nobody knows whether it took the message (guarantee 2, goal 39)."""


class InvalidDefinition(EspialError):
    """One or more files under definitions/ are wrong; `problems` lists `file:line: field: what`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
