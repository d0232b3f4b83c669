"""Feed files into a folder of the feeds bucket. S3 shows an object when all of it is there."""

from __future__ import annotations

from typing import Protocol

from espial.errors import EspialError, Refused, TryAgain
from espial.sinks.kinds import content_type


class Objects(Protocol):
    """The part of S3 that this needs (`espial.stores.aws_http.AwsClient`)."""

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        """Returns once durable. Raises TryAgain, else another EspialError."""
        ...


class BucketFolder:
    """`Sink` over `folder` of a bucket, which ends in a slash."""

    def __init__(self, objects: Objects, bucket: str, folder: str) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        """See `espial.feeds.files.Sink`. Raises Refused: bucket_refuses."""
        try:
            self._objects.put(self._bucket, self._folder + name, content, content_type(name))
        except TryAgain:
            raise
        except EspialError as exc:
            raise Refused("bucket_refuses", str(exc)) from exc
