/* Offline stand-in for Stripe.js v3: the calls a checkout page makes, with the same shapes and outcomes.
 *
 * Card details live in a frame of the sandbox's own origin and never reach the host page. Works under a
 * strict host CSP: script-src, frame-src and connect-src need this origin; no inline style, no eval.
 */
(function () {
  "use strict";

  const ORIGIN = new URL(document.currentScript.src).origin;
  const FRAME_TITLE = "Secure payment input frame";
  const CHALLENGE_TITLE = "3D Secure";
  const AUTHENTICATION_FAILED =
    "We are unable to authenticate your payment method. Please choose a different payment method and try again.";
  const CONNECTION_FAILED =
    "We are experiencing issues connecting to our payments provider. Please check your internet connection and try again.";
  const DONE = ["succeeded", "processing", "requires_capture"];
  const UNUSABLE = ["succeeded", "canceled", "processing"];
  let frames = 0;

  class IntegrationError extends Error {
    constructor(message) {
      super(message);
      this.name = "IntegrationError";
    }
  }

  // The API, with a publishable key

  function encode(value, prefix, into) {
    if (value === undefined || value === null) return into;
    if (typeof value !== "object") {
      into.append(prefix, String(value));
      return into;
    }
    for (const [key, item] of Object.entries(value)) encode(item, prefix ? `${prefix}[${key}]` : key, into);
    return into;
  }

  async function request(key, method, path, params) {
    const body = encode(params, "", new URLSearchParams());
    const url = ORIGIN + path + (method === "GET" && body.size ? `?${body}` : "");
    const headers = { Authorization: `Bearer ${key}` };
    let answer;
    try {
      const response = await fetch(url, { method, headers, body: method === "POST" ? body : undefined });
      answer = await response.json();
    } catch {
      return { error: { type: "api_connection_error", message: CONNECTION_FAILED } };
    }
    return answer.error ? { error: answer.error } : { paymentIntent: answer };
  }

  function intentId(clientSecret) {
    const match = /^(pi_[A-Za-z0-9]+)_secret_[A-Za-z0-9]+$/.exec(clientSecret || "");
    if (!match) throw new IntegrationError("Invalid value for clientSecret: expected a PaymentIntent client secret.");
    return match[1];
  }

  const retrieve = (key, clientSecret) =>
    request(key, "GET", `/v1/payment_intents/${intentId(clientSecret)}`, { client_secret: clientSecret });

  // Elements

  class Emitter {
    constructor() {
      this._handlers = {};
    }

    on(name, handler) {
      (this._handlers[name] = this._handlers[name] || []).push(handler);
      return this;
    }

    once(name, handler) {
      const wrapped = (event) => {
        this.off(name, wrapped);
        handler(event);
      };
      return this.on(name, wrapped);
    }

    off(name, handler) {
      this._handlers[name] = handler ? (this._handlers[name] || []).filter((known) => known !== handler) : [];
      return this;
    }

    _emit(name, event) {
      for (const handler of [...(this._handlers[name] || [])]) handler(event);
    }
  }

  class PaymentElement extends Emitter {
    constructor(key, elements, options) {
      super();
      this._key = key;
      this._elements = elements;
      this._options = options || {};
      this._waiting = new Map();
      this._calls = 0;
    }

    mount(target) {
      const node = typeof target === "string" ? document.querySelector(target) : target;
      if (!node) throw new IntegrationError(`The selector you specified (${target}) applies to no DOM elements.`);
      if (this._frame) this.unmount();
      this._host = node;
      node.classList.add("StripeElement");
      this._frame = document.createElement("iframe");
      this._frame.name = `__privateStripeFrame${++frames}`;
      this._frame.title = FRAME_TITLE;
      this._frame.src = `${ORIGIN}/v3/payment-element`;
      // The frame is 4 px larger on every side, so that focus rings inside it are not cut off.
      dress(this._frame, {
        display: "block", maxWidth: "none", width: "calc(100% + 8px)", height: "230px", margin: "-4px", border: "0", colorScheme: "light dark",
      });
      this._opened = new Promise((resolve) => (this._open = resolve));
      this._frame.addEventListener("load", () => this._connect());
      node.replaceChildren(this._frame);
      this._load();
      return this;
    }

    async _load() {
      const clientSecret = this._elements._options.clientSecret;
      if (!clientSecret) return;
      const { paymentIntent, error } = await retrieve(this._key, clientSecret);
      if (!error && !UNUSABLE.includes(paymentIntent.status)) {
        if (this._frame) this._ask("methods", { types: paymentIntent.payment_method_types });
        return;
      }
      const reason = error || {
        type: "invalid_request_error",
        code: "payment_intent_unexpected_state",
        message: `This PaymentIntent is ${paymentIntent.status}; it cannot be used to collect a payment.`,
        payment_intent: paymentIntent,
      };
      this._emit("loaderror", { elementType: "payment", error: reason });
    }

    _connect() {
      const channel = new MessageChannel();
      this._port = channel.port1;
      this._port.onmessage = (message) => this._receive(message.data);
      const setup = { key: this._key, options: this._options, appearance: this._elements._options.appearance };
      this._frame.contentWindow.postMessage({ offlineStripe: "open", ...plain(setup) }, ORIGIN, [channel.port2]);
      this._open();
    }

    _receive(message) {
      if (message.type === "result") {
        this._waiting.get(message.call)(message.result);
        this._waiting.delete(message.call);
      } else if (message.type === "height") {
        dress(this._frame, { height: `${message.height}px` });
      } else if (message.type === "enter") {
        const form = this._host.closest("form");
        if (form) form.requestSubmit();
      } else {
        if (message.type === "focus") this._host.classList.add("StripeElement--focus");
        if (message.type === "blur") this._host.classList.remove("StripeElement--focus");
        this._emit(message.type, { elementType: "payment", ...message.event });
      }
    }

    async _ask(type, details) {
      if (!this._frame) throw new IntegrationError("This Element is not mounted. Call element.mount() first.");
      await this._opened;
      const call = ++this._calls;
      return new Promise((resolve) => {
        this._waiting.set(call, resolve);
        this._port.postMessage({ type, call, ...plain(details || {}) });
      });
    }

    unmount() {
      if (this._frame) this._frame.remove();
      if (this._host) this._host.classList.remove("StripeElement", "StripeElement--focus");
      this._frame = this._host = undefined;
      return this;
    }

    destroy() {
      this.unmount();
      this._elements._payment = undefined;
      this._handlers = {};
    }

    update(options) {
      Object.assign(this._options, options);
      if (this._frame) this._ask("update", { options: this._options });
      return this;
    }

    focus() {
      this._ask("focus");
    }

    blur() {
      this._ask("blur");
    }

    clear() {
      this._ask("clear");
    }

    collapse() {}
  }

  class Elements {
    constructor(key, options) {
      this._key = key;
      this._options = options || {};
      if (this._options.clientSecret) intentId(this._options.clientSecret);
    }

    create(type, options) {
      if (type !== "payment") throw new IntegrationError(`The offline Stripe has no "${type}" element, only "payment".`);
      if (this._payment) throw new IntegrationError("Can only create one Element of type payment.");
      this._payment = new PaymentElement(this._key, this, options);
      return this._payment;
    }

    getElement(type) {
      return (type === "payment" && this._payment) || null;
    }

    update(options) {
      Object.assign(this._options, options);
      if (this._payment && this._payment._frame) this._payment._ask("update", { appearance: this._options.appearance });
    }

    async fetchUpdates() {
      return {};
    }

    async submit() {
      if (!this._payment) throw new IntegrationError("elements.submit() needs a mounted Payment Element.");
      return this._payment._ask("submit");
    }
  }

  // Confirming

  async function confirmPayment(key, options) {
    const elements = options.elements;
    const params = options.confirmParams || {};
    const clientSecret = options.clientSecret || (elements && elements._options.clientSecret);
    const redirect = options.redirect || "always";
    const id = intentId(clientSecret);
    if (redirect === "always" && !params.return_url) {
      throw new IntegrationError("confirmPayment(): confirmParams.return_url is required unless redirect is 'if_required'.");
    }
    if (params.return_url) new URL(params.return_url);
    let method = params.payment_method;
    if (elements) {
      const valid = await elements.submit();
      if (valid.error) return valid;
      const billing = (params.payment_method_data || {}).billing_details;
      const created = await elements._payment._ask("createPaymentMethod", { billing_details: billing });
      if (created.error) return created;
      method = created.paymentMethod.id;
    }
    const confirmed = await request(key, "POST", `/v1/payment_intents/${id}/confirm`, {
      client_secret: clientSecret,
      payment_method: method,
      receipt_email: params.receipt_email,
      return_url: params.return_url,
      use_stripe_sdk: true,
    });
    if (confirmed.error) return confirmed;
    const settled = await act(key, clientSecret, confirmed.paymentIntent);
    return settled.error || redirect === "if_required" ? settled : leaveFor(params.return_url, settled.paymentIntent);
  }

  /** Whatever the intent asks of the buyer now, until it is decided one way or the other. */
  async function act(key, clientSecret, intent) {
    if (intent.status !== "requires_action") return outcome(intent);
    if (intent.next_action.type === "redirect_to_url") {
      window.location.assign(intent.next_action.redirect_to_url.url);
      return new Promise(() => {});
    }
    await challenge(intent.next_action.use_stripe_sdk.stripe_js);
    const now = await retrieve(key, clientSecret);
    return now.error ? now : outcome(now.paymentIntent);
  }

  function outcome(intent) {
    if (DONE.includes(intent.status)) return { paymentIntent: intent };
    const last = intent.last_payment_error;
    if (last && last.code !== "payment_intent_authentication_failure") {
      return { error: { ...last, payment_intent: intent } };
    }
    if (intent.status === "canceled") {
      const message = "This payment was canceled before it was finished. Your card was not charged.";
      const code = "payment_intent_unexpected_state";
      return { error: { type: "invalid_request_error", code, message, payment_intent: intent } };
    }
    const error = { type: "invalid_request_error", code: "payment_intent_authentication_failure" };
    return { error: { ...error, message: AUTHENTICATION_FAILED, payment_intent: intent } };
  }

  function leaveFor(returnUrl, intent) {
    const url = new URL(returnUrl);
    url.searchParams.set("payment_intent", intent.id);
    url.searchParams.set("payment_intent_client_secret", intent.client_secret);
    url.searchParams.set("redirect_status", intent.status === "processing" ? "pending" : "succeeded");
    window.location.assign(url.href);
    return new Promise(() => {}); // the page goes away
  }

  /** The bank's page over ours. A modal dialog makes the rest of the page inert, so focus cannot leave it. */
  function challenge(url) {
    const dialog = document.createElement("dialog");
    const frame = document.createElement("iframe");
    const before = document.activeElement;
    dialog.setAttribute("aria-label", CHALLENGE_TITLE);
    dress(dialog, {
      position: "fixed", inset: "0", width: "100%", height: "100%", maxWidth: "none", maxHeight: "none", margin: "0",
      padding: "0", border: "0", overflow: "hidden", background: "rgba(12, 16, 28, 0.6)",
    });
    frame.title = CHALLENGE_TITLE;
    frame.src = url;
    dress(frame, { display: "block", width: "100%", height: "100%", border: "0", colorScheme: "light dark" });
    dialog.append(frame);
    document.body.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => {
      const finish = () => {
        window.removeEventListener("message", listen);
        dialog.close();
        dialog.remove();
        if (before && before.focus) before.focus();
        resolve();
      };
      const listen = (event) => {
        if (event.origin === ORIGIN && event.source === frame.contentWindow) {
          if (event.data && event.data.offlineStripe === "3ds-done") finish();
        }
      };
      window.addEventListener("message", listen);
      dialog.addEventListener("cancel", (event) => {
        event.preventDefault(); // Escape means "fail", and the bank's page says so itself
        frame.contentWindow.postMessage({ offlineStripe: "3ds-cancel" }, ORIGIN);
      });
    });
  }

  // Small things

  function dress(node, styles) {
    Object.assign(node.style, styles);
  }

  /** What can go through postMessage: no functions, no nodes. */
  function plain(value) {
    return JSON.parse(JSON.stringify(value));
  }

  function Stripe(key, options) {
    if (typeof key !== "string" || !key.startsWith("pk_")) {
      throw new IntegrationError("Please call Stripe() with your publishable key. You used an empty string or a secret key.");
    }
    return {
      elements: (given) => new Elements(key, given),
      confirmPayment: (given) => confirmPayment(key, given),
      retrievePaymentIntent: (clientSecret) => retrieve(key, clientSecret),
      handleNextAction: async ({ clientSecret }) => {
        const found = await retrieve(key, clientSecret);
        return found.error ? found : act(key, clientSecret, found.paymentIntent);
      },
      _apiKey: key,
      _options: options || {},
    };
  }

  Stripe.version = 3;
  window.Stripe = Stripe;
})();
