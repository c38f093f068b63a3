/* The mini dashboard: reads /_control/ every two seconds and draws what it finds. Text only, never HTML. */
(function () {
  "use strict";

  const EVERY_MS = 2000;
  const main = document.getElementById("main");
  const toast = document.getElementById("toast");
  let drawn = "";

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== null) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  async function control(path, body) {
    const init = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
    const response = await fetch(`/_control/${path}`, init);
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response.json();
  }

  const formatOf = (currency) => new Intl.NumberFormat("en", { style: "currency", currency: currency.toUpperCase() });
  const digitsOf = (currency) => formatOf(currency).resolvedOptions().maximumFractionDigits;
  const money = (minor, currency) => formatOf(currency).format(minor / 10 ** digitsOf(currency));
  const when = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const time = (seconds) => el("time", { datetime: new Date(seconds * 1000).toISOString() }, when(seconds));

  const TONES = {
    complete: "good", paid: "good", expired: "quiet", open: "warn", unpaid: "warn",
    succeeded: "good", delivered: "good", canceled: "quiet", dropped: "quiet", requires_payment_method: "warn",
    requires_action: "warn", requires_confirmation: "warn", processing: "warn", pending: "warn", failed: "bad",
  };
  const NAMES = {
    requires_payment_method: "Incomplete", requires_action: "3D Secure", requires_confirmation: "Unconfirmed",
    open: "Open", complete: "Complete", expired: "Expired", paid: "Paid", unpaid: "Unpaid",
    no_payment_required: "Nothing to pay", succeeded: "Succeeded", canceled: "Canceled", processing: "Processing", delivered: "Delivered",
    pending: "Pending", failed: "Failed", dropped: "Dropped",
  };
  const BRANDS = {
    visa: "Visa", mastercard: "Mastercard", amex: "Amex", discover: "Discover", diners: "Diners", jcb: "JCB", unionpay: "UnionPay",
  };
  const badge = (status) => el("span", { class: `badge ${TONES[status] || "quiet"}` }, NAMES[status] || status);
  const paymentBadge = (intent) => badge(intent.last_payment_error && intent.status === "requires_payment_method" ? "failed" : intent.status);

  const label = (intent) => intent.description || intent.metadata.order || intent.metadata.order_code || intent.receipt_email || "";
  const card = (charge) => {
    const details = charge && charge.payment_method_details;
    if (!details) return "";
    const method = details[details.type];
    return `${BRANDS[method.brand] || "SEPA debit"} •••• ${method.last4}`;
  };
  const code = (text) => el("code", {}, text);
  const json = (title, value) => el("details", { class: "json" }, el("summary", {}, title), el("pre", { tabindex: "0" }, JSON.stringify(value, null, 2)));

  function table(caption, heads, rows, empty) {
    if (!rows.length) return el("p", { class: "empty" }, empty);
    // Roles said aloud: on a phone the rows become grids, and a browser may then forget they are a table.
    const head = el("tr", { role: "row" }, ...heads.map((text) => el("th", { scope: "col", role: "columnheader" }, text)));
    const name = el("caption", { class: "visually-hidden" }, caption);
    const body = [el("thead", { role: "rowgroup" }, head), el("tbody", { role: "rowgroup" }, ...rows)];
    return el("div", { class: "scroll" }, el("table", { role: "table" }, name, ...body));
  }
  const row = (...cells) => el("tr", { role: "row" }, ...cells.map((cell) => el("td", { role: "cell" }, cell)));

  // Payments

  async function payments() {
    const { data } = await control("payment_intents");
    const { totals } = await control("ledger");
    return { data, totals };
  }

  function drawPayments({ data, totals }) {
    const heads = ["Amount", "Status", "Description", "Card", "Created"];
    const rows = data.map((intent) =>
      row(el("a", { class: "amount", href: `#/payments/${intent.id}` }, money(intent.amount, intent.currency)),
        paymentBadge(intent), el("span", {}, label(intent) || "–"), card(intent.charge) || "–", time(intent.created)));
    const tiles = Object.entries(totals).flatMap(([currency, total]) => [
      tile(`Received (${currency.toUpperCase()})`, money(total.received, currency)),
      tile("Refunded", money(total.refunded, currency)),
      tile("Payments", String(total.succeeded)),
    ]);
    return [el("h1", {}, "Payments"), tiles.length ? el("dl", { class: "tiles" }, ...tiles) : null,
      table("Payments", heads, rows, "No payments yet. They appear here by themselves.")];
  }
  const tile = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

  function drawPayment({ payment_intent: intent, charges, refunds, events }) {
    const facts = [["Payment", code(intent.id)], ["Created", time(intent.created)], ["Received", money(intent.amount_received, intent.currency)],
      ["Description", intent.description || "–"], ["Receipt e-mail", intent.receipt_email || "–"],
      ...Object.entries(intent.metadata).map(([key, value]) => [key, value])];
    const error = intent.last_payment_error;
    return [
      el("p", {}, el("a", { href: "#/payments" }, "← Payments")),
      el("h1", {}, money(intent.amount, intent.currency), " ", paymentBadge(intent)),
      error ? el("p", { class: "problem" }, error.message) : null,
      el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      el("h2", {}, "Attempts"), drawCharges(charges),
      el("h2", {}, "Refunds"), refundForm(intent, charges), drawRefunds(refunds),
      el("h2", {}, "Events"), drawEventTable(events),
      json("PaymentIntent as JSON", intent),
    ];
  }

  function drawCharges(charges) {
    const heads = ["Amount", "Status", "Card", "Outcome", "Created"];
    return table("Attempts", heads, [...charges].reverse().map((charge) =>
      row(money(charge.amount, charge.currency), badge(charge.status), card(charge),
        charge.failure_message || charge.outcome.seller_message, time(charge.created))), "No attempt to pay yet.");
  }

  // Checkout Sessions

  function drawSessions({ data }) {
    const heads = ["Amount", "Status", "Bought", "Payment", "Created", "Action"];
    const rows = data.map((session) =>
      row(el("span", { class: "amount" }, money(session.amount_total, session.currency)),
        el("span", {}, badge(session.status), " ", badge(session.payment_status)), bought(session), paymentOf(session),
        time(session.created), sessionActions(session)));
    return [el("h1", {}, "Checkout"), table("Checkout Sessions", heads, rows, "No Checkout Sessions yet.")];
  }
  const bought = (session) => session.line_items.data.map((item) => `${item.quantity} × ${item.description}`).join(", ");
  const paymentOf = (session) => {
    if (!session.payment_intent) return "–";
    return el("a", { href: `#/payments/${session.payment_intent}`, title: session.payment_intent }, `${session.payment_intent.slice(0, 12)}…`);
  };
  const sessionActions = (session) => {
    if (session.status !== "open") return "–";
    const name = `Checkout Session of ${time(session.created).textContent}`;
    return el("span", { class: "actions" }, el("a", { href: session.url, "aria-label": `Open the hosted page of the ${name}` }, "Open page"),
      el("button", { type: "button", "aria-label": `Expire the ${name}`, onclick: () => expire(session) }, "Expire"));
  };

  async function expire(session) {
    try {
      await control(`checkout_sessions/${session.id}/expire`, {});
      say("The session has expired.");
    } catch (error) {
      say(`That did not work: ${error.message}`);
    }
    refresh();
  }

  // Refunds

  function refundForm(intent, charges) {
    const charge = charges.find((one) => one.status === "succeeded");
    const left = charge ? charge.amount_captured - charge.amount_refunded : 0;
    if (left <= 0) return null;
    const digits = digitsOf(intent.currency);
    const smallest = (1 / 10 ** digits).toFixed(digits);
    const whole = (left / 10 ** digits).toFixed(digits);
    const input = el("input", { id: "refund-amount", type: "number", min: smallest, max: whole, step: smallest, value: whole, required: "" });
    const label = el("label", { for: "refund-amount" }, `Amount (${intent.currency.toUpperCase()})`);
    const onsubmit = (event) => {
      event.preventDefault();
      refund(intent, Math.round(Number(input.value) * 10 ** digits));
    };
    return el("form", { class: "refund", onsubmit }, label, input, el("button", { type: "submit" }, "Refund"));
  }

  async function refund(intent, amount) {
    try {
      const made = await control(`payment_intents/${intent.id}/refund`, { amount });
      say(`${money(made.amount, made.currency)} refunded.`);
    } catch (error) {
      say(`That did not work: ${error.message}`);
    }
    refresh();
  }

  function drawRefunds(refunds) {
    const heads = ["Amount", "Status", "Refund", "Reason", "Created"];
    return table("Refunds", heads, [...refunds].reverse().map((one) =>
      row(money(one.amount, one.currency), badge(one.status), code(one.id),
        one.failure_reason || one.pending_reason || one.reason || "–", time(one.created))), "No refunds.");
  }

  // Events

  const deliveryState = (deliveries) => {
    if (!deliveries.length) return "–";
    const latest = deliveries[deliveries.length - 1];
    const tries = deliveries.reduce((sum, delivery) => sum + delivery.attempts.length, 0);
    return el("span", {}, badge(latest.state), el("span", { class: "muted" }, ` ${tries} attempt${tries === 1 ? "" : "s"}`));
  };
  const resend = (event) => el("button", { type: "button", "aria-label": `Resend ${event.type} ${event.id}`, onclick: () => send(event) }, "Resend");

  async function send(event) {
    try {
      const { deliveries } = await control(`events/${event.id}/resend`, {});
      say(deliveries.length ? `${event.type} is on its way again.` : "There is no webhook endpoint to send it to.");
    } catch (error) {
      say(`That did not work: ${error.message}`);
    }
    refresh();
  }

  function drawEventTable(events) {
    const heads = ["Event", "Object", "Delivery", "Created", "Action"];
    return table("Events", heads, events.map((event) =>
      row(el("a", { href: `#/events/${event.id}` }, event.type), subject(event), deliveryState(event.deliveries),
        time(event.created), resend(event))), "No events yet.");
  }
  function subject(event) {
    const object = event.data.object;
    const payment = object.object === "payment_intent" ? object.id : object.payment_intent;
    return payment ? el("a", { href: `#/payments/${payment}`, title: object.id }, `${object.id.slice(0, 12)}…`) : code(object.id);
  }

  function drawEvents({ data }) {
    return [el("h1", {}, "Events"), drawEventTable(data)];
  }

  function drawEvent(event) {
    const heads = ["Time", "Answer", "Took", "Body"];
    const attempts = event.deliveries.flatMap((delivery) => delivery.attempts.map((attempt) => ({ delivery, attempt }))).reverse();
    return [
      el("p", {}, el("a", { href: "#/events" }, "← Events")),
      el("h1", {}, event.type), el("p", { class: "muted" }, code(event.id), " · ", time(event.created), " · ", subject(event)),
      el("p", {}, resend(event)),
      el("h2", {}, "Delivery attempts"),
      table("Delivery attempts", heads, attempts.map(({ attempt }) =>
        row(time(attempt.at), answer(attempt), `${attempt.milliseconds} ms`, attempt.answer ? code(attempt.answer) : "–")), "Not attempted yet."),
      ...event.deliveries.filter((delivery) => delivery.next_attempt_at).map((delivery) =>
        el("p", { class: "muted" }, "Next attempt: ", time(delivery.next_attempt_at))),
      json("Event as JSON", { ...event, deliveries: undefined }),
    ];
  }
  const answer = (attempt) => {
    const isGood = attempt.status >= 200 && attempt.status < 300;
    return el("span", { class: `badge ${isGood ? "good" : "bad"}` }, String(attempt.status || attempt.error));
  };

  // API log

  function drawRequests({ data }) {
    const heads = ["Request", "Status", "Idempotency key", "Time"];
    const rows = data.slice(-200).reverse().map((entry) =>
      row(el("span", {}, el("strong", {}, entry.method), " ", code(entry.path)), requestBadge(entry),
        entry.idempotency_key ? code(entry.idempotency_key) : "–", time(entry.at)));
    return [el("h1", {}, "API log"), table("API requests", heads, rows, "No API requests yet.")];
  }
  const requestBadge = (entry) => {
    const text = entry.is_cut ? "cut" : String(entry.status || "…");
    const notes = [entry.is_replay ? "replayed" : "", entry.fault ? `fault: ${entry.fault}` : ""].filter(Boolean).join(", ");
    const tone = entry.is_cut || entry.status >= 500 ? "bad" : entry.status >= 400 ? "warn" : "good";
    return el("span", {}, el("span", { class: `badge ${tone}` }, text), el("span", { class: "muted" }, notes ? ` ${notes}` : ""));
  };

  // Routing and refreshing

  const ROUTES = [
    [/^#\/payments\/(\w+)$/, (id) => control(`payment_intents/${id}`), drawPayment],
    [/^#\/sessions$/, () => control("checkout_sessions"), drawSessions],
    [/^#\/events\/(\w+)$/, async (id) => (await control(`events?id=${id}`)).data[0], drawEvent],
    [/^#\/events$/, () => control("events"), drawEvents],
    [/^#\/requests$/, () => control("requests"), drawRequests],
    [/^/, payments, drawPayments],
  ];

  async function refresh() {
    const hash = window.location.hash;
    const [pattern, load, draw] = ROUTES.find(([known]) => known.test(hash));
    try {
      const data = await load(...(pattern.exec(hash) || []).slice(1));
      const clock = await control("clock");
      document.getElementById("clock").textContent = when(clock.now) + (clock.offset_seconds ? " (moved)" : "");
      if (hash !== window.location.hash) return;
      const key = hash + JSON.stringify(data);
      if (key === drawn) return;
      const open = [...main.querySelectorAll("details[open] summary")].map((node) => node.textContent);
      main.replaceChildren(...draw(data).filter(Boolean));
      for (const node of main.querySelectorAll("details")) node.open = open.includes(node.firstChild.textContent);
      drawn = key;
    } catch (error) {
      say(`Cannot read the account: ${error.message}`);
    }
  }

  function say(text) {
    toast.textContent = text;
    window.clearTimeout(say.timer);
    say.timer = window.setTimeout(() => (toast.textContent = ""), 4000);
  }

  function mark() {
    const section = (window.location.hash || "#/payments").split("/")[1];
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#/${section}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  window.addEventListener("hashchange", () => {
    mark();
    refresh();
  });
  window.setInterval(() => document.visibilityState === "visible" && refresh(), EVERY_MS);
  mark();
  refresh();
})();
