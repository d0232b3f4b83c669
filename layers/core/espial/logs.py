"""The structured logger and the metrics (CloudWatch EMF) of every function."""

from __future__ import annotations

import traceback
from pathlib import Path

from aws_lambda_powertools import Logger, Metrics

logger = Logger(utc=True)
metrics = Metrics(namespace="Espial")


def where(exc: Exception) -> str:
    """Kind and place of an error, without its message, which may quote an address."""
    frames = traceback.extract_tb(exc.__traceback__)
    return " < ".join((type(exc).__name__, *(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))))
