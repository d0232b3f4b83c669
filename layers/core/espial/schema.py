"""The published contract of the canonical event: a pydantic model, field by field that of `espial.events.Event`.

`espial.events` checks and serialises on the hot path; this describes, and gives the JSON Schema that docs, APIs and
consumers use. A test proves that the two accept and refuse the same. The schema is kept under docs/, and a release may
add to it but neither remove nor retype a field (goal 16):

    python -m espial.schema docs/event.schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from espial.events import Channel, Mode
from espial.vocabulary import EventType

SCHEMA_ID = "urn:espial:event:1"
"""Its number goes up when a field is removed or retyped, which makes it another contract."""

Text = str | None
Number = Annotated[float, Field(allow_inf_nan=False)] | None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PersonModel(_Part):
    """Who it is about; at least one of these for whatever concerns a person."""

    external_id: Text = Field(None, description="The customer's id, shared by site, shop and platforms.")
    email: Text = Field(None, description="The e-mail address, trimmed and lower-cased.")
    phone: Text = Field(None, description="The telephone number, E.164 where it says its country.")
    source_contact_id: Text = Field(None, description="The platform's own id of the person.")
    session_id: Text = Field(None, description="Session or anonymous id of a site or app.")


class CampaignModel(_Part):
    """Which campaign, journey and message variation it belongs to, in the platform's ids."""

    id: Text = Field(None, description="Campaign id.")
    name: Text = Field(None, description="Campaign name.")
    variation_id: Text = Field(None, description="Message variation, split or A/B variant.")
    variation_name: Text = Field(None, description="Its name.")
    journey_id: Text = Field(None, description="Journey, canvas or flow.")
    journey_name: Text = Field(None, description="Its name.")
    step_id: Text = Field(None, description="Step of the journey.")
    step_name: Text = Field(None, description="Its name.")
    send_id: Text = Field(None, description="One send, as the platform counts sends.")
    dispatch_id: Text = Field(None, description="One transmission of a send.")
    template_id: Text = Field(None, description="The platform's template.")
    tags: tuple[str, ...] = Field((), description="Tags or categories given when it was sent.")


class LinkModel(_Part):
    """The link of a click."""

    url: Text = Field(None, description="Where it leads.")
    id: Text = Field(None, description="The platform's id of the link.")
    alias: Text = Field(None, description="The name the author gave it.")


class ClientModel(_Part):
    """Where an open, click or visit came from."""

    ip: Text = Field(None, description="Address of the reader's client.")
    user_agent: Text = Field(None, description="Its User-Agent.")
    machine: bool | None = Field(None, description="Whether a machine did it; absent means unknown, never no.")
    machine_reason: Text = Field(None, description="What the verdict rests on.")


class FailureModel(_Part):
    """Why a message was not delivered."""

    class_: Text = Field(None, alias="class", description="The platform's class of the failure.")
    code: Text = Field(None, description="Status or error code.")
    reason: Text = Field(None, description="The words of whoever refused.")


class ProductModel(_Part):
    """One product or cart line."""

    id: Text = Field(None, description="Product id.")
    sku: Text = Field(None, description="Stock keeping unit.")
    name: Text = Field(None, description="What it is called.")
    variant: Text = Field(None, description="Colour, size …")
    category: Text = Field(None, description="Category in the shop.")
    price: Number = Field(None, description="Price of one, in the currency's major unit.")
    quantity: int | None = Field(None, description="How many.")
    url: Text = Field(None, description="Its page.")
    image_url: Text = Field(None, description="Its picture.")


class CartModel(_Part):
    """A cart's whole contents at this event."""

    id: Text = Field(None, description="Cart id.")
    currency: Text = Field(None, description="ISO 4217 code.")
    total: Number = Field(None, description="What it comes to, in the major unit.")
    url: Text = Field(None, description="Where to go on with it.")
    items: tuple[ProductModel, ...] = Field((), description="Its lines; none means that it was emptied.")


class OrderModel(_Part):
    """A completed order."""

    id: Text = Field(None, description="Order id.")
    cart_id: Text = Field(None, description="The cart it came from, if the shop says.")
    currency: Text = Field(None, description="ISO 4217 code.")
    total: Number = Field(None, description="What was paid, in the major unit.")
    items: tuple[ProductModel, ...] = Field((), description="Its lines.")


class CommerceModel(_Part):
    """What was looked at, put in the cart or bought."""

    cart: CartModel | None = Field(None, description="The cart.")
    order: OrderModel | None = Field(None, description="The order.")
    product: ProductModel | None = Field(None, description="The product looked at.")


class CanonicalEvent(_Part):
    """One thing that happened, whoever reported it and over whichever transport."""

    event_id: str = Field(description="ULID of second and identity: the same for every report of the event.")
    type: EventType = Field(description="What happened.")
    platform_type: str = Field(description="The platform's own word for it.")
    channel: Channel = Field(description="Over which channel people were reached.")
    platform: str = Field(description="Who reported it.")
    connection: str = Field(description="Over which configured connection it came first.")
    occurred_at: AwareDatetime = Field(description="When it happened.")
    received_at: AwareDatetime = Field(description="When its first report came in.")
    person: PersonModel = Field(PersonModel(), description="Who it is about.")
    campaign: CampaignModel | None = Field(None, description="What it belongs to.")
    message_id: Text = Field(None, description="The message, in the platform's id.")
    send_key: Text = Field(None, description="What ties a response to its send.")
    link: LinkModel | None = Field(None, description="The link clicked.")
    client: ClientModel | None = Field(None, description="Where it came from.")
    failure: FailureModel | None = Field(None, description="Why it failed.")
    commerce: CommerceModel | None = Field(None, description="What was looked at, put in the cart or bought.")
    properties: dict[str, Any] = Field({}, description="What else the platform or the customer's own fields say.")
    time_uncertain: bool = Field(False, description="No readable time was given; occurred_at is the receipt's.")
    mode: Mode = Field("live", description="Live, or read in afterwards.")
    raw: Text = Field(None, description="Where the report is kept whole.")


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of an event's canonical JSON, in which fields at their default are left out."""
    schema = CanonicalEvent.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def breaking_changes(published: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What consumers of `published` would trip over: removed or retyped fields, removed words, new required ones.

    Returns one sentence for each, empty where `current` only adds.
    """
    before, after = dict(_leaves(published)), dict(_leaves(current))
    found = []
    for path, kind in before.items():
        now = after.get(path)
        if now is None:
            found.append(f"{path} was removed")
        elif isinstance(kind, frozenset) and isinstance(now, frozenset):
            found += [f"{path} no longer says {word}" for word in sorted(kind - now)]
        elif kind != now:
            found.append(f"{path} was {kind} and is {now}")
    return found


def _leaves(schema: Mapping[str, Any]) -> Iterator[tuple[str, str | frozenset[str]]]:
    """Every field as (path, type), every enumeration as (path, its words)."""
    objects = {"event": schema, **{f"event.{name}": part for name, part in schema.get("$defs", {}).items()}}
    for name, part in objects.items():
        if "enum" in part:
            yield name, frozenset(part["enum"])
        for field, kind in part.get("properties", {}).items():
            if "enum" in kind:
                yield f"{name}.{field}", frozenset(kind["enum"])
            else:
                required = "required " if field in part.get("required", ()) else ""
                yield f"{name}.{field}", required + _kind(kind)


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(sorted(_kind(one) for one in schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"array of {_kind(schema['items'])}"
    return " ".join(str(schema[part]) for part in ("type", "format") if part in schema)


def main(arguments: list[str]) -> int:
    """Write the schema to a file; refused where it breaks the contract that stands there under the same number."""
    target = Path(arguments[0])
    current = json_schema()
    if target.exists():
        published = json.loads(target.read_text())
        problems = breaking_changes(published, current) if published.get("$id") == SCHEMA_ID else []
        if problems:
            sys.stderr.write("\n".join([*problems, f"raise SCHEMA_ID ({SCHEMA_ID}) to break the contract\n"]))
            return 1
    target.write_text(json.dumps(current, ensure_ascii=False, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
