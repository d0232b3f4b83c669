"""A shop's catalogue: its products as a file tells them, and what one file changed since the last.

Rows are plain mappings from column to text (CSV) or value (NDJSON). Columns have the names that shops' product feeds
use; see `_NAMES`. A product that cannot be read is named with its row and reason, and is in no mail.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from espial.errors import Refused


class Product(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One product as it is sold now; `price` per unit in the currency's major unit.

    stock   how many there are; None where the shop does not say, which counts as there.
    sold    how well it sells, in any unit the shop likes; best sellers are those with the most.
    """

    id: str
    name: str
    price: float
    url: str
    currency: str = ""
    stock: int | None = None
    image_url: str = ""
    category: str = ""
    sold: float = 0.0

    @property
    def available(self) -> bool:
        """Whether it can be bought."""
        return self.stock is None or self.stock > 0


class BadRow(NamedTuple):
    """A row that is no product: its number from 1, a snake_case reason, and the column to blame."""

    row: int
    reason: str
    column: str


What = Literal["added", "removed", "price_dropped", "price_raised", "back_in_stock", "out_of_stock", "changed"]


class Change(NamedTuple):
    """What happened to a product; `old` is None for an added one, `new` for a removed one."""

    what: What
    id: str
    old: Product | None
    new: Product | None


_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "sku", "product_id"),
    "name": ("name", "title"),
    "price": ("price",),
    "currency": ("currency",),
    "stock": ("stock", "quantity", "availability"),
    "url": ("url", "link"),
    "image_url": ("image_url", "image_link", "image"),
    "category": ("category", "product_type"),
    "sold": ("sold", "sales"),
}
"""Field -> the columns that may hold it, the first one there counts."""

_PRICE = re.compile(r"(\d{1,12}(?:\.\d{1,4})?)(?: ?([A-Z]{3}))?")
_STOCK = dict.fromkeys(("in_stock", "in stock", "true"), "1") | dict.fromkeys(
    ("out_of_stock", "out of stock", "false", "preorder"), "0"
)
_WHOLE = re.compile(r"(?:\d{1,12})?")
LONGEST = {"id": 100, "name": 500, "url": 2_000, "image_url": 2_000, "category": 200}
MOST_BAD = 0.1
"""Share of unreadable rows from which on a file is not believed."""


def rows(name: str, lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a file, by its name: `.csv` with a header line, or `.ndjson`. `lines` as `open(newline="")` has them.

    Raises Refused for another kind, and for what is no text: `catalogue_kind`, `catalogue_unreadable`.
    """
    try:
        if name.endswith(".csv"):
            for row in csv.DictReader(lines):
                yield {str(column).strip().lower(): value for column, value in row.items()}
        elif name.endswith(".ndjson"):
            yield from (_object(line) for line in lines if line.strip())
        else:
            raise Refused("catalogue_kind", "a catalogue is a .csv or .ndjson file")
    except (UnicodeDecodeError, csv.Error) as exc:
        raise Refused("catalogue_unreadable", f"it cannot be read as text: {type(exc).__name__}") from exc


def _object(line: str) -> Mapping[str, Any]:
    """What is no JSON object is a row without columns: it is listed as bad."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Product], list[BadRow]]:
    """Id -> product, and the rows that are none. Of two rows of one id the last counts.

    Raises Refused for a file that would empty the shop: `catalogue_empty`, or `catalogue_unreadable` where more than a
    tenth of its rows are no products.
    """
    found: dict[str, Product] = {}
    bad: list[BadRow] = []
    number = 0
    for number, row in enumerate(rows, 1):
        product = _product(number, row)
        if isinstance(product, BadRow):
            bad.append(product)
        else:
            found[product.id] = product
    if len(bad) > number * MOST_BAD:
        raise Refused("catalogue_unreadable", f"{len(bad):,} of {number:,} rows, the first: {_told(bad[0])}")
    if not found:
        raise Refused("catalogue_empty", "no row is a product")
    return found, bad


def _told(bad: BadRow) -> str:
    return f"row {bad.row}: {bad.reason} ({bad.column})"


def _product(number: int, row: Mapping[str, Any]) -> Product | BadRow:
    said = {field: _text(row, columns) for field, columns in _NAMES.items()}
    stock = _STOCK.get(said["stock"].lower(), said["stock"])
    price, sold = _PRICE.fullmatch(said["price"]), _PRICE.fullmatch(said["sold"] or "0")
    if wrong := _wrong(said):
        return BadRow(number, *wrong)
    if price is None:
        return BadRow(number, "bad_price", "price")
    if not _WHOLE.fullmatch(stock):
        return BadRow(number, "bad_stock", "stock")
    if sold is None:
        return BadRow(number, "bad_sold", "sold")
    return Product(
        id=said["id"],
        name=said["name"],
        price=float(price[1]),
        currency=said["currency"].upper() or price[2] or "",
        stock=int(stock) if stock else None,
        url=said["url"],
        image_url=said["image_url"],
        category=said["category"],
        sold=float(sold[1]),
    )


def _wrong(said: Mapping[str, str]) -> tuple[str, str] | None:
    """Reason and field of what is missing, too long or no safe link."""
    for field in ("id", "name", "price", "url"):
        if not said[field]:
            return f"missing_{field}", field
    for field, most in LONGEST.items():
        if len(said[field]) > most:
            return "too_long", field
    for field in ("url", "image_url"):
        if said[field] and not (said[field].startswith("https://") and said[field].isprintable()):
            return "not_https", field
    return None


def _text(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    for column in columns:
        value = row.get(column)
        if value is not None and value != "":
            return str(value).strip() if isinstance(value, str | int | float | bool) else ""
    return ""


def changes(old: Mapping[str, Product], new: Mapping[str, Product]) -> list[Change]:
    """What one state of a catalogue changed in another, by id; a product may have several (price and stock).

    `changed` is anything but price and availability. Prices in two currencies are not compared. Applying them to `old`
    in order gives `new`.
    """
    found = []
    for id_ in sorted({*old, *new}):
        was, becomes = old.get(id_), new.get(id_)
        found += [Change(what, id_, was, becomes) for what in _what(was, becomes)]
    return found


def _what(was: Product | None, becomes: Product | None) -> list[What]:
    if was is None:
        return ["added"]
    if becomes is None:
        return ["removed"]
    found: list[What] = []
    if was.currency == becomes.currency and was.price != becomes.price:
        found.append("price_dropped" if becomes.price < was.price else "price_raised")
    if was.available != becomes.available:
        found.append("back_in_stock" if becomes.available else "out_of_stock")
    return found or (["changed"] if was != becomes else [])


BEST = 30
"""How many best sellers are kept for the whole shop and for each category."""


def best_sellers(products: Mapping[str, Product]) -> dict[str, list[str]]:
    """Category -> ids of what sells best there and can be bought, the best first; "" is the whole shop.

    Ties go by id, so that equal catalogues have equal lists.
    """
    ordered = sorted((one for one in products.values() if one.available), key=lambda one: (-one.sold, one.id))
    found: dict[str, list[str]] = {}
    for product in ordered:
        for category in {"", product.category}:
            listed = found.setdefault(category, [])
            if len(listed) < BEST:
                listed.append(product.id)
    return found
