"""A run's mail: who from, who to, what it says, and the way out of the next one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from email.utils import parseaddr
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from espial.errors import Refused
from espial.events import PersonKey
from espial.mail_links import MailLinks, Reader
from espial.messages import Message, mailbox
from espial.people import PersonView
from espial.templates.render import render
from espial.templates.tracked import hosts_in, may_track, tracked
from espial.triggers.definition import Trigger
from espial.triggers.run import Run


def compose(
    run: Run,
    view: PersonView,
    to: str,
    *,
    key: str,
    provider: Mapping[str, Any],
    template: Mapping[str, Any],
    links: MailLinks | None = None,
    track: Collection[str] = (),
    extra: Mapping[str, Any] = MappingProxyType({}),
    now: datetime,
    channel: str = "email",
) -> Message:
    """The run's mail or text message under its send key, rendered. Raises Refused with the reason it cannot be made.

    `links` leads to our own pages, for providers that name none of theirs. `track` (`links`, `opens`) goes by way of
    them too, where the person lets us. `extra` is printed beside what the run and the person give.
    """
    unsubscribe = str(provider.get("unsubscribe_url") or "").replace("{message}", key)
    if links is not None and not unsubscribe:
        unsubscribe = links.unsubscribe()
    headers: Mapping[str, str] = {}
    if template["category"] == "marketing" and channel == "email":
        if not unsubscribe:
            raise Refused("no_unsubscribe_url", provider["name"])
        headers = one_click(unsubscribe)
    rendered = render(template, {**context(run, view, unsubscribe_url=unsubscribe, now=now), **extra})
    tags = {"trigger": run.trigger, "template": template["name"], **({"variant": run.variant} if run.variant else {})}
    if channel == "sms":
        text = rendered.text.strip()
        return Message(
            channel=channel, to=to, from_=provider["from"], subject="", html="", text=text, send_key=key, tags=tags
        )
    html = rendered.html
    if links is not None and track and may_track(view):
        hosts = hosts_in(template["html"]) | links.hosts
        html = tracked(html, links, what=track, hosts=hosts, keep={unsubscribe})
    name, sender = parseaddr(provider["from"])
    return Message(
        to=to,
        from_=mailbox(rendered.from_name or name, sender),
        reply_to=provider.get("reply_to", ""),
        subject=rendered.subject,
        html=html,
        text=rendered.text,
        send_key=key,
        headers=headers,
        tags=tags,
        external_id=view.external_id or "",
    )


def unrendered(run: Run, to: str, *, key: str, channel: str, variant: str, facts: Mapping[str, Any]) -> Message:
    """What a variant's webhook is to say, which its sender renders."""
    return Message(
        channel=channel,
        to=to,
        from_="",
        subject="",
        html="",
        text="",
        send_key=key,
        tags={"trigger": run.trigger, "template": variant},
        facts=facts,
    )


def reader(trigger: Trigger, run: Run, view: PersonView, to: str, key: str) -> Reader:
    """Whom the mail's links name: the run's person, and the address where it is known to be theirs.

    An address that only the event named (a friend's, say) must not be tied to the person by a click. A platform's
    contact id means nothing elsewhere: there the address is all there is. What is the person's key needs no repeating.
    """
    address = to.lower()
    theirs = str(view.attributes.get("email", "")).lower() == address or PersonKey("email", address) in view.keys
    known = (theirs or PersonKey.parse(run.person).kind == "contact") and run.person != f"email:{address}"
    topic = trigger.consent.topic if trigger.consent else ""
    return Reader(run.person, address if known else "", key, trigger.channel, topic)


def one_click(url: str) -> dict[str, str]:
    """RFC 8058: the link that mailbox providers POST to, and the promise that one POST is enough."""
    return {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def context(run: Run, view: PersonView, *, unsubscribe_url: str, now: datetime) -> dict[str, Any]:
    """What a template may print: person, event, the event's cart, order and product, now, unsubscribe_url.

    Attributes are there under the platform's name and in snake_case (`firstName` is `first_name` too).
    """
    attributes = {_snake(name): value for name, value in view.attributes.items()} | view.attributes
    event = msgspec.to_builtins(run.event)
    return {
        "person": {"external_id": view.external_id, **attributes},
        "event": event,
        **event.get("commerce", {}),
        "now": now,
        "unsubscribe_url": unsubscribe_url,
    }


@lru_cache(maxsize=1024)
def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
