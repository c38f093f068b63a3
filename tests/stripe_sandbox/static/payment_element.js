/* The payment form inside its frame. It speaks only through the port that stripe.js hands over. */
(function () {
  "use strict";

  const { Fields } = window;
  const form = document.getElementById("card");
  const VARIABLES = {
    colorPrimary: "--primary", colorBackground: "--background", colorText: "--text", colorDanger: "--danger",
    colorTextSecondary: "--text-secondary", fontFamily: "--font", fontSizeBase: "--font-size",
    borderRadius: "--radius", spacingUnit: "--unit",
  };
  let port, key;

  const tell = (type, event) => port && port.postMessage({ type, event });
  const hooks = { changed, resized: measure };
  const card = window.CardFields.attach(form, hooks);
  const debit = window.DebitFields.attach(form, hooks);
  const payer = payerFields();
  const method = () => form.elements.method.value;
  const groups = () => (method() === "card" ? [card] : [payer, debit]);
  const inputs = () => [...form.elements].filter((node) => node.type !== "radio" && node.tagName === "INPUT");

  function payerFields() {
    const given = { name: form.elements.name, email: form.elements.email };
    const errors = () => ({ name: Fields.filled(given.name.value, "name"), email: Fields.email(given.email.value) });
    for (const [name, input] of Object.entries(given)) {
      input.addEventListener("input", () => {
        if (!errors()[name]) Fields.show(input, null);
        changed();
      });
      input.addEventListener("blur", () => {
        if (input.value) Fields.show(input, errors()[name]);
        measure();
      });
    }
    return { inputs: given, errors };
  }

  function changed() {
    const now = groups();
    tell("change", {
      complete: now.every((group) => Object.values(group.errors()).every((error) => !error)),
      empty: now.every((group) => Object.values(group.inputs).every((input) => !input.value)),
      collapsed: false,
      value: { type: method() },
    });
  }

  function measure() {
    if (port) port.postMessage({ type: "height", height: Math.ceil(document.body.getBoundingClientRect().height) });
  }

  function choose() {
    const isCard = method() === "card";
    document.getElementById("card-fields").hidden = !isCard;
    document.getElementById("debit-fields").hidden = isCard;
    document.getElementById("payer").hidden = isCard;
    measure();
    changed();
  }

  /** Shown only where there is something to choose. */
  function offerMethods(types) {
    const known = ["card", "sepa_debit"].filter((type) => types.includes(type));
    document.getElementById("methods").hidden = known.length < 2;
    for (const radio of form.querySelectorAll("[name=method]")) radio.parentNode.hidden = !known.includes(radio.value);
    if (known.length && !known.includes(method())) form.elements.method.value = known[0];
    choose();
  }

  // What stripe.js asks for

  const answers = {
    submit() {
      const error = Fields.complain(groups());
      measure();
      return error ? { error } : {};
    },
    async createPaymentMethod(message) {
      const body = new URLSearchParams({ type: method() });
      const billing = { ...(message.billing_details || {}) };
      const isCard = method() === "card";
      if (!isCard) Object.assign(billing, { name: payer.inputs.name.value, email: payer.inputs.email.value.trim() });
      add(body, method(), isCard ? card.value() : debit.value());
      add(body, "billing_details", billing);
      try {
        const headers = { Authorization: `Bearer ${key}` };
        const response = await fetch("/v1/payment_methods", { method: "POST", headers, body });
        const answer = await response.json();
        return answer.error ? { error: answer.error } : { paymentMethod: answer };
      } catch {
        return { error: { type: "api_connection_error", message: "The payment service could not be reached." } };
      }
    },
    methods(message) {
      offerMethods(message.types);
      return {};
    },
    update(message) {
      dress(message.appearance, message.options);
      return {};
    },
    focus() {
      inputs().find((input) => input.offsetParent).focus();
      return {};
    },
    blur() {
      document.activeElement.blur();
      return {};
    },
    clear() {
      const chosen = method();
      form.reset();
      form.elements.method.value = chosen;
      for (const input of inputs()) Fields.show(input, null);
      card.showBrand();
      measure();
      changed();
      return {};
    },
  };

  function add(body, prefix, details) {
    for (const [name, value] of Object.entries(details)) {
      if (value && typeof value === "object") add(body, `${prefix}[${name}]`, value);
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
    for (const input of inputs()) input.readOnly = Boolean(options && options.readOnly);
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

  form.addEventListener("change", (event) => event.target.name === "method" && choose());
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.tagName === "INPUT") {
      event.preventDefault();
      if (port) port.postMessage({ type: "enter" });
    }
  });
  for (const input of inputs()) {
    input.addEventListener("focus", () => tell("focus", {}));
    input.addEventListener("blur", () => tell("blur", {}));
  }
})();
