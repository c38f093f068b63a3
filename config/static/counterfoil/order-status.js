/**
 * Order page, while something is still to come: a payment's confirmation, an order's end, a refund.
 *
 * 1. Ask for the status every 2 s (or as the server wishes), `poll_limit` times, with visible progress.
 * 2. Then, or as soon as the server knows it must, have the server ask Stripe itself, once.
 * 3. Then say what to do, and go on looking now and then. It never says that a payment failed: not knowing is not
 *    failing.
 *
 * Where nobody waits for it (money on its way back), only the looking now and then. When the status is done the page is
 * loaded again, since only the server draws tickets.
 */
const config = JSON.parse(document.getElementById("order-config").textContent);
const panel = document.querySelector("[data-confirming]");
const words = panel?.querySelector("[data-confirming-words]");
const bar = panel?.querySelector("progress");
const detail = document.querySelector("[data-status-message]");
const help = document.querySelector("[data-still-confirming]");
const RELOADED = `counterfoil-reloaded:${config.status_url}`;
const SLOW_MS = 15_000;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

if (panel) follow();
else if (!config.done) followQuietly();

async function follow() {
  let pauseMs = config.poll_seconds * 1000;
  panel.hidden = false;
  for (let attempt = 1; attempt <= config.poll_limit; attempt += 1) {
    progress(attempt);
    const status = await ask(config.status_url);
    if (status?.done) return finish();
    if (status?.sync_now) break;
    if (status?.message && detail) detail.textContent = status.message;
    pauseMs = status?.next_poll_ms || config.poll_seconds * 1000;
    await wait(pauseMs);
  }
  words.textContent = panel.dataset.asking;
  const status = await ask(config.sync_url, { method: "POST" });
  if (status?.done) return finish();
  sayWhatToDo(status?.message);
  followQuietly(SLOW_MS);
}

/** Without end, but slower and slower, and only while somebody looks. */
async function followQuietly(pauseMs = config.poll_seconds * 1000) {
  for (let attempt = 1; ; attempt += 1) {
    await wait(attempt > config.poll_limit ? Math.max(pauseMs, SLOW_MS) : pauseMs);
    if (document.hidden) continue;
    const status = await ask(config.status_url);
    if (status?.done) return finish();
    if (status?.message && detail) detail.textContent = status.message;
  }
}

function progress(attempt) {
  words.textContent = panel.dataset.words.replace("{n}", attempt).replace("{limit}", config.poll_limit);
  bar.max = config.poll_limit;
  bar.value = attempt;
}

/** The answer as an object; null when it could not be had, which says nothing about the payment. */
async function ask(url, options = {}) {
  try {
    const answer = await fetch(url, { ...options, headers: { Accept: "application/json", "Content-Type": "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

function finish() {
  if (Date.now() - Number(read(RELOADED)) < 60_000) return sayWhatToDo(); // the page and its status disagree
  write(RELOADED, Date.now());
  location.reload();
}

function sayWhatToDo(message) {
  if (!help) return;
  panel.hidden = true;
  help.hidden = false;
  const place = help.querySelector("[data-server-message]");
  if (message && place) place.textContent = message;
  help.focus();
}

// Private windows may refuse storage: then the page simply reloads.
function read(key) {
  try {
    return sessionStorage.getItem(key) ?? 0;
  } catch {
    return 0;
  }
}

function write(key, value) {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // see above
  }
}
