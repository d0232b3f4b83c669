"""What S3 says about new objects, in the shapes it comes in (bucket-exports B15)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from espial.errors import MalformedDelivery


class Notice(NamedTuple):
    """A new object. `key` is the real key; `size` is -1 where the notice does not say."""

    bucket: str
    key: str
    size: int = -1
    etag: str = ""
    version_id: str = ""
    sequencer: str = ""


def parse(message: str | Mapping[str, Any]) -> list[Notice]:
    """Read an S3 event (keys URL-encoded) or an EventBridge event (keys as they are), bare, as SQS body or by SNS.

    Test messages and other events than creations give no notice. Raises MalformedDelivery for anything else.
    """
    try:
        return list(_notices(json.loads(message) if isinstance(message, str) else message))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise MalformedDelivery("bad_notice", f"{type(exc).__name__}: {exc}"[:200]) from exc


def _notices(event: Mapping[str, Any]) -> Iterator[Notice]:
    if "Records" in event:
        for record in event["Records"]:
            if "s3" in record and record.get("eventName", "ObjectCreated:").startswith("ObjectCreated:"):
                about = record["s3"]
                yield _notice(
                    about["bucket"], about["object"], unquote_plus(about["object"]["key"]), "eTag", "versionId"
                )
    elif "detail" in event:
        if event.get("detail-type") == "Object Created":
            about = event["detail"]
            yield _notice(about["bucket"], about["object"], about["object"]["key"], "etag", "version-id")
    elif isinstance(event.get("Message"), str):
        yield from _notices(json.loads(event["Message"]))
    elif event.get("Event") != "s3:TestEvent":
        raise ValueError("neither an S3 nor an EventBridge event")


def _notice(bucket: Mapping[str, Any], about: Mapping[str, Any], key: str, etag: str, version: str) -> Notice:
    return Notice(
        bucket=str(bucket["name"]),
        key=key,
        size=int(about.get("size", -1)),
        etag=str(about.get(etag, "")).strip('"'),
        version_id=str(about.get(version) or ""),
        sequencer=str(about.get("sequencer") or ""),
    )


def message(notice: Notice) -> str:
    """The notice as a message that `parse` reads. It has no sequencer, so it is never stale."""
    about = {"key": notice.key, "etag": notice.etag, "version-id": notice.version_id}
    return json.dumps({"detail-type": "Object Created", "detail": {"bucket": {"name": notice.bucket}, "object": about}})


def ignored(key: str, size: int) -> str | None:
    """Why an object is no export file, or None: folder marks, markers and files still being written."""
    name = key.rpartition("/")[2]
    if not name:
        return "folder_mark"
    if size == 0:
        return "empty"
    if name.startswith("_SUCCESS"):
        return "marker"
    if name.endswith((".tmp", ".filepart")) or "_temporary/" in key:
        return "temporary"
    return None


SEQUENCER_DIGITS = 64


def sequence(sequencer: str) -> str:
    """A sequencer right-padded with zeros: the text order of one key's is the order of its events."""
    return sequencer.upper().ljust(SEQUENCER_DIGITS, "0")
