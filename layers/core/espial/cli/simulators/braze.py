"""Braze as a program of ours: `/users/track`, `/campaigns/trigger/send`, and what Currents would report of its sends.

It holds its users in memory and refuses what Braze's documents say it refuses. Ids are made of the seed, so that a run
that is repeated gives the same ones. `/_simulator/…` is for whoever runs it: to look inside, and to order trouble.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

MOST_SENT = 50
"""Recipients of one `/campaigns/trigger/send`."""

CURRENTS_AT_ONCE = 100
IDENTIFIERS = ("external_id", "braze_id", "user_alias", "email", "phone")
ARRAYS = ("attributes", "events", "purchases")
REPORTED = ("Delivery", "Open", "Click", "Bounce", "SoftBounce", "Unsubscribe", "MarkAsSpam")
FAULTS = ("throttle", "error", "timeout", "drop")

_REQUIRED = {"attributes": (), "events": ("name", "time"), "purchases": ("product_id", "currency", "price", "time")}
_FORMS = {"email": re.compile(r"[^@\s]+@[^@\s]+"), "dob": re.compile(r"\d{4}-\d{2}-\d{2}(T.*)?")}
_COMMON = {"app_group_id": "0a0a0a0a-1111-4222-8333-444455556666", "esp": "SendGrid", "from_domain": "mail.example.com"}
_SAID: Mapping[str, Mapping[str, Any]] = {
    "Delivery": {"sending_ip": "192.0.2.10"},
    "Open": {"user_agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/134.0", "is_amp": False},
    "Click": {
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/134.0",
        "url": "https://shop.example.com/",
        "is_suspected_bot_click": False,
    },
    "Bounce": {"bounce_reason": "550 5.1.1 no such user"},
    "SoftBounce": {"bounce_reason": "452 4.2.2 Mailbox full"},
}


class Reply(NamedTuple):
    """What is answered, None for no body. `trouble` is `timeout` (say nothing) or `drop` (hang up) instead."""

    status: int
    body: Any = {}  # noqa: RUF012 - never changed
    headers: Mapping[str, str] = {}
    trouble: str = ""


class Refused(Exception):
    """A fatal error: a status and Braze's words."""

    def __init__(self, status: int, message: str, errors: list[Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors or []


class Braze:
    """One workspace. `clock` gives Unix seconds; `rate_limit` requests to `/users/track` are let in each window."""

    def __init__(
        self,
        key: str,
        clock: Callable[[], float],
        *,
        seed: str = "0",
        rate_limit: int = 3000,
        window_seconds: float = 3.0,
        most_tracked: int = 75,
    ) -> None:
        self._key = key
        self._clock = clock
        self._seed = seed
        self._rate_limit = rate_limit
        self._window_seconds = window_seconds
        self._most_tracked = most_tracked
        self._window = (0.0, 0)
        self._campaigns: dict[str, str] = {}
        self._refused: set[str] = set()
        self._dispatches = 0
        self._index: dict[tuple[str, str], dict[str, Any]] = {}
        self.users: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What comes back for a request; header names in lower case."""
        parts = urlsplit(target)
        try:
            if parts.path.startswith("/_simulator/"):
                return self._inside(method, parts.path.removeprefix("/_simulator/"), parse_qs(parts.query), body)
            return self._outside(method, parts.path, headers, body)
        except Refused as exc:
            return Reply(exc.status, {"message": exc.message, **({"errors": exc.errors} if exc.errors else {})})

    # -- Braze's own

    def _outside(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        serve = {"/users/track": self._track, "/campaigns/trigger/send": self._send}.get(path)
        if serve is None or method != "POST":
            raise Refused(404, "Not Found")
        trouble = next((name for name in FAULTS if self.faults[name] > 0), "")
        self.faults.subtract([trouble] if trouble else [])
        self.requests.append({"path": path, "trouble": trouble, "body": _json(body) if trouble != "timeout" else None})
        if trouble in ("throttle", "error", "timeout"):
            return {
                "throttle": Reply(429, {"message": "Rate Limited"}, {"X-RateLimit-Reset": str(int(self._clock()) + 1)}),
                "error": Reply(503, {"message": "Service Unavailable"}),
                "timeout": Reply(0, trouble=trouble),
            }[trouble]
        if headers.get("authorization") != f"Bearer {self._key}":
            raise Refused(401, "Invalid API key")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(400, "Bad Request: the content type is not application/json")
        said = _json(body)
        if not isinstance(said, dict):
            raise Refused(400, "Bad syntax")
        limits = self._counted() if path == "/users/track" else {}
        if limits.get("X-RateLimit-Remaining") == "-1":
            return Reply(429, {"message": "Rate Limited"}, {**limits, "X-RateLimit-Remaining": "0"})
        reply = serve(said)
        return reply._replace(headers=limits, trouble="drop" if trouble else "")

    def _counted(self) -> dict[str, str]:
        """One more request of this window, as headers tell it; -1 remain where it is one too many."""
        now = self._clock()
        begun, count = self._window
        if now >= begun + self._window_seconds:
            begun, count = now, 0
        self._window = begun, count + 1
        return {
            "X-RateLimit-Limit": str(self._rate_limit),
            "X-RateLimit-Remaining": str(max(self._rate_limit - count - 1, -1)),
            "X-RateLimit-Reset": str(int(begun + self._window_seconds) + 1),
        }

    def _track(self, said: Mapping[str, Any]) -> Reply:
        given = {name: said[name] for name in ARRAYS if said.get(name)}
        if not given:
            raise Refused(400, "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields.")
        if any(not isinstance(one, list) or len(one) > self._most_tracked for one in given.values()):
            raise Refused(400, "Max Input Length Exceeded")
        errors: list[dict[str, Any]] = []
        processed: dict[str, int] = {}
        for name, objects in given.items():
            for index, one in enumerate(objects):
                if problem := self._problem(name, one):
                    errors.append({"type": problem, "input_array": name, "index": index})
                    continue
                processed[f"{name}_processed"] = processed.get(f"{name}_processed", 0) + 1
                self._apply(name, one)
        if not processed:
            raise Refused(400, "No valid data was provided.", errors)
        return Reply(201, {"message": "success", **processed, **({"errors": errors} if errors else {})})

    def _problem(self, array: str, one: Any) -> str:
        """What is wrong with an object, in words like Braze's; "" if nothing is."""
        if not isinstance(one, dict) or not any(one.get(name) for name in IDENTIFIERS):
            return "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
        if one.get("external_id") in self._refused:
            return "provided external_id is blacklisted and disallowed"
        missing = [name for name in _REQUIRED[array] if not one.get(name)]
        if missing:
            return f"'{missing[0]}' is required"
        wrong = [name for name, form in _FORMS.items() if one.get(name) and not form.fullmatch(str(one[name]))]
        return f"'{wrong[0]}' is not valid" if wrong else ""

    def _apply(self, array: str, one: Mapping[str, Any]) -> None:
        user = self._found(one)
        if user is None:
            only_existing = one.get("_update_existing_only", "user_alias" in one and "external_id" not in one)
            if only_existing:
                return
            name = next(name for name in IDENTIFIERS if one.get(name))
            shown = one[name] if name != "user_alias" else "/".join(map(str, one[name].values()))
            made = {name: one[name], "braze_id": self._id("user", str(shown), length=24)}
            user = self.users.setdefault(str(shown), made)
        if array == "attributes":
            for name, value in one.items():
                if not name.startswith("_"):
                    _set(user, name, value)
        else:
            user.setdefault(array, []).append({name: value for name, value in one.items() if name not in IDENTIFIERS})
        self._index |= {(name, json.dumps(user[name])): user for name in IDENTIFIERS if name in user}

    def _found(self, one: Mapping[str, Any]) -> dict[str, Any] | None:
        """By the first identifier that is given; of several users with one address the last that was updated."""
        name = next(name for name in IDENTIFIERS if one.get(name))
        user = self._index.get((name, json.dumps(one[name])))
        return user if user and user.get(name) == one[name] else None

    def _send(self, said: Mapping[str, Any]) -> Reply:
        campaign, recipients = said.get("campaign_id"), said.get("recipients") or []
        if not isinstance(campaign, str) or not campaign:
            raise Refused(400, "Invalid Campaign ID")
        if said.get("broadcast") and recipients:
            raise Refused(400, "'broadcast' cannot be set together with 'recipients'")
        if not isinstance(recipients, list) or len(recipients) > MOST_SENT:
            raise Refused(400, "The max number of ids per request was exceeded")
        if not recipients and not said.get("broadcast"):
            raise Refused(400, "No Recipients")
        if not all(
            isinstance(one, dict) and (one.get("external_user_id") or one.get("user_alias")) for one in recipients
        ):
            raise Refused(400, "Each recipient needs 'external_user_id' or 'user_alias'")
        self._dispatches += 1
        dispatch = self._id("dispatch", str(self._dispatches), length=24)
        reached = self.users.values() if said.get("broadcast") else list(self._reached(recipients))
        for user in reached:
            if user.get("email"):
                self._report("Send", user, campaign, dispatch, {"send_id": said.get("send_id"), **_extras(user)})
        return Reply(201, {"dispatch_id": dispatch, "message": "success"})

    def _reached(self, recipients: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The users behind the recipients; those that are new too where that is asked for."""
        for one in recipients:
            named = {"external_id": one.get("external_user_id"), "user_alias": one.get("user_alias")}
            named = {name: value for name, value in named.items() if value}
            if one.get("send_to_existing_only") is False or one.get("attributes"):
                only = one.get("send_to_existing_only", True)
                self._apply("attributes", {**(one.get("attributes") or {}), **named, "_update_existing_only": only})
            if user := self._found(named):
                yield user

    def _report(
        self, action: str, user: Mapping[str, Any], campaign: str, dispatch: str, more: Mapping[str, Any]
    ) -> None:
        """One event as Currents' HTTP connector sends it; what is null is left out."""
        number = len(self.reports) + 1
        name = self._campaigns.get(campaign, f"Campaign {campaign[:8]}")
        about = {
            "campaign_id": campaign,
            "campaign_name": name,
            "message_variation_id": str(UUID(self._id("variation", campaign, length=32))),
            "message_variation_name": "Variant 1",
            "dispatch_id": dispatch,
            "email_address": user["email"],
        }
        properties = {**about, **_COMMON, **_SAID.get(action, {}), **more}
        self.reports.append(
            {
                "event_type": f"users.messages.email.{action}",
                "id": str(UUID(self._id("event", str(number), length=32))),
                "time": int(self._clock()),
                "user": _told({"user_id": user["braze_id"], "external_user_id": user.get("external_id")}),
                "properties": _told(properties),
            }
        )

    def _id(self, *parts: str, length: int) -> str:
        """Hexadecimal digits that are the same for the same seed."""
        return sha256("/".join((self._seed, *parts)).encode()).hexdigest()[:length]

    # -- for whoever runs it

    def _inside(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Reply:
        if method == "GET":
            after = int(query.get("after", ["0"])[0])
            reports = self.reports[after : after + CURRENTS_AT_ONCE]
            shown = {"users": self.users, "requests": self.requests, "currents": reports}
            if path not in shown:
                raise Refused(404, "Not Found")
            return Reply(200, {"events" if path == "currents" else path: shown[path]})
        orders: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "faults": self.trouble,
            "campaigns": self._campaigns.update,
            "happen": self._happen,
        }
        said = _json(body)
        if path not in orders:
            raise Refused(404, "Not Found")
        if not isinstance(said, dict):
            raise Refused(400, "Bad syntax")
        orders[path](said)
        return Reply(200, {"message": "success"})

    def trouble(self, ordered: Mapping[str, Any]) -> None:
        """`{"throttle": 2, "error": 1, "timeout": 1, "drop": 1}` of the next requests; `{"refuse": [external ids]}`."""
        for name, value in ordered.items():
            if name == "refuse":
                self._refused = set(value)
            elif name in FAULTS:
                self.faults[name] = int(value)
            else:
                raise Refused(400, f"no fault named {name}, must be one of {', '.join((*FAULTS, 'refuse'))}")

    def _happen(self, ordered: Mapping[str, Any]) -> None:
        """`{"type": "Open", "external_user_id": …, "dispatch_id": …}` to a send; `properties` may say more."""
        action, wanted = ordered.get("type"), (ordered.get("external_user_id"), ordered.get("dispatch_id"))
        if action not in REPORTED:
            raise Refused(400, f"type must be one of {', '.join(REPORTED)}")
        for send in [one for one in self.reports if one["event_type"].endswith(".Send")]:
            known = send["user"].get("external_user_id"), send["properties"]["dispatch_id"]
            if all(asked in (None, found) for asked, found in zip(wanted, known, strict=True)):
                user = self._found({"braze_id": send["user"]["user_id"]}) or {}
                about = send["properties"]
                more = {"send_id": about.get("send_id"), **ordered.get("properties", {})}
                self._report(str(action), user, about["campaign_id"], about["dispatch_id"], more)


def _extras(user: Mapping[str, Any]) -> dict[str, str]:
    """What a template that passes on the hand-over's ids makes of them: `message_extras`, a JSON text."""
    ids = {"rp_contact_id": "rpi_contact_ids", "rp_channel_execution_id": "rpi_channel_exec_ids"}
    found = {name: user[attribute][-1] for name, attribute in ids.items() if user.get(attribute)}
    return {"message_extras": json.dumps(found)} if found else {}


def _set(user: dict[str, Any], name: str, value: Any) -> None:
    """One attribute. Arrays are sets: what is added again moves to the end."""
    if value is None:
        user.pop(name, None)
    elif isinstance(value, dict) and value.keys() <= {"add", "remove"} and value:
        gone = [*value.get("remove", ()), *value.get("add", ())]
        user[name] = [*(one for one in user.get(name, []) if one not in gone), *value.get("add", ())]
    elif isinstance(value, dict) and value.keys() == {"inc"}:
        user[name] = user.get(name, 0) + value["inc"]
    else:
        user[name] = value


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact is not None}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
