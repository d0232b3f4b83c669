"""Onboarding's own events: who was selected, who was taken, who was not, and the sum of an execution (A5 to A8, A25).

Made deterministically: onboarding, execution, contact and outcome give the same event id, and the execution's contact
time is that of the file, so that whatever is repeated after a crash makes the same events again.
"""

from __future__ import annotations

from typing import Any

from espial import events
from espial.events import Campaign, Event, Person
from espial.normalise import Recordable
from espial.onboarding import Recipient, Refusal
from espial.onboarding.definition import OnboardingDefinition
from espial.onboarding.state import Execution
from espial.own_events import PLATFORM
from espial.vocabulary import EventType


class Narrator:
    """Tells the events of one execution."""

    def __init__(self, of: OnboardingDefinition, execution: Execution) -> None:
        self._of = of
        self._execution = execution
        self._at = execution.file.modified_at.replace(microsecond=0)
        self._common = _present(
            {
                "execution": of.channel_execution(execution.number),
                "system": of.system,
                "mode": of.mode,
                "output": of.output,
                "interaction": of.interaction,
                "offer_code": of.offer_code,
                "offer_name": of.offer_name,
                "resolution_level": of.resolution_level,
                "destination": of.platform,
            }
        )

    def selected(self, recipient: Recipient) -> Recordable:
        """Identified for sending or update; before the call."""
        return self._of_recipient(EventType.RECIPIENT_SELECTED, recipient, {})

    def answered(self, recipient: Recipient, refusal: Refusal | None) -> Recordable:
        """The platform acknowledged the recipient, or refused it."""
        if refusal is None:
            return self._of_recipient(EventType.RECIPIENT_ONBOARDED, recipient, {})
        said = _present({"reason": refusal.reason, "detail": refusal.detail})
        return self._of_recipient(EventType.RECIPIENT_REJECTED, recipient, said)

    def completed(self) -> Recordable:
        """The sum of the execution."""
        counts = self._execution.counts
        said = {
            "targeted": counts.sent + counts.failed,
            "sent": counts.sent,
            "failed": counts.failed,
            "unchanged": counts.unchanged,
            "rejected_rows": counts.refused,
            "file": self._execution.file.key,
            "meta": dict(self._of.meta_texts),
        }
        code = self._of.meta_texts.get("campaign_code") or self._default_code
        campaign = Campaign(id=code, name=self._of.meta_texts.get("campaign_name"))
        return self._event(EventType.ONBOARDING_COMPLETED, 0, Person(), campaign, {**self._common, **said})

    @property
    def _default_code(self) -> str:
        return f"ONBOARD_{self._of.name}".upper()

    def _of_recipient(self, kind: EventType, recipient: Recipient, said: dict[str, Any]) -> Recordable:
        person = Person(external_id=recipient.external_id, email=recipient.email, phone=recipient.phone)
        code = recipient.meta.get("campaign_code") or self._default_code
        properties = {
            **self._common,
            "contact": recipient.contact,
            **_present({"address_key": recipient.email or recipient.phone}),
            "meta": dict(recipient.meta),
            **said,
        }
        campaign = Campaign(id=code, name=recipient.meta.get("campaign_name"))
        return self._event(kind, recipient.contact, person, campaign, properties)

    def _event(
        self, kind: EventType, contact: int, person: Person, campaign: Campaign, properties: dict[str, Any]
    ) -> Recordable:
        number = self._execution.number
        identity = (PLATFORM, "onboarding", self._of.name, str(number), str(contact), kind.value)
        event = Event(
            event_id=events.event_id(self._at, "\x1f".join(identity)),
            type=kind,
            platform_type=kind.value,
            channel="email" if person.email else "none",
            platform=PLATFORM,
            connection=self._of.name,
            occurred_at=self._at,
            received_at=self._at,
            person=person,
            campaign=campaign,
            properties=properties,
            raw=self._execution.file.pointer,
        )
        return Recordable(event, events.encode(event), events.home_key(event, ("external_id",)))


def _present(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact not in (None, "")}
