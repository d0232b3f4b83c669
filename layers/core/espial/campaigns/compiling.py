"""A checked campaign to the triggers that run it, and a variant to the provider that sends it; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from espial.campaigns.compiled import CampaignTrigger
from espial.campaigns.definition import (
    Behaviour,
    CampaignDefinition,
    CampaignMessage,
    Heard,
    PayloadDefinition,
    Rule,
    VariantDefinition,
)
from espial.campaigns.webhook import WebhookDefinition
from espial.senders.webhook import WebhookSettings
from espial.triggers import durations

STATUS = {"live": "live", "paused": "paused"}
"""Of a campaign -> of its triggers. What was never live, or is over, has none."""

STALE_AFTER = timedelta(minutes=15)
WALK = timedelta(days=1)
"""How late a scheduled message may be: a walk over many people takes its time."""

_TO = {"email": "person.email", "sms": "person.phone", "whatsapp": "person.phone"}


class ProviderLike(Protocol):
    """`espial.definitions.models.ProviderDefinition`."""

    @property
    def channel(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def sender(self) -> str: ...


class Definitions(Protocol):
    """What campaigns are made of, by name (`espial.definitions.load.Definitions`)."""

    @property
    def campaigns(self) -> Mapping[str, CampaignDefinition]: ...
    @property
    def payloads(self) -> Mapping[str, PayloadDefinition]: ...
    @property
    def variants(self) -> Mapping[str, VariantDefinition]: ...
    @property
    def webhooks(self) -> Mapping[str, WebhookDefinition]: ...
    @property
    def providers(self) -> Mapping[str, ProviderLike]: ...
    @property
    def templates(self) -> Mapping[str, Mapping[str, Any]]: ...


def names(campaign: CampaignDefinition) -> Iterator[tuple[str, Behaviour | None, CampaignMessage | None, bool]]:
    """Each of its triggers: name, behaviour, message, and whether it is the one that awards."""
    behaviours: tuple[Behaviour | None, ...] = campaign.behaviours or (None,)
    messages: tuple[CampaignMessage | None, ...] = campaign.messages or (None,)
    for behaviour in behaviours:
        for number, message in enumerate(messages):
            parts = (campaign.name, behaviour and behaviour.name, message and message.id)
            yield "-".join(part for part in parts if part), behaviour, message, number == 0


def triggers(campaign: CampaignDefinition, known: Definitions) -> dict[str, CampaignTrigger]:
    """Its triggers by name. The campaign is one that `espial.campaigns.checking` finds nothing against."""
    return {
        name: CampaignTrigger.model_validate(
            {
                "name": name,
                "status": STATUS[campaign.status],
                "valid_from": campaign.start_at,
                "valid_to": campaign.end_at,
                "consent": campaign.consent,
                **_started(campaign, behaviour),
                **_sent(campaign, message, known),
                "limits": _limits(campaign),
                "campaign": _part(campaign, behaviour, message, known, awards=awards),
            }
        )
        for name, behaviour, message, awards in names(campaign)
    }


def _started(campaign: CampaignDefinition, behaviour: Behaviour | None) -> dict[str, Any]:
    """By what it begins and what must hold."""
    if behaviour is None:
        assert campaign.schedule is not None
        return {"entry": {"schedule": campaign.schedule.entry(_audience(campaign), campaign.zone)}}
    conditions = [("audience", _audience(campaign))]
    counted = _expression(behaviour, counted=True)
    where = _expression(behaviour, counted=False)
    if counted != where:
        conditions.append(("behaviour", counted))
    once = campaign.limits.per_customer_total is not None
    return {
        "on": behaviour.listens,
        "where": where,
        "key": '"once"' if once else "event.event_id",
        "conditions": [{"name": name, "when": when} for name, when in conditions if when != "true"],
    }


def _sent(campaign: CampaignDefinition, message: CampaignMessage | None, known: Definitions) -> dict[str, Any]:
    """When and to whom; without a message nobody is called, and nobody needs an address."""
    if message is None:
        return {"send": {"provider": "none", "template": "none", "to": "run.key"}}
    shares = [_share(name, known) for name in message.variants]
    channel = _channel(message, known)
    patient = [known.webhooks[hook].retry.for_ for one in message.variants if (hook := known.variants[one].webhook)]
    send = {
        "provider": shares[0]["provider"],
        "template": shares[0]["template"] or "payload",
        "to": _TO.get(channel, "person.external_id"),
    }
    late = WALK if campaign.mode == "scheduled" else STALE_AFTER
    quiet = message.quiet_hours.model_dump(mode="json") if message.quiet_hours else None
    return {
        "wait": message.delay,
        "send": send,
        "stale_after": max(late, *patient) if patient else late,
        "quiet_hours": quiet,
        "zone": campaign.zone,
    }


def _part(
    campaign: CampaignDefinition,
    behaviour: Behaviour | None,
    message: CampaignMessage | None,
    known: Definitions,
    *,
    awards: bool,
) -> dict[str, Any]:
    facts = {
        "name": campaign.name,
        "type": campaign.type,
        "start_date": campaign.start_at.isoformat() if campaign.start_at else None,
        "end_date": campaign.end_at.isoformat() if campaign.end_at else None,
        "settings": campaign.advanced_settings,
    }
    return {
        "name": campaign.name,
        "behaviour": behaviour.name if behaviour else "",
        "facts": facts,
        "outcomes": behaviour.outcomes if behaviour else campaign.outcomes,
        "awards": awards,
        "channel": _channel(message, known) if message else "none",
        "shares": [_share(name, known) for name in message.variants] if message else [],
    }


def _channel(message: CampaignMessage, known: Definitions) -> str:
    variant = known.variants[message.variants[0]]
    if variant.webhook:
        return known.payloads[variant.template or ""].channel
    return known.providers[variant.provider].channel


def _share(name: str, known: Definitions) -> dict[str, Any]:
    variant = known.variants[name]
    own = variant.webhook is not None
    return {
        "variant": name,
        "provider": name if own else variant.provider,
        "template": None if own else variant.template,
        "weight": variant.weight,
        "locale": variant.locale or "",
    }


def _limits(campaign: CampaignDefinition) -> list[dict[str, Any]]:
    return [
        {"name": f"per_customer_{durations.text(limit.within)}", "count": limit.count, "within": limit.within}
        for limit in campaign.limits.per_customer_per_period
    ]


def _audience(campaign: CampaignDefinition) -> str:
    audience = campaign.audience
    if audience is None or audience.all:
        return "true"
    if audience.segment is not None:
        return audience.segment
    return f"has(person.external_id) && person.external_id in {json.dumps(audience.people)}"


# -- behaviours as CEL


def _expression(behaviour: Behaviour, *, counted: bool) -> str:
    """Whether the event is such a behaviour; `counted` asks too how many there were, which needs the timeline."""
    joint = " && " if behaviour.match == "all" else " || "
    return joint.join(_rule(rule, counted=counted) for rule in behaviour.rules)


def _rule(rule: Rule, *, counted: bool) -> str:
    return f"({' || '.join(_heard(heard, counted=counted) for heard in rule.events)})"


def _heard(heard: Heard, *, counted: bool) -> str:
    terms = [f"event.type in {json.dumps([kind.value for kind in heard.types])}"]
    order = "event.commerce.order"
    if heard.name:
        terms.append(f"event.platform_type == {json.dumps(heard.name)}")
    if heard.min_value is not None:
        terms.append(f"has({order}.total) && {order}.total >= {float(heard.min_value)!r}")
    if heard.items:
        terms.append(f"{order}.items.exists(item, has(item.id) && item.id in {json.dumps(heard.items)})")
    if heard.min_items is not None:
        terms.append(f"size({order}.items) >= {heard.min_items}")
    terms += [f"({expression})" for expression in heard.filters]
    if counted and heard.min_count:
        window = durations.text(heard.within)
        number = " + ".join(f'count("{kind.value}", "{window}")' for kind in heard.types)
        terms.append(f"{number} >= {heard.min_count}")
    return f"({' && '.join(terms)})"


# -- variants as providers


def provider(name: str, known: Definitions) -> dict[str, Any]:
    """What the webhook's sender reads of a variant (`espial.senders.webhook`)."""
    variant = known.variants[name]
    webhook, payload = known.webhooks[variant.webhook or ""], known.payloads[variant.template or ""]
    host, variables = base(known.providers[variant.provider])
    settings = {
        "host": host,
        "channel": payload.channel,
        "missing": payload.missing,
        "static_values": {**variables, **variant.static_values},
        "call": webhook.call(payload.body if webhook.body is None else None),
    }
    return {"name": name, "sender": "webhook", "settings": settings}


def base(provider: ProviderLike) -> tuple[str, Mapping[str, str]]:
    """A provider's address, "" where it says none, and its variables."""
    if provider.sender == "webhook":
        settings = WebhookSettings.model_validate(provider.settings)
        return (settings.address() if settings.host else ""), settings.variables
    return str(provider.settings.get("base_url") or "").rstrip("/"), {}


class Made(NamedTuple):
    """What campaigns become, by name: triggers, and the providers of their webhook variants."""

    triggers: dict[str, CampaignTrigger]
    providers: dict[str, dict[str, Any]]


def made(known: Definitions) -> Made:
    """Of every campaign that is live or paused."""
    running = [campaign for campaign in known.campaigns.values() if campaign.status in STATUS]
    said = {name for campaign in running for message in campaign.messages for name in message.variants}
    return Made(
        {name: one for campaign in running for name, one in triggers(campaign, known).items()},
        {name: provider(name, known) for name in sorted(said) if known.variants[name].webhook},
    )
