/* The bank's page: answers for the buyer, then tells stripe.js (in a frame) or goes back to the shop. */
(function () {
  "use strict";

  const isFramed = window.parent !== window;
  const buttons = [...document.querySelectorAll("button")];
  const progress = document.getElementById("progress");

  const done = () => window.parent.postMessage({ offlineStripe: "3ds-done" }, "*");

  async function answer(complete) {
    for (const button of buttons) button.disabled = true;
    progress.textContent = complete ? "Authenticating…" : "Refusing…";
    try {
      const body = JSON.stringify({ complete });
      const headers = { "Content-Type": "application/json" };
      const response = await fetch(window.location.pathname, { method: "POST", headers, body });
      const result = await response.json();
      leave(result);
    } catch {
      progress.textContent = "The bank did not answer. Please try again.";
      for (const button of buttons) button.disabled = false;
    }
  }

  function leave(result) {
    if (isFramed) done();
    else if (result.return_to) window.location.assign(result.return_to);
    else progress.textContent = `The payment is ${result.status}. You can close this page.`;
  }

  function onClick(id, act) {
    const button = document.getElementById(id);
    if (button) button.addEventListener("click", act);
  }

  function cancel() {
    if ("closed" in document.body.dataset) done();
    else answer(false);
  }

  onClick("complete", () => answer(true));
  onClick("fail", () => answer(false));
  onClick("close", () => (isFramed ? done() : answer(false)));

  if (isFramed) {
    document.body.classList.add("framed");
    window.addEventListener("message", (event) => {
      if (event.source === window.parent && event.data && event.data.offlineStripe === "3ds-cancel") cancel();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") cancel();
      if (event.key !== "Tab") return;
      const [first, last] = [buttons[0], buttons[buttons.length - 1]];
      const edge = event.shiftKey ? first : last;
      if (document.activeElement === edge || !buttons.includes(document.activeElement)) {
        event.preventDefault();
        (event.shiftKey ? last : first).focus();
      }
    });
  }
  document.querySelector("h1").focus();
})();
