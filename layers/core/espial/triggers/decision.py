"""Whether a message goes out: pure, and the same when an event arrives and in the instant before sending.

A run moves by `begin` and `advance` (what an event starts or restarts) and by `exit_of` (what ends it); `decide`
judges it against everything known of the person at that instant. None of them depends on the order in which events
arrived: they compare (occurred_at, event_id), and read the person's recorded timeline rather than what was seen last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple

import msgspec

from espial.events import Event
from espial.people import PersonView, address_in
from espial.triggers import arms, cel, clock, durations
from espial.triggers.definition import Condition, Every, Exit, Limit, Trigger
from espial.triggers.run import Bid, Run
from espial.vocabulary import EventType

Outcome = Literal["send", "wait", "skip", "none"]

RECHECK = timedelta(seconds=5)
"""How soon to look again when a newer version is recorded but its run has not moved yet."""


LONGEST_KEY = 200
"""Characters of a run's key; what is longer is no name of anything, and starts no run."""


class Rule(msgspec.Struct, frozen=True):
    """One rule, what it found and its verdict; `verdict` True lets the message go."""

    name: str
    value: Any
    verdict: bool
    detail: str = ""


class Decision(msgspec.Struct, frozen=True):
    """What to do with a run.

    send   nothing stands against it
    wait   look again at `until` (`not_due`; `superseded`: a newer version is recorded and takes over; `quiet_hours`:
           it is due when they are over; `held`: one that matters more may come)
    skip   never; `reason` is the first rule that said no
    none   there is nothing left to decide (`already_sent`, `already_skipped`, `already_exited`)
    """

    outcome: Outcome
    reason: str
    until: datetime | None = None
    rules: tuple[Rule, ...] = ()


class Ended(NamedTuple):
    """An exit rule and the event that met it."""

    rule: Exit
    event: Event


# what moves a run ---------------------------------------------------------------------------------------------------


def begin(trigger: Trigger, event: Event, person: str) -> Run | None:
    """The run that the event would start, or None.

    Only live events start runs (goal 14), within the trigger's validity, where `where` holds and `key` gives text.
    What itself meets an exit rule, such as an emptied cart, starts nothing.
    """
    if event.type not in trigger.on or event.mode != "live" or not _valid(trigger, event.occurred_at):
        return None
    if trigger.entry is not None and event.properties.get("trigger") != trigger.name:
        return None
    scope = _subject(trigger, event)
    if not scope.holds(trigger.where).value:
        return None
    key, _ = _key(trigger, scope)
    if key is None:
        return None
    run = _run_of(trigger, event, key, person)
    return None if _met(trigger, run, event) else run


def _run_of(trigger: Trigger, event: Event, key: str, person: str) -> Run:
    return Run(
        trigger=trigger.name,
        person=person,
        key=key,
        version=event.event_id,
        started_at=event.occurred_at,
        due_at=event.occurred_at + trigger.plan[0].after,
        event=event,
        bid=trigger.bid,
        lasting=trigger.reentry == "never",
    )


def _subject(trigger: Trigger, event: Event) -> cel.Scope:
    return cel.Scope((trigger.where, trigger.key), {"event": cel.plain(event)})


def _key(trigger: Trigger, scope: cel.Scope) -> tuple[str | None, str]:
    """What the run would be about, or why nothing."""
    key, error = scope.evaluate(trigger.key)
    if isinstance(key, bool) or not isinstance(key, str | int) or not 0 < len(str(key)) <= LONGEST_KEY:
        return None, error or f"neither a number nor a text of 1 to {LONGEST_KEY} characters"
    return str(key), ""


def beginning(trigger: Trigger, event: Event, person: PersonView) -> Iterator[Rule]:
    """Why an event starts a run, or none: `begin`, `barred_by` and `advance`, explained."""
    yield Rule("status", trigger.status, trigger.status in ("live", "staging"))
    yield Rule("on", event.type.value, event.type in trigger.on)
    if trigger.entry is not None:
        entered = event.properties.get("trigger")
        yield Rule("entry", entered, entered == trigger.name)
    yield Rule("mode", event.mode, event.mode == "live")
    yield Rule("validity", event.occurred_at.isoformat(), _valid(trigger, event.occurred_at))
    scope = _subject(trigger, event)
    where, error = scope.holds(trigger.where)
    yield Rule("where", where, bool(where), error or trigger.where)
    key, missing = _key(trigger, scope)
    yield Rule("key", key, key is not None, missing or trigger.key)
    if key is None:
        return
    run = _run_of(trigger, event, key, str(person.key))
    met = _met(trigger, run, event)
    yield Rule("exit", met and met.name, met is None, "the event itself ends what it would begin" if met else "")
    barring = barred_by(trigger, run, person.runs)
    yield Rule("reentry", barring and barring.key, barring is None, "was in before" if barring else "")
    known = [one for one in person.runs if (one.trigger, one.key) == (run.trigger, run.key)]
    newest = max(known, key=lambda one: one.order, default=None)
    if newest is not None and newest.version != run.version:
        verdict = advance(trigger, newest, run) is not newest
        yield Rule("newest", newest.version, verdict, "the event that the run is about now")


def advance(trigger: Trigger, run: Run | None, candidate: Run) -> Run:
    """The run after the candidate: `run` itself when nothing changes, whatever order events came in.

    A run that has not spoken yet takes the newer version if the trigger restarts. One that has, by a stage or by its
    end, begins anew, at its first stage, only for something that happened since. An older event, come late, changes
    nothing.
    """
    if run is None:
        return candidate
    spoken = run.closed_at is not None and candidate.started_at <= run.closed_at
    begins_anew = trigger.restart or (run.state != "waiting" and trigger.reentry != "per_key")
    if not begins_anew or candidate.order <= run.order or spoken:
        return run
    return replace(candidate, person=run.person, timer_at=run.timer_at if run.state == "waiting" else None)


def barred_by(trigger: Trigger, candidate: Run, runs: Iterable[Run]) -> Run | None:
    """The person's run, under another key or an ended one, because of which the candidate may not begin.

    A waiting run under its own key takes its contents (`advance`): that is no new beginning.
    """
    if trigger.reentry == "per_key":
        return None
    others = [run for run in runs if run.trigger == trigger.name and run.version != candidate.version]
    if any(run.key == candidate.key and run.state == "waiting" for run in others):
        return None
    return next((run for run in others if _bars(trigger.reentry, run, candidate)), None)


def _bars(rule: Literal["never", "after_exit"] | Every, run: Run, candidate: Run) -> bool:
    if run.reason == _REASONS["reentry"]:
        return False
    if isinstance(rule, Every):
        return candidate.started_at - run.started_at < rule.every
    return rule == "never" or run.state == "waiting"


def next_stage(trigger: Trigger, run: Run, at: datetime) -> Run | None:
    """The run once a stage was sent or skipped at `at`, waiting for the next one; None after the last.

    Stages keep their distance, whatever put off the one before.
    """
    if run.stage + 1 >= len(trigger.plan):
        return None
    due_at = run.due_at + trigger.plan[run.stage + 1].after - trigger.plan[run.stage].after
    return replace(run, stage=run.stage + 1, due_at=due_at, timer_at=due_at, closed_at=at)


def exit_of(trigger: Trigger, run: Run, person: PersonView) -> Ended | None:
    """The last recorded event that ends the run: one that meets an exit rule and is not older than the run."""
    for event in reversed(person.events):
        if event.occurred_at < run.started_at:
            return None
        if event.event_id != run.version and (rule := _met(trigger, run, event)):
            return Ended(rule, event)
    return None


def exited(run: Run, ended: Ended) -> Run:
    """The run as the event leaves it."""
    event = ended.event
    return replace(run, state="exited", closed_at=event.occurred_at, reason=ended.rule.name, ended_by=event.event_id)


def _met(trigger: Trigger, run: Run, event: Event) -> Exit | None:
    """The exit rule that the event meets."""
    rules = [rule for rule in trigger.exit_on if rule.event is event.type]
    if not rules:
        return None
    sources = [rule.when for rule in rules]
    scope = cel.Scope(sources, {"event": cel.plain(event), "run": _run_facts(run)})
    return next((rule for rule in rules if scope.holds(rule.when).value), None)


# the decision -------------------------------------------------------------------------------------------------------


def decide(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> Decision:
    """Judge a run at an instant. Every rule is evaluated and explained, also after one has said no.

    Exits are looked at first, so that a purchase ends the run at once; the other rules only when it is due.
    An explanation holds no address.
    """
    if run.state != "waiting":
        return Decision("none", f"already_{run.state}")
    if run.stage >= len(trigger.plan):
        return Decision("skip", "stage_removed")
    ended = exit_of(trigger, run, person)
    exits = tuple(_exit_rule(rule, ended) for rule in trigger.exit_on)
    if ended is not None:
        return Decision("skip", ended.rule.name, None, exits)
    twin = _twin(run, person)
    if not twin.verdict:
        return Decision("skip", _REASONS[twin.name], None, (*exits, twin))
    later = _later(trigger, run, person, now, exits)
    if later is not None:
        return later
    rules = (*exits, twin, *_rules(trigger, run, person, now))
    reason = reason_of(rules)
    return Decision("skip" if reason else "send", reason or "all_rules_hold", None, rules)


def _later(trigger: Trigger, run: Run, person: PersonView, now: datetime, exits: tuple[Rule, ...]) -> Decision | None:
    """Why it is too early to judge, if it is."""
    newer = _newer(trigger, run, person)
    if newer is not None and now <= newer.due_at + trigger.stale_after:
        rule = Rule("version", newer.version, verdict=False, detail="a newer event is about to take over")
        return Decision("wait", "superseded", max(newer.due_at, now + RECHECK), (rule, *exits))
    if now < run.due_at:
        return Decision("wait", "not_due", run.due_at, exits)
    over = _deferred(trigger, person, now)
    if over is not None and _freshness(trigger, run, person, now).verdict:
        rule = Rule("quiet_hours", over.isoformat(), verdict=False, detail="until then nothing is sent")
        return Decision("wait", "quiet_hours", over, (*exits, rule))
    if trigger.hold:
        return _held(trigger, run, person, now, exits)
    return None


def _held(trigger: Trigger, run: Run, person: PersonView, now: datetime, exits: tuple[Rule, ...]) -> Decision | None:
    """The wait for a message that matters more: for one to come, then for one that is due to be settled."""
    until = run.due_at + trigger.hold
    if now < until:
        return Decision("wait", "held", until, exits)
    if _rival_sent(trigger, run, person) is not None:
        return None
    for other in person.runs:
        near = abs(other.due_at - run.due_at) <= trigger.hold
        if other.state == "waiting" and near and _outbids(other.bid, trigger):
            again = max(other.due_at + other.bid.hold, now) + RECHECK
            if again <= until + trigger.stale_after:  # not for ever: it may never be looked at
                rule = Rule("priority", other.trigger, verdict=False, detail="is due too, and goes first if it can")
                return Decision("wait", "held", again, (*exits, rule))
    return None


def _rival_sent(trigger: Trigger, run: Run, person: PersonView) -> str | None:
    """The trigger whose message went instead of this one."""
    for event in reversed(person.of_type(EventType.MESSAGE_REQUESTED)):
        if event.occurred_at < run.due_at - trigger.hold:
            return None
        said = event.properties
        if _outbids(Bid(said.get("priority", 0), event.channel, said.get("category", "")), trigger):
            return str(said.get("trigger"))
    return None


def _outbids(bid: Bid, trigger: Trigger) -> bool:
    """Whether it matters more than the trigger's message and counts against one of its limits."""
    scopes = {limit.scope for limit in trigger.limits}
    shared = (
        "person" in scopes
        or ("channel" in scopes and bid.channel == trigger.channel)
        or ("category" in scopes and bid.category == trigger.category)
    )
    return shared and bid.priority > trigger.priority


def reason_of(rules: tuple[Rule, ...]) -> str:
    """The skip reason that an explanation amounts to: that of its first rule that said no, or nothing."""
    failed = next((rule for rule in rules if not rule.verdict), None)
    if failed is None:
        return ""
    return _REASONS.get(failed.name, failed.name.removeprefix("exit:"))


_REASONS = {
    "status": "not_live",
    "validity": "outside_validity",
    "twin": "superseded",
    "reentry": "not_again",
    "priority": "yielded",
    "variant": arms.HELD_OUT,
    "freshness": "stale",
    "address": "no_address",
    "suppression": "suppressed",
    "consent": "no_consent",
}
"""Rule -> the reason a message is skipped for; `condition:…` and `limit:…` are their own, an exit its own name."""


def recipient(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> str | None:
    """The address the message goes to, by the trigger's `send.to`, or None."""
    return _address(trigger, _scope(trigger, run, person, now)).value or None


def _rules(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> Iterator[Rule]:
    yield Rule("status", trigger.status, trigger.status in ("live", "staging"))
    yield Rule("validity", now.isoformat(), _valid(trigger, now))
    yield _freshness(trigger, run, person, now)
    if trigger.reentry != "per_key":
        earlier = [other for other in person.runs if other.key != run.key and other.order < run.order]
        barring = barred_by(trigger, run, earlier)  # begun at once by two workers, neither of whom saw the other's
        yield Rule("reentry", barring and barring.key, barring is None, "begun before" if barring else "")
    if trigger.hold:
        rival = _rival_sent(trigger, run, person)
        yield Rule("priority", rival, rival is None, "went instead" if rival else "")
    if trigger.quiet_hours is not None:
        over = _quiet_until(trigger, person, now)
        yield Rule("quiet_hours", over and over.isoformat(), over is None, "until then nothing is sent" if over else "")
    scope = _scope(trigger, run, person, now)
    for condition in (*trigger.conditions, *trigger.plan[run.stage].conditions):
        yield _condition(condition, scope)
    for limit in trigger.limits:
        yield _limit(limit, trigger, run, person, now)
    address, error = _address(trigger, scope)
    yield Rule("address", bool(address), bool(address), error)
    yield _suppression(trigger, person, address)
    yield _consent(trigger, person)
    if trigger.variants or trigger.holdout:
        yield Rule("variant", run.variant, run.variant != arms.HELD_OUT)
    if trigger.status == "staging":
        yield Rule("staging", trigger.status, verdict=False, detail="in staging: this is where it would have been sent")


def _freshness(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> Rule:
    late = now - _due(trigger, run, person)
    return Rule(
        "freshness",
        round(late.total_seconds(), 3),
        late <= trigger.stale_after,
        f"seconds after it was due, at most {durations.text(trigger.stale_after)}",
    )


def _due(trigger: Trigger, run: Run, person: PersonView) -> datetime:
    """When it could go out first: where quiet hours put it off, that is when they are over; held back as it is."""
    return (_deferred(trigger, person, run.due_at) or run.due_at) + trigger.hold


def _deferred(trigger: Trigger, person: PersonView, at: datetime) -> datetime | None:
    """Until when quiet hours put off what would be sent at the instant; None where they do not."""
    defers = trigger.quiet_hours is not None and trigger.quiet_hours.action == "defer"
    return _quiet_until(trigger, person, at) if defers else None


def _valid(trigger: Trigger, at: datetime) -> bool:
    return not (
        (trigger.valid_from is not None and at < trigger.valid_from)
        or (trigger.valid_to is not None and at >= trigger.valid_to)
    )


def _run_facts(run: Run) -> dict[str, Any]:
    return {"key": run.key, "version": run.version, "started_at": run.started_at, "due_at": run.due_at}


def _scope(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> cel.Scope:
    attributes = person.attributes
    known = {
        "external_id": person.external_id,
        "email": attributes.get("email") or address_in(run.event, "email"),
        "phone": attributes.get("phone") or address_in(run.event, "sms"),
    }
    facts = {name: value for name, value in known.items() if value}
    variables = {
        "event": cel.plain(run.event),
        "person": {**facts, "attributes": attributes, "consent": person.consent},
        "run": _run_facts(run),
        "now": now,
    }
    conditions = (*trigger.conditions, *trigger.plan[run.stage].conditions)
    sources = (trigger.send.to, *(rule.when for rule in conditions))
    return cel.Scope(sources, variables, cel.timeline(person.times, person.of_type, now))


def _address(trigger: Trigger, scope: cel.Scope) -> cel.Result:
    value, error = scope.evaluate(trigger.send.to)
    if error or not isinstance(value, str):
        return cel.Result("", error or f"gave {type(value).__name__}, not an address")
    return cel.Result(value.strip().lower() if trigger.channel == "email" else value.strip())


def _exit_rule(rule: Exit, ended: Ended | None) -> Rule:
    met = ended is not None and ended.rule == rule
    return Rule(f"exit:{rule.name}", ended.event.event_id if met and ended else None, not met, rule.event.value)


def _newer(trigger: Trigger, run: Run, person: PersonView) -> Run | None:
    """The newest version of this run that is recorded; its own run may not have moved to it yet."""
    if not trigger.restart:
        return None
    for event in reversed(person.events):
        if (event.occurred_at, event.event_id) <= run.order:
            return None
        candidate = begin(trigger, event, run.person)
        if candidate and candidate.key == run.key and advance(trigger, run, candidate) is not run:
            return candidate
    return None


def _twin(run: Run, person: PersonView) -> Rule:
    """Of two runs about one thing, begun under two keys before these were known to be one person's, one sends."""
    for other in person.runs:
        if (other.trigger, other.key) != (run.trigger, run.key) or other.person == run.person:
            continue
        waiting = other.state == "waiting" and (*other.order, other.person) > (*run.order, run.person)
        done = other.closed_at is not None and other.state != "skipped" and run.started_at <= other.closed_at
        if waiting or done:
            return Rule("twin", other.person.partition(":")[0], verdict=False, detail="another run speaks for this")
    return Rule("twin", None, verdict=True)


def _condition(condition: Condition, scope: cel.Scope) -> Rule:
    value, error = scope.holds(condition.when)
    return Rule(f"condition:{condition.name}", value, value, error or condition.when)


def _limit(limit: Limit, trigger: Trigger, run: Run, person: PersonView, now: datetime) -> Rule:
    """Messages already on their way count, this very message (a repeat after a crash) does not."""
    count = 0
    for event in reversed(person.of_type(EventType.MESSAGE_REQUESTED)):
        if not _inside(limit, event.occurred_at, now, trigger, person):
            break
        said = event.properties
        own = (said.get("trigger"), said.get("key"), said.get("version"), said.get("stage", 0))
        if own == (trigger.name, run.key, run.version, run.stage):
            continue
        count += _counts(limit, trigger, event)
    return Rule(
        f"limit:{limit.name}",
        count,
        count < limit.count,
        f"at most {limit.count} a {limit.scope} in {limit.window}",
    )


def _inside(limit: Limit, at: datetime, now: datetime, trigger: Trigger, person: PersonView) -> bool:
    if limit.per is None:
        return at > now - (limit.within or timedelta(0))
    return at >= clock.day_began(limit.per, now, _zone(person, trigger.zone))


def _counts(limit: Limit, trigger: Trigger, event: Event) -> bool:
    match limit.scope:
        case "person":
            return True
        case "trigger":
            return event.properties.get("trigger") == trigger.name
        case "channel":
            return event.channel == trigger.channel
        case "category":
            return event.properties.get("category") == trigger.category


def _zone(person: PersonView, otherwise: str) -> tzinfo:
    """The person's own zone, where it is known."""
    return clock.first_zone((*map(person.attributes.get, clock.ZONE_ATTRIBUTES), otherwise))


def _quiet_until(trigger: Trigger, person: PersonView, at: datetime) -> datetime | None:
    """When the quiet hours that hold the instant are over; None outside them."""
    hours = trigger.quiet_hours
    if hours is None:
        return None
    where = _zone(person, trigger.zone) if hours.zone == "person" else clock.first_zone((hours.zone,))
    return clock.quiet_until(hours.from_, hours.to, at, where)


def _suppression(trigger: Trigger, person: PersonView, address: str) -> Rule:
    """A hard bounce stops everything to the address; a complaint or opt-out everything but transactional messages."""
    for block in person.blocks(trigger.channel, address):
        if trigger.consent is not None or block.reason == EventType.BOUNCED:
            return Rule("suppression", block.reason, verdict=False, detail=f"since {block.at.isoformat()}")
    if trigger.consent is not None:
        choice = person.choice(trigger.channel, trigger.consent.topic)
        if choice is not None and not choice.granted and choice.by == EventType.UNSUBSCRIBED:
            return Rule("suppression", choice.by, verdict=False, detail=f"since {choice.at.isoformat()}")
    return Rule("suppression", None, verdict=True)


def _consent(trigger: Trigger, person: PersonView) -> Rule:
    if trigger.consent is None:
        return Rule("consent", None, verdict=True, detail="transactional")
    choice = person.choice(trigger.channel, trigger.consent.topic)
    granted = choice.granted if choice else not trigger.consent.opt_in
    scope = f"{trigger.consent.channel}/{trigger.consent.topic}"
    return Rule("consent", choice.granted if choice else None, granted, scope)
