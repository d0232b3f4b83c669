"""Callers' request ids in S3: one small object each, written only where there is none, gone with the spilled bodies."""

from __future__ import annotations

from hashlib import sha256

from espial.errors import TryAgain
from espial.stores.aws_http import AwsClient, AwsError
from espial.stores.delivery_queue import SPILL_PREFIX

PREFIX = f"{SPILL_PREFIX}requests/"
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class S3Requests:
    """Implements `ports.Requests`."""

    def __init__(self, s3: AwsClient, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def first(self, connection: str, request: str, content: str) -> str:
        """See `ports.Requests.first`."""
        key = f"{PREFIX}{connection}/{sha256(request.encode('utf-8', 'surrogatepass')).hexdigest()}"
        try:
            self._s3.put(self._bucket, key, content.encode(), "text/plain", absent=True)
        except AwsError as exc:
            if exc.code not in _TAKEN:
                raise
        else:
            return content
        stored = self._s3.get(self._bucket, key)
        if stored is None:
            raise TryAgain("a request id that is there and is not")
        return stored.body.decode()
