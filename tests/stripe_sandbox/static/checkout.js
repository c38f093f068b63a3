/* The hosted page: says what is wrong in words, sends what was typed to this page's own address, leads on. */
(function () {
  "use strict";

  const { Fields } = window;
  const UNREACHABLE = "The payment service could not be reached. Please check your connection and try again.";
  // Stripe names a field by its parameter.
  const NAMED = { exp_month: "expiry", exp_year: "expiry", "sepa_debit[iban]": "iban", "card[number]": "number" };
  const form = document.getElementById("checkout");
  const button = document.getElementById("pay");
  const message = document.getElementById("message");
  const label = button.textContent;
  const hooks = { changed() {}, resized() {} };
  const hasMethods = Boolean(form.elements.method);
  const card = hasMethods && window.CardFields.attach(form, hooks);
  const debit = hasMethods && window.DebitFields.attach(form, hooks);
  const method = () => (hasMethods ? form.elements.method.value : "none");

  function group(checks) {
    const inputs = Object.fromEntries(Object.keys(checks).map((name) => [name, form.elements[name]]));
    const errors = () => Object.fromEntries(Object.entries(checks).map(([name, check]) => [name, check(inputs[name].value)]));
    for (const [name, input] of Object.entries(inputs)) {
      input.addEventListener("input", () => !errors()[name] && Fields.show(input, null));
      input.addEventListener("blur", () => input.value && Fields.show(input, errors()[name]));
    }
    return { inputs, errors };
  }

  const filled = (name) => (text) => Fields.filled(text, name);
  const chosen = (code) => (code ? null : Fields.wrong("incomplete", "Please choose your country."));
  const payer = group({ email: Fields.email, name: filled("name") });
  const address = form.elements.line1
    ? group({ line1: filled("street"), postal_code: filled("postal code"), city: filled("city"), country: chosen })
    : null;

  function groups() {
    const chosen = { card, sepa_debit: debit, none: null }[method()];
    return [payer, chosen, address].filter(Boolean);
  }

  function choose() {
    const isCard = method() === "card";
    document.getElementById("card-fields").hidden = !isCard;
    document.getElementById("debit-fields").hidden = isCard;
    message.textContent = "";
  }

  function typed() {
    const values = { method: method(), email: form.elements.email.value.trim(), name: form.elements.name.value.trim() };
    if (address) {
      const parts = Object.entries(address.inputs).map(([name, input]) => [name, input.value.trim()]);
      values.address = Object.fromEntries(parts);
    }
    if (method() === "card") values.card = card.value();
    if (method() === "sepa_debit") values.iban = debit.value().iban;
    return values;
  }

  async function send() {
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(typed()) };
    try {
      const response = await fetch(window.location.pathname, init);
      return await response.json();
    } catch {
      return { error: { message: UNREACHABLE } };
    }
  }

  /** The bank's page, by the same code that a shop's own page uses. */
  async function authenticate({ client_secret: clientSecret, after }) {
    const answer = await window.Stripe(document.body.dataset.key).handleNextAction({ clientSecret });
    return answer.error ? { error: answer.error } : { go: after };
  }

  function wait(isWaiting) {
    button.textContent = isWaiting ? "Processing…" : label;
    // Not disabled: the button would lose the focus.
    if (isWaiting) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }

  function say(error) {
    const name = NAMED[error.param] || error.param;
    const input = name && document.getElementById(`${name}-error`) && form.elements[name];
    if (input) {
      Fields.show(input, error);
      input.focus();
    } else {
      message.textContent = error.message;
    }
  }

  async function pay(event) {
    event.preventDefault();
    if (button.hasAttribute("aria-disabled")) return;
    message.textContent = "";
    if (Fields.complain(groups())) return;
    wait(true);
    let answer = await send();
    if (answer.client_secret) answer = await authenticate(answer);
    if (answer.go) window.location.assign(answer.go);
    else if (answer.is_closed) window.location.reload();
    else {
      wait(false);
      say(answer.error);
    }
  }

  form.addEventListener("submit", pay);
  if (hasMethods) {
    form.addEventListener("change", (event) => event.target.name === "method" && choose());
    choose();
  }
})();
