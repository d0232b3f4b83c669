"""What a campaign still needs to go live: every failing item at once, each with its place (C2, C15, C17 to C23)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from espial.campaigns import placeholders
from espial.campaigns.compiling import STATUS, Definitions, base, names
from espial.campaigns.definition import Behaviour, CampaignDefinition, VariantDefinition
from espial.campaigns.facts import GROUPS
from espial.campaigns.outcomes import Outcome, Points
from espial.campaigns.placeholders import GUID, Placeholder
from espial.definitions.fields import NAME

Path = tuple[str | int, ...]


class Item(NamedTuple):
    """One thing that fails: where in the campaign's file, a snake_case code, and words."""

    path: Path
    code: str
    what: str

    def __str__(self) -> str:
        return f"{self.code}: {self.what}" if self.what else self.code


def go_live(campaign: CampaignDefinition, known: Definitions) -> list[Item]:
    """Every item that stands against it; empty when it may be live."""
    return list(dict.fromkeys(_items(campaign, known)))


def _items(campaign: CampaignDefinition, known: Definitions) -> Iterator[Item]:
    yield from _frame(campaign)
    for name, *_ in names(campaign):
        if not NAME.fullmatch(name):
            yield Item(("name",), "name_too_long", f"its trigger {name!r} would have more than 64 characters")
    for number, message in enumerate(campaign.messages):
        at: Path = ("messages", number, "variants")
        channels = set()
        for place, name in enumerate(message.variants):
            variant = known.variants.get(name)
            if variant is None:
                yield Item((*at, place), "variant", f"no variant named {name!r}")
                continue
            for item in _variant(name, variant, known):
                yield item._replace(path=(*at, place))
            channels.add(_channel(variant, known))
            for behaviour in campaign.behaviours or (None,):
                for code in _unobtainable(campaign, behaviour, variant, known):
                    yield Item((*at, place), code, f"variant {name!r} needs it")
        if len(channels - {""}) > 1:
            yield Item(at, "channel", f"variants of one message are of one channel, not {', '.join(sorted(channels))}")


def _frame(campaign: CampaignDefinition) -> Iterator[Item]:
    for field in ("start_at", "end_at"):
        if getattr(campaign, field) is None:
            yield Item((field,), "time_frame", f"{field} is missing")
    if campaign.audience is None:
        yield Item(("audience",), "audience", "is missing")
    elif campaign.audience.people is not None and len({*campaign.audience.people}) < 2:
        yield Item(("audience", "people"), "audience_too_small", "an audience is more than one person")
    if campaign.mode == "scheduled" and campaign.schedule is None:
        yield Item(("schedule",), "schedule", "is missing")
    if campaign.mode == "triggered" and not campaign.behaviours:
        yield Item(("behaviours",), "behaviours", "are missing")
    yield from _awarded(campaign)


def _awarded(campaign: CampaignDefinition) -> Iterator[Item]:
    outcomes = [*campaign.outcomes, *(one for behaviour in campaign.behaviours for one in behaviour.outcomes)]
    if not campaign.messages and not outcomes:
        yield Item(("messages",), "outcomes", "it has neither messages nor outcomes")
    for number, behaviour in enumerate(campaign.behaviours):
        yield from _paid(("behaviours", number, "outcomes"), behaviour.outcomes, buys=behaviour.buys)
    yield from _paid(("outcomes",), campaign.outcomes, buys=False)


def _paid(at: Path, outcomes: tuple[Outcome, ...], *, buys: bool) -> Iterator[Item]:
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Points) and outcome.dynamic and not buys:
            yield Item(
                (*at, number), "unobtainable_attribute:transaction.total", "points by what was paid need purchases"
            )


def _variant(name: str, variant: VariantDefinition, known: Definitions) -> Iterator[Item]:
    """C22: it is valid only if provider, template and webhook are there, belong together and are ready."""
    at: Path = ()
    if variant.status != "active":
        yield Item(at, "variant", f"{name!r} is disabled")
    if variant.provider not in known.providers:
        yield Item(at, "provider", f"variant {name!r} has no provider named {variant.provider!r}")
    templates: Any = known.payloads if variant.webhook else known.templates
    folder = "payloads" if variant.webhook else "templates"
    if variant.template is None:
        yield Item(at, "template", f"variant {name!r} has none")
    elif variant.template not in templates:
        yield Item(at, "template", f"variant {name!r} has none: there is no {folder}/{variant.template}")
    if variant.webhook:
        yield from _webhook(name, variant, variant.webhook, known)
    elif variant.provider in known.providers and known.providers[variant.provider].sender == "webhook":
        yield Item(
            at, "webhook", f"variant {name!r} has none, and provider {variant.provider!r} is called by webhooks alone"
        )


def _webhook(name: str, variant: VariantDefinition, hook: str, known: Definitions) -> Iterator[Item]:
    webhook = known.webhooks.get(hook)
    if webhook is None:
        yield Item((), "webhook", f"variant {name!r} has no webhook named {hook!r}")
        return
    if missing := webhook.lacking(has_payload=variant.template in known.payloads):
        yield Item((), "webhook", f"{hook!r} is incomplete: {', '.join(missing)}")
    if webhook.provider != variant.provider:
        yield Item((), "webhook", f"{hook!r} is of provider {webhook.provider!r}, and variant {name!r} of another")
    if name in known.providers:
        yield Item((), "variant", f"{name!r} is the name of a provider too")
    if webhook.provider in known.providers and webhook.endpoint:
        host, _ = base(known.providers[webhook.provider])
        endpoint = urlsplit(webhook.endpoint)
        if not host and not endpoint.netloc:
            yield Item(
                (), "webhook", f"{hook!r} has a path, and provider {webhook.provider!r} no host to put it behind"
            )
        elif host and endpoint.netloc and endpoint.netloc != urlsplit(host).netloc:
            yield Item((), "webhook", f"{hook!r} calls another host than that of provider {webhook.provider!r}")


def _channel(variant: VariantDefinition, known: Definitions) -> str:
    if variant.webhook:
        payload = known.payloads.get(variant.template or "")
        return payload.channel if payload else ""
    provider = known.providers.get(variant.provider)
    return provider.channel if provider else ""


# -- what payloads need of the events listened for


def required(variant: VariantDefinition, known: Definitions) -> list[Placeholder]:
    """What the variant's payload and webhook ask for, each once."""
    webhook, payload = known.webhooks.get(variant.webhook or ""), known.payloads.get(variant.template or "")
    parts: list[Any] = [webhook.endpoint, webhook.headers, webhook.body] if webhook else []
    if webhook and webhook.body is None and payload:
        parts.append(payload.body)
    return list(dict.fromkeys(placeholders.found(parts)))


def _unobtainable(
    campaign: CampaignDefinition, behaviour: Behaviour | None, variant: VariantDefinition, known: Definitions
) -> Iterator[str]:
    """What no event that the campaign listens for can tell, and nothing else says."""
    outcomes = behaviour.outcomes if behaviour else campaign.outcomes
    there = {"campaign", "user", "user_profile", "tags", "system", *(one.kind for one in outcomes)}
    there |= {"event"} if behaviour else set()
    there |= {"transaction"} if behaviour and behaviour.buys else set()
    provider = known.providers.get(variant.provider)
    said = {*variant.static_values, *(base(provider)[1] if provider else ()), GUID}
    for one in required(variant, known):
        if one.path in said:
            continue
        if one.group not in GROUPS:
            yield f"unknown_placeholder:{one.path}"
        elif one.default is None and one.group not in there:
            yield f"unobtainable_attribute:{one.path}"


def checked(campaign: CampaignDefinition) -> bool:
    """Whether it has to be whole: what is not live may be half said."""
    return campaign.status in STATUS
