/** Stripe's own script, which our page asks for but cannot count on: blockers, bad networks, an outage. */
const WAIT_MS = 15_000;

export function stripeLoaded() {
  if (window.Stripe) return Promise.resolve(window.Stripe);
  const script = document.querySelector("script[data-stripe]");
  return new Promise((resolve, reject) => {
    const giveUp = () => (window.Stripe ? resolve(window.Stripe) : reject(new Error("stripe.js did not load")));
    script.addEventListener("load", giveUp);
    script.addEventListener("error", giveUp);
    setTimeout(giveUp, WAIT_MS);
  });
}
