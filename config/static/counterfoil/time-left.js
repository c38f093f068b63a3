/** Time left as people read it, and a text that counts it down. */
const twoDigits = (number) => String(number).padStart(2, "0");

/** `12:34`; whole seconds, rounded up so that 00:00 means over. */
export function minutesAndSeconds(seconds) {
  return `${twoDigits(Math.floor(seconds / 60))}:${twoDigits(seconds % 60)}`;
}

export const secondsUntil = (instant, clock) => Math.max(0, Math.ceil((instant - clock.now()) / 1000));

/** Keeps `element` showing the time until `instant` by `clock`, then calls `onEnd`. Returns what stops it. */
export function showTimeLeft(element, instant, clock, onEnd) {
  let timer = null;
  const tick = () => {
    const seconds = secondsUntil(instant, clock);
    element.textContent = minutesAndSeconds(seconds);
    if (seconds === 0) return onEnd();
    timer = setTimeout(tick, ((instant - clock.now()) % 1000) + 10); // a moment past the second, never just before
  };
  tick();
  return () => clearTimeout(timer);
}
