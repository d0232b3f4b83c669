/* A shop as small as can be: products, a cart in localStorage, and the event `cartUpdated` whenever it changes. */
const PRODUCTS = [
  { id: "mug", name: "Stoneware mug", price: 14.5, text: "Holds a quarter of a litre. Made by hand, so each is a little different.", hue: 25 },
  { id: "lamp", name: "Reading lamp", price: 79, text: "Warm light where the book is, and nowhere else.", hue: 48 },
  { id: "throw", name: "Wool throw", price: 64, text: "From Shetland sheep. Two metres long.", hue: 350 },
  { id: "teapot", name: "Teapot for four", price: 38, text: "Pours without dripping. It really does.", hue: 190 },
];
const euros = (amount) => new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" }).format(amount);
const find = (id) => PRODUCTS.find((product) => product.id === id);
const pageOf = (product) => new URL(`product.html?id=${product.id}`, location.href).href;

/** What `work` makes of localStorage; undefined where it is off: then the cart lasts as long as the page. */
function stored(work) {
  try {
    return work(localStorage);
  } catch {
    return undefined;
  }
}

let inMemory = null;
function readCart() {
  inMemory = stored((store) => JSON.parse(store.getItem("shop.cart"))) ?? inMemory;
  return inMemory ?? { id: `cart-${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`, items: [] };
}

function keepCart(cart) {
  inMemory = cart;
  stored((store) => store.setItem("shop.cart", JSON.stringify(cart)));
  showCount();
}

/** What `espial.js` listens to. */
function tell(cart) {
  const items = cart.items.map(({ id, quantity }) => {
    const { name, price } = find(id);
    return { id, name, price, quantity, url: pageOf(find(id)) };
  });
  const detail = { id: cart.id, items, total: total(cart), currency: "EUR", url: new URL("cart.html", location.href).href };
  document.dispatchEvent(new CustomEvent("cartUpdated", { detail }));
}

function change(id, by) {
  const cart = readCart();
  const item = cart.items.find((one) => one.id === id) ?? { id, quantity: 0 };
  const items = cart.items.filter((one) => one !== item);
  item.quantity += by;
  if (item.quantity > 0) items.push(item);
  const order = PRODUCTS.map((product) => product.id);
  keepCart({ ...cart, items: items.sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id)) });
  tell(readCart());
  say(by > 0 ? `${find(id).name} is in your cart.` : `${find(id).name} was taken out.`);
}

const total = (cart) => cart.items.reduce((sum, { id, quantity }) => sum + find(id).price * quantity, 0);

function say(text) {
  document.querySelector("[role=status]").textContent = text;
}

function showCount() {
  const count = readCart().items.reduce((sum, item) => sum + item.quantity, 0);
  document.querySelector("#count").textContent = count;
}

/** An element with properties and children. */
function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function picture(product) {
  const made = make("div", { className: "picture" });
  made.style.setProperty("--hue", product.hue);
  made.ariaHidden = "true";
  made.textContent = product.name[0];
  return made;
}

const addButton = (product, show = () => {}) =>
  make("button", {
    ariaLabel: `Add ${product.name} to cart`,
    textContent: "Add to cart",
    onclick: () => {
      change(product.id, 1);
      show();
    },
  });

const shows = {
  list(main) {
    for (const product of PRODUCTS) {
      const name = make("h2", {}, make("a", { href: pageOf(product), textContent: product.name }));
      const price = make("p", { className: "price", textContent: euros(product.price) });
      main.append(make("li", {}, picture(product), name, price, addButton(product)));
    }
  },
  product(main) {
    const product = find(new URLSearchParams(location.search).get("id")) ?? PRODUCTS[0];
    document.title = `${product.name} · Hearth & Hand`;
    const price = make("p", { className: "price", textContent: euros(product.price) });
    const words = [make("h1", { textContent: product.name }), price, make("p", { textContent: product.text })];
    main.append(picture(product), make("div", {}, ...words, addButton(product)));
    espial.push(["product", { id: product.id, name: product.name, price: product.price, url: pageOf(product) }]);
  },
  cart(main) {
    const cart = readCart();
    const show = () => {
      main.replaceChildren();
      shows.cart(main);
    };
    if (!cart.items.length) main.append(make("p", { textContent: "Nothing in here yet." }));
    for (const { id, quantity } of cart.items) {
      const product = find(id);
      const less = { ariaLabel: `One ${product.name} less`, textContent: "−", onclick: () => (change(id, -1), show()) };
      const more = { ariaLabel: `One ${product.name} more`, textContent: "+", onclick: () => (change(id, 1), show()) };
      const amount = make("span", { className: "amount" }, make("button", less), ` ${quantity} `, make("button", more));
      const price = make("span", { className: "price", textContent: euros(product.price * quantity) });
      main.append(make("li", {}, make("a", { href: pageOf(product), textContent: product.name }), amount, price));
    }
    document.querySelector("#total").textContent = euros(total(cart));
    document.querySelector("#buy").disabled = !cart.items.length;
  },
};

/** The forms of the cart page: who she is, and the order. */
function forms() {
  document.querySelector("#who").onsubmit = (event) => {
    event.preventDefault();
    const email = event.target.email.value.trim();
    espial.push(["identify", email.toLowerCase(), { email, consent: { email: event.target.reminders.checked } }]);
    say("Thank you. We know you now.");
  };
  document.querySelector("#buy").onclick = () => {
    const cart = readCart();
    const products = cart.items.map(({ id, quantity }) => ({ product_id: id, price: find(id).price, quantity }));
    const order = { order_id: cart.id.replace("cart", "order"), cart_id: cart.id, products, total: total(cart), currency: "EUR" };
    espial.push(["track", "Order Completed", order]);
    inMemory = null;
    stored((store) => store.removeItem("shop.cart"));
    showCount();
    document.querySelector("#shown").replaceChildren();
    shows.cart(document.querySelector("#shown"));
    say("Thank you for your order.");
  };
}

/** Asked where the shop says that consent is required. */
function ask() {
  const bar = make("section", { className: "ask", ariaLabel: "Your choice" });
  const choose = (yes) => () => {
    espial.push(["consent", yes]);
    bar.remove();
  };
  const yes = make("button", { textContent: "Yes", onclick: choose(true) });
  const no = make("button", { className: "quiet", textContent: "No", onclick: choose(false) });
  bar.append(make("p", { textContent: "May we remember what you look at, to remind you of your cart?" }), yes, no);
  if (espialConfig.consent === "required" && !stored((store) => store.getItem("espial.consent"))) document.body.append(bar);
}

window.espial = window.espial || []; // calls made before espial.js is there wait in this array
const shown = document.querySelector("#shown");
shows[shown.dataset.shows](shown);
showCount();
if (document.querySelector("#who")) forms();
ask();
