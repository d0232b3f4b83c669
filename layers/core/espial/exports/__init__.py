"""Export containers: bytes in a bucket to rows, splittable and resumable, in constant memory."""
