"""Routes that change something. What may take longer than a call goes on elsewhere, or in the calls that follow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path as File
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.openapi.params import Body, Path

from espial import admin, wiring
from espial.api import models
from espial.api.pages import after, cursor_of, place_of
from espial.definitions import load, publish
from espial.errors import EspialError, InvalidDefinition, Refused, TryAgain
from espial.events import Event
from espial.gateway import Refusal, read
from espial.notifications.triggers import ASKABLE
from espial.ports import Quarantine
from espial.services.enter_people import enter_by_call
from espial.services.export_files import ExportFiles
from espial.services.publish_events import wanted_by
from espial.services.recipient_files import facts
from espial.services.replay_quarantine import replay
from espial.services.republish import received, republish
from espial.services.timeline import timeline
from espial.settings import ChangeStackSettings

ENOUGH_SECONDS = 15.0
"""How long a call goes on with what has no end in sight: the gateway gives up after 30."""
AT_ONCE = 100
MOST_OF_A_PERSON = 10_000

Name = Annotated[str, Path(max_length=200, examples=["warehouse"])]


def routes(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    """Every route of them."""
    for add in (_definitions, _triggers, _destinations, _exports, _quarantine, _feeds, _onboarding, _republish):
        add(api, settings)


def _definitions(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    @api.put("/definitions", tags=["definitions"], summary="Put definitions in force, all or nothing")
    def put_definitions(asked: Annotated[models.PutDefinitions, Body()]) -> models.Applied:
        """All files of the folder each time: what is not among them is removed.

        With `dry_run` nothing is changed and `changes` says what would be.
        What is wrong is answered 422, each problem with its file, line and field.
        """
        with TemporaryDirectory() as folder:
            root = File(folder).resolve()
            for name, text in asked.files.items():
                _lay(root, name, text)
            again = partial(load.load, root, asked.stage)
            bucket = wiring.definitions(settings.store_bucket)
            try:
                done = publish.apply(again(), bucket, datetime.now(UTC), again, dry_run=asked.dry_run)
            except InvalidDefinition as exc:
                raise InvalidDefinition([said.replace(f"{root}/", "") for said in exc.problems]) from exc
        return models.Applied(**done._asdict())


def _lay(root: File, name: str, text: str) -> None:
    """Write a file under the folder, wherever its name would like to lead."""
    parts = PurePosixPath(name).parts
    if not parts or name != "/".join(parts) or ".." in parts or len(parts) > 4 or max(map(len, parts)) > 100:
        raise InvalidDefinition([f"{name}: no path under definitions/"])
    path = root.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidDefinition([f"{name}: is a file and a folder"]) from exc


def _destinations(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    @api.patch("/destinations/<name>", tags=["destinations"], summary="Switch a destination on or off")
    def patch_destination(name: Name, asked: Annotated[models.Switch, Body()]) -> models.Destination:
        found = wiring.destinations(settings, settings.outgoing_queue_url)
        found.switch(name, on=asked.enabled)
        return models.Destination(**found.facts(found.definition(name)))

    @api.post("/destinations/<name>/replay", tags=["destinations"], summary="Have notifications sent again")
    def post_replay(name: Name, asked: Annotated[models.ReplayNotifications, Body()]) -> models.Replayed:
        """Their receiver gets them under their own ids, marked as a replay.

        Of a time: ask again with `next` as `cursor` until it is null.
        Without `until`, `next` keeps the end that the first call had.
        """
        if asked.trigger and asked.trigger not in ASKABLE:
            raise Refusal(400, "bad_trigger", f"no trigger or event type named {asked.trigger!r}")
        found = wiring.destinations(settings, settings.outgoing_queue_url)
        found.definition(name)
        now = datetime.now(UTC)
        if asked.ids is not None:
            count = found.replay(name, asked.ids, now)
            if not count:
                raise Refused("unknown_notification", f"{name} has no such notification, or it is no longer known")
            return models.Replayed(waiting=count)
        if asked.since is None:
            raise Refusal(400, "bad_request", "since is missing")
        last, end = _replayed_to(place_of(asked.cursor), asked.until or now + timedelta(minutes=1))
        left = after(found.put_in(name, asked.since, end, asked.trigger), last, str)
        count, is_over = 0, _enough()
        while some := list(islice(left, AT_ONCE)):
            count += found.replay(name, some, now)
            if is_over():
                return models.Replayed(waiting=count, next=cursor_of(f"{end.isoformat()} {some[-1]}"))
        return models.Replayed(waiting=count)


def _triggers(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    @api.post("/triggers/<name>/entries", tags=["triggers"], summary="Have a person enter a trigger")
    def post_entry(name: Name, asked: Annotated[models.Enter, Body()]) -> models.Entered:
        """Of triggers with `entry: {call: true}`, once a request id, which is known for 60 days.

        The same call again changes nothing; its id with another person or other properties is answered 409.
        """
        called = enter_by_call(
            wiring.published(settings.store_bucket).trigger(name),
            admin.person(asked.person),
            asked.request_id,
            asked.properties,
            walks=wiring.segments(settings.events_table).walks,
            events=wiring.events_table(settings.events_table),
            now=datetime.now(UTC),
        )
        return models.Entered(**called._asdict())


def _replayed_to(place: str, end: datetime) -> tuple[str, datetime]:
    """The notification that an earlier call ended with, and the end of its time."""
    if not place:
        return "", end
    until, _, last = place.partition(" ")
    try:
        return last, datetime.fromisoformat(until).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise Refusal(400, "bad_cursor", "cursor: not one of this list's") from exc


def _enough() -> Callable[[], bool]:
    """Tells whether this call has gone on for long enough."""
    end = time.monotonic() + ENOUGH_SECONDS
    return lambda: time.monotonic() >= end


def _exports(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    def files() -> ExportFiles:
        return wiring.export_files(settings, settings.notice_queue_url)

    @api.post("/exports/resume", tags=["exports"], summary="Have a file's unfinished chunks read now", status_code=202)
    def post_resume(asked: Annotated[models.ByKey, Body()]) -> models.Again:
        entry = files().resume(asked.key)
        return models.Again(key=entry.file.key, chunks=len(entry.unfinished()))

    @api.post("/exports/redo", tags=["exports"], summary="Have a file read again from its start", status_code=202)
    def post_redo(asked: Annotated[models.ByKey, Body()]) -> models.Again:
        """What was recorded is recognised as a duplicate."""
        return models.Again(key=files().redo(asked.key).file.key, chunks=0)


def _quarantine(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    def kept() -> Quarantine:
        return wiring.quarantine(settings.store_bucket)

    @api.post("/quarantine/replay", tags=["quarantine"], summary="Put entries back on their queue")
    def post_replay(asked: Annotated[models.Replay, Body()]) -> models.Outcomes:
        """By id, or the newest of a reason, once the cause is mended. One that cannot go back stays, and says why."""
        ways = wiring.ways_back(settings)
        return _each(asked, partial(replay, quarantine=kept(), ways=ways, mode=asked.mode))

    @api.post("/quarantine/discard", tags=["quarantine"], summary="Remove entries for good")
    def post_discard(asked: Annotated[models.Choose, Body()]) -> models.Outcomes:
        """The raw archive keeps what came from webhooks."""

        def discard(id: str) -> None:
            kept().get(id)
            kept().remove(id)

        return _each(asked, discard)

    def _each(asked: models.Choose, do: Callable[[str], None]) -> models.Outcomes:
        is_over = _enough()
        chosen = asked.ids or [one.id for one in kept().list(reason=asked.reason, limit=asked.limit)]
        return models.Outcomes(items=[_outcome(one, do, is_over) for one in chosen])


def _outcome(id: str, do: Callable[[str], None], is_over: Callable[[], bool]) -> models.Outcome:
    if is_over():
        return models.Outcome(id=id, outcome="try_again", detail="there was no time left in this call")
    try:
        do(id)
    except KeyError:
        return models.Outcome(id=id, outcome="unknown_entry")
    except Refused as exc:
        return models.Outcome(id=id, outcome=exc.reason, detail=exc.detail)
    except EspialError as exc:
        return models.Outcome(id=id, outcome="try_again" if isinstance(exc, TryAgain) else "failed")
    return models.Outcome(id=id, outcome="done")


def _feeds(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    @api.post("/feeds/<name>/write", tags=["feeds"], summary="Write now what there is", status_code=202)
    def post_write(name: Name) -> models.Asked:
        """It may take minutes: the feed's page shows the batch once it is there. Sinks get it within a minute after."""
        wiring.feed_status(settings).definition(name)
        wiring.begin(settings.write_feed_function, {"feed": name, "at_once": True})
        return models.Asked(function="write_feed")

    @api.post("/feeds/<name>/deliver", tags=["feeds"], summary="Deliver now what sinks lack", status_code=202)
    def post_deliver(name: Name) -> models.Asked:
        """Also to sinks that would wait after a failure."""
        wiring.feed_status(settings).definition(name)
        wiring.begin(settings.deliver_feed_function, {"feed": name, "at_once": True})
        return models.Asked(function="deliver_feed")

    @api.post("/feeds/<name>/resend", tags=["feeds"], summary="Send files again, as they were", status_code=202)
    def post_resend(name: Name, asked: Annotated[models.Resend, Body()]) -> models.Asked:
        wiring.feed_status(settings).definition(name, asked.sink)
        sink = {"sink": asked.sink} if asked.sink else {}
        wiring.begin(settings.deliver_feed_function, {"feed": name, "names": asked.names, **sink})
        return models.Asked(function="deliver_feed")


def _onboarding(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    recipients = {
        "requestBody": {
            "required": True,
            "description": "An array of recipients, or one a line; fields are named like the columns of a file.",
            "content": {
                "application/json": {
                    "schema": {"type": "array", "items": {"type": "object"}},
                    "examples": {"two": {"value": [{"PID": "P-1001", "Email": "ada@example.com"}]}},
                }
            },
        }
    }

    @api.post(
        "/onboarding/<name>",
        tags=["onboarding"],
        summary="Recipients for a platform",
        status_code=202,
        openapi_extensions=recipients,
    )
    def post_onboarding(name: Annotated[str, Path(max_length=200, examples=["braze-welcome"])]) -> models.Accepted:
        """Durable once answered; the same call again is the same file."""
        body = read(api.current_event.raw_event).body
        accepted = wiring.reception(settings)(body, name, now=datetime.now(UTC))
        return models.Accepted(**accepted._asdict())

    @api.post("/onboardings/resume", tags=["onboarding"], summary="Have a file looked at again now", status_code=202)
    def post_resume(
        asked: Annotated[models.ByKey, Body(examples=[{"key": "braze-welcome/new.csv"}])],
    ) -> models.RecipientFile:
        """One that was refused for a reason that is mended since, or that stands still."""
        found = wiring.recipient_files(settings, settings.onboarding_queue_url).resume(asked.key)
        return models.RecipientFile(**facts(found))


def _republish(api: APIGatewayHttpResolver, settings: ChangeStackSettings) -> None:
    @api.post("/republish", tags=["events"], summary="Publish again what was recorded and never reached the bus")
    def post_republish(asked: Annotated[models.Republish, Body()]) -> models.Republished:
        """Whoever takes events from the bus knows them by their id.

        Without `person` the whole table is gone through, a stretch a call:
        ask again with `next` as `cursor` until it is null.
        """
        wanted = None
        if not asked.everything:
            wanted = wanted_by(wiring.definitions(settings.store_bucket).active() or {})
        bus, tally, following = wiring.event_bus(settings.event_bus), Counter[str](), None
        if asked.person is not None:
            tally = republish(
                received(_of_person(settings, asked.person), asked.since, asked.until), bus=bus, wanted=wanted
            )
        else:
            is_over, past = _enough(), wiring.past_events(settings.events_table)
            following = asked.cursor and place_of(asked.cursor)
            while True:
                some, following = past.page(following or "")
                tally += republish(received(some, asked.since, asked.until), bus=bus, wanted=wanted)
                if not following or is_over():
                    break
        return models.Republished(**tally, next=cursor_of(following) if following else None)


def _of_person(settings: ChangeStackSettings, person: str) -> list[Event]:
    key = admin.person(person)
    keys = wiring.people(settings.events_table).load(key).keys or (key,)
    found = timeline(wiring.events_table(settings.events_table), lambda _: keys, keys[0], limit=MOST_OF_A_PERSON)
    return [stored.event for stored in found]
