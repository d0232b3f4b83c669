"""What waits for a destination -> a mail, or a digest (steps and crashes: `espial.services.serve_destination`).

Before a mail is handed over it is counted, and what surely did not go is counted back: a crash leaves a mail too many
in the count, never one too many sent. Where nobody knows whether the provider took it, it is sent again: of the two a
notification that comes twice is the lesser evil.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parseaddr
from typing import Any

from msgspec.structs import replace

from espial.errors import OutcomeUnknown, Refused, TryAgain
from espial.events import fingerprint
from espial.messages import Message, check, mailbox, notification_key, one_line
from espial.notifications.definition import DestinationDefinition
from espial.notifications.facts import facts
from espial.notifications.mailed import EmailProcess
from espial.notifications.outbox import Notification
from espial.notifications.payloads import digest, text
from espial.notifications.retries import PROBE, Verdict
from espial.ports import Sender
from espial.services.serve_destination import LEASE, Tally, Tried, Worker

MOST = 200
"""Events of a digest; the rest comes in the next one."""
CALL_SECONDS = 15.0
"""How long a provider may take."""
RETRY_FOR = timedelta(days=3)
LONGEST_SUBJECT = 200
_LOST = "no_answer"
_OF_THE_ACCOUNT = frozenset(
    {
        *("account_suspended", "forbidden", "endpoint_refused", "from_not_verified", "mail_from_domain_not_verified"),
        *("not_found", "provider_lacks_feature", "unauthorised"),
    }
)
"""Refusals that say nothing of this mail: the next one would fare no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailer(Worker):
    """The further ports of this use-case: a provider's settings by its name, and its sender."""

    provider: Callable[[str], Mapping[str, Any]]
    sender: Callable[[str, Mapping[str, Any]], Sender]

    def call_seconds(self, destination: DestinationDefinition) -> float:
        """See `Worker.call_seconds`."""
        return CALL_SECONDS if destination.email else math.inf

    def has_work(self, destination: DestinationDefinition) -> bool:
        """Whether a mail may go today, and something waits: for a digest, long enough."""
        email, name, now = destination.email, destination.name, self.clock()
        if email is None or self.conditions.mails(name).on(f"{now:%Y-%m-%d}").count >= email.daily_cap:
            return False
        waits = self.outbox.look(name, MOST if email.mode == "digest" else 1, now=now).notifications
        first = min((one.put_at for one in waits), default=None)
        return first is not None and (email.mode == "each" or first + email.every <= now)

    def serve(self, destination: DestinationDefinition, tally: Tally) -> None:
        """See `Worker.serve`. A provider that there is none of is a failure of the destination."""
        email, name = destination.email, destination.name
        if email is None:
            return
        try:
            settings = self.provider(email.provider)
            sender = self.sender(email.provider, settings)
        except Refused as exc:
            self.change(name, [Verdict("failed", reason=exc.reason, pause=PROBE.total_seconds())])
            return
        run = _Run(self, destination, email, settings, sender, tally)
        while self.enough(destination) and self.lets_through(self.conditions.health(name)):
            if not (self.has_work(destination) and run.mail()):
                break


@dataclass(frozen=True, slots=True)
class _Run:
    """One worker's time with one destination; `settings` are the provider's."""

    ports: Mailer
    destination: DestinationDefinition
    email: EmailProcess
    settings: Mapping[str, Any]
    sender: Sender
    tally: Tally

    def mail(self) -> bool:
        """Take some and send one mail of them. False if there are none, or somebody else counts."""
        ports, name, now = self.ports, self.destination.name, self.ports.clock()
        before = ports.conditions.mails(name)
        today = before.on(f"{now:%Y-%m-%d}")
        together = self.email.mode == "digest" or today.behind
        taken = ports.outbox.take(name, MOST if together else 1, now=now, until=now + LEASE)
        if not taken.notifications:
            return False
        is_last = today.count + 1 >= self.email.daily_cap
        counted = replace(today, count=today.count + 1, behind=today.behind or is_last)
        if not ports.conditions.count(before, counted):
            ports.outbox.release(name, taken.lease, {one.id: now for one in taken.notifications}, now=now, tried=False)
            return False
        tried = self._send(taken.notifications)
        ports.note(name, taken.lease, [tried], [tried.verdict], retry_for=RETRY_FOR, tally=self.tally)
        if tried.verdict.outcome != "delivered" and tried.verdict.reason != _LOST:
            ports.conditions.count(counted, before)
        elif tried.verdict.outcome == "delivered" and not taken.more and not is_last and counted.behind:
            ports.conditions.count(counted, replace(counted, behind=False))
        return True

    def _send(self, some: tuple[Notification, ...]) -> Tried:
        """One mail, whatever comes of it."""
        ports = self.ports
        attempt, at, began = ports.token(), ports.clock(), ports.monotonic()
        try:
            message = compose(self.destination, self.email, some, self.settings)
            check(message, self.sender.features)
            self.sender.send(message, idempotency_key=message.send_key)
            verdict = Verdict("delivered")
        except Refused as exc:
            verdict = Verdict("failed" if exc.reason in _OF_THE_ACCOUNT else "refused", reason=exc.reason)
        except TryAgain as exc:
            verdict = Verdict("failed", reason="not_now", pause=exc.after)
        except OutcomeUnknown:
            verdict = Verdict("failed", reason=_LOST)
        return Tried(some, verdict, attempt, at, round(1000 * (ports.monotonic() - began)))


def compose(
    of: DestinationDefinition, email: EmailProcess, some: Sequence[Notification], provider: Mapping[str, Any]
) -> Message:
    """The mail that tells of these, by the same key whenever it is made of the same. Raises Refused.

    Its key marks it as a notification, so that what is reported about it makes no other (`is_notification`).
    """
    is_digest = email.mode == "digest" or len(some) > 1
    kinds = {one.trigger for one in some}
    identity = f"digest-{fingerprint([one.id for one in some])}" if is_digest else some[0].id
    replayed = sum(one.replayed for one in some)
    to, *others = email.to
    return Message(
        to=to,
        also_to=tuple(others),
        from_=mailbox(*parseaddr(provider["from"])),
        reply_to=provider.get("reply_to", ""),
        subject=subject(of, some, is_digest=is_digest),
        html="",
        text=(digest if is_digest else _single)(some, of.profile, of.subject, of.custom_fields),
        send_key=notification_key(of.name, f"{identity}#{replayed}"),
        headers={
            "X-Event-Type": _token(kinds.pop() if len(kinds) == 1 else "DIGEST"),
            "X-Notification-Id": _token(identity),
            "Auto-Submitted": "auto-generated",
        },
        tags={"destination": of.name},
    )


def subject(of: DestinationDefinition, some: Sequence[Notification], *, is_digest: bool) -> str:
    """One line, whatever the data say."""
    profile = facts(some[0], of.profile)["profile"]
    default = f"Event notifications: {len(some)}" if is_digest else f"Event notification: {some[0].trigger}"
    shown = one_line(of.subject or f"{default} - {profile}")
    return "".join(letter for letter in shown if letter.isprintable())[:LONGEST_SUBJECT].strip()


def _single(some: Sequence[Notification], *how: Any) -> str:
    return text(some[0], *how)


def _token(value: str) -> str:
    """As a header's value: visible ASCII without blanks."""
    return re.sub(r"[^\x21-\x7e]", "_", value)[:LONGEST_SUBJECT]
