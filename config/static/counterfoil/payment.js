/**
 * Payment page.
 *
 * 1. Ask our server for the order's payment (the same call again does only what is missing). While Stripe is out of
 *    reach, ask again by itself: the server keeps the seats longer meanwhile, and the countdown follows.
 * 2. Mount Stripe's Payment Element with its client secret.
 * 3. On submit, let Stripe confirm; it leaves for `return_url` by itself when the money is on its way.
 *
 * Nothing here decides whether the order is paid: the order page asks the server.
 */
import { startCountdown } from "./countdown.js";
import { extendInPlace } from "./extend.js";
import { appearance } from "./payment-appearance.js";
import { retryAfterAWhile } from "./retry.js";
import { stripeLoaded } from "./stripe-loader.js";

const config = JSON.parse(document.getElementById("payment-config").textContent);
const countdown = startCountdown();
const part = Object.fromEntries(
  ["loading", "paused", "paused-message", "stopped", "stopped-message", "closed", "form", "element", "error", "button", "button-label", "spinner"].map(
    (name) => [name, document.getElementById(`payment-${name}`)],
  ),
);
const STATES = ["loading", "paused", "stopped", "closed", "form"];
const LOOK_EVERY_MS = 3_000;
const returnUrl = new URL(config.return_url, location.href).href;
const billingDetails = { name: config.name, email: config.email };

let stripe = null;
let elements = null;
let isPaying = false;
let lookout = null;

/** Worth another try by itself. */
class Paused extends Error {}
/** A clear no, in the server's words. */
class Stopped extends Error {}

const retry = retryAfterAWhile(part.paused, start);

document.getElementById("payment").hidden = false;
start();
part.form.addEventListener("submit", pay);
document.addEventListener("hold:ended", () => (retry.stop(), show(null)));
if (countdown) extendInPlace(countdown, config.extend_url);

function show(name) {
  for (const state of STATES) part[state].hidden = state !== name;
}

async function start() {
  if (part.paused.hidden) show("loading"); // a paused page stays as it is until something is known
  try {
    const [payment, Stripe] = await Promise.all([openPayment(), stripeLoaded()]);
    if (!payment) return;
    retry.stop();
    mount(Stripe, payment);
  } catch (error) {
    if (countdown?.hasEnded || !part.closed.hidden) return;
    if (error instanceof Stopped) return stop(error.message);
    part["paused-message"].textContent = error instanceof Paused ? error.message : "";
    show("paused");
    retry.begin();
  }
}

/** The payment to confirm; null when there is nothing to pay any more (the page says so, or is on its way elsewhere). */
async function openPayment() {
  const answer = await fetch(config.checkout_url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ email: config.email, name: config.name }),
  });
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 409 && body.code === "ended") return close();
  if (body.expires_at) countdown?.update(body); // the server kept the seats longer
  if (answer.status >= 500 || answer.status === 429) {
    throw new Paused(body.code === "payment_unavailable" ? "" : (body.message ?? ""));
  }
  if (!answer.ok) throw new Stopped(body.message ?? "");
  if (!body.payment || body.order.status === "paid") return leaveFor(returnUrl);
  if (body.payment.redirect_url) return leaveFor(location.href); // begun on Stripe's page meanwhile: another page of ours
  if (!body.payment.client_secret) throw new Paused("");
  return body.payment;
}

function mount(Stripe, payment) {
  stripe = Stripe(config.publishable_key);
  elements = stripe.elements({ clientSecret: payment.client_secret, appearance: appearance() });
  const card = elements.create("payment", { defaultValues: { billingDetails } });
  card.on("loaderror", ({ error }) => notLoaded(error));
  show("form");
  part.element.replaceChildren();
  card.mount("#payment-element");
}

/** The form could not open: the payment was decided meanwhile, or the network failed. */
function notLoaded(error) {
  const status = error?.payment_intent?.status;
  if (status === "canceled") return close({ isCertain: true });
  if (status) return leaveFor(returnedFrom(status));
  show("paused");
  retry.begin();
}

async function pay(event) {
  event.preventDefault();
  if (isPaying) return;
  setPaying(true);
  say("");
  try {
    const confirmParams = { return_url: returnUrl, payment_method_data: { billing_details: billingDetails } };
    const { error } = await stripe.confirmPayment({ elements, confirmParams });
    if (error) refused(error);
  } catch {
    unsure();
  }
}

/** Stripe said no. A card or form error, or an intent that wants another card, means for certain: nothing was charged. */
function refused(error) {
  const status = error.payment_intent?.status;
  if (status === "succeeded" || status === "processing") return leaveFor(returnedFrom(status));
  if (status === "canceled") {
    close({ isCertain: true });
    return setPaying(false);
  }
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

/** The order takes no payment any more. `isCertain`: Stripe itself says that this one was ended unpaid. */
function close({ isCertain = false } = {}) {
  retry.stop();
  if (!isCertain && countdown?.secondsLeft === 0) {
    countdown.end();
  } else {
    countdown?.end({ isShown: false });
    document.querySelector("[data-not-charged]").hidden = !isCertain;
    show("closed");
    document.getElementById("payment").hidden = false;
    part.closed.focus();
  }
  return null;
}

function stop(message) {
  retry.stop();
  part["stopped-message"].textContent = message;
  show("stopped");
  part.stopped.focus();
}

function leaveFor(url) {
  location.assign(url);
  return null;
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
  clearInterval(lookout);
  if (!countdown) return;
  countdown.paused = value; // a card being charged is not cut off by the clock: the server decides
  if (value) lookout = setInterval(lookAtOrder, LOOK_EVERY_MS);
  else countdown.tick();
}

/** The bank's window is still open and the time is over: what the server decided is said on the order's page. */
async function lookAtOrder() {
  if (countdown.secondsLeft > 0) return;
  try {
    const answer = await fetch(config.status_url, { headers: { Accept: "application/json" } });
    const { order } = answer.ok ? await answer.json() : {};
    if (order && order !== "awaiting_payment" && isPaying) leaveFor(returnUrl);
  } catch {
    // Asked again in a moment.
  }
}
