"""The shop's pages in Chromium against the whole stack: a cart that is left becomes a mail."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.browser.conftest import chromium  # noqa: F401  a fixture
from tests.browser.receiver import pages, serving
from tests.local.world import World


def test_a_cart_left_in_the_browser_is_reminded_of(world: World, chromium: Any):
    """She agrees, says who she is, puts a lamp into the cart and closes the tab at once: one mail, with the lamp."""
    query = urlencode(
        {"endpoint": world.stack.outputs["TrackingUrl"], "key": world.secrets["shop"]["signing"], "consent": "required"}
    )
    address = "wanda@example.com"
    with serving(pages()) as site:
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(f"{site}/shop/index.html?{query}")
        tab.get_by_role("button", name="Yes").click()
        tab.get_by_role("link", name="Cart").click()
        tab.get_by_label("Your e-mail address").fill("Wanda@Example.com")
        tab.get_by_label("Remind me").check()
        tab.get_by_role("button", name="Save").click()
        tab.get_by_role("link", name="Everything").click()
        tab.get_by_role("link", name="Reading lamp").click()
        tab.get_by_role("button", name="Add Reading lamp to cart").click()
        tab.close(run_before_unload=True)
        world.until("the mail", lambda: world.mails_to(address))
        context.close()
    (mail,) = world.mails_to(address)
    assert "Reading lamp" in mail["BodyText"]
    (browser,) = {
        event["person"]["session_id"] for event in world.events_of(address) if event["type"] == "cart_updated"
    }
    kinds = {event["type"] for event in world.events_of(browser)}
    assert {"page_viewed", "cart_updated", "profile_updated"} <= kinds


def test_calls_over_a_websocket_are_recorded_and_answered(world: World, chromium: Any):
    """The snippet sends by the stack's socket what it would post, and posts nothing."""
    query = urlencode(
        {
            "endpoint": "http://127.0.0.1:9/nowhere",
            "key": world.secrets["shop"]["signing"],
            "socket": world.stack.outputs["SocketUrl"],
        }
    )
    with serving(pages()) as site:
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(f"{site}/shop/index.html?{query}")
        tab.evaluate("espial.identify('cust-socket', {plan: 'gold'})")
        tab.evaluate("espial.track('Brochure Opened', {pages: 4})")
        world.until(
            "both calls",
            lambda: {event["type"] for event in world.events_of("cust-socket")} >= {"profile_updated", "custom"},
        )
        context.close()
