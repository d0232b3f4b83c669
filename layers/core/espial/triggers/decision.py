"""Whether a message goes out: pure, and the same when an event arrives and in the instant before sending.

A run moves by `begin` and `advance` (what an event starts or restarts) and by `exit_of` (what ends it); `decide`
judges it against everything known of the person at that instant. None of them depends on the order in which events
arrived: they compare (occurred_at, event_id), and read the person's recorded timeline rather than what was seen last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from espial.events import Event
from espial.people import PersonView, address_in
from espial.triggers import cel, durations
from espial.triggers.definition import Condition, Exit, Limit, Trigger
from espial.triggers.run import Run
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
    wait   look again at `until` (`not_due`, or `superseded`: a newer version is recorded and takes over)
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
    scope = cel.Scope((trigger.where, trigger.key), {"event": cel.plain(event)})
    if not scope.holds(trigger.where).value:
        return None
    key = scope.evaluate(trigger.key).value
    if isinstance(key, bool) or not isinstance(key, str | int) or not 0 < len(str(key)) <= LONGEST_KEY:
        return None
    run = Run(
        trigger=trigger.name,
        person=person,
        key=str(key),
        version=event.event_id,
        started_at=event.occurred_at,
        due_at=event.occurred_at + trigger.wait,
        event=event,
    )
    return None if _met(trigger, run, event) else run


def advance(trigger: Trigger, run: Run | None, candidate: Run) -> Run:
    """The run after the candidate: `run` itself when nothing changes, whatever order events came in.

    A waiting run takes the newer version if the trigger restarts. One that ended begins anew only for something
    that happened after its end. An older event, come late, changes nothing.
    """
    if run is None:
        return candidate
    if not trigger.restart or candidate.order <= run.order:
        return run
    if run.state == "waiting":
        return replace(candidate, person=run.person, timer_at=run.timer_at)
    if run.closed_at is not None and candidate.started_at > run.closed_at:
        return replace(candidate, person=run.person)
    return run


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
    ended = exit_of(trigger, run, person)
    exits = tuple(_exit_rule(rule, ended) for rule in trigger.exit_on)
    if ended is not None:
        return Decision("skip", ended.rule.name, None, exits)
    twin = _twin(run, person)
    if not twin.verdict:
        return Decision("skip", _REASONS[twin.name], None, (*exits, twin))
    newer = _newer(trigger, run, person)
    if newer is not None and now <= newer.due_at + trigger.stale_after:
        rule = Rule("version", newer.version, verdict=False, detail="a newer event is about to take over")
        return Decision("wait", "superseded", max(newer.due_at, now + RECHECK), (rule, *exits))
    if now < run.due_at:
        return Decision("wait", "not_due", run.due_at, exits)
    rules = (*exits, twin, *_rules(trigger, run, person, now))
    reason = reason_of(rules)
    return Decision("skip" if reason else "send", reason or "all_rules_hold", None, rules)


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
    late = now - run.due_at
    yield Rule(
        "freshness",
        round(late.total_seconds(), 3),
        late <= trigger.stale_after,
        f"seconds after it was due, at most {durations.text(trigger.stale_after)}",
    )
    scope = _scope(trigger, run, person, now)
    for condition in trigger.conditions:
        yield _condition(condition, scope)
    for limit in trigger.limits:
        yield _limit(limit, trigger, run, person, now)
    address, error = _address(trigger, scope)
    yield Rule("address", bool(address), bool(address), error)
    yield _suppression(trigger, person, address)
    yield _consent(trigger, person)
    if trigger.status == "staging":
        yield Rule("staging", trigger.status, verdict=False, detail="in staging: this is where it would have been sent")


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
    sources = (trigger.send.to, *(rule.when for rule in trigger.conditions))
    return cel.Scope(sources, variables, cel.timeline(person.times, now))


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
        if candidate is not None and candidate.key == run.key:
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
    start = now - limit.within
    count = 0
    for event in reversed(person.of_type(EventType.MESSAGE_REQUESTED)):
        if event.occurred_at <= start:
            break
        said = event.properties
        if (said.get("trigger"), said.get("key"), said.get("version")) == (trigger.name, run.key, run.version):
            continue
        count += (
            limit.scope == "person"
            or (limit.scope == "trigger" and said.get("trigger") == trigger.name)
            or (limit.scope == "channel" and event.channel == trigger.channel)
        )
    return Rule(
        f"limit:{limit.name}",
        count,
        count < limit.count,
        f"at most {limit.count} a {limit.scope} in {durations.text(limit.within)}",
    )


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
