"""Every feed file, byte for byte, in the feeds bucket: `archive/<feed>/<token>/<name>`; its lifecycle removes it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain

PREFIX = "archive/"


class S3FeedArchive:
    """The bucket behind `feeds.files.FeedArchive`."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, feed: str, token: str, name: str, content: bytes) -> None:
        """See `FeedArchive.put`."""
        try:
            key, kind = f"{PREFIX}{feed}/{token}/{name}", "application/octet-stream"
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType=kind)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"the feeds bucket cannot be written: {type(exc).__name__}") from exc

    def get(self, feed: str, token: str, name: str) -> bytes:
        """See `FeedArchive.get`."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=f"{PREFIX}{feed}/{token}/{name}")
            return bytes(answer["Body"].read())
        except ClientError as exc:
            if exc.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise KeyError(name) from exc
            raise TryAgain(f"the feeds bucket answered {exc.response['Error']['Code']}") from exc
        except (BotoCoreError, OSError) as exc:
            raise TryAgain(f"the feeds bucket cannot be read: {type(exc).__name__}") from exc
