"""web/espial.js in Chromium, reporting to the real tracking service: what arrives, what stays, what never happens."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.browser.receiver import WEB

CART = {
    "cartId": "c-1",
    "items": [{"id": "p-1", "name": "Mug", "price": 14.5, "qty": 2}],
    "currency": "EUR",
    "total": 29,
    "url": "https://shop.example.com/cart",
}
UPDATED = "(cart) => document.dispatchEvent(new CustomEvent('cartUpdated', {detail: cart, bubbles: true}))"
STORED = "() => Object.keys(localStorage).filter((name) => name.startsWith('espial.'))"
QUEUED = "() => Object.keys(localStorage).filter((name) => name.startsWith('espial.call.')).length"
TRACK = "(name) => espial.track(name)"
MAX_BEACON = 64 * 1024


def test_the_shipped_file_is_small():
    """Under 6 KB as any server sends it."""
    assert len(gzip.compress((WEB / "espial.js").read_bytes(), 9)) < 6 * 1024


def test_calls_arrive_in_canonical_form(shopper, receiver):
    """Page, product, cart, identify and a custom call, without a preflight."""
    tab = shopper.open(page=True, query="?utm_source=news&utm_campaign=may")
    tab.evaluate("() => espial.product({id: 'p-1', name: 'Mug', price: 14.5})")
    tab.evaluate(UPDATED, CART)
    tab.evaluate("() => espial.identify('cust-1', {email: 'Ada@Example.com', consent: {email: true}})")
    tab.evaluate("() => espial.track('Quiz Finished', {score: 7, when: new Date(0)})")
    shopper.until("five calls", lambda: len(receiver.recorded()) == 5)
    page, product, cart, known, custom = receiver.recorded()
    kinds = ["page_viewed", "product_viewed", "cart_updated", "profile_updated", "custom"]
    assert kinds == [event.type for event in receiver.recorded()]
    assert {"web"} == {event.channel for event in (page, product, cart, custom)}
    assert (f"{shopper.site}/blank.html?utm_source=news&utm_campaign=may", "A page") == (
        page.properties["url"],
        page.properties["title"],
    )
    assert {"source": "news", "name": "may"} == page.properties["utm"]
    assert ("p-1", "Mug", 14.5) == (
        product.commerce.product.id,
        product.commerce.product.name,
        product.commerce.product.price,
    )
    (item,) = cart.commerce.cart.items
    assert ("c-1", "EUR", 29.0, CART["url"]) == (
        cart.commerce.cart.id,
        cart.commerce.cart.currency,
        cart.commerce.cart.total,
        cart.commerce.cart.url,
    )
    assert ("p-1", "Mug", 14.5, 2) == (item.id, item.name, item.price, item.quantity)
    assert ("cust-1", "ada@example.com") == (known.person.external_id, known.person.email)
    assert ({"email": True}, {"score": 7, "when": "1970-01-01T00:00:00.000Z"}) == (
        known.properties["consent"],
        {name: custom.properties[name] for name in ("score", "when")},
    )
    assert {"POST"} == {posted.method for posted in receiver.posted}
    assert {"sentAt", "writeKey", "batch"} == json.loads(receiver.posted[0].body).keys()


def test_a_cart_is_reported_once_wherever_its_event_is_dispatched(shopper, receiver):
    """On the document, bubbling to the window; on the window alone; under `detail.cart`."""
    tab = shopper.open()
    tab.evaluate(UPDATED, CART)
    tab.evaluate(
        "(cart) => window.dispatchEvent(new CustomEvent('cartUpdated', {detail: {cart}}))", CART | {"cartId": "c-2"}
    )
    tab.evaluate(TRACK, "last")
    shopper.until("the last call", lambda: "last" in receiver.types())
    assert ["c-1", "c-2"] == [event.commerce.cart.id for event in receiver.events()[:-1]]


def test_calls_made_before_the_script_is_there(shopper, receiver):
    """An array that is pushed to is worked off, and goes on as the same name."""
    shopper.context.add_init_script("window.espial = [['track', 'early', {n: 1}], ['no such', 1]]")
    tab = shopper.open()
    tab.evaluate("() => espial.push(['track', 'late'])")
    shopper.until("both", lambda: receiver.types() == ["early", "late"])
    assert any("unknown_method" in said for said in shopper.warnings)


def test_offline_then_online_sends_once(shopper, receiver):
    """Nothing is tried meanwhile; each call arrives once, its time that of its making."""
    tab = shopper.open()
    shopper.context.set_offline(True)
    for name in ("one", "two"):
        tab.evaluate(TRACK, name)
    tab.wait_for_timeout(200)
    assert (2, []) == (tab.evaluate(QUEUED), receiver.posted)
    shopper.context.set_offline(False)
    shopper.until("an empty queue", lambda: tab.evaluate(QUEUED) == 0)
    assert ["one", "two"] == [event.platform_type for event in receiver.events()]


def test_an_unwell_api_is_asked_again(shopper, receiver):
    """503 is repeated under the same messageId until it is taken."""
    receiver.queue.away = True
    tab = shopper.open()
    tab.evaluate(TRACK, "patient")
    shopper.until("three tries", lambda: len(receiver.posted) >= 3)
    receiver.queue.away = False
    shopper.until("an empty queue", lambda: tab.evaluate(QUEUED) == 0)
    assert 1 == len({posted.calls[0]["messageId"] for posted in receiver.posted})
    assert ["patient"] == [event.platform_type for event in receiver.events()]


def test_what_is_refused_for_good_is_dropped(shopper, receiver):
    """A wrong key is not asked again, and said in the console."""
    tab = shopper.open(writeKey="wk_wrong")
    tab.evaluate(TRACK, "refused")
    shopper.until("the refusal", lambda: tab.evaluate(QUEUED) == 0)
    assert [401] == [posted.status for posted in receiver.posted]
    assert ["espial: refused 401"] == [said for said in shopper.warnings if "espial" in said]


def test_a_reload_keeps_the_queue(shopper, receiver):
    """What could not be sent before goes after, and is one event however often it went."""
    receiver.queue.away = True
    tab = shopper.open()
    tab.evaluate(TRACK, "before")
    shopper.until("it was tried", lambda: receiver.posted)
    tab.reload()
    tab.evaluate(TRACK, "after")
    receiver.queue.away = False
    shopper.until("an empty queue", lambda: tab.evaluate(QUEUED) == 0)
    assert ["before", "after"] == receiver.types()


def test_a_page_that_ends_hands_over_what_waits(shopper, receiver):
    """By sendBeacon, under 64 KB; what goes again with the next page is the same event."""
    tab = shopper.open(flushAfter=60_000, flushAt=1000)
    for number in range(30):
        tab.evaluate("(n) => espial.track('n' + n, {text: 'ü'.repeat(2000)})", number)
    tab.goto("about:blank")
    shopper.until("the beacon", lambda: receiver.posted)
    (beacon,) = receiver.posted
    assert ("no-cors", True) == (beacon.headers["sec-fetch-mode"], 40_000 < len(beacon.body) < MAX_BEACON)
    shopper.open()
    shopper.until("all of them", lambda: len(receiver.recorded()) == 30)
    assert [f"n{number}" for number in range(30)] == sorted(receiver.types(), key=lambda name: int(name[1:]))


def test_the_queue_is_bounded(shopper, receiver):
    """The oldest go first."""
    receiver.queue.away = True
    tab = shopper.open(maxQueue=5)
    for number in range(8):
        tab.evaluate(TRACK, f"n{number}")
    assert 5 == tab.evaluate(QUEUED)
    receiver.queue.away = False
    shopper.until("an empty queue", lambda: tab.evaluate(QUEUED) == 0)
    assert {f"n{number}" for number in range(3, 8)} == set(receiver.types()) - {"n0", "n1", "n2"}


def test_nothing_before_consent(shopper, receiver):
    """Where it is required nothing is stored or sent; then page, choice and cart are; until it is withdrawn."""
    tab = shopper.open(consent="required", page=True)
    tab.evaluate("() => { espial.identify('cust-1'); espial.track('unseen'); espial.page(); espial.flush() }")
    tab.evaluate(UPDATED, CART)
    tab.wait_for_timeout(200)
    assert ([], [], []) == (tab.evaluate("() => Object.keys(localStorage)"), shopper.context.cookies(), receiver.posted)

    tab.evaluate("() => espial.consent({email: true, sms: false})")
    tab.evaluate(TRACK, "seen")
    shopper.until("four calls", lambda: len(receiver.recorded()) == 4)
    assert ["page", "identify", "Cart Updated", "seen"] == receiver.types()
    said = {event.platform_type: event.properties for event in receiver.recorded()}
    assert {"email": True, "sms": False} == said["identify"]["consent"] == said["seen"]["known_consent"]

    tab.evaluate("() => { espial.track('too late'); espial.consent(false); espial.track('later') }")
    tab.wait_for_timeout(200)
    assert ([], 4) == (tab.evaluate("() => Object.keys(localStorage)"), len(receiver.recorded()))


def test_an_opt_out_is_remembered_and_can_be_taken_back(shopper, receiver):
    """Where consent is not required: all that is left is that she said no."""
    tab = shopper.open()
    tab.evaluate("() => { espial.identify('cust-1'); espial.consent(false) }")
    tab = shopper.open()
    tab.evaluate(TRACK, "unseen")
    assert (["espial.consent"], "no") == (tab.evaluate(STORED), tab.evaluate("() => localStorage['espial.consent']"))
    tab.evaluate("() => { espial.consent(true); espial.track('seen') }")
    shopper.until("a call", receiver.types)
    assert (["seen"], None) == (receiver.types(), receiver.recorded()[0].person.external_id)


def test_who_was_anonymous_becomes_known(shopper, receiver):
    """One anonymous id before and after, also on the next page; another person has another, and who follows a reset."""
    tab = shopper.open()
    tab.evaluate("() => { espial.track('a'); espial.identify('cust-1'); espial.track('b') }")
    tab = shopper.open()
    tab.evaluate("() => { espial.track('c'); espial.identify('cust-2'); espial.reset(); espial.track('d') }")
    shopper.until("six calls", lambda: len(receiver.recorded()) == 6)
    who = [(event.person.external_id, event.person.session_id) for event in receiver.recorded()]
    users, sessions = zip(*who, strict=True)
    assert (None, "cust-1", "cust-1", "cust-1", "cust-2", None) == users
    assert 1 == len(set(sessions[:4]))
    assert 3 == len(set(sessions))


def test_two_tabs_share_one_queue(shopper, receiver):
    """Each call of either is recorded once.

    It may be sent twice, under one id: what a tab took out of localStorage, another one may see for a moment yet,
    whatever lock it holds.
    """
    receiver.queue.away = True
    tabs = [shopper.open(), shopper.open()]
    for number in range(10):
        for at, tab in enumerate(tabs):
            tab.evaluate(TRACK, f"{at}-{number}")
    receiver.queue.away = False
    shopper.until("an empty queue", lambda: tabs[0].evaluate(QUEUED) == 0)
    assert sorted(f"{at}-{number}" for at in (0, 1) for number in range(10)) == sorted(receiver.types())


def test_one_tab_at_a_time_sends(shopper, receiver):
    """While one waits for its answer the other does not send the same."""
    tabs = [shopper.open(), shopper.open()]
    receiver.answers.clear()
    tabs[0].evaluate(TRACK, "a")
    shopper.until("it was asked", lambda: receiver.asked)
    tabs[1].evaluate(TRACK, "b")
    tabs[1].wait_for_timeout(300)
    asked = receiver.asked
    receiver.answers.set()
    shopper.until("an empty queue", lambda: tabs[0].evaluate(QUEUED) == 0)
    assert (1, ["a", "b"]) == (asked, [event.platform_type for event in receiver.events()])


def test_where_only_cookies_are_kept_the_next_page_is_the_same_person(shopper, receiver):
    """The anonymous id outlives the page in a cookie."""
    shopper.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('off', 'SecurityError') }})"
    )
    for name in ("a", "b"):
        shopper.open().evaluate(TRACK, name)
    shopper.until("both", lambda: len(receiver.recorded()) == 2)
    assert 1 == len({event.person.session_id for event in receiver.recorded()})


def test_a_cart_in_a_circle_is_still_a_cart(shopper, receiver):
    """What leads back is left out."""
    tab = shopper.open()
    tab.evaluate("() => { const item = {id: 'p-1', price: 2}; item.category = {item}; espial.cart({items: [item]}) }")
    shopper.until("the cart", receiver.recorded)
    (event,) = receiver.recorded()
    assert ("cart_updated", "p-1", 2.0) == (
        event.type,
        event.commerce.cart.items[0].id,
        event.commerce.cart.items[0].price,
    )


def test_without_storage_it_works_as_long_as_the_page(shopper, receiver):
    """In a frame that may store nothing, cookies included, one person is one person."""
    tab = shopper.open("sandboxed.html")
    frame = next(frame for frame in tab.frames if frame.parent_frame)
    frame.wait_for_function("window.espial && espial.version")
    refused = "() => { try { return String(localStorage) } catch (error) { return error.name } }"
    assert "SecurityError" == frame.evaluate(refused)
    frame.evaluate("() => { espial.track('a'); espial.identify('cust-1'); espial.track('b') }")
    shopper.until("three calls", lambda: len(receiver.events()) == 3)
    assert 1 == len({event.person.session_id for event in receiver.events()})
    assert {"cust-1", None} == {event.person.external_id for event in receiver.events()}


HOSTILE = {
    "circular": "const cart = {items: []}; cart.self = cart; cart.items.push(cart); updated(cart)",
    "no detail": "updated(undefined)",
    "text for a cart": "updated('text')",
    "items that are none": "updated({items: [null, 1, 'x', undefined]})",
    "pollution": """espial.track('p', JSON.parse('{"__proto__": {"polluted": 1}}'));
                    espial.track('p', JSON.parse('{"constructor": {"prototype": {"polluted": 1}}}'))""",
    "a getter that throws": "espial.track('g', {get boom() { throw new Error('no') }})",
    "no JSON": """espial.track('f', {f() {}, s: Symbol('s'), n: NaN, i: Infinity, b: 10n, d: new Date(NaN)});
                  espial.track('w', {map: new Map(), window})""",
    "nothing given": "espial.track(Symbol('x')); espial.track(); espial.product(); espial.cart(null); espial.push()",
    "deep": "let deep = {}; for (let at = 0; at < 50000; at++) deep = {deep}; espial.track('deep', deep)",
    "wide": "espial.track('wide', {list: Array.from({length: 1e6}, (_, at) => at)})",
    "long": "espial.track('x'.repeat(1e6), {cart_id: 'y'.repeat(1e6)})",
    "a long user id": "espial.identify('z'.repeat(1e6), {}); espial.reset()",
    "half a character": r"espial.track('\ud800', {text: '\ud800', fine: '\ud83d\ude00 \\ud800'})",
    "a long title": "document.title = 't'.repeat(1e5); espial.page()",
}


@pytest.mark.parametrize("work", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_page_is_not_hurt(shopper, receiver, work):
    """Nothing throws, nothing is polluted, what was sent is taken, and the next call goes as ever."""
    tab = shopper.open()
    tab.evaluate(f"() => {{ const updated = {UPDATED}; {work} }}")
    assert tab.evaluate("() => ({}).polluted === undefined")
    tab.evaluate(TRACK, "next")
    shopper.until("the next call", lambda: "next" in receiver.types())
    assert {200} == {posted.status for posted in receiver.posted}


def test_a_page_that_breaks_the_language_is_not_hurt(shopper):
    """What the snippet needs itself throws: nothing reaches the page."""
    tab = shopper.open()
    tab.evaluate("() => { JSON.stringify = Object.keys = () => { throw new Error('page') } }")
    tab.evaluate("(cart) => { document.dispatchEvent(new CustomEvent('cartUpdated', {detail: cart})) }", CART)
    tab.evaluate("() => { espial.track('a'); espial.flush(); window.dispatchEvent(new Event('pagehide')) }")
    shopper.until("it is said", lambda: any("failed page" in said for said in shopper.warnings))


def test_a_huge_cart_is_recorded_as_too_large(shopper, receiver):
    """As a custom event that says how large it was, not as a cart that lacks something."""
    tab = shopper.open()
    tab.evaluate(UPDATED, CART | {"items": [{"id": f"p-{number}", "name": "n" * 100} for number in range(400)]})
    shopper.until("the event", receiver.recorded)
    (event,) = receiver.recorded()
    assert ("custom", "Cart Updated", "c-1") == (event.type, event.platform_type, event.properties["cart_id"])
    assert event.properties["too_large"] > 32 * 1024


def answering(receiver, tab, acknowledges):
    """A socket at wss://socket.example.com, each frame judged by the real service. Gives the frames that came."""
    frames = []

    def on_message(socket, text):
        frames.append(json.loads(text))
        if acknowledges:
            status, _ = receiver.receive(f"/v1/{frames[-1]['type']}", {}, text.encode())
            socket.send(json.dumps({"success": status == 200, "messageId": frames[-1]["messageId"]}))

    tab.route_web_socket(
        "wss://socket.example.com/", lambda socket: socket.on_message(lambda text: on_message(socket, text))
    )
    return frames


@pytest.mark.parametrize("acknowledges", [True, False])
def test_a_socket_is_used_while_it_answers(shopper, receiver, acknowledges):
    """A frame a call, answered with its messageId; what is not answered goes by POST, once."""
    frames = answering(receiver, shopper.context, acknowledges)
    tab = shopper.open(socket="wss://socket.example.com/", timeout=400)
    tab.evaluate("() => { espial.track('a'); espial.track('b') }")
    shopper.until("an empty queue", lambda: tab.evaluate(QUEUED) == 0)
    assert ["a", "b"] == [event.platform_type for event in receiver.events()] == [frame["event"] for frame in frames]
    assert acknowledges == (receiver.posted == [])
    tab.evaluate(TRACK, "c")
    shopper.until("the next one", lambda: "c" in receiver.types())
    assert (3 if acknowledges else 2) == len(frames)


def test_a_socket_that_is_not_there_costs_nothing(shopper, receiver):
    """POST does it, and goes on doing it."""
    tab = shopper.open(socket="ws://127.0.0.1:9/")
    tab.evaluate(TRACK, "a")
    shopper.until("a call", lambda: receiver.types() == ["a"])
    tab.evaluate(TRACK, "b")
    shopper.until("another", lambda: receiver.types() == ["a", "b"])
