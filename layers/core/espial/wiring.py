"""The composition root: the one place that knows which implementation stands behind each port.

Everything is made once per process, on first use, and imported late, so that a function pays only for what it uses.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def client(service: str) -> Any:
    """A boto3 client whose time-outs stay well under the functions' own (DESIGN 6)."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=2,
        read_timeout=10,
        retries={"mode": "standard", "max_attempts": 4},
        parameter_validation=False,
        tcp_keepalive=True,
    )
    return boto3.client(service, config=config)
