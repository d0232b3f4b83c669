"""RawQueue on SQS, with S3 for what is too big for a message."""

from __future__ import annotations

from urllib.parse import quote

from espial.deliveries import RawDelivery
from espial.envelope import ATTRIBUTE_TYPE, LIMIT, Packed, pack, point_to
from espial.errors import TryAgain
from espial.stores.aws_http import AwsClient, AwsError

SPILL_PREFIX = "spill/"
TOO_LONG = frozenset({"InvalidParameterValue", "InvalidParameterValueException"})


class SqsDeliveryQueue:
    """Implements `ports.DeliveryQueue`. A pointer is sent only once what it points to is stored."""

    def __init__(self, sqs: AwsClient, queue_url: str, s3: AwsClient, store_bucket: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._s3 = s3
        self._bucket = store_bucket

    def put(self, delivery: RawDelivery) -> None:
        """Returns once durable. Raises TryAgain for what may pass, AwsError for what will not."""
        packed = pack(delivery)
        if packed.size > LIMIT:
            self._put_elsewhere(packed, delivery)
            return
        try:
            self._send(packed)
        except AwsError as exc:
            # The queue may be set to take less than SQS does (as one made before 2025 is), and says so like this.
            if exc.code not in TOO_LONG:
                raise
            self._put_elsewhere(packed, delivery)

    def _put_elsewhere(self, packed: Packed, delivery: RawDelivery) -> None:
        key = spill_key(delivery)
        message, content = point_to(packed, key)
        self._s3.put(self._bucket, key, content)
        self._send(message)

    def _send(self, packed: Packed) -> None:
        attributes = {
            name: {"DataType": ATTRIBUTE_TYPE, "StringValue": value} for name, value in packed.attributes.items()
        }
        message = {"QueueUrl": self._queue_url, "MessageBody": packed.body, "MessageAttributes": attributes}
        receipt = self._sqs.json("AmazonSQS.SendMessage", message)
        if not receipt.get("MessageId"):
            raise TryAgain("sqs SendMessage: an answer without a message id")


def spill_key(delivery: RawDelivery) -> str:
    """Where a delivery's compressed body lies when it is too big for the queue."""
    return f"{SPILL_PREFIX}{delivery.received_at:%Y-%m-%d}/{quote(delivery.delivery_id, safe='')}"
