"""What readers of our mails ask for: their preferences, unsubscribing in one click, tracked links and pixels.

    /u/<token>      GET shows the preference page and changes nothing, however often and by whomever it is asked
                    (scanners follow every link); POST does what its form says, or RFC 8058's one click
    /c/<token>      GET goes to the destination that the token holds, and tells of the click
    /o/<token>.gif  GET is a picture, and tells of the open

What is told goes the way of every report: onto RawQueue, and from there into consent, triggers and feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from espial.deliveries import Connection, RawDelivery, Reply
from espial.errors import SignatureError, TryAgain
from espial.events import KEY_KINDS, PersonKey
from espial.gateway import Outcome, Request, retry_after
from espial.mail_links import PLATFORM, Purpose, Reader, reader_of, unseal
from espial.pages import forms
from espial.pages.html import Preferences, notice, policy, preferences
from espial.ports import Connections, DeliveryQueue, People

PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
"""A transparent GIF of one point, in base64."""

_FIELDS = {kind: field for field, kind in KEY_KINDS.items()}
_STALE = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-robots-tag": "noindex"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The ports of this use-case."""

    connections: Connections
    queue: DeliveryQueue
    people: People
    clock: Callable[[], datetime]

    def serve(self, request: Request) -> Outcome:
        """The answer to one request. 400 token of nobody's, 404 no such page, 405 method, 413 form, 503 stores away.

        Raises nothing that `espial.errors` knows.
        """
        try:
            return self._serve(request)
        except SignatureError as exc:
            text = "It was changed on the way, or cut off. Open it from the email again, and copy all of it."
            page = notice("This link does not work", text, "Nothing was changed.")
            return Outcome(_html(page, 400), "bad_token", detail=str(exc))
        except TryAgain as exc:
            page = notice("Please try again in a minute", "We could not do this right now. Nothing was changed.")
            return Outcome(_html(page, 503, retry_after(exc)), "try_again", detail=str(exc))

    def _serve(self, request: Request) -> Outcome:
        page, token = request.path.get("page", ""), request.path.get("token", "")
        allowed = "GET, HEAD, POST" if page == "u" else "GET, HEAD"
        if request.method not in allowed.split(", "):
            shown = notice("This cannot be done here", "Open the link from the email in a browser.")
            return Outcome(_html(shown, 405, {"allow": allowed}), "method_not_allowed")
        match page:
            case "u":
                return self._preferences(request, *self._proven("u", token))
            case "c":
                return self._clicked(request, *self._proven("c", token))
            case "o":
                return self._opened(request, *self._proven("o", token.removesuffix(".gif")))
        return Outcome(_html(notice("There is no such page", "Open the link from the email again."), 404), "no_page")

    def _proven(self, purpose: Purpose, token: str) -> tuple[Connection, Reader, str]:
        """Whose token it is, whom it names and where it leads. Raises SignatureError, TryAgain."""
        for missed in (False, True):
            for connection in self.connections.of_platform(PLATFORM, missed=missed):
                try:
                    said = unseal(purpose, token, self.connections.secrets(connection))
                except SignatureError:
                    continue
                return connection, *reader_of(purpose, said)
        raise SignatureError("no connection's secret made this token")

    # -- preferences

    def _preferences(self, request: Request, connection: Connection, reader: Reader, _to: str) -> Outcome:
        if request.method != "POST":
            page = preferences(self._shown(connection, reader))
            return Outcome.of(_html(page if request.method == "GET" else ""), "shown", connection, 0)
        if len(request.body) > forms.LARGEST:
            page = notice("This form is too large", "Nothing was changed.")
            return Outcome.of(_html(page, 413), "too_large", connection, len(request.body))
        form = forms.fields(request.headers.get("content-type", ""), request.body)
        if forms.is_one_click(form):
            self._report(request, connection, reader, [_choice(reader.topic, "one_click", granted=False)])
            return Outcome.of(_html(notice("You are unsubscribed")), "unsubscribed", connection, len(request.body))
        return self._chosen(request, connection, reader, form)

    def _chosen(
        self, request: Request, connection: Connection, reader: Reader, form: Mapping[str, list[str]]
    ) -> Outcome:
        what = (form.get("do") or [""])[0]
        now = self._shown(connection, reader)
        match what:
            case "leave" | "back":
                on = what == "back"
                choices = [_choice(reader.topic, "page", granted=on)]
                granted = now.granted | {reader.topic} if on else now.granted - {reader.topic}
                if not reader.topic and not on:
                    granted = frozenset()
                said = "You are subscribed again." if on else "You are unsubscribed."
                then = replace(now, left=not on, granted=granted & now.topics.keys(), said=said)
            case "none":
                choices = [_choice("", "page", granted=False)]
                then = replace(now, left=True, granted=frozenset(), said="You are unsubscribed from all emails.")
            case "save":
                wanted = frozenset(form.get("topic", ())) & now.topics.keys()
                shown = frozenset(form.get("shown", ())) & now.topics.keys()
                # against what is recorded too: a choice of a moment ago may not be there yet, one of another page is
                changed = (wanted ^ shown) | (wanted ^ now.granted)
                choices = [_choice(topic, "page", granted=topic in wanted) for topic in sorted(changed)]
                left = reader.topic not in wanted if reader.topic in now.topics else now.left
                then = replace(now, granted=wanted, left=left, said="Your choices are saved.")
            case _:
                page = notice("This form is not complete", "Open the link from the email again. Nothing was changed.")
                return Outcome.of(_html(page, 400), "unknown_form", connection, len(request.body))
        self._report(request, connection, reader, choices)
        return Outcome.of(_html(preferences(then)), "chosen", connection, len(request.body))

    def _shown(self, connection: Connection, reader: Reader) -> Preferences:
        view = self.people.load(PersonKey.parse(reader.person))
        topics: Mapping[str, str] = connection.settings.get("topics", {})

        def said(topic: str) -> bool | None:
            choice = view.choice(reader.channel, topic)
            return choice.granted if choice else None

        return Preferences(
            sender=connection.settings.get("sender", ""),
            address=reader.email or _person(reader).get("email", ""),
            this=reader.topic,
            topics=topics,
            granted=frozenset(topic for topic in topics if said(topic)),
            left=said(reader.topic) is False,
        )

    # -- tracking

    def _clicked(self, request: Request, connection: Connection, reader: Reader, to: str) -> Outcome:
        answer = Reply(status=302, headers={"location": to, **_STALE})
        return self._engaged(request, connection, reader, {"type": "clicked", "url": to}, answer)

    def _opened(self, request: Request, connection: Connection, reader: Reader, _to: str) -> Outcome:
        answer = Reply(body=PIXEL, headers={"content-type": "image/gif", **_STALE})
        return self._engaged(request, connection, reader, {"type": "opened"}, answer)

    def _engaged(
        self, request: Request, connection: Connection, reader: Reader, said: dict[str, Any], answer: Reply
    ) -> Outcome:
        """The answer, whatever becomes of the report: nobody who clicks waits for our queue. HEAD tells nothing."""
        if request.method == "HEAD":
            return Outcome.of(replace(answer, body=""), "looked", connection, 0)
        try:
            self._report(request, connection, reader, [said])
        except TryAgain as exc:
            return Outcome.of(answer, "unreported", connection, 0, str(exc))
        return Outcome.of(answer, said["type"], connection, 0)

    # -- telling

    def _report(self, request: Request, connection: Connection, reader: Reader, said: list[dict[str, Any]]) -> None:
        if not said:
            return
        now = self.clock()
        facts = {
            "at": now.isoformat(),
            "person": _person(reader),
            "channel": reader.channel,
            "send_key": reader.send_key,
            "client": {"ip": _ip(request), "user_agent": request.headers.get("user-agent", "")},
        }
        reports = [{"id": f"{request.id}/{place}", **facts, **one} for place, one in enumerate(said)]
        self.queue.put(
            RawDelivery(
                delivery_id=request.id,
                platform=PLATFORM,
                connection=connection.name,
                transport="webhook",
                body=orjson.dumps({"reports": reports}),
                received_at=now,
                headers={"content-type": "application/json"},
                mode=connection.mode,
            )
        )


def _choice(topic: str, how: Literal["one_click", "page"], *, granted: bool) -> dict[str, Any]:
    return {"type": "subscribed" if granted else "unsubscribed", "topic": topic, "how": how}


def _person(reader: Reader) -> dict[str, str]:
    kind, value = PersonKey.parse(reader.person)
    # a contact id is its own platform's: under ours it would name somebody else
    named = {} if kind == "contact" else {_FIELDS[kind]: value}
    return {**named, **({"email": reader.email} if reader.email else {})}


def _ip(request: Request) -> str:
    """Who called the gateway: the last of the list is what it added itself."""
    return request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()


def _html(page: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    safe = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy(),
        "x-content-type-options": "nosniff",
        **_STALE,
    }
    return Reply(status=status, body=page, headers={**safe, **(headers or {})})


def answer(outcome: Outcome) -> dict[str, Any]:
    """An outcome as API Gateway takes it; a picture travels in base64."""
    reply = outcome.reply
    encoded = reply.headers.get("content-type") == "image/gif"
    return {
        "statusCode": reply.status,
        "headers": dict(reply.headers),
        "body": reply.body,
        "isBase64Encoded": encoded and bool(reply.body),
    }
