/**
 * Payment page.
 *
 * 1. Ask our server for the order's payment (the same call again does only what is missing).
 * 2. Mount Stripe's Payment Element with its client secret.
 * 3. On submit, let Stripe confirm; it leaves for `return_url` by itself when the money is on its way.
 *
 * Nothing here decides whether the order is paid: the order page asks the server.
 */
import { startCountdown } from "./countdown.js";
import { extendInPlace } from "./extend.js";
import { appearance } from "./payment-appearance.js";
import { stripeLoaded } from "./stripe-loader.js";

const config = JSON.parse(document.getElementById("payment-config").textContent);
const countdown = startCountdown();
const part = Object.fromEntries(
  ["loading", "paused", "paused-message", "form", "element", "error", "button", "button-label", "spinner"].map((name) => [
    name,
    document.getElementById(`payment-${name}`),
  ]),
);
const returnUrl = new URL(config.return_url, location.href).href;

let stripe = null;
let elements = null;
let isPaying = false;

class Paused extends Error {}

document.getElementById("payment").hidden = false;
start();
part.form.addEventListener("submit", pay);
document.getElementById("payment-retry").addEventListener("click", start);
document.addEventListener("hold:ended", () => show(null));
if (countdown) extendInPlace(countdown, config.extend_url);

function show(name) {
  for (const state of ["loading", "paused", "form"]) part[state].hidden = state !== name;
}

async function start() {
  show("loading");
  try {
    const [payment, Stripe] = await Promise.all([openPayment(), stripeLoaded()]);
    if (!payment) return;
    mount(Stripe, payment);
  } catch (error) {
    if (countdown?.hasEnded) return;
    part["paused-message"].textContent = error instanceof Paused ? error.message : "";
    show("paused");
  }
}

/** The payment to confirm; null when there is nothing to pay any more (the page is on its way elsewhere). */
async function openPayment() {
  const answer = await fetch(config.checkout_url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ email: config.email, name: config.name }),
  });
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 409 && body.code === "ended") {
    countdown?.end();
    return null;
  }
  if (!answer.ok) throw new Paused(body.code === "payment_unavailable" ? "" : (body.message ?? ""));
  if (!body.payment || body.order.status === "paid") {
    location.assign(returnUrl);
    return null;
  }
  if (!body.payment.client_secret) throw new Paused("");
  return body.payment;
}

function mount(Stripe, payment) {
  stripe = Stripe(config.publishable_key);
  elements = stripe.elements({ clientSecret: payment.client_secret, appearance: appearance() });
  const billingDetails = { name: config.name, email: config.email };
  const card = elements.create("payment", { defaultValues: { billingDetails } });
  show("form");
  part.element.replaceChildren();
  card.mount("#payment-element");
}

async function pay(event) {
  event.preventDefault();
  if (isPaying) return;
  setPaying(true);
  say("");
  try {
    const { error } = await stripe.confirmPayment({ elements, confirmParams: { return_url: returnUrl } });
    if (error) refused(error);
  } catch {
    unsure();
  }
}

/** Stripe said no. A card or form error, or an intent that wants another card, means for certain: nothing was charged. */
function refused(error) {
  const status = error.payment_intent?.status;
  if (status === "succeeded" || status === "processing") return location.assign(returnedFrom(status));
  const isCertain = ["card_error", "validation_error"].includes(error.type) || status === "requires_payment_method";
  if (!isCertain) return unsure();
  say(error.message || part.error.dataset.tryAgain);
  setPaying(false);
}

/** The answer got lost: the order page finds out what happened, and nothing is charged twice. */
function unsure() {
  const link = Object.assign(document.createElement("a"), { href: returnUrl, textContent: part.error.dataset.checkLabel });
  say(part.error.dataset.unsure, link);
  setPaying(false);
}

/** The order page, told as Stripe's own redirect tells it: a hint to wait and see, no proof. */
function returnedFrom(status) {
  const url = new URL(returnUrl);
  url.searchParams.set("redirect_status", status);
  return url.href;
}

function say(message, ...rest) {
  part.error.replaceChildren(...(message ? [message, " ", ...rest] : []));
}

function setPaying(value) {
  isPaying = value;
  part.spinner.hidden = !value;
  part["button-label"].textContent = value ? part.button.dataset.busyLabel : part.button.dataset.label;
  part.button.setAttribute("aria-disabled", String(value));
  for (const other of document.querySelectorAll("[data-not-while-paying]")) other.disabled = value;
  if (!countdown) return;
  countdown.paused = value; // a card being charged is not cut off by the clock: the server decides
  if (!value) countdown.tick();
}
