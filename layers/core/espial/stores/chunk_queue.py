"""ChunkQueue on SQS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from espial.errors import TryAgain
from espial.exports.files import Chunk
from espial.stores.batches import batches

MESSAGES_A_CALL = 10
ATTEMPTS = 3


class SqsChunkQueue:
    """The queue behind `exports.files.ChunkQueue`."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def put(self, chunks: Sequence[Chunk], delay_seconds: int = 0) -> None:
        """See `ChunkQueue.put`. A batch's failed messages alone are sent again."""
        for batch in batches(chunks, count=MESSAGES_A_CALL):
            left = {
                str(index): {"Id": str(index), "MessageBody": chunk.to_json(), "DelaySeconds": delay_seconds}
                for index, chunk in enumerate(batch)
            }
            for _ in range(ATTEMPTS):
                for sent in self._send(list(left.values())):
                    left.pop(sent["Id"])
                if not left:
                    break
            else:
                raise TryAgain(f"ChunkQueue refused {len(left)} messages")

    def _send(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as exc:
            raise TryAgain(f"ChunkQueue cannot be reached: {type(exc).__name__}") from exc
        sent: list[dict[str, Any]] = answer.get("Successful", [])
        return sent
