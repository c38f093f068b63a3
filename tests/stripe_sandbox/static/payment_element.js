/* The card form inside its frame. It speaks only through the port that stripe.js hands over. */
(function () {
  "use strict";

  const format = window.CardFormat;
  const form = document.getElementById("card");
  const fields = { number: form.elements.number, expiry: form.elements.expiry, cvc: form.elements.cvc };
  const VARIABLES = {
    colorPrimary: "--primary", colorBackground: "--background", colorText: "--text", colorDanger: "--danger",
    colorTextSecondary: "--text-secondary", fontFamily: "--font", fontSizeBase: "--font-size",
    borderRadius: "--radius", spacingUnit: "--unit",
  };
  let port, key;

  const now = () => new Date();
  const errors = () => ({
    number: format.numberError(fields.number.value),
    expiry: format.expiryError(fields.expiry.value, now()),
    cvc: format.cvcError(fields.cvc.value, fields.number.value),
  });
  const tell = (type, event) => port && port.postMessage({ type, event });

  // Typing

  function keepCaret(input, value) {
    const before = format.digits(input.value.slice(0, input.selectionStart)).length;
    const atEnd = input.selectionStart === input.value.length;
    input.value = value;
    if (document.activeElement !== input || atEnd) return;
    let caret = 0;
    for (let seen = 0; caret < value.length && seen < before; caret++) if (/\d/.test(value[caret])) seen++;
    input.setSelectionRange(caret, caret);
  }

  function typed(event) {
    const input = event.target;
    const isDeleting = (event.inputType || "").startsWith("delete");
    if (input === fields.number) keepCaret(input, format.group(input.value));
    if (input === fields.expiry) keepCaret(input, format.expiry(input.value, isDeleting));
    if (input === fields.cvc) keepCaret(input, format.digits(input.value));
    showBrand();
    const error = errors()[input.name];
    if (!error || isDeleting) show(input.name, null);
    if (!error && !isDeleting && document.activeElement === input && input.selectionStart === input.value.length) {
      if (input === fields.number) fields.expiry.focus();
      if (input === fields.expiry) fields.cvc.focus();
    }
    if (error && error.code.startsWith("invalid")) show(input.name, error);
    changed();
  }

  function showBrand() {
    const brand = format.brand(format.digits(fields.number.value));
    fields.cvc.maxLength = brand.cvc;
    const label = document.getElementById("brand-name");
    if (label.textContent !== brand.label) label.textContent = brand.label;
    for (const image of document.querySelectorAll("#brands img")) {
      image.hidden = brand.name !== "unknown" && image.dataset.brand !== brand.name;
    }
  }

  function show(name, error) {
    const input = fields[name];
    document.getElementById(`${name}-error`).textContent = error ? error.message : "";
    if (error) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    measure();
  }

  function changed() {
    const values = Object.values(fields).map((input) => input.value);
    const isComplete = Object.values(errors()).every((error) => !error);
    tell("change", {
      complete: isComplete, empty: values.every((value) => !value), collapsed: false, value: { type: "card" },
    });
  }

  function measure() {
    if (port) port.postMessage({ type: "height", height: Math.ceil(document.body.getBoundingClientRect().height) });
  }

  // Test cards

  function offerTestCards() {
    const list = document.getElementById("hints");
    for (const hint of JSON.parse(document.body.dataset.hints)) {
      const button = document.createElement("button");
      const number = document.createElement("span");
      const outcome = document.createElement("span");
      const item = document.createElement("li");
      button.type = "button";
      number.className = "hint-number";
      number.textContent = format.group(hint.number);
      outcome.className = "hint-outcome";
      outcome.textContent = hint.outcome;
      button.append(outcome, number);
      button.addEventListener("click", () => fillIn(hint.number));
      item.append(button);
      list.append(item);
    }
  }

  function fillIn(number) {
    fields.number.value = format.group(number);
    fields.expiry.value = `12 / ${String(now().getFullYear() + 3).slice(2)}`;
    fields.cvc.value = "123";
    for (const name of Object.keys(fields)) show(name, null);
    showBrand();
    document.querySelector("details").open = false;
    fields.cvc.focus();
    changed();
  }

  // What stripe.js asks for

  const answers = {
    submit() {
      const found = errors();
      for (const name of Object.keys(fields)) show(name, found[name]);
      const first = Object.keys(fields).find((name) => found[name]);
      if (!first) return {};
      fields[first].focus();
      return { error: found[first] };
    },
    async createPaymentMethod(message) {
      const [month, year] = fields.expiry.value.split("/").map((part) => part.trim());
      const body = new URLSearchParams({
        type: "card", "card[number]": format.digits(fields.number.value), "card[exp_month]": month,
        "card[exp_year]": year, "card[cvc]": fields.cvc.value,
      });
      addBilling(body, "billing_details", message.billing_details || {});
      try {
        const headers = { Authorization: `Bearer ${key}` };
        const response = await fetch("/v1/payment_methods", { method: "POST", headers, body });
        const answer = await response.json();
        return answer.error ? { error: answer.error } : { paymentMethod: answer };
      } catch {
        return { error: { type: "api_connection_error", message: "The payment service could not be reached." } };
      }
    },
    update(message) {
      dress(message.appearance, message.options);
      return {};
    },
    focus() {
      fields.number.focus();
      return {};
    },
    blur() {
      document.activeElement.blur();
      return {};
    },
    clear() {
      form.reset();
      for (const name of Object.keys(fields)) show(name, null);
      showBrand();
      changed();
      return {};
    },
  };

  function addBilling(body, prefix, details) {
    for (const [name, value] of Object.entries(details)) {
      if (value && typeof value === "object") addBilling(body, `${prefix}[${name}]`, value);
      else if (value) body.set(`${prefix}[${name}]`, value);
    }
  }

  /** appearance: { theme: "stripe" | "night" | "flat", variables } as for Stripe; no theme follows the system. */
  function dress(appearance, options) {
    const root = document.documentElement;
    if (appearance) {
      if (appearance.theme) root.dataset.theme = appearance.theme;
      for (const [name, value] of Object.entries(appearance.variables || {})) {
        if (VARIABLES[name]) root.style.setProperty(VARIABLES[name], value);
      }
    }
    for (const input of Object.values(fields)) input.readOnly = Boolean(options && options.readOnly);
    measure();
  }

  window.addEventListener("message", (event) => {
    if (port || !event.data || event.data.offlineStripe !== "open" || event.source !== window.parent) return;
    [port] = event.ports;
    key = event.data.key;
    port.onmessage = async ({ data }) => {
      const result = await answers[data.type](data);
      port.postMessage({ type: "result", call: data.call, result });
    };
    dress(event.data.appearance, event.data.options);
    new ResizeObserver(measure).observe(document.body);
    measure();
    tell("ready", {});
  });

  form.addEventListener("input", typed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.tagName === "INPUT") {
      event.preventDefault();
      if (port) port.postMessage({ type: "enter" });
    }
  });
  for (const input of Object.values(fields)) {
    input.addEventListener("focus", () => tell("focus", {}));
    input.addEventListener("blur", () => {
      tell("blur", {});
      if (input.value) show(input.name, errors()[input.name]);
    });
  }
  offerTestCards();
  showBrand();
})();
