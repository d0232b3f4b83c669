/* Espial in the browser: calls of the Segment tracking spec, in batches to <endpoint>/v1/batch. See docs/browser.md.
 * Nothing in here throws into the page, whatever the page hands over. */
((window, document) => {
  "use strict";

  const VERSION = "1";
  const MAX_CALL = 32 * 1024; // bytes of one call, the API's limit
  const MAX_BODY = 60000; // bytes of one request: a page that ends may hand over 64 KB
  const MAX_NODES = 5000; // values copied of one call
  const [CALL, ANONYMOUS, USER, CONSENT] = ["call.", "anonymous_id", "user_id", "consent"].map((it) => "espial." + it);

  const early = window.espial; // an array of calls made before this script was there
  if (early?.version) return; // included twice

  // The script's data attributes; window.espialConfig wins.
  const settings = {
    consent: "", // "required": nothing is stored or sent before consent(true)
    socket: "", // wss://…, tried first
    page: true, // report the page by itself
    flushAfter: 1000, // ms that calls wait for company
    flushAt: 20, // calls that wait for none
    maxQueue: 200, // calls kept; the oldest goes first
    retryAfter: 1000, // ms before the first repetition
    timeout: 10000, // ms for an answer
    ...document.currentScript?.dataset,
    ...window.espialConfig,
  };
  const url = `${settings.endpoint}`.replace(/\/*$/, "/v1/batch");

  const memory = new Map(); // what could not be stored
  const handed = new Set(); // calls on their way even if the page ends
  const seen = new WeakSet(); // DOM events already reported: one that bubbles reaches document and window
  let timer = 0;
  let failures = 0;
  let sending = false;
  let count = 0;
  let lastCart = null;

  const warn = (reason, detail = "") => window.console?.warn("espial: " + reason, detail);

  /** `work`, but what it throws is a warning. */
  const guarded = (work) => (...given) => {
    try {
      return work(...given);
    } catch (error) {
      warn("failed", `${error?.message}`);
    }
  };

  // storage: localStorage, or memory where there is none or it is full

  /** What `work` makes of localStorage, undefined if it is off or full. */
  const disk = (work) => {
    try {
      return work(window.localStorage);
    } catch {
      return undefined;
    }
  };
  const load = (name) => memory.get(name) ?? disk((store) => store.getItem(name));
  const save = (name, value) => {
    memory.set(name, value);
    if (disk((store) => store.setItem(name, value) ?? true)) memory.delete(name);
  };
  const forget = (name) => {
    memory.delete(name);
    disk((store) => store.removeItem(name));
  };
  const names = (prefix) =>
    [...new Set([...memory.keys(), ...(disk(Object.keys) ?? [])])].filter((name) => name.startsWith(prefix)).sort();

  /** The anonymous id where localStorage is off; an empty one removes it. */
  const writeCookie = guarded((value) => {
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `espial_id=${value}; path=/; samesite=lax; max-age=${value ? 31536000 : 0}${secure}`;
  });
  const readCookie = guarded(() => document.cookie.match(/(?:^|; )espial_id=([\w-]+)/)?.[1]);

  // who it is, and what she agreed to

  const random = () => crypto.getRandomValues(new Uint32Array(4)).reduce((text, one) => text + one.toString(36), "");

  const anonymousId = () => {
    let id = load(ANONYMOUS);
    if (!id) {
      save(ANONYMOUS, (id = readCookie() || random()));
      if (memory.has(ANONYMOUS)) writeCookie(id);
    }
    return id;
  };

  const allowed = () => (load(CONSENT) ?? (settings.consent === "required" ? "no" : "yes")) !== "no";

  /** The channels she chose, such as {email: true}. */
  const channels = () => (load(CONSENT)?.startsWith("{") ? JSON.parse(load(CONSENT)) : undefined);

  // what the page hands over

  /** A copy that is JSON: no cycles, functions or names that reach a prototype. Throws over MAX_NODES values. */
  const copy = (value) => {
    let left = MAX_NODES;
    const walk = (value, above) => {
      if (typeof value === "bigint") return `${value}`;
      if (typeof value === "number") return isFinite(value) ? value : undefined;
      if (value === null || /^(string|boolean)$/.test(typeof value)) return value;
      if (typeof value !== "object" || above.includes(value) || above.length > 8) return undefined;
      if (value instanceof Date) return value.toJSON();
      const list = Array.isArray(value);
      const made = list ? [] : {};
      for (const name of Object.keys(value)) {
        if (left-- <= 0) throw new Error(`more than ${MAX_NODES} values`);
        if (/^(__proto__|constructor|prototype)$/.test(name)) continue;
        const below = walk(value[name], [...above, value]);
        if (below !== undefined) made[list ? made.length : name] = below;
      }
      return made;
    };
    return walk(value, []);
  };
  const object = (value) => ({ ...copy(value && typeof value === "object" ? value : {}) });

  const same = (...names) => Object.fromEntries(names.map((name) => [name, [name]]));
  const PRODUCT = {
    ...same("sku", "name", "variant", "category", "url", "price"),
    product_id: ["product_id", "productId", "id"],
    image_url: ["image_url", "imageUrl", "image"],
    quantity: ["quantity", "qty"],
  };
  const CART = {
    ...same("currency", "total"),
    cart_id: ["cart_id", "cartId", "id"],
    cart_url: ["cart_url", "cartUrl", "url"],
  };

  /** The spec's names, from those that shops use. */
  const named = (given, as) => {
    const made = {};
    for (const name in as) made[name] = copy(as[name].map((one) => given[one]).find((found) => found != null));
    return made;
  };

  // the calls

  const where = () => ({ url: location.href.split("#")[0], path: location.pathname, title: document.title });
  const bytes = (text) => new TextEncoder().encode(text).length;

  const context = () => {
    const campaign = {};
    new URLSearchParams(location.search).forEach((value, name) => {
      if (/^utm_[a-z]+$/.test(name)) campaign[name.slice(4).replace("campaign", "name")] = value;
    });
    return {
      page: where(),
      userAgent: navigator.userAgent,
      locale: navigator.language,
      library: { name: "espial.js", version: VERSION },
      campaign: Object.keys(campaign).length ? campaign : undefined,
      traits: { consent: channels() },
    };
  };

  const call = (type, said) => {
    if (!allowed()) return undefined;
    // Sorted, they are in the order of their making, also among tabs.
    const messageId = `${Date.now().toString(36)}${`${count++ % 1e4}`.padStart(4, "0")}-${random()}`;
    const whole = {
      type,
      messageId,
      anonymousId: anonymousId(),
      userId: load(USER) ?? undefined,
      timestamp: now(),
      context: context(),
      ...said,
    };
    const text = JSON.stringify(whole);
    // Half of a surrogate pair is no JSON for the API: it would refuse all calls beside it.
    const sound = (bytes(text) > MAX_CALL ? shortened(whole, bytes(text)) : text)
      .replace(/\\(\\|ud[89a-f]..)/g, (all, it) => (it === "\\" ? all : "?"));
    save(CALL + messageId, sound);
    const waiting = names(CALL);
    while (waiting.length > settings.maxQueue) {
      settle(waiting.shift());
      warn("queue_full");
    }
    // Else the request that is out, or is repeated, decides.
    if (!sending && !failures) {
      if (waiting.length >= settings.flushAt) schedule(0);
      else if (!timer) schedule(settings.flushAfter);
    }
    return messageId;
  };

  /** A call over the limit without its contents: that it happened is still recorded, and how large it was. */
  const shortened = ({ type, event, messageId, anonymousId, userId, timestamp, properties }, size) => {
    warn("too_large", `${size} bytes`);
    const short = (text) => text && `${text}`.slice(0, 200);
    properties = { too_large: size, cart_id: short(properties?.cart_id) };
    [event, userId] = [short(event), short(userId)];
    return JSON.stringify({ type, event, messageId, anonymousId, userId, timestamp, properties });
  };

  const page = (name, properties) => {
    if (typeof name !== "string") [name, properties] = [undefined, name];
    return call("page", { name, properties: { ...where(), referrer: document.referrer, ...object(properties) } });
  };

  const track = (event, properties) => call("track", { event: `${event}`, properties: object(properties) });

  const product = (given) => track("Product Viewed", named(given, PRODUCT));

  const cart = (given) => {
    given = given.cart ?? given;
    const items = [given.products, given.items, given.lines].find(Array.isArray);
    if (!items) throw new Error("the cart has no array of items");
    const products = items.filter((item) => item && typeof item === "object").map((item) => named(item, PRODUCT));
    const properties = { ...named(given, CART), products };
    if (!allowed()) {
      if (!load(CONSENT)) lastCart = properties; // for when she agrees, on this page
      return undefined;
    }
    properties.cart_id ??= anonymousId(); // one cart a browser
    return track("Cart Updated", properties);
  };

  const identify = (userId, traits) => {
    if (userId && typeof userId === "object") [userId, traits] = [undefined, userId];
    if (!allowed()) return undefined;
    if (userId) {
      if (load(USER) && load(USER) !== `${userId}`) reset(); // somebody else: nothing of the one before is hers
      save(USER, `${userId}`);
    }
    return call("identify", { traits: { consent: channels(), ...object(traits) } });
  };

  /** She logged out: who comes next is somebody else. */
  const reset = () => {
    [USER, ANONYMOUS].forEach(forget);
    writeCookie("");
    lastCart = null;
  };

  /** Her choice: false forgets everything; true, or a map of channels, lets calls be made. */
  const consent = (given) => {
    if (!given) {
      names("espial.").forEach(settle);
      reset();
      clearTimeout(timer);
      timer = failures = 0;
      if (settings.consent !== "required") save(CONSENT, "no"); // or the next page would begin again
      return;
    }
    const before = allowed();
    const chosen = typeof given === "object";
    if (chosen || !before || !load(CONSENT)) save(CONSENT, chosen ? JSON.stringify(object(given)) : "yes");
    if (!before) start();
    if (chosen) identify();
    if (lastCart) cart(lastCart);
    lastCart = null;
  };

  // the way out

  const schedule = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(guarded(flush), wait);
  };

  /** Calls that fit one request, oldest first, as [name, text]. */
  const due = (omitted) => {
    let size = bytes(body([]));
    const found = [];
    for (const name of names(CALL)) {
      const text = omitted?.has(name) ? "" : load(name); // none: another tab sent it meanwhile
      if (!text) continue;
      size += bytes(text) + 1;
      if (size > MAX_BODY) break;
      found.push([name, text]);
    }
    return found;
  };

  const now = () => new Date().toISOString();
  const body = (calls) =>
    `{"writeKey":${JSON.stringify(settings.writeKey)},"sentAt":"${now()}","batch":[${calls.map((one) => one[1])}]}`;

  /** Send what waits. One tab at a time, where tabs share a queue and the browser can arrange that. */
  const flush = async () => {
    timer = 0;
    if (sending || !allowed() || !navigator.onLine) return;
    sending = true;
    let outcome;
    try {
      const locks = disk(() => navigator.locks);
      outcome = await (locks
        ? locks.request("espial", { ifAvailable: true }, (lock) => (lock ? send() : { wait: settings.flushAfter }))
        : send());
    } catch (error) {
      outcome = { failed: error };
    }
    sending = false;
    failures = outcome.failed ? failures + 1 : 0;
    if (failures) {
      // Twice as long each time, at random, so that browsers do not come together.
      const wait = Math.min(60000, settings.retryAfter * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
      schedule(Math.max(wait, Math.min(3600, parseFloat(outcome.failed)) * 1000 || 0));
    } else if (names(CALL)[0]) schedule(outcome.wait ?? 0);
  };

  const send = async () => {
    const calls = await viaSocket(due());
    return calls.length ? post(calls) : {};
  };

  /** `failed` if it is to be repeated: the seconds to wait, where the API says them. */
  const post = async (calls) => {
    const stop = new AbortController();
    const limit = setTimeout(() => stop.abort(), settings.timeout);
    calls.forEach(([name]) => handed.add(name));
    try {
      // Without a type of its own it is text: a page may post that without asking the gateway first.
      const options = { method: "POST", credentials: "omit", keepalive: true, signal: stop.signal };
      const answer = await fetch(url, { ...options, body: body(calls) });
      if (answer.status >= 500 || [408, 429].includes(answer.status)) throw answer.headers.get("retry-after");
      if (!answer.ok) warn("refused", answer.status); // it would be refused again
      calls.forEach(([name]) => settle(name));
      return {};
    } catch (failed) {
      calls.forEach(([name]) => handed.delete(name));
      return { failed: failed || true };
    } finally {
      clearTimeout(limit);
    }
  };

  const settle = (name) => {
    forget(name);
    handed.delete(name);
  };

  /** The calls that the socket did not take: a frame for each, to be answered with its messageId. Else POST does it. */
  let socket = null;
  const viaSocket = (calls) =>
    new Promise((resolve) => {
      if (!settings.socket || !calls.length) return resolve(calls);
      const open = new Map(calls.map((one) => [JSON.parse(one[1]).messageId, one]));
      const end = () => {
        clearTimeout(limit);
        if (open.size) {
          settings.socket = "";
          socket?.close();
        }
        resolve([...open.values()]);
      };
      const limit = setTimeout(end, settings.timeout / 2);
      const write = guarded(() =>
        open.forEach(([, text]) =>
          socket.send(JSON.stringify({ ...JSON.parse(text), writeKey: settings.writeKey, sentAt: now() }))));
      try {
        if (socket?.readyState !== 1) socket = new WebSocket(settings.socket);
        socket.onopen = write;
        socket.onerror = socket.onclose = end;
        socket.onmessage = guarded(({ data }) => {
          const { success, messageId } = JSON.parse(data);
          if (!success || !open.has(messageId)) return; // POST will be told what is wrong
          settle(open.get(messageId)[0]);
          open.delete(messageId);
          if (!open.size) end();
        });
        if (socket.readyState === 1) write();
      } catch {
        end();
      }
    });

  /** The page ends. Nobody hears whether a beacon arrived: its calls stay queued and go again with the next page. */
  const leave = guarded(() => {
    const calls = allowed() && navigator.onLine ? due(handed) : [];
    if (calls.length && navigator.sendBeacon(url, body(calls))) calls.forEach(([name]) => handed.add(name));
  });

  const start = () => {
    if (`${settings.page}` !== "false") page();
    if (allowed() && names(CALL)[0] && !timer) schedule(settings.flushAfter); // what an earlier page left
  };
  const api = { version: VERSION };
  const methods = { page, product, cart, identify, track, reset, consent, flush };
  for (const name in methods) api[name] = guarded(methods[name]);
  /** A call as an array, as made before the script was there: espial.push(["track", "Name", {…}]). */
  api.push = guarded(([name, ...given]) =>
    Object.hasOwn(methods, name) ? api[name](...given) : warn("unknown_method", `${name}`));
  window.espial = api;

  if (!settings.endpoint || !settings.writeKey) return warn("not_configured", "endpoint and writeKey are needed");

  for (const target of [document, window]) {
    target.addEventListener("cartUpdated", guarded((event) => {
      if (seen.has(event)) return;
      seen.add(event);
      if (event.detail) cart(event.detail);
    }));
  }
  window.addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && leave());
  window.addEventListener("online", () => {
    failures = 0;
    schedule(0);
  });
  guarded(start)();
  if (Array.isArray(early)) early.forEach(api.push);
})(window, document);
