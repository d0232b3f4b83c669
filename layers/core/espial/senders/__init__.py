"""Senders: one module per provider behind one contract, `send(message, idempotency_key) -> Receipt`."""
