"""Routes that look: the function that answers them has no right to change anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path as File
from typing import Annotated, Any, NoReturn
from urllib.parse import unquote

import aws_lambda_powertools.event_handler as powertools
import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from aws_lambda_powertools.event_handler.openapi.swagger_ui import generate_swagger_html
from aws_lambda_powertools.event_handler.openapi.types import OpenAPIResponse

from espial import admin, wiring
from espial.api import models
from espial.api.models import PRINTABLE, Instant
from espial.api.pages import Cursor, Limit, Page, after, cursor_of, page, place_of
from espial.deliveries import Reply
from espial.errors import Refused
from espial.events import PersonKey
from espial.gateway import Refusal, read
from espial.ledger import plain
from espial.message_state import message_states
from espial.ports import EventStore
from espial.services import recorded
from espial.services.export_files import ROOT as EXPORTS
from espial.services.journal import journal
from espial.services.ledger import between
from espial.services.recipient_files import facts
from espial.services.timeline import timeline as timeline_of
from espial.settings import ServeApiSettings

Person = Annotated[
    str,
    Query(
        max_length=admin.LONGEST_KEY,
        description="`email:`, `id:`, `phone:`, `contact:` or `session:` and a value; a bare address or id will do.",
        examples=["email:ada@example.com"],
    ),
]
ObjectKey = Annotated[
    str, Query(min_length=1, max_length=1000, pattern=PRINTABLE, examples=["braze/braze-main/2026/01/15/events.avro"])
]
EntryId = Annotated[
    str, Query(min_length=1, max_length=1000, pattern=PRINTABLE, examples=["2026-01-15/missing_event/0a1b2c3d"])
]
Newest = Annotated[int, Query(ge=1, le=1000, description="The newest this many.", examples=[200])]
Name = Annotated[str, Path(max_length=200, examples=["warehouse"])]
Since = Annotated[Instant | None, Query(description="Default: a day before `until`.")]
Until = Annotated[Instant | None, Query(description="Default: now.")]
Text = Annotated[str | None, Query(max_length=1000, pattern=PRINTABLE)]

_JOURNAL: dict[int, OpenAPIResponse] = {
    200: {"description": "Rows, oldest first.", "content": {"application/json": {}, "text/html": {}}}
}
_EXPLANATION: dict[int, OpenAPIResponse] = {
    200: {
        "description": "What was decided, what would be decided now, and what began nothing.",
        "content": {"application/json": {}},
    }
}
SWAGGER = File(powertools.__file__).parent / "openapi" / "swagger_ui"
HOURS_A_PAGE = timedelta(hours=24)


def routes(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    """Every route of them."""
    for add in (_definitions, _events, _reasons, _destinations, _exports, _quarantine, _feeds, _onboarding):
        add(api, settings)


def about(api: APIGatewayHttpResolver, document: Callable[[], dict[str, Any]]) -> None:
    """The document, and its page: one file that loads nothing from anywhere."""

    @api.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response[str]:
        return Response(200, content_type="application/json", body=json.dumps(document()))

    @api.get("/docs", include_in_schema=False)
    def docs() -> Response[str]:
        script, style = ((SWAGGER / f"swagger-ui{end}").read_text() for end in ("-bundle.min.js", ".min.css"))
        shown = generate_swagger_html(json.dumps(document()).replace("</", "<\\/"), script, style, "", None)
        return Response(200, content_type="text/html; charset=utf-8", body=shown)


def _definitions(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/definitions", tags=["definitions"], summary="What is in force")
    def get_definitions() -> models.InForce:
        active = _active(settings)
        names = {kind: sorted(found) for kind, found in active.items() if isinstance(found, dict)}
        return models.InForce(version=active["version"], applied_at=active.get("applied_at"), names=names)

    @api.get("/connections", tags=["definitions"], summary="The platforms' accounts, and where each posts to")
    def get_connections(limit: Limit = 50, cursor: Cursor = "") -> Page[models.Connection]:
        found = (wiring.definitions(settings.store_bucket).active() or {}).get("connections", {})
        left = after(sorted(found), place_of(cursor), str)
        names, following = page(left, limit, str)
        return Page(items=[_connection(name, found[name]) for name in names], next=following)


def _active(settings: ServeApiSettings) -> dict[str, Any]:
    active = wiring.definitions(settings.store_bucket).active()
    if active is None:
        raise Refused("unknown_definitions", "no definitions were applied yet")
    return active


def _connection(name: str, said: dict[str, Any]) -> models.Connection:
    where = f"{said['platform']}/{name}"
    return models.Connection(
        name=name,
        platform=said["platform"],
        account=said.get("account"),
        enabled=said.get("enabled", True),
        mode=said.get("mode", "live"),
        post=f"/in/{where}",
        exports=f"{EXPORTS}{where}/",
    )


def _events(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    def store() -> EventStore:
        return wiring.events_table(settings.events_table)

    @api.get("/events", tags=["events"], summary="What is recorded of a person, or of a campaign")
    def get_events(person: Person = "", campaign: Text = None, limit: Newest = 200) -> models.Recorded:
        """Give `person` or `campaign`.

        A campaign's events are looked for in the whole table:
        of a large one that takes longer than a call may, and `espial events --campaign` is the way.
        """
        if bool(person) == bool(campaign):
            raise Refusal(400, "bad_request", "give person or campaign, one of the two")
        conflicts = wiring.conflicts(settings.events_table)
        if campaign:
            found = recorded.of_campaign(wiring.every_event(settings.events_table), conflicts, campaign, limit=limit)
        else:
            found = recorded.of_person(store(), conflicts, _keys(settings, person), limit=limit)
        return models.Recorded(events=found.plain())

    @api.get("/messages", tags=["events"], summary="What became of each message to a person")
    def get_messages(person: Person, limit: Newest = 1000) -> models.Messages:
        keys = _keys(settings, person)
        found = [stored.event for stored in timeline_of(store(), lambda _: keys, keys[0], limit=limit)]
        states = [recorded.state(*one) for one in message_states(found).items()]
        return models.Messages(messages=[models.Message(**one) for one in states])

    def timeline() -> Response[str]:
        asked = admin.asked(read(api.current_event.raw_event))
        keys = wiring.people(settings.events_table).load(asked.person).keys
        bundle = wiring.definitions(settings.store_bucket).active()
        found = journal(store(), keys, bundle, limit=asked.limit, messages_only=asked.messages_only)
        return _response(admin.answered(found, asked))

    @api.get(
        "/timeline/<person>",
        tags=["events"],
        summary="What happened to a person, as JSON or as a page",
        responses=_JOURNAL,
    )
    def get_timeline(
        person: Annotated[str, Path(examples=["email:ada@example.com"])],  # noqa: ARG001  `asked` reads them
        limit: Annotated[str | None, Query(description="1 to 1000; 200 if left out.")] = None,  # noqa: ARG001
        messages_only: Annotated[str | None, Query(description="`true` or `false`.")] = None,  # noqa: ARG001
        format: Annotated[str | None, Query(description="`json` or `html`.")] = None,  # noqa: ARG001
    ) -> Response[str]:
        return timeline()

    @api.get("/timeline/.+", include_in_schema=False)
    def get_timeline_of_any_key() -> Response[str]:  # a contact's key has a slash
        return timeline()

    @api.get("/ledger", tags=["events"], summary="What came in, hour by hour, and whether it balances")
    def get_ledger(
        since: Since = None, until: Until = None, platform: Text = None, cursor: Cursor = ""
    ) -> models.Balances:
        """`platform` is one, or `platform/connection`. A page is a day: `next` leads to the following one."""
        now = datetime.now(UTC)
        end = until or now
        start = _instant(place_of(cursor)) if cursor else since or end - timedelta(days=1)
        stop = min(end, start + HOURS_A_PAGE)
        kept = wiring.ledger(settings.events_table)
        found = [plain(one, now) for one in between(kept, start, stop, platform)]
        return models.Balances(items=found, next=cursor_of(stop.isoformat()) if stop < end else None)


def _reasons(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    def why(trigger: str, person: str) -> Response[str]:
        asked = admin.asked_why(read(api.current_event.raw_event), trigger, person)
        found = wiring.explanation(settings)(asked, datetime.now(UTC))
        return _response(admin.explained(found, asked.person))

    @api.get(
        "/explain/<trigger>/<person>",
        tags=["events"],
        summary="Why a trigger sent a person something or did not",
        responses=_EXPLANATION,
    )
    def get_explanation(
        trigger: Name,
        person: Annotated[str, Path(examples=["email:ada@example.com"])],
        key: Annotated[str | None, Query(description="Only of this cart, or whatever it is about.")] = None,  # noqa: ARG001  `asked_why` reads them
        limit: Annotated[str | None, Query(description="1 to 1000; 20 if left out.")] = None,  # noqa: ARG001
    ) -> Response[str]:
        return why(trigger, person)

    @api.get("/explain/[^/]+/.+", include_in_schema=False)
    def get_explanation_of_any_key() -> Response[str]:  # a contact's key has a slash
        _, _, trigger, person = api.current_event.path.split("/", 3)
        return why(unquote(trigger), unquote(person))


def _keys(settings: ServeApiSettings, person: str) -> tuple[PersonKey, ...]:
    key = admin.person(person)
    return wiring.people(settings.events_table).load(key).keys or (key,)


def _instant(place: str) -> datetime:
    try:
        found = datetime.fromisoformat(place)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Refusal(400, "bad_cursor", "cursor: not one of this list's")
    return found


def _response(reply: Reply) -> Response[str]:
    return Response(reply.status, headers=dict(reply.headers), body=reply.body)


def _destinations(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/destinations", tags=["destinations"], summary="Every destination, and how it is")
    def get_destinations(limit: Limit = 20, cursor: Cursor = "") -> Page[models.Destination]:
        found = wiring.destinations(settings)
        names, following = page(after(sorted(found.known), place_of(cursor), str), limit, str)
        return Page(items=[models.Destination(**found.facts(found.known[name])) for name in names], next=following)

    @api.get("/destinations/<name>", tags=["destinations"], summary="One destination")
    def get_destination(name: Name) -> models.Destination:
        found = wiring.destinations(settings)
        return models.Destination(**found.facts(found.definition(name)))

    @api.get("/destinations/<name>/attempts", tags=["destinations"], summary="What was tried, the newest first")
    def get_attempts(name: Name, id: Text = None, limit: Limit = 20, cursor: Cursor = "") -> Page[models.Attempt]:
        """`id`: only of this notification. Kept 30 days."""
        found = wiring.destinations(settings)
        tried = found.evidence.of(found.definition(name).name, notification=id or "")
        some, following = page(after(tried, place_of(cursor), lambda one: one.id), limit, lambda one: one.id)
        return Page(items=[models.Attempt(**msgspec.to_builtins(one)) for one in some], next=following)


def _exports(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/exports", tags=["exports"], summary="The objects in the exports bucket, and how far each was read")
    def get_exports(
        prefix: Annotated[str, Query(max_length=1000, pattern=PRINTABLE, examples=["braze/braze-main/"])] = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> Page[models.Export]:
        files = wiring.export_files(settings)
        left = files.objects.listing(files.bucket, EXPORTS + prefix.removeprefix(EXPORTS), place_of(cursor))
        some, following = page(left, limit, lambda one: one.key)
        return Page(items=[models.Export(**one) for one in files.facts(some)], next=following)

    @api.get("/exports/file", tags=["exports"], summary="One file, and what became of its rows")
    def get_export(key: ObjectKey) -> models.Export:
        return models.Export(**wiring.export_files(settings).show(key))


def _quarantine(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/quarantine", tags=["quarantine"], summary="What was refused after it was accepted, newest first")
    def get_quarantine(reason: Text = None, limit: Limit = 20, cursor: Cursor = "") -> Page[models.Entry]:
        place = place_of(cursor)
        kept = wiring.quarantine(settings.store_bucket).list(reason=reason, limit=limit + 1, after=place)
        some, following = page(iter(kept), limit, lambda one: one.id)
        return Page(items=[models.Entry(**one._asdict()) for one in some], next=following)

    @api.get("/quarantine/entry", tags=["quarantine"], summary="One entry, with everything that is known of it")
    def get_entry(id: EntryId) -> models.WholeEntry:
        try:
            return models.WholeEntry(**wiring.quarantine(settings.store_bucket).get(id)._asdict())
        except KeyError:
            _unknown_entry(id)


def _unknown_entry(id: str) -> NoReturn:
    raise Refused("unknown_entry", f"no entry {id!r} in quarantine")


def _feeds(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/feeds", tags=["feeds"], summary="Every feed, and how far its sinks are")
    def get_feeds(limit: Limit = 20, cursor: Cursor = "") -> Page[models.Feed]:
        status = wiring.feed_status(settings)
        found = {feed.name: feed for feed, _ in status.feeds.feeds()}
        names, following = page(after(sorted(found), place_of(cursor), str), limit, str)
        return Page(items=[models.Feed(**status.facts(found[name])) for name in names], next=following)

    @api.get("/feeds/<name>", tags=["feeds"], summary="One feed")
    def get_feed(name: Name) -> models.Feed:
        status = wiring.feed_status(settings)
        return models.Feed(**status.facts(status.definition(name)[0]))

    @api.get("/feeds/<name>/batches", tags=["feeds"], summary="A feed's batches with their files, in order")
    def get_batches(name: Name, limit: Limit = 20, cursor: Cursor = "") -> Page[models.FeedBatch]:
        status = wiring.feed_status(settings)
        place = place_of(cursor)
        if place and not (place.isascii() and place.isdigit() and len(place) < 16):
            raise Refusal(400, "bad_cursor", "cursor: not one of this list's")
        left = status.book.batches(status.definition(name)[0].name, after=int(place or 0))
        some, following = page(left, limit, lambda one: str(one.number))
        return Page(items=[models.FeedBatch(**_plain(one)) for one in some], next=following)


def _plain(one: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(one))
    return {"counts": {}, "gap": False, **found}


def _onboarding(api: APIGatewayHttpResolver, settings: ServeApiSettings) -> None:
    @api.get("/onboardings", tags=["onboarding"], summary="The onboardings in force")
    def get_onboardings() -> list[str]:
        return list(wiring.recipient_files(settings).names)

    @api.get("/onboardings/<name>/files", tags=["onboarding"], summary="Files of recipients, by key")
    def get_files(
        name: Annotated[str, Path(max_length=200, examples=["braze-welcome"])], limit: Limit = 50, cursor: Cursor = ""
    ) -> Page[models.RecipientFile]:
        found = sorted(wiring.recipient_files(settings).list([name]), key=lambda one: one.file.key)
        left = after(found, place_of(cursor), lambda one: f"{one.file.key}@{one.file.etag}")
        some, following = page(left, limit, lambda one: f"{one.file.key}@{one.file.etag}")
        return Page(items=[models.RecipientFile(**facts(one)) for one in some], next=following)

    @api.get("/onboardings/file", tags=["onboarding"], summary="One file of recipients")
    def get_file(key: ObjectKey) -> models.RecipientFile:
        return models.RecipientFile(**facts(wiring.recipient_files(settings).find(key)))
