"""What kind of content a feed file has, by its name."""

from __future__ import annotations

_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "log": "text/plain; charset=utf-8",
    "json": "application/json",
}


def content_type(name: str) -> str:
    """Its media type."""
    return _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
