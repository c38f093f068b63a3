/**
 * A pause that ends by itself: counts down before the buyer's eyes, then tries again; a button tries at once.
 *
 * Inside `element`: [data-retry-words] (with data-waiting "… {n} …" and data-trying), a progress element, a button.
 */
const EVERY_SECONDS = 10;

export function retryAfterAWhile(element, tryAgain) {
  const words = element.querySelector("[data-retry-words]");
  const bar = element.querySelector("progress");
  let timer = null;
  let left = 0;

  function say(seconds) {
    words.textContent = seconds ? words.dataset.waiting.replace("{n}", seconds) : words.dataset.trying;
    bar.max = EVERY_SECONDS;
    bar.value = EVERY_SECONDS - seconds;
  }

  function tick() {
    left -= 1;
    say(left);
    if (left === 0) go();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
  }

  function go() {
    stop();
    say(0);
    tryAgain();
  }

  function begin() {
    stop();
    left = EVERY_SECONDS;
    say(left);
    timer = setInterval(tick, 1000);
  }

  element.querySelector("button").addEventListener("click", () => timer !== null && go());
  return { begin, stop };
}
