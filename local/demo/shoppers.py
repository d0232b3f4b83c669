"""Three shoppers: the tracking API."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.demo.report import console
from local.demo.world import Demo

NAMES = ("ada", "bo", "cy")
SHOP = {"currency": "EUR", "cart_url": "https://shop.example.com/cart"}
MUG = {
    "product_id": "p-1",
    "name": "Stoneware mug",
    "price": 14.5,
    "quantity": 2,
    "url": "https://shop.example.com/p/1",
    "image_url": "https://shop.example.com/i/1.png",
}
LAMP = {
    "product_id": "p-2",
    "name": "Reading lamp",
    "price": 79.0,
    "quantity": 1,
    "url": "https://shop.example.com/p/2",
    "image_url": "https://shop.example.com/i/2.png",
}
RUG = {
    "product_id": "p-3",
    "name": "Wool rug",
    "price": 240.0,
    "quantity": 1,
    "url": "https://shop.example.com/p/3",
    "image_url": "https://shop.example.com/i/3.png",
}


def shop(demo: Demo) -> None:
    """Ada leaves her cart, Bo buys in time, Cy keeps editing."""
    console.rule("Three shoppers: the tracking API", align="left")

    def shopper(name: str) -> None:
        traits = {"email": f"shopper.{name}@example.com", "firstName": name.title(), "consent": {"email": True}}
        demo.track("identify", messageId=f"{name}-0", userId=f"cust-{name}", traits=traits)

    def cart(name: str, number: int, *products: dict[str, Any]) -> None:
        total = sum(product["price"] * product["quantity"] for product in products)
        properties = {"cart_id": f"cart-{name}", "products": list(products), "total": total, **SHOP}
        demo.track(
            "track", messageId=f"{name}-{number}", userId=f"cust-{name}", event="Cart Updated", properties=properties
        )

    for name in NAMES:
        shopper(name)
    cart("ada", 1, MUG, LAMP)
    cart("bo", 1, LAMP)
    for number, products in enumerate([(MUG,), (MUG, LAMP), (LAMP,), (LAMP, RUG), (RUG,)], start=1):
        cart("cy", number, *products)
        time.sleep(0.2)
    order = {"order_id": "o-1", "cart_id": "cart-bo", "total": 79.0, "products": [LAMP], **SHOP}
    demo.track("track", messageId="bo-2", userId="cust-bo", event="Order Completed", properties=order)
    refused = demo.track("track", messageId="x-1", event="Cart Updated", properties={})
    demo.report.check("a call that names nobody is refused", 400, refused)
    console.print("  Ada fills a cart; Bo fills one and buys it; Cy edits hers five times")


def check(demo: Demo) -> None:
    """Two mails, never three, with the last contents of the carts, and a reason for each decision."""
    demo.until("the wait runs out, Ada's and Cy's mails go out", lambda: len(demo.mails()) >= 2)
    demo.until("nothing else is scheduled or on its way", demo.is_quiet)
    mails = demo.mails()
    demo.report.check(
        "mails sent",
        ["shopper.ada@example.com", "shopper.cy@example.com"],
        sorted(address for mail in mails for address in mail["To"]),
    )
    last = next((mail for mail in mails if "shopper.cy@" in json.dumps(mail)), {})
    contents = json.dumps(last)
    demo.report.check(
        "Cy's mail shows the last cart and nothing older",
        (True, False),
        ("Wool rug" in contents, "Stoneware mug" in contents),
    )
    with ThreadPoolExecutor() as several:
        explained = several.map(demo.explained, (f"id:cust-{name}" for name in NAMES))
        demo.explanations = dict(zip(NAMES, explained, strict=True))
    demo.report.check(
        "decisions",
        {"ada": "send", "bo": "skip", "cy": "send"},
        {name: found[-1]["outcome"] if found else None for name, found in demo.explanations.items()},
    )
