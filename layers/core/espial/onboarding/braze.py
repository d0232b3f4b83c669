"""Braze: `POST /users/track` (A2; https://www.braze.com/docs/api/endpoints/user_data/post_user_track/).

Profile fields go by Braze's names, everything else of the CDP into the custom attribute `rpi_cdp_attributes`. The
arrays `rpi_contact_ids`, `rpi_channel_exec_ids`, `rpi_audience_outputs` and `rpi_offers` grow by `{"add": […]}`.
Braze's arrays are sets: adding a value that is there moves it to the end, so a repeated request leaves no second one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from espial.answers import Answer
from espial.onboarding import Batch, Recipient, Refusal, Request
from espial.onboarding._answers import discreet, document, was_taken

PATH = "/users/track"

PROFILE = frozenset(
    {
        *("first_name", "last_name", "email", "phone", "country", "dob", "gender", "home_city", "language"),
        *("time_zone", "image_url", "email_subscribe", "push_subscribe"),
    }
)
"""Fields of Braze's own user profile that a file may hold."""

_FIELD = re.compile(r"'([a-z_]{1,40})'")


def request(batch: Batch, secret: str) -> Request:
    """At most 50 attribute objects, which every plan of Braze's takes."""
    said = _appended if batch.of.mode == "append" else _upserted
    attributes = [said(batch, recipient) for recipient in batch.recipients]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}
    return Request(PATH, headers, orjson.dumps({"attributes": attributes}))


def _upserted(batch: Batch, recipient: Recipient) -> dict[str, Any]:
    of = batch.of
    profile: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in recipient.attributes.items():
        (profile if name in PROFILE else others)[name] = value
    cdp = {"system": of.system, "offer_name": of.offer_name, "interaction": of.interaction, **recipient.meta, **others}
    return {
        "external_id": recipient.external_id,
        **_present({"email": recipient.email, "phone": recipient.phone}),
        **profile,
        **_present({"output_name": of.output}),
        "rpi_cdp_attributes": _present(cdp),
        "rpi_contact_ids": {"add": [str(recipient.contact)]},
        "rpi_channel_exec_ids": {"add": [str(batch.execution)]},
        "rpi_audience_outputs": {"add": _listed(of.output)},
        "rpi_offers": {"add": _listed(of.offer_code or of.offer_name)},
    }


def _appended(batch: Batch, recipient: Recipient) -> dict[str, Any]:
    """Only the output's name, for those whom Braze knows already."""
    return {
        "external_id": recipient.external_id,
        "output_name": batch.of.output,
        "_update_existing_only": True,
    }


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact is not None and fact != ""}


def _listed(value: str) -> list[str]:
    return [value] if value else []


def verdicts(answer: Answer, batch: Batch, now: datetime) -> list[Refusal | None] | None:
    """Braze names each object it refuses by its index in the array, in the `errors` of a success and of a 400.

    Its documents show `errors` without saying what is in it. Errors that name no object are notes if all were processed
    (`attributes_processed`), or if the answer does not count; else nobody knows whom they mean.
    """
    taken, said = was_taken(answer, now), document(answer)
    errors = said.get("errors")
    refused = {}
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        is_ours = isinstance(error, dict) and error.get("input_array", "attributes") == "attributes"
        if is_ours and isinstance(index, int) and 0 <= index < len(batch.recipients):
            refused[index] = _refusal(error)
    processed = said.get("attributes_processed")
    counted = processed if isinstance(processed, int) and errors else len(batch.recipients) if taken else 0
    if counted + len(refused) < len(batch.recipients):
        if len(batch.recipients) > 1:
            return None
        return [_refusal(errors[0] if isinstance(errors, list) and errors else said.get("message", ""))]
    return [refused.get(index) for index in range(len(batch.recipients))]


def _refusal(error: Any) -> Refusal:
    """`invalid_email`, where Braze's words name a field; `missing_identifier` where they miss one."""
    text = str(error.get("type") or error.get("message") or "" if isinstance(error, dict) else error)
    field = _FIELD.search(text)
    if field and "required" in text:
        return Refusal("missing_identifier", discreet(text))
    return Refusal(f"invalid_{field[1]}" if field else "refused_by_platform", discreet(text))
