/**
 * Asks an address again and again while somebody is looking.
 *
 * A hidden tab does not ask; shown again, it asks at once. What fails doubles the pause, up to half a minute. The
 * browser's own cache sends the tag of the last answer along, so most answers are an empty 304.
 */
const EVERY_MS = 3_000;
const SLOWEST_MS = 30_000;
const PATIENCE_MS = 10_000;

/** `onAnswer` gets each answer's JSON; `onGone` is called once, when there is nothing at the address any more. */
export function pollWhileShown(url, { onAnswer, onGone = () => {} }) {
  let pauseMs = EVERY_MS;
  let timer = null;
  let isAsking = false;
  let isOver = false;

  const waitForNext = () => {
    clearTimeout(timer);
    if (document.hidden || isOver) return;
    timer = setTimeout(ask, pauseMs * (0.9 + 0.2 * Math.random())); // a crowd should not ask in step
  };

  async function ask() {
    if (isAsking || document.hidden || isOver) return;
    clearTimeout(timer);
    isAsking = true;
    const answer = await fetchJson(url);
    isAsking = false;
    pauseMs = answer.json ? EVERY_MS : Math.min(SLOWEST_MS, pauseMs * 2);
    isOver = answer.status === 404;
    waitForNext();
    if (answer.json) onAnswer(answer.json);
    if (isOver) onGone();
  }

  const comeBack = () => (document.hidden ? clearTimeout(timer) : ask());
  document.addEventListener("visibilitychange", comeBack);
  addEventListener("pageshow", (event) => event.persisted && comeBack());
  waitForNext();
  return ask;
}

async function fetchJson(url) {
  try {
    // Without cookies: the same answer for everybody, from any cache on the way.
    const options = { credentials: "omit", headers: { Accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE_MS) };
    const answer = await fetch(url, options);
    return { status: answer.status, json: answer.ok ? await answer.json() : null };
  } catch {
    return { status: 0, json: null };
  }
}
