"""Quarantine in S3: `quarantine/<id>.json`, an id being `<yyyy-mm-dd>/<reason>/<digest>`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.ports import Quarantined

PREFIX = "quarantine/"


class S3Quarantine:
    """The bucket behind `ports.Quarantine`."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, entry: Quarantined) -> None:
        """See `ports.Quarantine.put`. Raises TryAgain when the bucket cannot be written."""
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=_key(entry.id),
                Body=msgspec.json.encode(entry._asdict()),
                ContentType="application/json",
            )
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the quarantine cannot be written: {type(exc).__name__}") from exc

    def _folders(self, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
        return [folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", ())]

    def list(self, *, reason: str | None = None, limit: int = 100, after: str = "") -> Iterator[Quarantined]:
        """See `ports.Quarantine.list`; within a day, newest first too.

        `after`: only what follows this entry, or its whole day where it is no longer there.
        """
        first = f"{PREFIX}{after.partition('/')[0]}/" if after else ""
        for day in sorted(self._folders(PREFIX), reverse=True):
            if first and day > first:
                continue
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{day}{reason}/" if reason else day
            )
            objects = [found for page in pages for found in page.get("Contents", ())]
            objects.sort(key=lambda found: (found["LastModified"], found["Key"]), reverse=True)
            seen = next((number for number, found in enumerate(objects, 1) if found["Key"] == _key(after)), 0)
            for found in objects[seen:]:
                if limit <= 0:
                    return
                with suppress(KeyError):  # replayed since the bucket was listed
                    yield self.get(found["Key"].removeprefix(PREFIX).removesuffix(".json"))
                    limit -= 1

    def get(self, id: str) -> Quarantined:
        """See `ports.Quarantine.get`."""
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=_key(id))["Body"].read()
        except self._s3.exceptions.NoSuchKey as exc:
            raise KeyError(id) from exc
        return _entry(body)

    def remove(self, id: str) -> None:
        """See `ports.Quarantine.remove`."""
        self._s3.delete_object(Bucket=self._bucket, Key=_key(id))


def _entry(body: bytes) -> Quarantined:
    fields: dict[str, Any] = msgspec.json.decode(body)
    return Quarantined(**{**fields, "quarantined_at": datetime.fromisoformat(fields["quarantined_at"])})


def _key(id: str) -> str:
    return f"{PREFIX}{id}.json"
