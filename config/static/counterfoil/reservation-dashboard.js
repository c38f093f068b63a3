/**
 * The reservation dashboard: counts the holds down by the server's clock, fetches the numbers anew every ten seconds
 * while somebody looks, and asks its questions in a dialog. Without it every link and form works all the same.
 */
import { pageArrivedAt, serverClock } from "./server-clock.js";

const REFRESH_MS = 10_000;
const SOON_MS = 120_000;
const SAY_AT_MOST_EVERY_MS = 60_000;

const main = document.querySelector("[data-main]");
const dialog = document.querySelector("[data-dialog]");
const pauseButton = document.querySelector("[data-pause]");
const freshness = document.querySelector("[data-freshness]");
const voice = document.querySelector("[data-voice]");
const say = pauseButton.dataset;

const numbers = () => main.firstElementChild.dataset;
const twoDigits = (number) => String(number).padStart(2, "0");
const inWords = (text, values) => text.replace(/\{(\w+)\}/g, (_all, name) => values[name]);
const partOf = (address) => {
  const url = new URL(address, location.href);
  url.searchParams.set("part", "main");
  return url;
};

let clock = serverClock(numbers().serverTime, pageArrivedAt());
let isPaused = false;
let isSignedOut = false;
let saidAt = -Infinity;
let saidLive = numbers().live;

/** Time left, on the page's rows and for each event's next end. */
function tick() {
  const now = clock.now();
  for (const place of main.querySelectorAll("[data-ends-at]")) {
    const left = Date.parse(place.dataset.endsAt) - now;
    const seconds = Math.ceil(left / 1000);
    place.textContent =
      seconds > 0 ? `${twoDigits(Math.floor(seconds / 60))}:${twoDigits(seconds % 60)}` : place.dataset.sayOver;
    place.closest("[data-row]")?.classList.toggle("rd-soon", left <= SOON_MS);
  }
}

/** Puts fresh numbers in place of the old; what was open, scrolled or had the focus still is. */
function replaceWith(html) {
  const open = [...main.querySelectorAll("details[open]")].map((one) => one.id);
  const focused = main.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...main.querySelectorAll(".rd-scroll[id]")].map((one) => [one.id, one.scrollTop]);
  main.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo({ top });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  clock = serverClock(numbers().serverTime);
  tick();
}

async function refresh() {
  let answer;
  try {
    answer = await fetch(partOf(location.href), { headers: { Accept: "text/html" } });
  } catch {
    answer = null; // offline; the next try may fare better
  }
  if (answer?.redirected || answer?.status === 403) return signedOut();
  if (!answer?.ok) {
    freshness.textContent = inWords(say.sayAway, { time: numbers().clock });
    return;
  }
  const html = await answer.text();
  if (isPaused || dialog.open) return;
  replaceWith(html);
  freshness.textContent = inWords(say.sayFresh, { time: numbers().clock });
  sayWhatChanged();
}

/** Aloud only the number of live holds, when it is another one, and not more often than once a minute. */
function sayWhatChanged() {
  const { live } = numbers();
  if (live === saidLive || performance.now() - saidAt < SAY_AT_MOST_EVERY_MS) return;
  saidLive = live;
  saidAt = performance.now();
  voice.textContent = inWords(say.sayNumber, { n: live });
}

function signedOut() {
  isSignedOut = true;
  pauseButton.hidden = true;
  voice.textContent = freshness.textContent = say.saySignedOut;
}

const mayRefresh = () => !isPaused && !isSignedOut && !document.hidden && !dialog.open;

async function keepFresh() {
  if (mayRefresh()) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

function pauseOrResume() {
  isPaused = !isPaused;
  pauseButton.textContent = isPaused ? say.sayResume : say.sayPause;
  const text = isPaused ? say.sayPaused : say.sayFresh;
  voice.textContent = freshness.textContent = inWords(text, { time: numbers().clock });
  if (!isPaused) refresh();
}

/** A question, in a dialog above the numbers; on any trouble the link's own page asks it. */
async function ask(link) {
  try {
    const answer = await fetch(partOf(link.href));
    if (!answer.ok || answer.redirected) throw new Error(`answered ${answer.status}`);
    dialog.innerHTML = await answer.text();
    dialog.showModal();
  } catch {
    location.assign(link.href);
  }
}

document.addEventListener("click", (event) => {
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  const link = event.target.closest?.("[data-ask]");
  if (link && isPlain) {
    event.preventDefault();
    ask(link);
  } else if (dialog.open && (event.target.closest?.("[data-close]") || event.target === dialog)) {
    event.preventDefault();
    dialog.close();
  }
});

// Answering twice would only be refused, but one answer is enough.
dialog.addEventListener("submit", () => setTimeout(() => dialog.close()));
document.querySelector("[data-choose]").addEventListener("change", (event) => event.currentTarget.submit());
document.addEventListener("visibilitychange", () => mayRefresh() && refresh());
// A page brought back from the browser's memory shows old numbers.
addEventListener("pageshow", (event) => event.persisted && location.reload());

pauseButton.hidden = false;
pauseButton.addEventListener("click", pauseOrResume);
setInterval(tick, 1000);
setTimeout(keepFresh, REFRESH_MS);
tick();
