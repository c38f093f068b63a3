/** Stripe's own script, which our page asks for but cannot count on: blockers, bad networks, an outage. */
const WAIT_MS = 15_000;
let tries = 0;

/** `window.Stripe`. Each further call asks for the script anew: one that failed is never tried again by the browser. */
export function stripeLoaded() {
  if (window.Stripe) return Promise.resolve(window.Stripe);
  const first = document.querySelector("script[data-stripe]");
  const script = tries++ === 0 ? first : anew(first);
  return new Promise((resolve, reject) => {
    const giveUp = () => (window.Stripe ? resolve(window.Stripe) : reject(new Error("stripe.js did not load")));
    script.addEventListener("load", giveUp);
    script.addEventListener("error", giveUp);
    setTimeout(giveUp, WAIT_MS);
  });
}

function anew(former) {
  const script = Object.assign(document.createElement("script"), { src: former.src, async: true });
  script.dataset.stripe = "";
  former.replaceWith(script);
  return script;
}
