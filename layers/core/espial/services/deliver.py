"""Send one message exactly once: what SendQueue asks for, decided again in the instant before hand-off.

Steps, and what a crash right after each one leaves for the next delivery of the same queue message:

 1 load person and run, decide  nothing; skipping and waiting end here
 2 record the decision          nothing: its id is computed, so recording it again changes nothing
 3 render                       nothing
 4 claim                        calling: nobody knows whether 6 happened; settled by evidence, see `_settle`
 5 load the person, decide      as 4. What was recorded before this point stops the mail (goal 35)
 6 hand over                    as 4
 7 mark sent                    sent: step 4 finds it and goes on with 8
 8 message_requested event      as 7; its id is computed too
 9 end the run                  done

Before another stage, 9 makes the next one's timer and then moves the run: a crash between leaves a timer too many,
which finds the run where it was.

What is refused goes the same way: claimed, marked refused, then the message_skipped event, the decision, the end of
the run. What is skipped takes no claim, but looks at it first, so that a mail that went out, or may be on its way, is
never booked as skipped because of what happened since. Nobody can claim after that look and still send: step 5 sees
whatever the skip was decided by.

Who holds a claim and knows that nothing was handed over gives it back, through the queue if the table takes no word
(`_unsent`); a claim that is not given back mutes its occasion until it is settled.

A claim speaks for one version of one run, so whatever becomes of it never mutes a later occasion (goal 40).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from espial import own_events
from espial.campaigns import happened
from espial.campaigns.compiled import CampaignTrigger
from espial.campaigns.facts import facts
from espial.errors import OutcomeUnknown, Refused, Suppressed, TryAgain
from espial.events import PersonKey
from espial.mail_links import MailLinks
from espial.messages import OWN_KEY, Message, Receipt, check, send_key
from espial.messages import recipient as destined
from espial.people import PersonView
from espial.ports import (
    AlreadyRefused,
    AlreadySent,
    Claim,
    Claims,
    Decisions,
    EventStore,
    InProgress,
    People,
    Published,
    Runs,
    Sender,
    Standing,
    Timers,
    Unsettled,
)
from espial.services.compose import compose, reader, unrendered
from espial.services.recommend_products import Recommender
from espial.services.recorder import record_own
from espial.triggers.decision import Decision, Ended, Rule, decide, exit_of, next_stage, recipient
from espial.triggers.definition import Trigger
from espial.triggers.run import Run, State
from espial.vocabulary import EventType

LEASE = timedelta(minutes=2)
"""How long a claim's holder may take to look again and to call: longer than the function may run."""

RECONCILE_WINDOW = timedelta(minutes=15)
"""How long the provider's events are waited for before an unknown outcome is settled without evidence."""

RECONCILE_STEP = timedelta(minutes=1)
"""How often the provider's events are looked at meanwhile."""

REPEAT_AFTER = timedelta(seconds=15)
"""When to repeat a call to a provider that takes one key once."""

MAX_ATTEMPTS = 3
"""How often an unknown outcome may be resent where the trigger asks for that."""

EVIDENCE = frozenset(
    {
        EventType.QUEUED,
        EventType.PROCESSED,
        EventType.SENT,
        EventType.DELIVERED,
        EventType.DEFERRED,
        EventType.BOUNCED,
        EventType.SOFT_BOUNCED,
        EventType.BLOCKED,
        EventType.REJECTED,
        EventType.DROPPED,
        EventType.OPENED,
        EventType.CLICKED,
        EventType.COMPLAINED,
        EventType.UNSUBSCRIBED,
    }
)
"""What a provider only reports of a message it took."""


FINAL = frozenset({"superseded"})
"""Reasons to skip that hold for the stages to come too."""


class Occasion(NamedTuple):
    """What one mail is for: a SendQueue message without its time. `variant` follows from the person."""

    person: str
    trigger: str
    key: str
    version: str
    stage: int = 0
    variant: str = ""

    @classmethod
    def of(cls, run: Run) -> Occasion:
        """What the run would send now."""
        return cls(run.person, run.trigger, run.key, run.version, run.stage, run.variant)

    @classmethod
    def asked(cls, request: Mapping[str, Any]) -> Occasion:
        """What a SendQueue message is about."""
        later = request.get("stage", 0), request.get("variant", "")  # left out by what was on its way when they came
        return cls(request["person"], request["trigger"], request["key"], request["version"], *later)

    @property
    def send_key(self) -> str:
        """The key under which it is sent once."""
        return send_key(trigger=self.trigger, person=self.person, key=self.key, version=self.version, stage=self.stage)


What = Literal["sent", "awarded", "skipped", "waiting", "nothing"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one queue message; `reason` says why, in a snake_case code."""

    what: What
    reason: str
    trigger: str = ""

    def log_fields(self) -> dict[str, Any]:
        """For the log line: no address, no person."""
        return {"outcome": self.what, "reason": self.reason, "trigger": self.trigger}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliverer:
    """The ports of this use-case. `sender` opens a provider by its published settings.

    `links` makes links to our own pages, where there are any; `recommender` finds what templates recommend.
    """

    people: People
    runs: Runs
    decisions: Decisions
    timers: Timers
    claims: Claims
    events: EventStore
    published: Published
    sender: Callable[[str, Mapping[str, Any]], Sender]
    clock: Callable[[], datetime]
    links: Callable[[], MailLinks | None] = lambda: None
    recommender: Recommender | None = None
    window: timedelta = field(default=RECONCILE_WINDOW)

    def deliver(self, request: Mapping[str, Any]) -> Outcome:
        """Act on one SendQueue message (`espial.triggers.run.message`), however often it is delivered.

        `unsent`, where it is there, is the attempt whose claim was taken and surely not used.
        Raises TryAgain when a store is away; the queue delivers the message again then.
        """
        asked = Occasion.asked(request)
        if "unsent" in request:
            self.claims.release(Claim(asked.person, asked.send_key, int(request["unsent"])))
        trigger = self.published.trigger(asked.trigger)
        if trigger is None:
            return self._orphaned(asked)
        view = self.people.load(PersonKey.parse(asked.person))
        run = _run_in(view, asked)
        if run is not None:  # whoever is in flight stays under what it began with
            trigger = self.published.trigger(asked.trigger, run.definitions) or trigger
        current = Occasion.of(run) if run is not None else None
        earlier = self._resumed(asked, trigger) if current != asked else None
        if run is None or current is None:
            return earlier or Outcome("nothing", "no_run", trigger.name)
        # where the run has moved on, this message may be the only timer it has
        return self._decide(current, trigger, run, view)

    def _orphaned(self, asked: Occasion) -> Outcome:
        """The trigger was removed: what waits is skipped, unless a mail may be on its way already."""
        run = self.runs.get(asked.person, asked.trigger, asked.key)
        if run is not None and run.state == "waiting" and self._standing(Occasion.of(run)) is None:
            return self._skipped(Occasion.of(run), None, Decision("skip", "trigger_removed"), self.clock())
        return Outcome("nothing", "trigger_removed", asked.trigger)

    def _resumed(self, occasion: Occasion, trigger: Trigger) -> Outcome | None:
        """What came of the occasion where its claim says that something did or may have; else None."""
        standing = self._standing(occasion)
        return self._resume(occasion, trigger, standing) if standing is not None else None

    def _standing(self, occasion: Occasion) -> Standing | None:
        """How the occasion's claim stands; None where it is free."""
        standing = self.claims.look(occasion.person, occasion.send_key, now=self.clock())
        return None if isinstance(standing, Claim) else standing

    # -- before the claim

    def _decide(self, occasion: Occasion, trigger: Trigger, run: Run, view: PersonView) -> Outcome:
        now = self.clock()
        decision = decide(trigger, run, view, now)
        if isinstance(trigger, CampaignTrigger) and _is_eligible(decision):
            if not trigger.campaign.shares:
                return self._only_award(trigger, run, view, decision, now)
            self._award(trigger, run, view, now)
        if decision.outcome != "send":
            return self._resumed(occasion, trigger) or self._not_sent(trigger, run, view, decision, now)
        self.decisions.record(occasion.person, decision, run, now=now)
        try:
            sender, mail = self._prepare(trigger, run, view)
        except Refused as exc:
            return self._unmade(occasion, trigger, exc)
        return self._claim(occasion, trigger, run, sender, mail)

    def _award(self, trigger: CampaignTrigger, run: Run, view: PersonView, now: datetime) -> None:
        """Before the message, which may say what was awarded. Ids are computed: a repeat changes nothing."""
        if trigger.campaign.awards:
            known = facts(trigger, run, view, key=Occasion.of(run).send_key, now=now)
            for made in happened.outcomes(trigger, run, known):
                record_own(self.events, made)

    def _only_award(
        self, trigger: CampaignTrigger, run: Run, view: PersonView, decision: Decision, now: datetime
    ) -> Outcome:
        """The campaign has no message: this is all."""
        occasion = Occasion.of(run)
        if over := happened.reached(trigger, run, view.events, now):
            return self._skipped(occasion, trigger, over, now)
        self._award(trigger, run, view, now)
        self.decisions.record(occasion.person, decision, run, now=now)
        self.runs.finish(run, "sent", closed_at=now, reason="awarded")
        return Outcome("awarded", "awarded", occasion.trigger)

    def _not_sent(self, trigger: Trigger, run: Run, view: PersonView, decision: Decision, now: datetime) -> Outcome:
        occasion = Occasion.of(run)
        if decision.outcome == "skip":
            return self._skipped(occasion, trigger, decision, now, exit_of(trigger, run, view))
        if decision.until is not None:
            waiting = self._later(occasion, decision.reason, decision.until)
            # what quiet hours put off is due when they are over: it is not late, and the next stage keeps its distance
            due_at = decision.until if decision.reason == "quiet_hours" else run.due_at
            self.runs.put(replace(run, due_at=due_at, timer_at=decision.until), run)
            return waiting
        return Outcome("nothing", decision.reason, occasion.trigger)

    def _prepare(self, trigger: Trigger, run: Run, view: PersonView) -> tuple[Sender, Message]:
        share = trigger.share(view, run.person) if isinstance(trigger, CampaignTrigger) else None
        name = share.provider if share else trigger.send.provider
        settings = self.published.provider(name)
        sender = self.sender(name, settings)
        now = self.clock()
        to = destined(sender.channel, recipient(trigger, run, view, now) or "")
        key = Occasion.of(run).send_key
        known = facts(trigger, run, view, key=key, now=now) if isinstance(trigger, CampaignTrigger) else {}
        if share and share.template is None:
            return sender, unrendered(run, to, key=key, channel=sender.channel, variant=share.variant, facts=known)
        own = trigger.template(run.stage, guest=view.external_id is None, variant=run.variant)
        compiled = self.published.template((share and share.template) or own, run.definitions)
        printed = {name: value for name, value in known.items() if name != "event"}  # which templates know as it is
        mail = compose(
            run,
            view,
            to,
            key=key,
            provider=settings,
            template=compiled,
            links=self._links(trigger, run, view, to, key=key, has_page=bool(settings.get("unsubscribe_url"))),
            track=trigger.send.track,
            extra={**printed, **self._recommended(compiled, run, view, now)},
            now=now,
            channel=sender.channel,
        )
        check(mail, sender.features)
        return sender, mail

    def _links(
        self, trigger: Trigger, run: Run, view: PersonView, to: str, *, key: str, has_page: bool
    ) -> MailLinks | None:
        """To our own pages, where the provider names none or what readers do is to be told."""
        links = self.links() if trigger.send.track or not has_page else None
        return links.to(reader(trigger, run, view, to, key)) if links is not None else None

    def _recommended(self, template: Mapping[str, Any], run: Run, view: PersonView, now: datetime) -> Mapping[str, Any]:
        wanted = template.get("recommendations")
        if self.recommender is None or not wanted:
            return {}
        return {"recommendations": self.recommender.products(wanted, run, view, now)}

    def _unmade(self, occasion: Occasion, trigger: Trigger, refusal: Refused) -> Outcome:
        """No mail can be made of it: settled under a claim, lest a template mended meanwhile sends it after all."""
        standing = self.claims.claim(occasion.person, occasion.send_key, now=self.clock(), lease=LEASE)
        if not isinstance(standing, Claim):
            return self._resume(occasion, trigger, standing)
        return self._refused(occasion, trigger, standing, refusal)

    # -- under the claim

    def _claim(
        self, occasion: Occasion, trigger: Trigger, run: Run, sender: Sender, mail: Message, *, repeats: bool = False
    ) -> Outcome:
        """`repeats`: a call of whose outcome nobody knows went before."""
        given_back = self._unknown if repeats else self._unsent
        standing = self.claims.claim(occasion.person, occasion.send_key, now=self.clock(), lease=LEASE)
        if not isinstance(standing, Claim):
            return self._resume(occasion, trigger, standing)
        now = self.clock()
        try:
            view = self.people.load(PersonKey.parse(occasion.person))
        except TryAgain as exc:
            return given_back(occasion, standing, "person_unreadable", now + timedelta(seconds=exc.after))
        same = destined(mail.channel, recipient(trigger, run, view, now) or "") == mail.to
        if not same or decide(trigger, run, view, now).outcome != "send":
            return given_back(occasion, standing, "changed_meanwhile", now)
        return self._hand_over(trigger, run, standing, (sender, mail), given_back)

    def _hand_over(
        self,
        trigger: Trigger,
        run: Run,
        claim: Claim,
        made: tuple[Sender, Message],
        given_back: Callable[[Occasion, Claim, str, datetime], Outcome],
    ) -> Outcome:
        occasion, (sender, mail) = Occasion.of(run), made
        try:
            receipt = sender.send(mail, idempotency_key=occasion.send_key)
        except Refused as exc:
            if isinstance(exc, Suppressed):
                bounced = happened.suppressed(occasion, mail, exc.reason, channel=trigger.channel, at=self.clock())
                record_own(self.events, bounced)
            return self._refused(occasion, trigger, claim, exc)
        except TryAgain as exc:
            return given_back(occasion, claim, "provider_busy", self.clock() + timedelta(seconds=exc.after))
        except OutcomeUnknown:
            self.claims.unknown(claim)
            return self._settle(occasion, trigger, Unsettled(claim, self.clock()))
        self.claims.sent(claim, receipt)
        return self._sent(occasion, trigger, receipt, run)

    def _unknown(self, occasion: Occasion, claim: Claim, reason: str, at: datetime) -> Outcome:
        """No call was made, but the one before may have been taken: looked at again at `at`."""
        self.claims.unknown(claim)
        return self._later(occasion, reason, at)

    def _unsent(self, occasion: Occasion, claim: Claim, reason: str, at: datetime) -> Outcome:
        """Nothing was handed over, surely: the claim is free again, and the occasion is looked at anew at `at`."""
        try:
            self.claims.release(claim)
        except TryAgain:  # the queue remembers what the table cannot be told, and `deliver` tells it then
            return self._later(occasion, reason, at, unsent=claim.attempt)
        return self._later(occasion, reason, at)

    # -- after the call

    def _resume(self, occasion: Occasion, trigger: Trigger, standing: Standing) -> Outcome:
        """Go on where an earlier delivery of this occasion's message, or another copy of it, got to."""
        match standing:
            case AlreadySent(provider, message_id, at):
                receipt = Receipt(provider=provider, provider_message_id=message_id, at=at)
                return self._sent(occasion, trigger, receipt, self._run(occasion))
            case AlreadyRefused(reason):
                return self._skipped(occasion, trigger, Decision("skip", reason), self.clock())
            case InProgress(until):
                return self._later(occasion, "in_progress", until)
            case Unsettled():
                return self._settle(occasion, trigger, standing)
            case Claim():
                raise TryAgain("the claim was given back meanwhile", after=0)

    def _settle(self, occasion: Occasion, trigger: Trigger, unsettled: Unsettled) -> Outcome:
        """An unknown outcome: by the provider's own events, and if none come in time by the trigger's word."""
        now = self.clock()
        view = self.people.load(PersonKey.parse(occasion.person))
        receipt = evidence(view, occasion.send_key)
        if receipt is not None:
            self.claims.sent(unsettled.claim, receipt)
            return self._sent(occasion, trigger, receipt, self._run(occasion))
        if self._takes_a_key_once(trigger, view, occasion):
            again = unsettled.since + REPEAT_AFTER
            if now < again:
                return self._later(occasion, "repeating_with_the_same_key", again)
            if (outcome := self._repeated(occasion, trigger, unsettled.claim, view)) is not None:
                return outcome
        if now < unsettled.since + self.window:
            # counted from the call, so that every copy of the message sets the same timer
            looks = (now - unsettled.since) // RECONCILE_STEP + 1
            at = min(unsettled.since + looks * RECONCILE_STEP, unsettled.since + self.window)
            return self._later(occasion, "outcome_unknown", at)
        if trigger.send.unknown_outcome == "resend" and unsettled.claim.attempt < MAX_ATTEMPTS:
            self.claims.release(unsettled.claim)
            return self._later(occasion, "sending_again", now)
        self.claims.refused(unsettled.claim, "outcome_unknown")
        return self._skipped(occasion, trigger, Decision("skip", "outcome_unknown"), now)

    def _repeated(self, occasion: Occasion, trigger: Trigger, claim: Claim, view: PersonView) -> Outcome | None:
        """The same call once more, if it would still be made; else None: whether it was taken, events may tell."""
        run = self._run(occasion)
        if run is None or decide(trigger, run, view, self.clock()).outcome != "send":
            return None
        try:
            sender, mail = self._prepare(trigger, run, view)
        except Refused:
            return None
        self.claims.release(claim)
        return self._claim(occasion, trigger, run, sender, mail, repeats=True)

    def _takes_a_key_once(self, trigger: Trigger, view: PersonView, occasion: Occasion) -> bool:
        share = trigger.share(view, occasion.person) if isinstance(trigger, CampaignTrigger) else None
        name = share.provider if share else trigger.send.provider
        try:
            return self.sender(name, self.published.provider(name)).idempotent
        except Refused:  # the provider was removed meanwhile
            return False

    def _refused(self, occasion: Occasion, trigger: Trigger, claim: Claim, refusal: Refused) -> Outcome:
        self.claims.refused(claim, refusal.reason)
        rule = Rule(refusal.reason, refusal.detail or None, verdict=False)
        return self._skipped(occasion, trigger, Decision("skip", refusal.reason, None, (rule,)), self.clock())

    def _later(self, occasion: Occasion, reason: str, at: datetime, **known: int) -> Outcome:
        """Look again at `at`, whatever the run is by then, and knowing what is `known` now."""
        name = "/".join((occasion.person, occasion.trigger, occasion.key, *map(str, known.values())))
        self.timers.at(at, {**occasion._asdict(), "due_at": at.isoformat(), **known}, name, now=self.clock())
        return Outcome("waiting", reason, occasion.trigger)

    # -- the books

    def _sent(self, occasion: Occasion, trigger: Trigger, receipt: Receipt, run: Run | None) -> Outcome:
        record_own(
            self.events, own_events.message_requested(occasion, receipt, channel=trigger.channel, **trigger.labels)
        )
        if run is not None:
            self._spoken(trigger, run, "sent", receipt.at)
        return Outcome("sent", "sent", occasion.trigger)

    def _skipped(
        self, occasion: Occasion, trigger: Trigger | None, decision: Decision, now: datetime, ended: Ended | None = None
    ) -> Outcome:
        run = self._run(occasion)
        due = run.due_at if run is not None else own_events.instant(occasion.version)
        at = ended.event.occurred_at if ended is not None else due
        record_own(self.events, own_events.message_skipped(occasion, decision, at=at))
        if run is not None:
            self.decisions.record(occasion.person, decision, run, now=now)
            if ended is not None:
                event = ended.event
                self.runs.finish(
                    run, "exited", closed_at=event.occurred_at, reason=decision.reason, ended_by=event.event_id
                )
            else:
                lasting = trigger is None or decision.reason in FINAL
                self._spoken(None if lasting else trigger, run, "skipped", now, decision.reason)
        return Outcome("skipped", decision.reason, occasion.trigger)

    def _spoken(self, trigger: Trigger | None, run: Run, state: State, at: datetime, reason: str = "") -> None:
        """The run goes on to its next stage, or ends."""
        following = next_stage(trigger, run, at) if trigger is not None else None
        if following is None:
            self.runs.finish(run, state, closed_at=at, reason=reason)
            return
        self._later(Occasion.of(following), "next_stage", following.due_at)
        self.runs.put(following, run)

    def _run(self, occasion: Occasion) -> Run | None:
        """The run while it is still about this occasion."""
        run = self.runs.get(occasion.person, occasion.trigger, occasion.key)
        return run if run is not None and Occasion.of(run) == occasion else None


def _run_in(view: PersonView, occasion: Occasion) -> Run | None:
    """The occasion's run, whatever its version."""
    same = (run for run in view.runs if (run.person, run.trigger, run.key) == occasion[:3])
    return next(same, None)


ABOUT_THE_MESSAGE = frozenset({"address", "suppression", "consent", "quiet_hours"})
"""Rules because of which somebody gets no message who is awarded what the campaign awards all the same."""


def _is_eligible(decision: Decision) -> bool:
    """Whether nothing stands against it but, at most, what is about the message alone."""
    failed = {rule.name for rule in decision.rules if not rule.verdict}
    return decision.outcome == "send" or (decision.outcome == "skip" and bool(failed) and failed <= ABOUT_THE_MESSAGE)


def evidence(view: PersonView, key: str) -> Receipt | None:
    """The provider's own word, in the person's events, that it took the message of this send key."""
    for event in view.events:
        said = event.send_key == key and event.type in EVIDENCE
        if said or event.properties.get(OWN_KEY) == key:
            return Receipt(provider=event.platform, provider_message_id=event.message_id or "", at=event.occurred_at)
    return None
