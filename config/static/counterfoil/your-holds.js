/**
 * A banner for who comes back: what this browser holds, and how long still.
 *
 * Event list and event page come from caches and are the same for everybody, so the page asks a private address. Only
 * browsers that have held something ask; the "holding" cookie says so, the buyer's own is closed to scripts.
 */
import { serverClock } from "./server-clock.js";
import { secondsUntil, showTimeLeft } from "./time-left.js";

const banner = document.querySelector("[data-your-holds]");
const list = banner.querySelector("ul");
const template = banner.querySelector("template");
const voice = document.querySelector("[data-your-holds-voice]");
let stops = [];
let said = "";

ask();
document.addEventListener("visibilitychange", () => document.hidden || ask());
addEventListener("pageshow", (event) => event.persisted && ask());

async function ask() {
  if (!/(^|; )holding=/.test(document.cookie)) return show([]);
  try {
    const answer = await fetch(banner.dataset.url, { headers: { Accept: "application/json" } });
    if (answer.ok) show((await answer.json()).holds);
  } catch {
    // Offline: what is shown still counts down rightly.
  }
}

function show(holds) {
  for (const stop of stops) stop();
  stops = [];
  const hadFocus = list.querySelector(":focus")?.href;
  const items = holds.map(itemOf);
  list.replaceChildren(...items);
  banner.hidden = holds.length === 0;
  if (hadFocus) list.querySelector(`a[href="${new URL(hadFocus).pathname}"]`)?.focus();
}

function itemOf(hold) {
  const item = template.content.cloneNode(true).firstElementChild;
  const clock = serverClock(hold.server_time);
  const expiresAt = Date.parse(hold.expires_at);
  item.querySelector("[data-words]").textContent = hold.message;
  item.querySelector("[data-link]").setAttribute("href", hold.url);
  item.querySelector("[data-link-to]").textContent = `: ${hold.message}`;
  stops.push(showTimeLeft(item.querySelector("[data-left]"), expiresAt, clock, () => end(item, hold)));
  say(hold, Math.ceil(secondsUntil(expiresAt, clock) / 60));
  return item;
}

/** Once: the clock on the page is for the eyes. */
function say({ url, message }, minutes) {
  if (said.includes(url)) return;
  said += url;
  voice.textContent = banner.dataset.sayLeft.replace("{message}", () => message).replace("{n}", minutes);
}

function end(item, hold) {
  item.querySelector("[data-words]").textContent = voice.textContent = hold.ended_message;
  item.querySelector("[data-link]").remove();
  item.querySelector("[data-left]").parentElement.remove();
}
