"""Why a trigger sent a person something or did not: what it decided, what it would decide now, and what began nothing.

What was decided is on record. The rest is worked out anew, by the code that decides, from what is known of the person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from espial.events import Event, PersonKey
from espial.people import PersonView
from espial.ports import Decided, Decisions, People, Published
from espial.triggers.decision import Decision, Rule, beginning, decide
from espial.triggers.definition import Trigger
from espial.triggers.run import Run

EVENTS_LOOKED_AT = 5
"""The newest events of which it is said why they began something or nothing."""


WAITS_FORESEEN = 5
"""How many waits, one after the other, are looked through."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A run, and what would be decided of it now; if that is to wait, what would come of it then, as things stand."""

    run: Run
    decision: Decision
    foreseen_at: datetime | None = None
    foreseen: Decision | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """An event of a type that starts runs, and whether it started one: every rule, what it found and its verdict."""

    event: Event
    rules: tuple[Rule, ...]

    @property
    def begins(self) -> bool:
        """Whether nothing stands against it."""
        return all(rule.verdict for rule in self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything about one trigger and one person; each part oldest first."""

    trigger: str
    at: datetime
    in_force: bool
    decided: tuple[Decided, ...]
    runs: tuple[Judged, ...] = ()
    beginnings: tuple[Beginning, ...] = ()

    def plain(self) -> Iterator[dict[str, Any]]:
        """For programs: one object for each decision on record, each run and each event; `about` says which it is."""
        for one in self.decided:
            said = {"id": one.id, "decided_at": one.decided_at.isoformat(), "trigger": one.trigger}
            yield {"about": "decided", **said, "key": one.key, "version": one.version, **_decision(one.decision)}
        for judged in self.runs:
            now = {"about": "now", "at": self.at.isoformat(), **_run(judged.run), **_decision(judged.decision)}
            if judged.foreseen is not None and judged.foreseen_at is not None:
                now["foreseen"] = {"at": judged.foreseen_at.isoformat(), **_decision(judged.foreseen)}
            yield now
        for start in self.beginnings:
            event = {"event_id": start.event.event_id, "occurred_at": start.event.occurred_at.isoformat()}
            rules = [_rule(rule) for rule in start.rules]
            yield {
                "about": "beginning",
                **event,
                "type": start.event.type.value,
                "begins": start.begins,
                "rules": rules,
            }


def explain(
    name: str,
    person: PersonKey,
    *,
    people: People,
    decisions: Decisions,
    published: Published,
    now: datetime,
    key: str | None = None,
    limit: int = 20,
) -> Explanation:
    """Look at everything. `key` narrows runs and decisions down to one cart, order or whatever runs are about."""
    view = people.load(person)
    found = [
        decided
        for one in view.keys or (person,)
        for decided in decisions.of_person(str(one), trigger=name, limit=limit)
        if key in (None, decided.key)
    ]
    decided = tuple(sorted(found, key=lambda decided: (decided.decided_at, decided.id))[-limit:])
    trigger = published.trigger(name)
    if trigger is None:
        return Explanation(trigger=name, at=now, in_force=False, decided=decided)
    runs = sorted(
        (run for run in view.runs if run.trigger == name and key in (None, run.key)), key=lambda run: run.order
    )
    candidates = [event for event in view.events if event.type in trigger.on][-EVENTS_LOOKED_AT:]
    return Explanation(
        trigger=name,
        at=now,
        in_force=True,
        decided=decided,
        runs=tuple(_judged(published.trigger(name, run.definitions) or trigger, run, view, now) for run in runs),
        beginnings=tuple(Beginning(event, tuple(beginning(trigger, event, view))) for event in candidates),
    )


def _judged(trigger: Trigger, run: Run, person: PersonView, now: datetime) -> Judged:
    decision = foreseen = decide(trigger, run, person, now)
    at = now
    for _ in range(WAITS_FORESEEN):
        if foreseen.until is None:
            break
        at = foreseen.until
        due_at = at if foreseen.reason == "quiet_hours" else run.due_at  # as the sender moves it
        foreseen = decide(trigger, replace(run, due_at=due_at), person, at)
    return Judged(run, decision, at, foreseen) if at != now else Judged(run, decision)


def _run(run: Run) -> dict[str, Any]:
    return {
        "key": run.key,
        "version": run.version,
        "state": run.state,
        "stage": run.stage,
        "variant": run.variant,
        "started_at": run.started_at.isoformat(),
        "due_at": run.due_at.isoformat(),
        "ended_for": run.reason,
        "definitions": run.definitions,
    }


def _decision(decision: Decision) -> Mapping[str, Any]:
    until = decision.until.isoformat() if decision.until else None
    rules = [_rule(rule) for rule in decision.rules]
    return {"outcome": decision.outcome, "reason": decision.reason, "until": until, "rules": rules}


def _rule(rule: Rule) -> dict[str, Any]:
    return {"name": rule.name, "value": rule.value, "verdict": rule.verdict, "detail": rule.detail}
