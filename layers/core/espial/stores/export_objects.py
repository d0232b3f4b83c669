"""The exports bucket in S3: one version of an object, read by ranges that a broken connection only shortens."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.exports.files import ExportFile, Listed, Unavailable
from espial.exports.notices import Notice

ATTEMPTS = 5
"""In a row without a single byte."""

_PIECE_BYTES = 1 << 20
_GONE = frozenset(
    {"404", "405", "NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "416", "InvalidRange"}
)
_REPLACED = frozenset({"412", "PreconditionFailed"})
_FORBIDDEN = frozenset({"403", "AccessDenied", "InvalidObjectState", "KMS.DisabledException"})


class S3Objects:
    """The bucket behind `exports.files.ExportObjects`; `sleep` waits between tries and is settable for tests."""

    def __init__(self, s3: Any, sleep: Callable[[float], None] = time.sleep) -> None:
        self._s3 = s3
        self._sleep = sleep

    def head(self, notice: Notice) -> ExportFile:
        """See `ExportObjects.head`."""
        version = _version(notice.version_id, notice.etag)
        try:
            found = self._s3.head_object(Bucket=notice.bucket, Key=notice.key, **version)
        except ClientError as exc:
            raise _meaning(exc) from exc
        except BotoCoreError as exc:
            raise TryAgain(f"S3 cannot be reached: {type(exc).__name__}") from exc
        return ExportFile(
            bucket=notice.bucket,
            key=notice.key,
            etag=found["ETag"].strip('"'),
            size=found["ContentLength"],
            modified_at=found["LastModified"],
            version_id=notice.version_id,
        )

    def read(self, file: ExportFile, start: int, end: int) -> bytes:
        """See `ExportObjects.read`. A body that breaks off is asked for again from where it broke."""
        got = bytearray()
        idle = 0
        while len(got) < end - start:
            before = len(got)
            try:
                self._append(got, file, start + before, end)
                problem = "an empty answer"
            except ClientError as exc:
                meaning = _meaning(exc)
                if isinstance(meaning, Unavailable):
                    raise meaning from exc
                problem = str(meaning)
            except (BotoCoreError, OSError) as exc:
                problem = type(exc).__name__
            idle = 0 if len(got) > before else idle + 1
            if idle == ATTEMPTS:
                raise TryAgain(f"S3 gives no bytes: {problem}")
            if idle:
                self._sleep(random.uniform(0.5, 1) * 0.1 * 2**idle)  # noqa: S311  jitter
        return bytes(got)

    def _append(self, got: bytearray, file: ExportFile, start: int, end: int) -> None:
        answer = self._s3.get_object(
            Bucket=file.bucket,
            Key=file.key,
            Range=f"bytes={start}-{end - 1}",
            **_version(file.version_id, file.etag),
        )
        with answer["Body"] as body:
            while piece := body.read(min(_PIECE_BYTES, end - start)):
                got += piece[: end - start]
                start += len(piece)
                if start >= end:
                    return

    def listing(self, bucket: str, prefix: str, after: str) -> Iterator[Listed]:
        """See `ExportObjects.listing`: 1,000 objects a call, asked for as they are needed."""
        start = {"StartAfter": after} if after else {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start)
        for page in pages:
            for found in page.get("Contents", ()):
                yield Listed(found["Key"], found["ETag"].strip('"'), found["Size"], found["LastModified"])


def _version(version_id: str, etag: str) -> dict[str, str]:
    """What makes S3 answer with this version or not at all."""
    if version_id:
        return {"VersionId": version_id}
    return {"IfMatch": f'"{etag}"'} if etag else {}


def _meaning(error: ClientError) -> Unavailable | TryAgain:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _GONE:
        return Unavailable("object_gone", code)
    if code in _REPLACED:
        return Unavailable("object_replaced", code)
    if code in _FORBIDDEN or code.startswith("KMS."):
        return Unavailable("object_forbidden", code)
    return TryAgain(f"S3 answered {code}")
