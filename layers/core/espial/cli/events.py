"""`espial events` and `espial explain`: what is recorded of a person or campaign, and why a message went out or not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from espial.cli import stores
from espial.cli.output import dump, out, plain, say, table
from espial.cli.stack import Stack
from espial.events import BY_RULE, PersonKey
from espial.machine import Verdict
from espial.message_state import MessageState, message_states
from espial.ports import Decided, Others
from espial.services import explain as reasons
from espial.services.recorded import Recorded, of_campaign, of_person
from espial.services.recorded import state as state_of
from espial.services.timeline import timeline
from espial.triggers.decision import Rule

Limit = Annotated[int, typer.Option(min=1, help="The newest this many.")]
Json = Annotated[bool, typer.Option("--json", help="For programs, one object a line.")]


def events(
    ctx: typer.Context,
    person: Annotated[
        str | None, typer.Option(metavar="KEY", help="email:, id:, phone:, contact: or session: and a value.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(metavar="ID", help="A campaign's or journey's id or name.")] = None,
    limit: Limit = 200,
    as_json: Json = False,
) -> None:
    """Show what is recorded of a person or campaign.

    A person's events are those under every key that is theirs.
    """
    if (person is None) == (campaign is None):
        raise typer.BadParameter("give --person or --campaign, one of the two")
    stack: Stack = ctx.obj
    store, conflicts = stores.events(stack), stores.conflicts(stack)
    if person is not None:
        found = of_person(store, conflicts, stores.keys_of(stack, _key(person)), limit=limit)
    else:
        found = of_campaign(store, conflicts, str(campaign), limit=limit)
    if as_json:
        dump(found.plain())
    elif not found.stored:
        say(f"nothing is recorded of {person or campaign}")
    else:
        _show(found)


def messages(
    ctx: typer.Context,
    person: Annotated[str, typer.Argument(metavar="PERSON", help="As for `events --person`.")],
    limit: Annotated[int, typer.Option(min=1, help="Look at the newest this many events.")] = 1000,
    as_json: Json = False,
) -> None:
    """Show what became of each message to a person, whichever order its reports came in.

    The status is the furthest of all reports: a complaint over a bounce, a bounce over a delivery.
    """
    stack: Stack = ctx.obj
    keys = stores.keys_of(stack, _key(person))
    found = [stored.event for stored in timeline(stores.events(stack), lambda _: keys, keys[0], limit=limit)]
    states = message_states(found)
    if as_json:
        dump([state_of(message, state) for message, state in states.items()])
    elif not states:
        say(f"no message to {person} is known")
    else:
        table(("message", "status", "since (UTC)", "engagement"), [_row(*one) for one in states.items()], whole=3)


def explain(
    ctx: typer.Context,
    person: Annotated[str, typer.Argument(metavar="PERSON", help="As for `events --person`.")],
    trigger: Annotated[str, typer.Argument(metavar="TRIGGER", help="The trigger's name.")],
    *,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only of this cart, or whatever it is about.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Show why a trigger sent a message, or did not.

    Every decision about the person, what would be decided now, and which of the last events began a run or why not:
    each rule, what it found and its verdict.
    """
    stack: Stack = ctx.obj
    found = reasons.explain(
        trigger,
        _key(person),
        people=stores.people(stack),
        decisions=stores.decisions(stack),
        published=stores.published(stack),
        now=datetime.now(UTC),
        key=key,
        limit=limit,
    )
    if as_json:
        dump(list(found.plain()))
        return
    if not found.decided:
        say(f"{trigger} has decided nothing about {person}")
    for decided in found.decided:
        _tell(decided)
    _tell_now(found)


def _tell_now(found: reasons.Explanation) -> None:
    """What would be decided now, and what the last events began."""
    if found.decided and not found.in_force:
        say(f"{found.trigger} is not in force any more")
    for judged in found.runs:
        run, decision = judged.run, judged.decision
        until = f" until {_instant(decision.until)}" if decision.until else ""
        out.print(f"now  {decision.outcome}{until}: {plain(decision.reason)}", style="bold")
        say(f"  key {plain(run.key)}, stage {run.stage + 1}, due {_instant(run.due_at)}, after event {run.version}")
        if judged.foreseen is not None and judged.foreseen_at is not None:
            then = judged.foreseen
            say(f"  as things stand, at {_instant(judged.foreseen_at)} {then.outcome}: {plain(then.reason)}")
        _rules((judged.foreseen or decision).rules)
    for start in found.beginnings:
        event, verdict = start.event, "begins a run" if start.begins else "begins no run"
        out.print(f"{_instant(event.occurred_at)}  {event.type.value} {verdict}", style="bold")
        say(f"  event {event.event_id}")
        _rules(start.rules)


def _key(person: str) -> PersonKey:
    try:
        return PersonKey.parse(person)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _row(message: str, state: MessageState) -> tuple[str, str, str, str]:
    status = state.status
    engaged = ", ".join(sorted(type_.value for type_ in state.engagement))
    return message, status.type.value if status else "-", _instant(status.at) if status else "-", engaged


def _show(found: Recorded) -> None:
    rows, reported, verdicts = [], found.reported, found.verdicts
    for stored in found.stored:
        event = stored.event
        campaign = event.campaign
        name = (campaign.name or campaign.id or campaign.journey_name or campaign.journey_id) if campaign else None
        kind = f"{event.type.value} {_mark(reported.get(event.event_id))}".strip()
        link = event.link.url if event.link else None
        by = _by(verdicts[event.event_id]) if event.event_id in verdicts else None
        about = "\n".join(text.replace("\n", " ") for text in (name, link, by) if text)
        rows.append((_instant(event.occurred_at), kind, event.platform, "\n".join(stored.via), about))
    table(("time (UTC)", "type", "platform", "via", "campaign, link, by whom"), rows, whole=4)
    say(f"{len(found.stored)} events")
    for mark, differs in MARKS.items():
        if any(mark in _mark(others) for others in reported.values()):
            say(f"{mark} another report of the same event says {differs}; --json shows it")


MARKS = {"!": "something else", "+": "more"}


def _mark(others: Others | None) -> str:
    return ("!" if others.conflicts else "") + ("+" if others.together else "") if others else ""


def _by(verdict: Verdict) -> str | None:
    """In words; nothing where nothing is known."""
    who = {True: "by a machine", False: "by a person", None: "unknown by whom"}[verdict.machine]
    return f"{who}: {verdict.reason.removeprefix(BY_RULE)}" if verdict.reason else None


def _tell(decided: Decided) -> None:
    decision = decided.decision
    until = f" until {_instant(decision.until)}" if decision.until else ""
    out.print(f"{_instant(decided.decided_at)}  {decision.outcome}{until}: {plain(decision.reason)}", style="bold")
    say(f"  {decided.trigger}, key {plain(decided.key)}, after event {decided.version}")
    _rules(decision.rules)


def _rules(rules: Iterable[Rule]) -> None:
    rows = [("yes" if rule.verdict else "NO", rule.name, _found(rule)) for rule in rules]
    if rows:
        table(("holds", "rule", "found"), rows, whole=2)


def _found(rule: Rule) -> str:
    value = "nothing" if rule.value is None else str(rule.value)
    return f"{value} ({rule.detail})" if rule.detail else value


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
