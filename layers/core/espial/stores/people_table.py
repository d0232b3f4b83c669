"""People, runs and decisions in EventsTable, beside the events they are about.

    P#<key>  PROFILE              what the events filed under the key say: body (JSON), rev
    P#<key>  L#<other key>        both keys name one person; the same the other way round
    P#<key>  R#<trigger>#<key>    a run: body (JSON); version, state and timer to write on condition
    P#<key>  G#<trigger>          whether the person is in the trigger's segment: inside, since, told
    P#<key>  D#<id>               a decision with its explanation: body (JSON)
    P?<n>    <key>                every key with a profile, in 16 parts: who there is

So one Query a key returns profile, links, runs and events together, read consistently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zlib import crc32

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial import events, own_events, people
from espial.errors import TryAgain
from espial.events import Event, PersonKey
from espial.people import NOTHING, Membership, PersonView, Profile
from espial.ports import Decided
from espial.triggers import run as runs
from espial.triggers.decision import Decision
from espial.triggers.run import Run, State

KEPT = timedelta(days=90)
"""How long an ended run, a decision and a session's links outlive what they are about: longer than its events."""
MOST_KEYS = 25
"""Keys joined into one view, strongest first: a shopper who clears cookies has a session for every visit."""
MOST_EVENTS = 5_000
"""Of one key, the newest: somebody's test user, or a bot, must not take the memory and the time of everybody else."""
ATTEMPTS = 8
_REMEMBERED = 10_000

_Item = dict[str, Any]


class _Table:
    """The table, its errors in our words."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def get(self, pk: str, sk: str) -> _Item | None:
        found: _Item | None = self._call("get_item", Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True).get(
            "Item"
        )
        return found

    def put(self, item: _Item, condition: str = "", values: _Item | None = None) -> bool:
        """False when the condition does not hold."""
        request: dict[str, Any] = {"Item": item}
        if condition:
            request["ConditionExpression"] = condition
        if values:
            request["ExpressionAttributeValues"] = values
        try:
            self._call("put_item", **request)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def put_all(self, items: Iterable[_Item]) -> None:
        """All of them, or none."""
        puts = [{"Put": {"TableName": self._table, "Item": item}} for item in items]
        self._ask("transact_write_items", TransactItems=puts)

    def between(self, pk: str, first: str, last: str, **request: Any) -> Iterator[_Item]:
        request |= {
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":first": {"S": first}, ":last": {"S": last}},
            "ConsistentRead": True,
        }
        start: _Item | None = {}
        while start is not None:
            answer = self._call("query", **request)
            yield from answer["Items"]
            start = answer.get("LastEvaluatedKey")
            request["ExclusiveStartKey"] = start

    def _call(self, operation: str, **request: Any) -> _Item:
        return self._ask(operation, TableName=self._table, **request)

    def _ask(self, operation: str, **request: Any) -> _Item:
        try:
            answer: _Item = getattr(self._dynamodb, operation)(**request)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException" or code in _PERMANENT:
                raise
            raise TryAgain(f"DynamoDB answered {code}") from exc
        except BotoCoreError as exc:
            raise TryAgain(f"DynamoDB cannot be reached: {type(exc).__name__}") from exc
        return answer


_PERMANENT = frozenset({"ValidationException", "AccessDeniedException", "ResourceNotFoundException"})


@dataclass(slots=True)
class _Partition:
    """What lies under one key."""

    events: list[Event] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    links: dict[PersonKey, str] = field(default_factory=dict)
    segments: dict[str, Membership] = field(default_factory=dict)
    stored: _Item | None = None
    """The profile's item."""

    @property
    def profile(self) -> Profile:
        return _profile(self.stored)


class PeopleTable:
    """Implements `ports.People` and `ports.Members`. AWS permissions: dynamodb:GetItem, PutItem and Query on the table.

    (A transaction asks for the permissions of what it holds.)
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._table = _Table(dynamodb, table)
        self._known: dict[tuple[PersonKey, PersonKey], None] = {}

    def load(self, key: PersonKey) -> PersonView:
        """See `ports.People.load`. One Query a key, strongest and newest keys first."""
        return self._read(key)[0]

    def _read(self, key: PersonKey) -> tuple[PersonView, dict[PersonKey, _Partition]]:
        joined: dict[PersonKey, _Partition] = {}
        conflicts: dict[PersonKey, Profile] = {}
        waiting = [key]
        seen = {key}
        while waiting and len(joined) < MOST_KEYS:
            current = waiting.pop(0)
            partition = self._partition(current)
            ambiguous = _ambiguous(current, partition)
            if ambiguous:
                conflicts[current] = partition.profile
            if not ambiguous or current == key:
                joined[current] = partition
            for other in [] if ambiguous else _ordered(partition):
                if other in seen:
                    continue
                seen.add(other)
                if other.kind == "id" and any(known.kind == "id" for known in seen - {other}):
                    conflicts[other] = NOTHING
                else:
                    waiting.append(other)
        profile = NOTHING
        for partition in joined.values():
            profile = people.join(profile, partition.profile)
        for shared in conflicts.values():
            profile = people.join(profile, replace(shared, attributes={}))
        view = PersonView(
            key=key,
            keys=tuple(joined),
            profile=profile,
            events=people.timeline(event for partition in joined.values() for event in partition.events),
            runs=tuple(run for partition in joined.values() for run in partition.runs),
            segments=_latest(partition.segments for partition in joined.values()),
            conflicts=tuple(conflicts),
        )
        return view, joined

    def merge(self, event: Event) -> None:
        """See `ports.People.merge`. Links go both ways between the strongest key and each other one."""
        self._link(event)
        self._take_over(event, {})

    def meet(self, event: Event, key: PersonKey) -> PersonView:
        """See `ports.People.meet`. The profile is read with everything else instead of by itself."""
        self._link(event)
        view, joined = self._read(key)
        self._take_over(event, joined)
        return view.with_event(event)

    def _take_over(self, event: Event, joined: Mapping[PersonKey, _Partition]) -> None:
        said = people.of_event(event)
        home = people.filed_under(event)
        if home is not None and said != NOTHING:
            self._merge(home, said, joined.get(home))

    def _merge(self, key: PersonKey, said: Profile, read: _Partition | None) -> None:
        pk = f"P#{key}"
        for _ in range(ATTEMPTS):
            item = read.stored if read else self._table.get(pk, "PROFILE")
            read = None
            profile = _profile(item)
            merged = people.join(profile, said)
            if merged == profile:
                return
            revision = int(item["rev"]["N"]) if item else 0
            following = {
                "pk": {"S": pk},
                "sk": {"S": "PROFILE"},
                "body": {"S": people.encode(merged).decode()},
                "rev": {"N": str(revision + 1)},
            }
            if item is None:
                self._table.put({"pk": {"S": _part(key)}, "sk": {"S": str(key)}})
                written = self._table.put(following, "attribute_not_exists(pk)")
            else:
                written = self._table.put(following, "rev = :rev", {":rev": {"N": str(revision)}})
            if written:
                return
        raise TryAgain("a profile is being written by too many at once")

    def everybody(self, part: int, after: str, limit: int) -> list[PersonKey]:
        """See `ports.Members.everybody`."""
        first = f"{after}\x00" if after else "\x00"
        found = self._table.between(f"P?{part:02}", first, "\U0010ffff", Limit=limit)
        return [PersonKey.parse(item["sk"]["S"]) for item in islice(found, limit)]

    def place(self, key: PersonKey, segment: str, before: Membership | None, after: Membership) -> bool:
        """See `ports.Members.place`."""
        item = {
            "pk": {"S": f"P#{key}"},
            "sk": {"S": f"G#{segment}"},
            "inside": {"BOOL": after.inside},
            "since": {"S": after.since.isoformat()},
            "told": {"BOOL": after.told},
        }
        if before is not None:
            values = {":since": {"S": before.since.isoformat()}, ":inside": {"BOOL": before.inside}}
            if self._table.put(item, "since = :since AND inside = :inside", values):
                return True
        # an older key of the person may have it: then it is copied to this one
        return self._table.put(item, "attribute_not_exists(pk)")

    def _link(self, event: Event) -> None:
        keys = people.keys_of(event)
        new = [(keys[0], other) for other in dict.fromkeys(keys[1:]) if other != keys[0]]
        new = [pair for pair in new if pair not in self._known]
        if not new:
            return
        self._table.put_all(_link_item(*ends, event.received_at) for pair in new for ends in (pair, pair[::-1]))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.update(dict.fromkeys(new))

    def _partition(self, key: PersonKey) -> _Partition:
        found = _Partition()
        # backwards: runs, profile and links stand behind the events, of which the newest come first
        for item in self._table.between(f"P#{key}", "E#", "S", ScanIndexForward=False):
            kind, _, rest = item["sk"]["S"].partition("#")
            if kind == "E":
                found.events.append(events.decode(item["body"]["S"]))
                if len(found.events) == MOST_EVENTS:
                    break
            elif kind == "L":
                found.links[PersonKey.parse(rest)] = item["seen_at"]["S"]
            elif kind == "G":
                found.segments[rest] = _membership(item)
            elif kind == "R":
                found.runs.append(runs.decode(item["body"]["S"]))
            elif kind == "PROFILE":
                found.stored = item
        return found


PARTS = 16


def _part(key: PersonKey) -> str:
    """Spread, so that many new people are no hot partition."""
    return f"P?{crc32(str(key).encode()) % PARTS:02}"


def _membership(item: _Item) -> Membership:
    since = datetime.fromisoformat(item["since"]["S"])
    return Membership(item["inside"]["BOOL"], since, item["told"]["BOOL"])


def _latest(of_keys: Iterable[Mapping[str, Membership]]) -> dict[str, Membership]:
    found: dict[str, Membership] = {}
    for segments in of_keys:
        for name, membership in segments.items():
            if name not in found or found[name].since < membership.since:
                found[name] = membership
    return found


def _link_item(one: PersonKey, other: PersonKey, at: datetime) -> _Item:
    item: _Item = {"pk": {"S": f"P#{one}"}, "sk": {"S": f"L#{other}"}, "seen_at": {"S": at.isoformat()}}
    return item | {"ttl": _ttl(at)} if "session" in (one.kind, other.kind) else item


def _profile(item: _Item | None) -> Profile:
    return people.decode(item["body"]["S"]) if item else NOTHING


def _ambiguous(key: PersonKey, partition: _Partition) -> bool:
    """Whether the key names two people: two ids, or for an address or session two contacts of one platform."""
    if key.kind == "id":
        return False
    strong = [other.value.partition("/")[0] for other in partition.links if other.kind == "contact"]
    contacts = key.kind != "contact" and len(strong) > len(set(strong))
    return contacts or sum(other.kind == "id" for other in partition.links) > 1


def _ordered(partition: _Partition) -> list[PersonKey]:
    newest = sorted(partition.links, key=lambda key: (partition.links[key], key), reverse=True)
    return sorted(newest, key=lambda key: people.STRENGTH[key.kind])


class RunsTable:
    """Implements `ports.Runs`. AWS permissions: dynamodb:GetItem and PutItem on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._table = _Table(dynamodb, table)

    def get(self, person: str, trigger: str, key: str) -> Run | None:
        """See `ports.Runs.get`."""
        item = self._table.get(f"P#{person}", f"R#{trigger}#{key}")
        return runs.decode(item["body"]["S"]) if item else None

    def put(self, run: Run, previous: Run | None) -> bool:
        """See `ports.Runs.put`."""
        if previous is None:
            return self._table.put(_run_item(run), "attribute_not_exists(pk)")
        before = _run_item(previous)
        values = {f":{name}": before[name] for name in ("version", "run_state", "timer")}
        return self._table.put(
            _run_item(run), "version = :version AND run_state = :run_state AND timer = :timer", values
        )

    def finish(self, run: Run, state: State, *, closed_at: datetime, reason: str = "", ended_by: str = "") -> bool:
        """See `ports.Runs.finish`."""
        ended = replace(run, state=state, closed_at=closed_at, reason=reason, ended_by=ended_by)
        item = _run_item(ended)
        values = {":version": item["version"], ":waiting": {"S": "waiting"}}
        if self._table.put(item, "version = :version AND run_state = :waiting", values):
            return True
        # ended like this already: by an attempt of this very call whose answer was lost, or by a repeat of it
        return self._table.get(item["pk"]["S"], item["sk"]["S"]) == item


def _run_item(run: Run) -> _Item:
    until = _ttl(max(run.due_at, run.closed_at or run.due_at))
    return {
        "pk": {"S": f"P#{run.person}"},
        "sk": {"S": f"R#{run.trigger}#{run.key}"},
        "body": {"S": runs.encode(run).decode()},
        "version": {"S": f"{run.version}/{run.stage}" if run.stage else run.version},
        "run_state": {"S": run.state},
        "timer": {"S": run.timer_at.isoformat() if run.timer_at else "none"},
    } | ({} if run.lasting else {"ttl": until})


class _Told(msgspec.Struct, frozen=True):
    decided_at: datetime
    trigger: str
    key: str
    version: str
    decision: Decision


class DecisionsTable:
    """Implements `ports.Decisions`. AWS permissions: dynamodb:PutItem and Query on the table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._table = _Table(dynamodb, table)
        self._decoder = msgspec.json.Decoder(_Told)

    def record(self, person: str, decision: Decision, run: Run, *, now: datetime) -> str:
        """See `ports.Decisions.record`. The first explanation is kept: a repeat after a crash may know less."""
        decision_id = own_events.identifier(run, f"{decision.outcome}/{decision.reason}")
        told = _Told(now, run.trigger, run.key, run.version, decision)
        item = {
            "pk": {"S": f"P#{person}"},
            "sk": {"S": f"D#{decision_id}"},
            "body": {"S": msgspec.json.encode(told, enc_hook=str).decode()},
            "ttl": _ttl(now),
        }
        self._table.put(item, "attribute_not_exists(pk)")
        return decision_id

    def of_person(self, person: str, *, trigger: str | None = None, limit: int = 100) -> list[Decided]:
        """See `ports.Decisions.of_person`."""
        found = []
        for item in self._table.between(f"P#{person}", "D#", "D#~"):
            told = self._decoder.decode(item["body"]["S"])
            if trigger in (None, told.trigger):
                decision_id = item["sk"]["S"].removeprefix("D#")
                found.append(Decided(decision_id, told.decided_at, told.trigger, told.key, told.version, told.decision))
        return sorted(found, key=lambda decided: (decided.decided_at, decided.id), reverse=True)[:limit]


def _ttl(at: datetime) -> dict[str, str]:
    return {"N": str(int((at + KEPT).timestamp()))}
