"""Any system that takes recipients as JSON: the same content as Braze gets, under an idempotency key (A4, A.c.9).

    {"batch_id": "…", "mode": "upsert", "system": "RPI", "execution": 9001, "recipients": [
      {"external_id": "P-1001", "email": "ann@example.com", "contact": 700001, "attributes": {…}, "meta": {…}}]}

Any 2xx is an acknowledgement. Recipients that are not taken are named in it by their place:
`{"rejected": [{"index": 0, "reason": "no_such_country", "detail": "…"}]}`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import orjson

from espial import events
from espial.answers import Answer
from espial.onboarding import Batch, Recipient, Refusal, Request
from espial.onboarding._answers import discreet, document, was_taken

_REASON = re.compile(r"[a-z][a-z0-9_]{0,62}")


def request(batch: Batch, secret: str) -> Request:
    """The key and `batch_id` are the hash of what is said: a repeated request has the same, another has another."""
    of = batch.of
    said = {
        "mode": of.mode,
        "system": of.system,
        "onboarding": of.name,
        "execution": batch.execution,
        "output": of.output,
        "offer_code": of.offer_code,
        "offer_name": of.offer_name,
        "interaction": of.interaction,
        "recipients": [_said(recipient) for recipient in batch.recipients],
    }
    said = {name: fact for name, fact in said.items() if fact != ""}
    batch_id = events.fingerprint(said)
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {secret}",
        "Idempotency-Key": batch_id,
    }
    return Request("", headers, orjson.dumps({"batch_id": batch_id, **said}))


def _said(recipient: Recipient) -> dict[str, Any]:
    return {name: fact for name, fact in recipient._asdict().items() if fact not in (None, {})}


def verdicts(answer: Answer, batch: Batch, now: datetime) -> list[Refusal | None] | None:
    """See `Platform`."""
    if not was_taken(answer, now):
        return [_refusal(document(answer))] if len(batch.recipients) == 1 else None
    found: list[Refusal | None] = [None] * len(batch.recipients)
    rejected = document(answer).get("rejected")
    for one in rejected if isinstance(rejected, list) else []:
        index = one.get("index") if isinstance(one, dict) else None
        if isinstance(index, int) and 0 <= index < len(found):
            found[index] = _refusal(one)
    return found


def _refusal(said: dict[str, Any]) -> Refusal:
    reason = said.get("reason")
    known = isinstance(reason, str) and _REASON.fullmatch(reason)
    detail = said.get("detail") or said.get("message") or ("" if known else reason) or ""
    return Refusal(str(reason) if known else "refused_by_platform", discreet(detail))
