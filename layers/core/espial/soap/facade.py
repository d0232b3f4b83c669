"""What the SOAP interface does: classes and processes of PureResponse to calls of the pull, and what comes of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar, cast

from espial.errors import Refused, TryAgain
from espial.notifications.contexts import Context
from espial.notifications.pull import MOST, meta, rows, trigger
from espial.notifications.pulled import PullDestination
from espial.services.pull_notifications import Denied, Mode, Page, Pull, Wanted
from espial.soap.envelope import Call
from espial.soap.values import BadField, Form, Value

R = TypeVar("R")


class Answered(NamedTuple):
    """`result` is `success` or a `bean_exception_…`; `data` is its `resultData`."""

    result: str
    data: Value
    form: Form


class Batched(NamedTuple):
    """What a `getBatch` asks for."""

    wanted: Wanted
    custom_fields: tuple[str, ...]
    plain: bool


def handle(call: Call, pull: Pull, render: Callable[[Answered], R], fit: Callable[[R], float]) -> R:
    """Do what a call asks for, and render what came of it; only a batch that is rendered is taken away.

    Errors of business are answers, too.
    """
    form = call.form or "map"
    result, data = "success", cast("Value", {})
    try:
        if (call.class_name, call.process_name) == ("bus_facade_context", "login"):
            return render(Answered("success", _login(call, pull, form), form))
        context, destination = pull.session(call.context_id)
        form = call.form or context.form
        match call.class_name, call.process_name:
            case "bus_facade_context", "logout":
                pull.logout(call.context_id)
            case "bus_facade_context", "switchRole":
                switched = pull.switch(call.context_id, _said(call.entity, "currentRoleKey"))
                data = {"bus_entity_context": _context(call.context_id, *switched)}
            case "bus_facade_eventNotification", "getBatch":
                asked = parameters(call, destination)
                return pull.batch(
                    destination,
                    asked.wanted,
                    lambda page: render(Answered("success", _batch(page, destination, asked), form)),
                    fit,
                )
            case "bus_facade_eventNotification", "processBatchReport":
                _report(call, pull, destination)
            case _:
                raise Denied("action not allowed")  # noqa: TRY301  refused as everything else is
    except Denied as exc:
        result, data = "bean_exception_security", str(exc)
    except BadField as exc:
        result, data = "bean_exception_validation", exc.problems
    except TryAgain:
        result, data = "bean_exception_system", "try again later"
    return render(Answered(result, data, form))


def _login(call: Call, pull: Pull, form: Form) -> Value:
    user, password = _said(call.entity, "userName"), _said(call.entity, "password")
    missing = {name: "is missing" for name, said in (("userName", user), ("password", password)) if not said}
    if missing:
        raise BadField(missing)
    context_id, context = pull.login(user, password, form)
    destination = pull.destinations()[context.role]
    return {
        "bus_entity_context": _context(context_id, context, destination),
        "bus_entity_account_identity": {
            "defaultLanguage": "en",
            "profileName": destination.profile or destination.name,
        },
        "bus_entity_account_login": {"userName": context.user},
    }


def _context(context_id: str, context: Context, destination: PullDestination) -> Value:
    return {
        "beanId": context_id,
        "userName": context.user,
        "profileName": destination.profile or destination.name,
        "currentRoleKey": context.role,
        "roleList": list(context.roles),
    }


def _batch(page: Page, destination: PullDestination, asked: Batched) -> Value:
    """The answer of `getBatch`; both CSV and meta are nil or empty where there is nothing."""
    lines = "".join(rows(page.notifications, destination.profile, asked.custom_fields))
    data = lines if asked.plain else b64encode(lines.encode("utf-8", "replace")).decode()
    batch: dict[str, Value] = {
        "eventCount": len(page.notifications),
        "eventMeta": meta(page.notifications, asked.custom_fields),
        "eventData": data or None,
        "batchId": page.lease if asked.wanted.mode == "hold" else None,
        "moreInd": "Y" if page.more else "N",
    }
    return {"bus_entity_eventNotificationBatch": batch}


def _report(call: Call, pull: Pull, destination: PullDestination) -> None:
    """Confirm a batch, or give all of it back if any of it failed: rows have no ids that could be named."""
    report = _given(call, "batchReport")
    if not isinstance(report, Mapping):
        raise BadField({"batchReport": "is missing"})
    lease, summary = _said(report, "batchId"), report.get("summary")
    failed = (_said(summary, "failed") if isinstance(summary, Mapping) else "") or "0"
    if not (failed.isascii() and failed.isdigit()):
        raise BadField({"failed": "must be a whole number"})
    try:
        if failed.strip("0"):
            pull.release(destination, lease)
        else:
            pull.acknowledge(destination, lease)
    except Refused as exc:
        raise BadField({"batchId": exc.detail}) from exc


def parameters(call: Call, destination: PullDestination) -> Batched:
    """What a `getBatch` asks for: process data counts first, then entity data. Raises BadField naming all problems."""
    problems: dict[str, str] = {}

    def choice(name: str, default: str, known: tuple[str, ...]) -> str:
        given = _given(call, name)
        said = default if given is None else str(given).strip()
        found = {one.lower(): one for one in known}.get(said.lower())
        if found is None:
            problems[name] = f"must be {' or '.join(known)}"
        return found or default

    def listed(name: str) -> list[str]:
        try:
            return _names(_given(call, name))
        except TypeError:
            problems[name] = "must be a list or a comma-separated text"
            return []

    triggers = listed("notificationTypes")
    if unknown := [one for one in triggers if trigger(one) is None]:
        problems["notificationTypes"] = f"unknown: {', '.join(unknown)[:200]}"
    custom_fields = tuple(listed("customFieldNames"))
    if closed := [one for one in custom_fields if not destination.gives(one)]:
        problems["customFieldNames"] = f"not given out: {', '.join(closed)[:200]}"
    limit = _given(call, "maxNotifications")
    digits = str(MOST if limit is None else limit).strip()
    if not (digits.isascii() and digits.isdigit() and digits.strip("0")):
        problems["maxNotifications"] = "must be a whole number from 1 on"
        digits = "1"
    choice("clientType", "CLIENT_PULL", ("CLIENT_PULL",))
    hold = choice("markAsProcessingInd", "N", ("Y", "N")) == "Y"
    read = choice("markAsReadInd", "Y", ("Y", "N")) == "Y"
    plain = choice("encoding", "base64", ("base64", "plain")) == "plain"
    newest_first = choice("order", "desc", ("desc", "asc")) == "desc"
    if problems:
        raise BadField(problems)
    mode: Mode = "hold" if hold else "read" if read else "look"
    names = tuple(dict.fromkeys(filter(None, map(trigger, triggers))))
    wanted = Wanted(limit=min(int(digits.lstrip("0")[:9]), MOST), triggers=names, mode=mode, newest_first=newest_first)
    return Batched(wanted, custom_fields, plain)


def _given(call: Call, name: str) -> Value:
    """A parameter; None where it is left out, nil or empty."""
    for data in (call.process, call.entity):
        if isinstance(data, Mapping) and data.get(name) not in (None, ""):
            return data[name]
    return None


def _said(data: Value, name: str) -> str:
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if isinstance(value, str) else ""


def _names(value: Value) -> list[str]:
    """The names in a comma-separated text, a list or a map. Raises TypeError for anything else."""
    match value:
        case None:
            return []
        case str():
            found: list[Value] = list(value.split(","))
        case Mapping():
            found = list(value.values())
        case int():
            raise TypeError
        case _:
            found = list(value)
    if not all(isinstance(one, str) for one in found):
        raise TypeError
    return [name for one in found if (name := str(one).strip())]
