"""SNS messages over HTTPS: what is signed, with whose key, and where a subscription is confirmed.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson

from espial.deliveries import RawDelivery
from espial.errors import MalformedItem, SignatureError
from espial.sources._shared import instant
from espial.verify import from_base64
from espial.verify.public_keys import DAY, Shown, Signer, public_key_signature

_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_ALGORITHMS = {"1": "sha1", "2": "sha256"}
_HOST = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?", re.ASCII)


def envelope(delivery: RawDelivery) -> dict[str, Any] | None:
    """The SNS message, if the delivery is one."""
    return _parsed(delivery.body)


@lru_cache(maxsize=1)
def _parsed(body: bytes) -> dict[str, Any] | None:
    """Cached: proving one delivery asks several times."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if is_notice(found) else None


def is_notice(found: Any) -> bool:
    """Whether a document is an SNS message."""
    return isinstance(found, dict) and "Type" in found and "TopicArn" in found


def _string_to_sign(notice: Mapping[str, Any]) -> bytes:
    kind = notice.get("Type")
    names = _SIGNED.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise SignatureError("not a type of message that SNS sends")
    signed = {name: notice[name] for name in names if notice.get(name) is not None}
    if not all(isinstance(value, str) for value in signed.values()):
        raise SignatureError("a signed field is not text")
    return "".join(f"{name}\n{value}\n" for name, value in signed.items()).encode("utf-8", "surrogatepass")


def _read(delivery: RawDelivery) -> Shown:
    notice = envelope(delivery) or {}
    signature, version, stamp = (notice.get(name) for name in ("Signature", "SignatureVersion", "Timestamp"))
    algorithm = _ALGORITHMS.get(version) if isinstance(version, str) else None
    if algorithm is None or not isinstance(signature, str):
        raise SignatureError("no signature of a version that is known")
    try:
        at = instant(stamp, "Timestamp").timestamp()
    except MalformedItem as exc:
        raise SignatureError("no readable timestamp") from exc
    return Shown((from_base64(signature),), (_string_to_sign(notice),), at, algorithm)


def _write(delivery: RawDelivery, now: datetime, sign: Signer) -> RawDelivery:
    """As SNS posts it at `now`, with version 2; anything but an SNS message as it is."""
    notice = envelope(delivery)
    if notice is None:
        return delivery
    stamp = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    signed = {**notice, "Timestamp": stamp, "SignatureVersion": "2"}
    signed["Signature"] = sign(_string_to_sign(signed))
    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": str(notice["Type"])}
    return replace(delivery, body=orjson.dumps(signed), headers={**delivery.headers, **headers})


def _of_sns(url: Any) -> str:
    """The address, if it is at SNS itself. Raises SignatureError for any other."""
    if isinstance(url, str) and url.isascii():
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme == "https" and _HOST.fullmatch(parts.netloc):  # no port, no user
            return url
    raise SignatureError("names an address that is not at SNS")


def _key_urls(delivery: RawDelivery) -> tuple[str, ...]:
    notice = envelope(delivery)
    if notice is None:
        return ()
    url = _of_sns(notice.get("SigningCertURL"))
    parts = urlsplit(url)
    if not parts.path.endswith(".pem") or parts.query or parts.fragment:
        raise SignatureError("names a certificate that is none")
    return (url,)


SNS = public_key_signature("rsa", read=_read, write=_write, default_max_age=DAY, key_urls=_key_urls)


def subscribe_url(notice: Mapping[str, Any]) -> str | None:
    """Where a subscription is confirmed. Not where one that was ended would be taken up again.

    Raises SignatureError for an address that is not at SNS.
    """
    return _of_sns(notice.get("SubscribeURL")) if notice["Type"] == "SubscriptionConfirmation" else None
