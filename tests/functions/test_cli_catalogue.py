"""`espial catalogue` against the table of a cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espial.cli.app import app
from tests.cloud import either_cloud as cloud  # noqa: F401  both clouds
from tests.contract.test_ports import events_table

pytestmark = pytest.mark.cloud
CSV = """\ufeffID,Title,Price,Availability,Link,Product_Type
P-1,"Pine, small",19.90 EUR,in_stock,https://shop.example.com/1,Trees
P-2,Fern,4.50 EUR,out_of_stock,https://shop.example.com/2,Ferns
"""


def espial(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def folder(cloud, tmp_path: Path, monkeypatch) -> Path:
    """What `make up` leaves, and a file of products."""
    events_table(cloud, "catalogues")
    (tmp_path / "stack.json").write_text(json.dumps({"CatalogueTable": "catalogues", "Endpoint": cloud.url}))
    (tmp_path / "products.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPIAL_STACK_FILE", str(tmp_path / "stack.json"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return tmp_path


def test_a_file_is_loaded_and_a_product_shown(folder):
    """As a shop's export has it; loading again tells only what changed."""
    loaded = espial("catalogue", "load", "shop", "products.csv")
    assert "catalogue shop: 2 products; 2 added\n" == loaded.output
    assert (
        "Pine, small: 19.90 EUR, 1 in stock\nTrees, 0 sold\nhttps://shop.example.com/1\n"
        == espial("catalogue", "show", "shop", "P-1").output
    )
    (folder / "products.csv").write_text(CSV.replace("19.90", "15").replace("out_of_stock", "in_stock"))
    loaded = espial("catalogue", "load", "shop", "products.csv", "--json")
    assert {"back_in_stock": 1, "price_dropped": 1} == json.loads(loaded.output)["changes"]


def test_lines_of_json_do_too_and_what_is_no_product_is_listed(folder):
    """By row and reason; the others are loaded."""
    rows = [{"id": n, "name": "x", "price": 1.5, "url": "https://shop.example.com/", "stock": 2} for n in range(20)]
    lines = [*map(json.dumps, rows), "no json", ""]
    (folder / "products.ndjson").write_text("\n".join(lines))
    loaded = espial("catalogue", "load", "shop", "products.ndjson")
    assert "catalogue shop: 20 products; 20 added\nrow 21: missing_id (id)\n" == loaded.output


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", "a,b\n1,2\n", "catalogue_unreadable: 1 of 1 rows, the first: row 1: missing_id (id); nothing was"),
        ("x.csv", "", "catalogue_empty"),
        ("x.txt", "", "a catalogue is a .csv or .ndjson file"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_no_catalogue_changes_nothing(folder, name, content, told):
    """Exit status 1, and why."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused = espial("catalogue", "load", "shop", name)
    assert 1 == refused.exit_code
    assert told in refused.output
    assert 1 == espial("catalogue", "show", "shop", "P-1").exit_code
