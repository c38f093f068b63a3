/** A form is sent once, however often its button is pressed. Coming back to the page makes it ready again. */
const PATIENCE_MS = 15_000; // a request that got lost must not leave a dead button

export function sendOnce(form) {
  const button = form.querySelector("button:not([type])");
  let isSent = false;
  let timer = null;
  const setSent = (value) => {
    clearTimeout(timer);
    isSent = value;
    button.setAttribute("aria-disabled", String(value)); // not disabled: that would take the focus away
    if (value) timer = setTimeout(() => setSent(false), PATIENCE_MS);
  };
  form.addEventListener("submit", (event) => {
    if (isSent) event.preventDefault();
    else setSent(true);
  });
  addEventListener("pageshow", () => setSent(false));
}
